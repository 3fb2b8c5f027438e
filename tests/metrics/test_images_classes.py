import numpy as np
import pytest
from scipy.stats import entropy

from tailkeep.metrics import class_entropy, classes_alive


def test_the_entropy_is_scipys_and_between_none_and_ln_k():
    assert class_entropy([7, 0, 3]) == pytest.approx(entropy([0.7, 0.3]))
    assert class_entropy([5] * 10) == pytest.approx(np.log(10))
    assert class_entropy([0, 9]) == 0


def test_a_class_is_alive_above_the_share_not_at_it():
    assert classes_alive([1, 2, 97, 0], share=0.01) == 2
    assert classes_alive([1, 0], share=0) == 1


@pytest.mark.parametrize("counts", [[], [0, 0], [-1, 2], [np.nan, 1]])
def test_invalid_counts_are_an_error(counts):
    for measure in (class_entropy, classes_alive):
        with pytest.raises(ValueError, match="counts must be finite, >= 0 and not all 0"):
            measure(counts)


def test_a_share_of_all_is_an_error():
    with pytest.raises(ValueError, match=r"share must be in \[0, 1\), got 1"):
        classes_alive([1], share=1)

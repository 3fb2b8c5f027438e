import pytest

from tailkeep.metrics import golden_weight


def test_the_golden_weight_is_that_of_the_formula():
    for ratio in (0.1, 1.0, 10.0):
        assert golden_weight(ratio) == pytest.approx(((ratio**2 + 4 * ratio) ** 0.5 - ratio) / 2)
    assert golden_weight(1e12) == pytest.approx(1)
    assert golden_weight(1.0) == pytest.approx(0.618, abs=1e-3)


@pytest.mark.parametrize("ratio", [0.0, -1.0, float("nan")])
def test_without_real_data_there_is_no_golden_weight(ratio):
    with pytest.raises(ValueError, match="ratio must be > 0"):
        golden_weight(ratio)

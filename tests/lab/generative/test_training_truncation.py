"""Which examples a batch leaves out, and that the control leaves out as many of any."""

import pytest

torch = pytest.importorskip("torch")

from tailkeep.errors import ConfigError  # noqa: E402
from tailkeep.lab.generative.config import LossTruncation  # noqa: E402
from tailkeep.lab.generative.training import keep_mask, truncated_count  # noqa: E402

LOSSES = torch.tensor([3.0, 0.5, 2.0, 0.1, 9.0, 1.0])


def truncation(share, control=None):
    return LossTruncation(name="loss", share=share, control=control)


def mask(control=None, seed=0):
    return keep_mask(LOSSES, truncation(1 / 3, control), torch.Generator().manual_seed(seed))


def test_the_lowest_losses_are_left_out():
    assert mask().tolist() == [True, False, True, False, True, True]


def test_a_loss_that_is_no_number_is_kept_so_that_it_shows():
    losses = torch.tensor([torch.nan, 1.0, 2.0])
    assert keep_mask(losses, truncation(0.4), torch.Generator()).tolist() == [
        True,
        False,
        True,
    ]


def test_the_control_leaves_out_as_many_of_any():
    masks = torch.stack([mask("random", seed) for seed in range(60)])
    assert set(masks.sum(dim=1).tolist()) == {4}
    assert masks.any(dim=0).all()
    assert not masks.all(dim=0).any()


@pytest.mark.parametrize(("share", "count", "number"), [(0.99, 16, 16), (0.01, 16, 0), (0.5, 1, 0)])
def test_a_share_that_leaves_out_all_or_nothing_is_one_clear_error(share, count, number):
    with pytest.raises(
        ConfigError,
        match=rf"some of {count} examples and keep some, got {share}, which leaves out {number}\. Use another share",
    ):
        truncated_count(truncation(share), count)

"""Which pixels and images a batch's loss leaves out, and that nothing else changes."""

import math

import pytest

torch = pytest.importorskip("torch")

from tailkeep.errors import ConfigError  # noqa: E402
from tailkeep.lab.generative.config import PixelTruncation, SampleTruncation  # noqa: E402
from tailkeep.lab.generative.vae import truncated_loss  # noqa: E402

PIXELS = torch.tensor([[0.001, 0.02, 3.0], [0.009, 0.5, 0.2], [0.0, 0.0, 4.0], [1.0, 1.0, 1.0]], dtype=torch.float64)
DIVERGENCE = torch.tensor([1.0, 2.0, 0.5, 5.0], dtype=torch.float64)


def loss(truncate, seed=0):
    pixels, divergence = PIXELS.clone().requires_grad_(), DIVERGENCE.clone().requires_grad_()
    result = truncated_loss(pixels, divergence, truncate, torch.Generator().manual_seed(seed))
    result.total.backward()
    return result, pixels.grad, divergence.grad


def test_without_truncation_the_loss_is_the_whole_bound():
    result, pixels, divergence = loss(None)
    assert float(result.total.detach()) == pytest.approx(float(PIXELS.sum() + DIVERGENCE.sum()))
    assert result.mask.all()
    assert (pixels == 1).all()
    assert (divergence == 1).all()


def test_a_pixel_is_left_out_when_its_likelihood_exceeds_the_threshold_and_the_codes_count_all_the_same():
    result, pixels, divergence = loss(PixelTruncation(name="pixels", threshold=0.99))
    mask = PIXELS.exp().reciprocal() <= 0.99
    assert (result.mask == mask).all()
    assert (pixels == mask).all()
    assert (divergence == 1).all()
    assert float(result.total.detach()) == pytest.approx(float(PIXELS[mask].sum() + DIVERGENCE.sum()))
    assert mask.sum() == 12 - 4


def test_the_likelihood_of_a_grey_pixel_never_exceeds_that_of_its_own_grey():
    greys = torch.linspace(0.05, 0.95, 19, dtype=torch.float64)
    lowest = torch.nn.functional.binary_cross_entropy(greys, greys, reduction="none")
    truncate = PixelTruncation(name="pixels", threshold=0.9)
    assert truncated_loss(lowest[None], torch.zeros(1), truncate, torch.Generator()).mask.all()
    assert math.exp(-float(lowest[0])) < 0.9


def test_the_images_with_the_highest_bound_are_left_out_whole():
    result, pixels, divergence = loss(SampleTruncation(name="samples", share=0.5))
    # Negative bounds: 4.021, 2.709, 4.5, 8.
    assert result.mask.tolist() == [False, False, True, True]
    assert (divergence == result.mask).all()
    assert (pixels == result.mask[:, None]).all()
    assert float(result.total.detach()) == pytest.approx(12.5)


@pytest.mark.parametrize(
    "truncate",
    [PixelTruncation(name="pixels", threshold=0.98), SampleTruncation(name="samples", share=0.25)],
    ids=["pixels", "samples"],
)
def test_a_control_leaves_out_as_many_at_random(truncate):
    control = truncate.model_copy(update={"control": "random"})
    masks = [loss(control, seed)[0].mask for seed in range(40)]
    counts = {int(mask.sum()) for mask in masks}
    assert counts == {int(loss(truncate)[0].mask.sum())}
    assert len({tuple(mask.flatten().tolist()) for mask in masks}) > 3
    assert torch.stack(masks).any(dim=0).all()
    assert not torch.stack(masks).all(dim=0).any()


def test_a_loss_that_is_no_number_is_kept_so_that_it_shows():
    broken = torch.tensor([[math.nan, 0.0]])
    result = truncated_loss(broken, torch.zeros(1), PixelTruncation(name="pixels"), torch.Generator())
    assert result.mask.tolist() == [[True, False]]
    assert math.isnan(float(result.total.detach()))


@pytest.mark.parametrize(("share", "batch", "count"), [(0.99, 16, 16), (0.01, 16, 0), (0.5, 1, 0)])
def test_a_share_that_leaves_out_all_of_a_batch_or_none_is_one_clear_error(share, batch, count):
    truncate = SampleTruncation(name="samples", share=share)
    with pytest.raises(ConfigError, match=rf"some of {batch} examples .* got {share}, which leaves out {count}\."):
        truncated_loss(torch.ones(batch, 2), torch.ones(batch), truncate, torch.Generator())

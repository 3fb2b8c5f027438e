"""Which pixels and images a batch's loss leaves out, and that nothing else changes."""

import math

import pytest

torch = pytest.importorskip("torch")

from tailkeep.errors import ConfigError  # noqa: E402
from tailkeep.lab.generative.config import PixelCut, SampleCut  # noqa: E402
from tailkeep.lab.generative.vae import cut_loss, truncated_count  # noqa: E402

PIXELS = torch.tensor([[0.001, 0.02, 3.0], [0.009, 0.5, 0.2], [0.0, 0.0, 4.0], [1.0, 1.0, 1.0]], dtype=torch.float64)
DIVERGENCE = torch.tensor([1.0, 2.0, 0.5, 5.0], dtype=torch.float64)


def loss(cut, seed=0):
    pixels, divergence = PIXELS.clone().requires_grad_(), DIVERGENCE.clone().requires_grad_()
    found = cut_loss(pixels, divergence, cut, torch.Generator().manual_seed(seed))
    found.total.backward()
    return found, pixels.grad, divergence.grad


def test_without_a_cut_the_loss_is_the_whole_bound():
    found, pixels, divergence = loss(None)
    assert float(found.total.detach()) == pytest.approx(float(PIXELS.sum() + DIVERGENCE.sum()))
    assert found.kept.all()
    assert (pixels == 1).all()
    assert (divergence == 1).all()


def test_a_pixel_is_left_out_when_its_likelihood_exceeds_the_threshold_and_the_codes_count_all_the_same():
    found, pixels, divergence = loss(PixelCut(name="pixels", threshold=0.99))
    kept = PIXELS.exp().reciprocal() <= 0.99
    assert (found.kept == kept).all()
    assert (pixels == kept).all()
    assert (divergence == 1).all()
    assert float(found.total.detach()) == pytest.approx(float(PIXELS[kept].sum() + DIVERGENCE.sum()))
    assert kept.sum() == 12 - 4


def test_the_likelihood_of_a_grey_pixel_never_exceeds_that_of_its_own_grey():
    greys = torch.linspace(0.05, 0.95, 19, dtype=torch.float64)
    surest = torch.nn.functional.binary_cross_entropy(greys, greys, reduction="none")
    kept = cut_loss(surest[None], torch.zeros(1), PixelCut(name="pixels", threshold=0.9), torch.Generator()).kept
    assert kept.all()
    assert math.exp(-float(surest[0])) < 0.9


def test_the_images_with_the_highest_bound_are_left_out_whole():
    found, pixels, divergence = loss(SampleCut(name="samples", share=0.5))
    # Negative bounds: 4.021, 2.709, 4.5, 8.
    assert found.kept.tolist() == [False, False, True, True]
    assert (divergence == found.kept).all()
    assert (pixels == found.kept[:, None]).all()
    assert float(found.total.detach()) == pytest.approx(12.5)


@pytest.mark.parametrize(
    "cut", [PixelCut(name="pixels", threshold=0.98), SampleCut(name="samples", share=0.25)], ids=["pixels", "samples"]
)
def test_a_control_leaves_out_as_many_at_random(cut):
    control = cut.model_copy(update={"control": "random"})
    masks = [loss(control, seed)[0].kept for seed in range(40)]
    counts = {int(mask.sum()) for mask in masks}
    assert counts == {int(loss(cut)[0].kept.sum())}
    assert len({tuple(mask.flatten().tolist()) for mask in masks}) > 3
    assert torch.stack(masks).any(dim=0).all()
    assert not torch.stack(masks).all(dim=0).any()


def test_a_loss_that_is_no_number_is_kept_so_that_it_shows():
    broken = torch.tensor([[math.nan, 0.0]])
    found = cut_loss(broken, torch.zeros(1), PixelCut(name="pixels"), torch.Generator())
    assert found.kept.tolist() == [[True, False]]
    assert math.isnan(float(found.total.detach()))


@pytest.mark.parametrize(("share", "batch", "count"), [(0.99, 16, 16), (0.01, 16, 0), (0.5, 1, 0)])
def test_a_share_that_leaves_out_all_of_a_batch_or_none_is_one_clear_error(share, batch, count):
    with pytest.raises(ConfigError, match=rf"share: {share} of a batch of {batch} images leaves out {count}\."):
        truncated_count(SampleCut(name="samples", share=share), batch)

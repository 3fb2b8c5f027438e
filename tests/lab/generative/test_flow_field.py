"""Paths and likelihoods of fields that can be solved by hand."""

import math

import pytest

torch = pytest.importorskip("torch")

from tailkeep.lab.generative.flow import VelocityField, integrate, log_density, squared_errors  # noqa: E402


class Growing(torch.nn.Module):
    """v = a x + b t, whose flow multiplies by e^a."""

    def __init__(self, rates, drift=0.0):
        super().__init__()
        self.rates, self.drift = torch.nn.Parameter(torch.tensor(rates)), drift
        self.dimension = len(rates)

    def forward(self, positions, times):
        return positions * self.rates + self.drift * times[:, None]


def normal(positions, deviations):
    return torch.distributions.Normal(torch.zeros(len(deviations)), torch.tensor(deviations)).log_prob(positions).sum(1)


def test_noise_is_integrated_along_the_exact_path():
    noise = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    examples = integrate(Growing([0.7, -0.4]), noise, steps=64)
    assert torch.allclose(examples, noise * torch.tensor([math.exp(0.7), math.exp(-0.4)]), atol=1e-4)
    assert torch.allclose(integrate(Growing([0.0, 0.0], drift=3.0), noise, steps=4), noise + 1.5, atol=1e-6)


def test_the_likelihood_of_a_growing_field_is_that_of_the_stretched_normal_distribution():
    positions = 2 * torch.randn(7, 2, generator=torch.Generator().manual_seed(1))
    log_densities = log_density(Growing([0.7, -0.4]), positions, steps=64)
    assert log_densities.dtype == torch.float64
    assert torch.allclose(log_densities.float(), normal(positions, [math.exp(0.7), math.exp(-0.4)]), atol=1e-3)


def test_the_likelihood_of_any_field_integrates_to_one():
    torch.manual_seed(0)
    field = VelocityField(2, width=8, layers=2)
    line = torch.linspace(-7, 7, 71)
    density = log_density(field, torch.cartesian_prod(line, line), steps=16).exp()
    assert float(density.sum() * 0.2**2) == pytest.approx(1, abs=1e-3)


def test_the_field_is_left_as_it_was():
    field = Growing([0.1, 0.2])
    log_density(field, torch.zeros(3, 2), steps=2)
    assert field.rates.dtype == torch.float32
    assert field.rates.grad is None


def test_the_loss_of_the_field_that_knows_the_example_is_zero_and_of_no_velocity_its_own_square():
    examples = torch.tensor([[1.0, 2.0], [-3.0, 0.5]])
    noise = torch.randn(3, 2, 2, generator=torch.Generator().manual_seed(2))
    times = torch.tensor([0.1, 0.5, 0.9])[:, None].expand(3, 2)

    def knowing(positions, times):
        return (examples.repeat(3, 1) - positions) / (1 - times[:, None])

    assert torch.allclose(squared_errors(knowing, examples, noise, times), torch.zeros(2), atol=1e-9)
    still = squared_errors(Growing([0.0, 0.0]), examples, noise, times)
    assert torch.allclose(still, (examples - noise).square().sum(dim=2).mean(dim=0))

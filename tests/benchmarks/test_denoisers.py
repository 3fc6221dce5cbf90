"""The losses of posterior means that are compared with those of models."""

from __future__ import annotations

import pytest
import torch

from nda_index.diffusion import noise_level
from nda_index.exact.reference import posterior_mean
from nda_index.scales import Scale

pytest.importorskip("diffusers", reason="diffusers is not installed; it comes with the group bench")

from benchmarks.lds.denoisers import cut_windows, measure_halves


@pytest.mark.parametrize("patch", [3, 5])
@pytest.mark.parametrize("timestep", [75, 175])
def test_losses_are_those_of_the_posterior_mean_of_each_half(patch: int, timestep: int) -> None:
    generator = torch.Generator().manual_seed(0)
    train = torch.rand(7, 3, 8, 8, generator=generator) * 2 - 1
    clean = train[2]
    level = noise_level(timestep)
    noisy = clean + level.sigma / level.signal * torch.randn(clean.shape, generator=generator)
    masks = torch.rand(7, 4, generator=generator) < 0.6
    losses = measure_halves(clean, noisy, train, cut_windows(train, patch), masks.double(), timestep)
    for half, loss in zip(masks.T, losses, strict=True):
        scaled = (level.signal * noisy).double(), (level.signal * train[half]).double()
        mean = posterior_mean(*scaled, Scale(patch), sigma=level.sigma) / level.signal
        expected = (mean - clean).square().mean() * (level.signal / level.sigma) ** 2
        assert loss == pytest.approx(float(expected), rel=1e-4)

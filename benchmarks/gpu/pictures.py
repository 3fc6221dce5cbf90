"""Pictures that are made on the device, and questions about them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu.report import DEVICE
from nda_index.diffusion import NoisyImage, noisy_images
from nda_index.exact import gpu
from nda_index.exact.gpu_launch import Tuning
from nda_index.exact.views import View
from nda_index.scales import Scale


def make_pictures(count: int, channels: int, size: int) -> Tensor:
    """Make pictures whose neighbouring pixels are alike, uint8 [count, channels, size, size] on the device."""
    generator = torch.Generator(device=DEVICE).manual_seed(0)
    parts = []
    for some in torch.split(torch.arange(count), 8192):
        total = torch.full((len(some), channels, size, size), 120.0, device=DEVICE)
        for cells, height in ((2, 45.0), (4, 30.0), (8, 20.0), (size, 6.0)):
            noise = torch.randn(len(some), channels, cells, cells, device=DEVICE, generator=generator) * height
            total += F.interpolate(noise, size=(size, size), mode="bilinear", align_corners=False)
        parts.append(total.clamp(0, 255).to(torch.uint8))
    return torch.cat(parts)


def to_unit(train: Tensor) -> Tensor:
    """Return bytes as floats in [-1, 1]."""
    return train.float() / 127.5 - 1.0


def make_noisy(query: Any, timestep: int, noise: Any) -> NoisyImage:
    """Return the noisy version of a picture, uint8 [C, H, W]."""
    return noisy_images((query / np.float32(127.5) - 1).astype(np.float32), timestep, noise)[0]


def group_views(views: Sequence[View]) -> list[tuple[Scale, list[NoisyImage]]]:
    """Put the noisy images of a scale together."""
    scales = dict.fromkeys(view.scale for view in views)
    return [(scale, [view.noisy for view in views if view.scale == scale]) for scale in scales]


def answer(train: Tensor, terms: Sequence[tuple[Scale, list[NoisyImage]]], tuning: Tuning) -> Any:
    """Answer a question over images on the device, uint8 [N, C, H, W]: their scores, float64 [N] on the CPU."""
    started = [gpu.start_masses(queries, train, scale, tuning=tuning) for scale, queries in terms]
    total = np.zeros(len(train))
    for finish in started:
        for masses in finish():
            total += masses.scores(masses.log_total)
    return total

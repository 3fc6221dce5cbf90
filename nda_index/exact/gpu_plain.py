"""The exact posterior on a GPU in float64 and plain torch: slower than the kernels, and without their limits.

It takes what tensor cores would round too much (little noise, pixels that are not bytes), windows of different overhang
at a finite `mask_value`, and `per_image_topk`. Squares are expanded, which float64 bears: its rounding stays below 1e-9
of sigma^2 at every timestep.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nda_index.diffusion import NoisyImage
from nda_index.scales import Scale


def log_masses(
    query: NoisyImage, train: Tensor, scale: Scale, mask_value: float, per_image_topk: int | None, budget: int
) -> tuple[Tensor, Tensor]:
    """Return what `reference.log_masses` does, [N, P] on the device: over all windows, and over the K best.

    Args:
        query: the noisy query.
        train: floats [N, C, H, W] on the device, clean training images.
        scale: patch and strides.
        mask_value: value of the pixels outside, `inf` where windows of equal overhang alone are compared.
        per_image_topk: K; None for all windows, and the same tensor twice.
        budget: bytes for the distances of a piece of the work.
    """
    positions = scale.query_positions(*train.shape[2:])
    total = torch.empty(len(train), positions, dtype=torch.float64, device=train.device)  # [N, P]
    best = total if per_image_topk is None else torch.empty_like(total)  # [N, P]
    for images, rows, logits in each_logits(query, train, scale, mask_value, budget):
        total[images, rows] = logits.logsumexp(dim=2)  # [n, p]
        if per_image_topk is not None:
            k = min(per_image_topk, logits.shape[2])
            best[images, rows] = logits.topk(k, dim=2).values.logsumexp(dim=2)  # [n, p]
    return total, best


def each_logits(
    query: NoisyImage, train: Tensor, scale: Scale, mask_value: float, budget: int
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Compare windows piece by piece; arguments as for `log_masses`.

    Yields:
        Which images, which query positions, and the logs of the weights of all their training windows before a
        normaliser divides them: float64 [n, p, Q], -inf for pairs that are not compared.
    """
    device, (height, width) = train.device, train.shape[2:]
    outside = 0.0 if np.isinf(mask_value) else mask_value / query.signal
    noisy = torch.from_numpy(np.asarray(query.pixels, np.float64) / query.signal).to(device)
    here = _windows(noisy[None], scale, scale.query_stride, outside)[0]  # [P, K]
    classes = [_classes(height, width, scale, s).to(device) for s in (scale.query_stride, scale.train_stride)]
    equal = classes[0][:, None] == classes[1] if np.isinf(mask_value) else None  # [P, Q]
    windows = len(classes[1])
    at_once = max(1, min(len(here), budget // (32 * windows)))  # 4 arrays of float64 at a time
    step = max(1, budget // (32 * windows * (at_once + here.shape[1])))
    factor = -(query.signal**2) / (2 * query.sigma**2)
    for begin in range(0, len(train), step):
        images = slice(begin, min(begin + step, len(train)))
        there = _windows(train[images].double(), scale, scale.train_stride, outside)  # [n, Q, K]
        squares = there.square().sum(dim=2)  # [n, Q]
        for at in range(0, len(here), at_once):
            rows = slice(at, min(at + at_once, len(here)))
            part = here[rows]  # [p, K]
            logits = part @ there.transpose(1, 2) * -2.0  # [n, p, Q]
            logits = (logits + squares[:, None] + part.square().sum(dim=1)[:, None]) * factor  # [n, p, Q]
            yield images, rows, logits if equal is None else logits.masked_fill(~equal[rows], -torch.inf)


def as_floats(train: Tensor) -> Tensor:
    """Return images [N, C, H, W] as float32, bytes in [-1, 1] and others as they are.

    Example:
        >>> as_floats(torch.tensor([0, 255], dtype=torch.uint8)).tolist()
        [-1.0, 1.0]
    """
    return train.float() / 127.5 - 1.0 if train.dtype == torch.uint8 else train.float()


def _windows(images: Tensor, scale: Scale, stride: int, outside: float) -> Tensor:
    """Return windows of block means, [N, positions, K]."""
    r = scale.downscale
    padded = F.pad(images, (scale.padding,) * 4, value=outside)  # [N, C, H + 2 pad, W + 2 pad]
    blocks = F.avg_pool2d(padded, r, stride=1) * r if r > 1 else padded  # [N, C, H', W']
    side = (scale.taps - 1) * r + 1
    windows = blocks.unfold(2, side, stride).unfold(3, side, stride)[..., ::r, ::r]  # [N, C, rows, cols, taps, taps]
    return windows.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)  # [N, positions, K]


def _classes(height: int, width: int, scale: Scale, stride: int) -> Tensor:
    """Return a number for each position that those of the same overhang share, [positions]."""
    axes = []
    for size in (height, width):
        interior = scale.interior(size)
        axes.append(torch.tensor([0 if p in interior else p + 1 for p in range(0, scale.positions(size), stride)]))
    return (axes[0][:, None] * (scale.positions(width) + 1) + axes[1]).flatten()  # [positions]

"""Weights of single pairs of windows on a GPU: evidence maps, links, and the sums of a posterior mean.

The normalisers are known here, so a weight is a part of the whole. All is float64 and plain torch (`gpu_plain`), a
piece of the pairs at a time: an answer's few images, or a shortlist for a mean.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nda_index.diffusion import NoisyImage
from nda_index.exact import gpu_plain
from nda_index.scales import Scale

BUDGET = 1 << 30  # bytes of a piece


def each_weights(
    query: NoisyImage,
    train: Tensor,
    scale: Scale,
    log_normaliser: NDArray[np.float64],
    per_image_topk: int | None = None,
    budget: int = BUDGET,
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Weigh pairs of windows of equal overhang, piece by piece.

    Args:
        query: the noisy query.
        train: floats [N, C, H, W] on the device, clean training images.
        scale: patch and strides.
        log_normaliser: of the query's whole posterior, float64 [P].
        per_image_topk: K, if only the K largest weights of an image at a position count; the others are 0.
        budget: bytes of a piece.

    Yields:
        Which images, which query positions, and their weights, float64 [n, p, Q].
    """
    known = torch.from_numpy(log_normaliser).to(train.device)  # [P]
    divisors = known.where(known.isfinite(), torch.inf)  # [P]; where there is no partner, no weight
    for images, rows, logits in gpu_plain.each_logits(query, train, scale, np.inf, budget):
        weights = (logits - divisors[rows, None]).exp()  # [n, p, Q]
        if per_image_topk is not None and per_image_topk < weights.shape[2]:
            best = weights.topk(per_image_topk, dim=2)  # [n, p, K] twice
            weights = torch.zeros_like(weights).scatter_(2, best.indices, best.values)  # [n, p, Q]
        yield images, rows, weights


def sum_both_ways(
    query: NoisyImage,
    train: Tensor,
    scale: Scale,
    log_normaliser: NDArray[np.float64],
    per_image_topk: int | None = None,
    budget: int = BUDGET,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum the weights of each image at each query position, and at each of its own windows.

    Arguments as for `each_weights`.

    Returns:
        float64 [N, P], of the weights that count; and [N, Q], of all.
    """
    height, width = train.shape[2:]
    positions = scale.query_positions(height, width)
    places = [len(range(0, scale.positions(size), scale.train_stride)) for size in (height, width)]
    here = torch.zeros(len(train), positions, dtype=torch.float64, device=train.device)  # [N, P]
    there = torch.zeros(len(train), places[0] * places[1], dtype=torch.float64, device=train.device)  # [N, Q]
    for images, rows, weights in each_weights(query, train, scale, log_normaliser, None, budget):
        there[images] += weights.sum(dim=1)  # [n, Q]
        if per_image_topk is not None and per_image_topk < weights.shape[2]:
            weights = weights.topk(per_image_topk, dim=2).values  # [n, p, K]
        here[images, rows] = weights.sum(dim=2)  # [n, p]
    return here.cpu().numpy(), there.cpu().numpy()


def link_cells(
    query: NoisyImage,
    train: Tensor,
    scale: Scale,
    log_normaliser: NDArray[np.float64],
    cells: tuple[NDArray[np.float64], NDArray[np.float64]],
    per_image_topk: int | None = None,
    budget: int = BUDGET,
) -> NDArray[np.float64]:
    """Sum weights between cells of the query and cells of one training image.

    Args:
        query, scale, log_normaliser, per_image_topk, budget: as for `each_weights`.
        train: floats [1, C, H, W] on the device.
        cells: float64 [cells, P] and [cells, Q], how much of a window's weight goes to each cell of the query and of
            the image.

    Returns:
        float64 [cells, cells].
    """
    here, there = (torch.from_numpy(part).to(train.device) for part in cells)  # [cells, P], [cells, Q]
    links = torch.zeros(len(here), len(there), dtype=torch.float64, device=train.device)  # [cells, cells]
    for _, rows, weights in each_weights(query, train, scale, log_normaliser, per_image_topk, budget):
        links += here[:, rows] @ (weights[0] @ there.T)  # [cells, cells]
    return links.cpu().numpy()


def pixel_sums(
    query: NoisyImage,
    train: Tensor,
    scale: Scale,
    log_normaliser: NDArray[np.float64],
    spans: NDArray[np.int64],
    budget: int = BUDGET,
) -> NDArray[np.float64]:
    """Sum weighted training pixels, and the weights, as `cpu.pixel_sums` does, for one query.

    It is the second half of attention: weights times values, which are the pixels at one place of each training window.

    Args:
        query, train, scale, log_normaliser, budget: as for `each_weights`.
        spans: int64 [P, 4], as for `cpu.pixel_sums`.

    Returns:
        float64 [H, W, C + 1], the weights' sums last.
    """
    height, width = train.shape[2:]
    ones = torch.ones(len(train), 1, height, width, dtype=torch.float64, device=train.device)  # [N, 1, H, W]
    values = torch.cat([train.double(), ones], dim=1)  # [N, C + 1, H, W]
    sums = torch.zeros(height * width, values.shape[1], dtype=torch.float64, device=train.device)  # [H W, C + 1]
    pixels, windows = _pair_pixels(spans, height, width, scale)
    for images, rows, weights in each_weights(query, train, scale, log_normaliser, None, budget):
        for offset, mine in windows.items():
            chosen = mine[(mine >= rows.start) & (mine < rows.stop)]  # of the query's windows
            if len(chosen) == 0:
                continue
            some = weights[:, torch.from_numpy(chosen - rows.start).to(train.device)]  # [n, m, Q]
            seen = _take_pixels(values[images], scale, offset)  # [n, Q, C + 1]
            places = torch.from_numpy(pixels[offset][np.searchsorted(mine, chosen)]).to(train.device)  # [m]
            sums[places] += (some @ seen).sum(dim=0)  # [m, C + 1]; no pixel twice
    return sums.reshape(height, width, -1).cpu().numpy()


def _pair_pixels(
    spans: NDArray[np.int64], height: int, width: int, scale: Scale
) -> tuple[dict[tuple[int, int], NDArray[np.int64]], dict[tuple[int, int], NDArray[np.int64]]]:
    """Return by offset from a window's position the pixels that take a window there, and these windows, ascending."""
    columns = len(range(0, scale.positions(width), scale.query_stride))
    pairs: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for window, (top, bottom, left, right) in enumerate(spans.tolist()):
        row, column = (scale.query_stride * place for place in divmod(window, columns))
        for y in range(top, bottom):
            for x in range(left, right):
                pairs.setdefault((y - row, x - column), []).append((window, y * width + x))
    windows = {offset: np.array([window for window, _ in some]) for offset, some in pairs.items()}
    return {offset: np.array([pixel for _, pixel in some]) for offset, some in pairs.items()}, windows


def _take_pixels(values: Tensor, scale: Scale, offset: tuple[int, int]) -> Tensor:
    """Return the values at an offset from each training window's position, [n, Q, C + 1]; the nearest inside."""
    places = []
    for size, step in zip(values.shape[2:], offset, strict=True):
        at = torch.arange(0, scale.positions(size), scale.train_stride, device=values.device) + step  # [rows]
        places.append(at.clamp(0, size - 1))  # beyond the image no pair of windows has a weight
    return values[:, :, places[0]][:, :, :, places[1]].flatten(2).transpose(1, 2)  # [n, Q, C + 1]

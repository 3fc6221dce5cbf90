"""The windows of a query, as the coarse stage looks them up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nda_index.coarse.embedding import Embedding, embed_noisy
from nda_index.diffusion import NoisyImage
from nda_index.scales import Scale

# By how much the variance of a window's posterior grows, for each of its pixels, as a part of what it changes over a
# pixel: the index knows training windows at every second pixel, by few coordinates. Measured: docs/method.md.
MISALIGNMENT = 1.5e-4


@dataclass(frozen=True)
class QueryWindows:
    """Windows of one noisy query at one scale.

    Attributes:
        vectors: float32 [W, d], embedded.
        variances: float64 [W], of the noise, in units of clean pixels, broadened by what the index does not know.
        weights: float64 [W], how many windows of the query each stands for.
        owners: int64 [W], the position on the query, row by row at every pixel, whose softmax the window takes part
            in: a window and its mirror window share one.
        shape: rows and columns of these positions.
    """

    vectors: NDArray[np.float32]
    variances: NDArray[np.float64]
    weights: NDArray[np.float64]
    owners: NDArray[np.int64]
    shape: tuple[int, int]


def query_windows(
    embedding: Embedding, stride: int, clean: NDArray[np.uint8], noisy: NoisyImage, mirror: bool
) -> QueryWindows:
    """Windows of a query, uint8 [C, H, W] and its noisy version.

    Windows inside the image are taken at every pixel. Those that stick out find partners only on the grid that was
    indexed; the ones on it stand for all, with a higher weight.

    Args:
        embedding, stride: of the index's windows.
        clean: the query.
        noisy: the query with noise, or without.
        mirror: look up the mirror image's windows too.
    """
    scale, size = embedding.scale, clean.shape[1:]
    weights = np.outer(*(_axis_weights(scale, side, stride) for side in size)).reshape(-1)  # [P]
    places = np.arange(len(weights)).reshape(scale.positions(size[0]), -1)  # [rows, columns]
    taken = np.flatnonzero(weights)
    weights = weights[taken]
    owners = taken
    parts = [_of_one(embedding, stride, clean, noisy, taken)]
    if mirror:
        flipped = NoisyImage(np.ascontiguousarray(noisy.pixels[..., ::-1]), noisy.signal, noisy.sigma)
        parts.append(_of_one(embedding, stride, np.ascontiguousarray(clean[..., ::-1]), flipped, taken))
        owners = np.concatenate([taken, places[:, ::-1].reshape(-1)[taken]])
        alone = np.bincount(owners)[owners] == 1  # at the border, where the grid is not its own mirror image
        weights = np.concatenate([weights, weights]) * np.where(alone, 0.5, 1.0)
    vectors, variances = (np.concatenate(column) for column in zip(*parts, strict=True))
    return QueryWindows(vectors, variances, weights, owners, (places.shape[0], places.shape[1]))


def _of_one(
    embedding: Embedding, stride: int, clean: NDArray[np.uint8], noisy: NoisyImage, taken: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    signal, shape = noisy.signal, clean.shape[1:]
    vectors = embed_noisy(embedding, clean, noisy.pixels / signal)  # [P, d]
    still = vectors if np.allclose(noisy.pixels / signal, clean / 127.5 - 1.0, atol=1e-5) else None
    if still is None:
        still = embed_noisy(embedding, clean, clean / 127.5 - 1.0)  # [P, d]
    change = _change_over_a_pixel(still, embedding.scale, shape)[taken]  # [W]
    part = MISALIGNMENT * embedding.scale.patch**2 * stride / 2
    broadened = noisy.sigma**2 / signal**2 + part * (change + change.mean())  # [W]
    return vectors[taken], broadened


def _change_over_a_pixel(vectors: NDArray[np.float32], scale: Scale, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Mean squared distance of a window from those a pixel away, along the axes in which it lies inside: [P]."""
    grid = vectors[:, :-2].reshape(scale.positions(shape[0]), scale.positions(shape[1]), -1)  # [rows, columns, d]
    total = np.zeros(grid.shape[:2])
    for axis in (0, 1):
        positions = np.arange(grid.shape[axis])
        inside = np.isin(positions, scale.interior(shape[axis]))
        steps = (np.diff(grid, axis=axis) ** 2).sum(axis=2)  # one less along the axis
        pad = [(0, 0), (0, 0)]
        pad[axis] = (1, 1)
        padded = np.pad(steps, pad)
        both = np.take(padded, positions, axis) + np.take(padded, positions + 1, axis)
        total += np.where(np.expand_dims(inside, 1 - axis), both / 4, 0.0)
    return total.reshape(-1)


def _axis_weights(scale: Scale, size: int, stride: int) -> NDArray[np.float64]:
    """How many positions along an axis each one stands for, 0 for those that are not looked up."""
    inside = np.isin(np.arange(scale.positions(size)), scale.interior(size))
    on_grid = np.arange(scale.positions(size)) % stride == 0
    outside = max(1, int((~inside & on_grid).sum()))
    return np.where(inside, 1.0, np.where(on_grid, (~inside).sum() / outside, 0.0))

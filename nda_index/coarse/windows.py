"""The windows of a query that the coarse stage looks up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nda_index.coarse.embedding import Embedding, embed_noisy
from nda_index.diffusion import NoisyImage
from nda_index.images import Pixels, to_float
from nda_index.scales import Scale

# By how much the variance of a window's posterior grows, for each of its pixels, as a part of what the window changes
# over a pixel: the index knows training windows at every second pixel, by few coordinates. Measured:
# docs/studies/shortlist.md.
MISALIGNMENT = 1.5e-4


@dataclass(frozen=True)
class QueryWindows:
    """Windows of one noisy query at one scale.

    Attributes:
        vectors: float32 [W, d], embedded.
        variances: float64 [W], of the noise, in units of clean pixels, broadened by what the index does not know.
        weights: float64 [W], how many windows of the query each counts for.
        owners: int64 [W], the position on the query, row by row at every pixel, in whose softmax the window takes
            part: a window and its mirror window share one.
        shape: rows and columns of these positions.
    """

    vectors: NDArray[np.float32]
    variances: NDArray[np.float64]
    weights: NDArray[np.float64]
    owners: NDArray[np.int64]
    shape: tuple[int, int]


def query_windows(
    embedding: Embedding,
    stride: int,
    clean: Pixels,
    noisy: NoisyImage,
    mirror: bool,
    *,
    train_stride: int = 1,
) -> QueryWindows:
    """Return the windows of one noisy version of a query.

    Windows inside the image are taken at every pixel. Those that stick out find partners only on the grid that was
    indexed: the ones on it count for all of them, with a higher weight.

    Args:
        embedding: of the index's windows.
        stride: of the index's windows, in pixels.
        clean: uint8 [C, H, W], the query.
        noisy: the query with noise, or without.
        mirror: look up the mirror image's windows too; takes twice the time.
        train_stride: of the exact stage. Where it sees no training window that the index does not have, a window need
            not be broadened by what the index misses.
    """
    scale, size = embedding.scale, clean.shape[1:]
    weights = np.outer(*(_weigh_axis(scale, side, stride) for side in size)).reshape(-1)  # [P]
    places = np.arange(len(weights)).reshape(scale.positions(size[0]), -1)  # [rows, columns]
    taken = np.flatnonzero(weights)
    weights = weights[taken]
    owners = taken
    has_all = train_stride > 1 and train_stride % stride == 0 and not mirror  # mirrored windows lie on another grid
    missed = 0 if has_all else stride / 2
    parts = [_embed_version(embedding, missed, clean, noisy, taken)]
    if mirror:
        flipped = NoisyImage(np.ascontiguousarray(noisy.pixels[..., ::-1]), noisy.signal, noisy.sigma)
        parts.append(_embed_version(embedding, missed, np.ascontiguousarray(clean[..., ::-1]), flipped, taken))
        owners = np.concatenate([taken, places[:, ::-1].reshape(-1)[taken]])
        alone = np.bincount(owners)[owners] == 1  # at the border, where the grid is not its own mirror image
        weights = np.concatenate([weights, weights]) * np.where(alone, 0.5, 1.0)
    vectors, variances = (np.concatenate(column) for column in zip(*parts, strict=True))
    return QueryWindows(vectors, variances, weights, owners, (places.shape[0], places.shape[1]))


def _embed_version(
    embedding: Embedding, missed: float, clean: Pixels, noisy: NoisyImage, taken: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    pixels, scaled = to_float(clean, np.float64), noisy.pixels / noisy.signal  # [C, H, W] each
    vectors = embed_noisy(embedding, clean, scaled)  # [P, d]
    still = vectors if np.allclose(scaled, pixels, atol=1e-5) else embed_noisy(embedding, clean, pixels)  # [P, d]
    change = _measure_change(still, embedding.scale, clean.shape[1:])[taken]  # [W]
    part = MISALIGNMENT * embedding.scale.patch**2 * missed
    broadened = noisy.sigma**2 / noisy.signal**2 + part * (change + change.mean())  # [W]
    return vectors[taken], broadened


def _measure_change(vectors: NDArray[np.float32], scale: Scale, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return a window's mean squared distance from those a pixel away, along the axes where it lies inside: [P]."""
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


def _weigh_axis(scale: Scale, size: int, stride: int) -> NDArray[np.float64]:
    """Return how many positions along an axis each one counts for, 0 for those that are not looked up."""
    inside = np.isin(np.arange(scale.positions(size)), scale.interior(size))
    on_grid = np.arange(scale.positions(size)) % stride == 0
    outside = max(1, int((~inside & on_grid).sum()))
    return np.where(inside, 1.0, np.where(on_grid, (~inside).sum() / outside, 0.0))

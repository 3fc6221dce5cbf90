"""From neighbouring patches to images worth scoring exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nda_index.coarse.ivf import CoarseIndex
from nda_index.embedding import embed
from nda_index.scales import Scale

NEIGHBOURS = 256  # 2048 find no more of the images that matter, at twice the time (docs/method.md)
PROBES = 8
COVERED_VOTES = 0.995  # candidates are taken until they hold this fraction of the votes
FEWEST_CANDIDATES = 256
MOST_CANDIDATES = 1000
MOST_CANDIDATES_FRACTION = 0.05


@dataclass(frozen=True)
class Neighbours:
    """Of each patch of a query at one scale: image ids int64 [P, k], -1 for none, squared distances, and its weight."""

    image_ids: NDArray[np.int64]
    distances: NDArray[np.float32]
    weights: NDArray[np.float64]


def find_neighbours(
    coarse: CoarseIndex, image: NDArray[np.uint8], *, mirror: bool, allowed: NDArray[np.bool_] | None
) -> Neighbours:
    """Neighbours of the patches of a clean query, uint8 [C, H, W]; of its mirror image too if asked.

    Windows inside the image are taken at every pixel. Those that stick out find partners only on the grid that was
    indexed; the ones on it stand for all, with a higher weight.
    """
    scale = coarse.embedding.scale
    (rows, row_weights), (columns, column_weights) = (
        _axis_positions(scale, size, coarse.stride) for size in image.shape[1:]
    )
    queries = np.stack([image, image[..., ::-1]]) if mirror else image[None]
    patches = embed(coarse.embedding, queries)  # [1 or 2, P, d]
    grid = patches.reshape(len(queries), scale.positions(image.shape[1]), scale.positions(image.shape[2]), -1)
    taken = grid[:, rows][:, :, columns]  # [1 or 2, rows, columns, d]
    image_ids, distances = coarse.search(taken.reshape(-1, grid.shape[3]), NEIGHBOURS, PROBES, allowed)
    if mirror:  # one posterior over images and mirror images: a window and its mirror window share their neighbours
        here = np.arange(len(rows) * len(columns))
        there = len(here) + here.reshape(len(rows), -1)[:, ::-1].reshape(-1)
        image_ids, distances = (np.concatenate([part[here], part[there]], axis=1) for part in (image_ids, distances))
    return Neighbours(image_ids, distances, scale.weight * np.outer(row_weights, column_weights).reshape(-1))


def _axis_positions(scale: Scale, size: int, stride: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Positions along an axis that are searched for, and how many each stands for."""
    inside = np.isin(np.arange(scale.positions(size)), scale.interior(size))
    on_grid = np.arange(scale.positions(size)) % stride == 0
    outside = max(1, int((~inside & on_grid).sum()))
    weights = np.where(inside, 1.0, np.where(on_grid, (~inside).sum() / outside, 0.0))
    return np.flatnonzero(weights), weights[weights > 0]


def count_votes(neighbours: Sequence[Neighbours], count: int, *, signal: float, sigma: float) -> NDArray[np.float64]:
    """The posterior that the neighbours alone would give: float64 [count], sum of weights by image.

    Args:
        neighbours: one for each scale.
        count: number of images.
        signal, sigma: noise level; distances are of clean images, so the one is scaled by the other.
    """
    votes = np.zeros(count)
    for found in neighbours:
        distances = np.where(found.image_ids < 0, np.inf, found.distances)  # [P, k]
        logits = distances * (-(signal**2) / (2 * sigma**2))  # [P, k]
        highest = logits.max(axis=1, keepdims=True)
        weights = np.exp(logits - np.where(np.isfinite(highest), highest, 0))  # [P, k]
        weights *= found.weights[:, None] / np.maximum(weights.sum(axis=1, keepdims=True), np.finfo(np.float32).tiny)
        known = found.image_ids >= 0
        votes += np.bincount(found.image_ids[known], weights[known], minlength=count)
    return votes


def shortlist(
    votes: NDArray[np.float64], candidates: int | None, top: int, allowed: NDArray[np.bool_] | None
) -> NDArray[np.int64]:
    """Ids of the images with most votes, ascending.

    Args:
        votes: float64 [N].
        candidates: how many; None takes images until they hold 99.5% of the votes, so that a broad posterior gets more.
        top: at least this many.
        allowed: bool [N], the images to choose from; all by default.
    """
    eligible = np.arange(len(votes)) if allowed is None else np.flatnonzero(allowed)
    order = eligible[np.argsort(-votes[eligible], kind="stable")]
    if candidates is None:
        held = np.cumsum(votes[order])
        wanted = int(np.searchsorted(held, COVERED_VOTES * held[-1])) + 1
        most = max(MOST_CANDIDATES, int(MOST_CANDIDATES_FRACTION * len(order)))
        candidates = min(max(wanted, FEWEST_CANDIDATES), most)
    return np.sort(order[: max(candidates, top)])

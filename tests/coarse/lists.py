"""Inverted lists and queries that are made up, and what they give by the definition."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nda_index.coarse.cells import Cells, Segment, decode
from nda_index.coarse.embedding import Embedding
from nda_index.coarse.limits import REST_ALIKE
from nda_index.coarse.visits import Visits, Windows
from nda_index.coarse.windows import QueryWindows
from nda_index.scales import Scale

EMBEDDING = Embedding(Scale(3), np.zeros((1, 1, 3, 3)))  # of no use here


def make_cells(
    cells: int, dimensions: int, sizes: tuple[int, ...], images: int, *, width: int = 0, seed: int = 0
) -> Cells:
    """Lists of segments of some sizes, with cells that are empty or have one member.

    A byte stands for `width` coordinates; 0: for one, by offset and step.
    """
    rng = np.random.default_rng(seed)
    centroids = rng.normal(size=(cells, dimensions)).astype(np.float32)
    if width:
        codebook = rng.normal(0, 0.05, (256, dimensions)).astype(np.float32)
    else:
        step = rng.uniform(0.5e-3, 2e-3, dimensions)
        codebook = np.stack([-128 * step, step]).astype(np.float32)
    segments = []
    for size in sizes:
        counts = rng.multinomial(size, rng.dirichlet(np.full(cells, 0.4)))
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        codes = rng.integers(0, 256, (size, dimensions // max(width, 1)), np.uint8)
        vectors = decode(codes, centroids[np.repeat(np.arange(cells), counts)], codebook).astype(np.float64)
        means, variances = np.zeros((2, cells, dimensions))
        for cell in np.flatnonzero(counts):
            mine = vectors[offsets[cell] : offsets[cell + 1]]
            means[cell], variances[cell] = mine.mean(axis=0), mine.var(axis=0)
        image_ids = np.sort(rng.integers(0, images, size)).astype(np.int32)
        for array in (codes, image_ids, offsets):
            array.flags.writeable = False  # as what is mapped from a file
        segments.append(Segment(offsets, codes, image_ids, means, variances))
    return Cells(EMBEDDING, 1, centroids, codebook, tuple(segments))


def make_query(cells: Cells, windows: int, *, seed: int = 0, noise: tuple[float, float] = (0.15, 1.0)) -> QueryWindows:
    """Windows near the centroids, every position's two, with standard deviations between those of `noise`."""
    rng = np.random.default_rng(seed)
    chosen = cells.centroids[rng.integers(0, len(cells.centroids), windows)]
    vectors = (chosen + rng.normal(0, 0.15, chosen.shape)).astype(np.float32)
    variances = np.exp(rng.uniform(np.log(noise[0]), np.log(noise[1]), windows)) ** 2
    return QueryWindows(vectors, variances, rng.uniform(0.5, 2, windows), np.arange(windows) // 2, (windows, 1))


def members_of(cells: Cells) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """The cell and the image of each member of all segments, [T], and its vector, [T, d]."""
    places, image_ids, vectors = [], [], []
    for segment in cells.segments:
        place = np.repeat(np.arange(len(cells.centroids)), np.diff(segment.offsets))
        places.append(place)
        image_ids.append(segment.image_ids.astype(np.int64))
        vectors.append(decode(segment.codes, cells.centroids[place], cells.codebook).astype(np.float64))
    return np.concatenate(places), np.concatenate(image_ids), np.concatenate(vectors)


def visit_weights(
    cells: Cells, visits: Visits, windows: Windows, taking_part: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """The weight of every member for every visit by the definition, [V, T]; 0 where the member is not visited."""
    places, image_ids, vectors = members_of(cells)
    rows = np.column_stack([vectors, (vectors[:, :-2] ** 2).sum(axis=1), (vectors[:, -2:] ** 2).sum(axis=1)])
    rows[:, vectors.shape[1] - 3] *= np.float64(np.float32(REST_ALIKE))
    logits = windows.vectors[visits.windows].astype(np.float64) @ rows.T + windows.constants[visits.windows][:, None]
    there = (image_ids >= 0) & (image_ids < len(taking_part))
    there &= taking_part[np.where(there, image_ids, 0)]
    visited = np.repeat(visits.cells, np.diff(visits.starts))[:, None] == places
    return np.where(visited & there, np.exp2(logits), 0.0)

"""The shortlist: the images with most votes, which are scored exactly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# What more or fewer candidates find and cost: docs/studies/shortlist.md and benchmarks/results/recall.md.
COVERED_VOTES = 0.9  # candidates are taken until they hold this fraction of the votes
FEWEST_CANDIDATES = 256
MOST_CANDIDATES = 1500
PARTS = 32  # of so many votes one is looked at, to find out what is surely not among the best


def shortlist(
    votes: NDArray[np.float64], candidates: int | None, top: int, allowed: NDArray[np.bool_] | None
) -> NDArray[np.int64]:
    """Choose the images with most votes.

    Args:
        votes: float64 [N].
        candidates: how many. None takes images until they hold 90% of the votes, at least 256 and at most 1,500: a
            broad posterior gets more. More hold more of the posterior; the exact stage's time grows with them.
        top: at least this many.
        allowed: bool [N], the images to choose from; None: all.

    Returns:
        int64, their ids, ascending; of equal votes the first images.

    Example:
        >>> shortlist(np.array([0.0, 5.0, 1.0, 4.0]), 2, 1, None)
        array([1, 3])
    """
    mine = votes if allowed is None else votes[allowed]
    best = _take_best(mine, max(candidates or MOST_CANDIDATES, top))  # of all images once: they may be millions
    if candidates is None:
        wanted = _count_wanted(mine[best], mine.sum())
        candidates = min(max(wanted, FEWEST_CANDIDATES), MOST_CANDIDATES)
    places = best[_take_best(mine[best], max(candidates, top))]
    return places if allowed is None else np.flatnonzero(allowed)[places]


def _count_wanted(best: NDArray[np.float64], total: np.float64) -> int:
    """Return how many of the most votes hold `COVERED_VOTES` of all."""
    return int(np.searchsorted(np.cumsum(np.sort(best)[::-1]), COVERED_VOTES * total)) + 1


def _take_best(votes: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Return the places of the most votes, ascending; of equal ones the first."""
    if count >= len(votes):
        return np.arange(len(votes))
    many = PARTS * max(count, FEWEST_CANDIDATES)
    if len(votes) > many:  # most need no selection: they are below a floor that more than `count` are likely to reach
        near = np.flatnonzero(votes >= _take_floor(votes[::PARTS], 2 * count // PARTS + PARTS))
        if count <= len(near) < len(votes) // 2:
            return np.asarray(near[_take_best(votes[near], count)], np.int64)
    least = _take_floor(votes, count)
    more = np.flatnonzero(votes > least)
    return np.sort(np.concatenate([more, np.flatnonzero(votes == least)[: count - len(more)]]))


def _take_floor(votes: NDArray[np.float64], count: int) -> np.float64:
    """Return the least of the `count` largest votes."""
    floor: np.float64 = np.partition(votes, -count)[-count]
    return floor

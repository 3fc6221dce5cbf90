"""From votes to the images that are scored exactly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

COVERED_VOTES = 0.9  # candidates are taken until they hold this fraction of the votes
FEWEST_CANDIDATES = 256
MOST_CANDIDATES = 1500


def shortlist(
    votes: NDArray[np.float64], candidates: int | None, top: int, allowed: NDArray[np.bool_] | None
) -> NDArray[np.int64]:
    """Ids of the images with most votes, ascending.

    Args:
        votes: float64 [N].
        candidates: how many; None takes images until they hold 90% of the votes, so that a broad posterior gets more,
            up to 1,500.
        top: at least this many.
        allowed: bool [N], the images to choose from; all by default.
    """
    mine = votes if allowed is None else votes[allowed]
    if candidates is None:
        candidates = min(max(_wanted(mine), FEWEST_CANDIDATES), MOST_CANDIDATES)
    places = _best(mine, max(candidates, top))
    return places if allowed is None else np.flatnonzero(allowed)[places]


def _wanted(votes: NDArray[np.float64]) -> int:
    """How many of the images hold `COVERED_VOTES`; more than `MOST_CANDIDATES` are not counted."""
    held = np.cumsum(np.sort(votes[_best(votes, MOST_CANDIDATES)])[::-1])
    return int(np.searchsorted(held, COVERED_VOTES * votes.sum())) + 1


def _best(votes: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Places of the most votes, ascending; of equal ones the first."""
    if count >= len(votes):
        return np.arange(len(votes))
    least = np.partition(votes, -count)[-count]
    more = np.flatnonzero(votes > least)
    return np.sort(np.concatenate([more, np.flatnonzero(votes == least)[: count - len(more)]]))

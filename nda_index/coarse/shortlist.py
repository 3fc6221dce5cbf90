"""From votes to the images that are scored exactly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

COVERED_VOTES = 0.9  # candidates are taken until they hold this fraction of the votes
FEWEST_CANDIDATES = 256
MOST_CANDIDATES = 2500


def shortlist(
    votes: NDArray[np.float64], candidates: int | None, top: int, allowed: NDArray[np.bool_] | None
) -> NDArray[np.int64]:
    """Ids of the images with most votes, ascending.

    Args:
        votes: float64 [N].
        candidates: how many; None takes images until they hold 90% of the votes, so that a broad posterior gets more,
            up to 2,500.
        top: at least this many.
        allowed: bool [N], the images to choose from; all by default.
    """
    eligible = np.arange(len(votes)) if allowed is None else np.flatnonzero(allowed)
    order = eligible[np.argsort(-votes[eligible], kind="stable")]
    if candidates is None:
        held = np.cumsum(votes[order])
        wanted = int(np.searchsorted(held, COVERED_VOTES * held[-1])) + 1
        candidates = min(max(wanted, FEWEST_CANDIDATES), MOST_CANDIDATES)
    return np.sort(order[: max(candidates, top)])

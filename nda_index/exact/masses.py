"""What a block of training images adds to the posterior: parts that merge exactly, in any order, on any machine.

A shard computes the `Masses` of its images, sends `log_total` (one number a query position), receives the normaliser,
`merge_log_totals` of all shards, and has its images' scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEFT_OUT_BITS = 24  # the weights that a block leaves out are together below 2^-24 of every position's total


@dataclass(frozen=True)
class Masses:
    """Posterior masses of N training images at P query positions, before the normaliser divides them.

    Attributes:
        total: float [N, P], over all windows of an image: what the normaliser is made of. In units of exp(log_unit).
        counted: float [N, P], over the windows that count for its score: all, or its `per_image_topk` best.
        log_unit: float64 [P].
        left_out: at most this fraction of a position's whole mass was too small to be computed and is missing.
        backend: what computed them, "reference", "cpu" or "gpu".
    """

    total: NDArray[np.floating]
    counted: NDArray[np.floating]
    log_unit: NDArray[np.float64]
    left_out: float
    backend: str

    @property
    def log_total(self) -> NDArray[np.float64]:
        """Log of the mass of all images together, float64 [P]; -inf where no window can match."""
        with np.errstate(divide="ignore"):
            return np.asarray(self.log_unit + np.log(self.total.sum(axis=0, dtype=np.float64)), np.float64)

    def weights(self, log_normaliser: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the posterior weight of every image at every query position: float64 [N, P].

        Over all images each position sums to 1, or to 0 where no training window can match: with `mask_value=inf` and a
        train_stride above 1, a window at the border may find none that sticks out by the same amount.
        """
        return np.asarray(self.counted * self._normalise_unit(log_normaliser), np.float64)

    def scores(self, log_normaliser: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum each image's weights over the query positions: float64 [N]."""
        # Not a matrix product: its threads go on spinning while the next kernel wants the cores.
        return np.asarray(np.einsum("np,p->n", self.counted, self._normalise_unit(log_normaliser)), np.float64)

    def _normalise_unit(self, log_normaliser: NDArray[np.float64]) -> NDArray[np.float64]:
        possible = np.isfinite(log_normaliser)
        with np.errstate(under="ignore", over="ignore"):
            return np.where(possible, np.exp(self.log_unit - np.where(possible, log_normaliser, 0.0)), 0.0)


def merge_log_totals(log_totals: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the normaliser of several blocks' images: log of the sum of their masses, float64 [P].

    Example:
        >>> merge_log_totals([np.array([0.0, -np.inf]), np.array([0.0, -np.inf])]).tolist()
        [0.6931471805599453, -inf]
    """
    return np.asarray(np.logaddexp.reduce(np.stack(log_totals), axis=0), np.float64)

"""The verdict on one image of an answer: whether its evidence is more than unrelated pictures get.

A share says how the posterior divides, not how well anything fits. `nda_index.trust.evidence` measures the fit of one
image alone. The best evidence of many unrelated pictures is the null (`nda_index.trust.null`); `find_percentile` places
an image in it, and `judge` says what follows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nda_index.errors import ConfigError

STRONG = 0.99  # an image at or above this percentile of the null is called a strong match
FEWEST = 99  # unrelated pictures: with fewer, nothing can reach `STRONG`


@dataclass(frozen=True)
class Verdict:
    """What is said of one image; its `str` is a sentence for a reader.

    Attributes:
        evidence: how much of the query the image explains, 0 to 1.
        percentile: fraction of unrelated pictures whose best match has less evidence.
        strong: whether that is at or above `STRONG`.
        pictures: number of unrelated pictures it was compared with.
    """

    evidence: float
    percentile: float
    strong: bool
    pictures: int

    def __str__(self) -> str:
        return f"strong match: {self.place}" if self.strong else "no strong match"

    @property
    def place(self) -> str:
        """Where it lies among unrelated pictures, in words."""
        return f"stronger than {_round_down(self.percentile)} of unrelated pictures"


def find_percentile(evidence: float, null: NDArray[np.float64]) -> float:
    """Return the fraction of unrelated pictures whose best match has less evidence.

    The picture itself counts as one more that is not weaker: m pictures support no claim above m / (m + 1), so fewer
    than 99 cannot support a strong match.

    Args:
        evidence: of one image.
        null: float64 [m], the best evidence of m unrelated pictures. More pictures make finer percentiles.

    Returns:
        0 to m / (m + 1).

    Raises:
        ConfigError: the null is empty or holds NaN.

    Example:
        >>> find_percentile(0.5, np.array([0.1, 0.2, 0.6]))
        0.5
    """
    if null.ndim != 1 or len(null) == 0 or np.isnan(null).any():
        raise ConfigError(f"the null has shape {null.shape} or holds NaN; it must be one or more numbers")
    return float((null < evidence).sum() / (len(null) + 1))


def judge(evidence: float, percentile: float, pictures: int) -> Verdict:
    """Return the verdict on one image: the only place that decides what a strong match is.

    Args:
        evidence: of the image.
        percentile: of the evidence, from `find_percentile`.
        pictures: number of unrelated pictures in the null.

    Example:
        >>> print(judge(0.8, 0.998, pictures=499))
        strong match: stronger than 99.8% of unrelated pictures
        >>> print(judge(0.3, 0.75, pictures=499))
        no strong match
    """
    return Verdict(evidence, percentile, percentile >= STRONG, pictures)


def _round_down(fraction: float) -> str:
    """Return a percentage that claims no more than the fraction."""
    return f"{np.floor(fraction * 1000 + 1e-9) / 10:.1f}%"

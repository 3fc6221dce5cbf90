"""Views of a query: each of its noisy versions at each scale. Scores are sums over views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nda_index.diffusion import NoisyImage
from nda_index.scales import Scale


@dataclass(frozen=True)
class View:
    """One noisy version of the query at one scale; `factor` is its part in the sum of scores."""

    noisy: NoisyImage
    scale: Scale
    factor: float

    @property
    def positions(self) -> int:
        """Number of query positions."""
        return self.scale.query_positions(*self.noisy.pixels.shape[1:])


def views_of(noisy: Sequence[NoisyImage], scales: Sequence[Scale]) -> list[View]:
    """Return all pairs of noisy images and scales: noisy images are averaged, scales are summed with their weights."""
    return [View(image, scale, scale.weight / len(noisy)) for scale in scales for image in noisy]


def total_score(views: Sequence[View]) -> float:
    """Return what the scores of all training images sum to (without `per_image_topk`)."""
    return sum(view.factor * view.positions for view in views)


def scales_of(views: Sequence[View]) -> list[Scale]:
    """Return the scales of views, each once, in the order of the views."""
    return list(dict.fromkeys(view.scale for view in views))

"""Lookups: what the coarse stage looks up for the views of a question, at the scales that the index has.

A question may look through any patches, the index has those of one or two scales. A view at a scale of the index is
looked up as it is. Another is looked up at the scale whose patch is nearest, with the noise that makes windows there as
likely as the view's own: distances grow with the number of pixels of a window, and so must the variance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nda_index.exact.views import View
from nda_index.scales import Scale

# How much more a view counts that is a term's only one, beside terms that average several draws. A single view gives
# scores in lumps, an image wins a position or does not, so that one of which the coarse stage finds a little may have
# much. Measured: docs/studies/shortlist.md.
LUMPS = 2.0
TOGETHER = 8  # views that visit cells together, at most: each takes 5 bytes a window and cell


@dataclass(frozen=True)
class Lookups:
    """What the coarse stage looks up.

    Attributes:
        views: each at the patch of a scale of the index. A `train_stride` says which windows the exact stage will see.
        places: for each view of the question its own lookup among them; None where another scale stands for it.
    """

    views: tuple[View, ...]
    places: tuple[int | None, ...]

    def by_scale(self) -> list[list[int]]:
        """Return the numbers of the views that are looked up together: of one scale, at most `TOGETHER`."""
        groups: dict[tuple[str, int], list[int]] = {}
        counts: Counter[str] = Counter()
        for number, view in enumerate(self.views):
            groups.setdefault((view.scale.name, counts[view.scale.name] // TOGETHER), []).append(number)
            counts[view.scale.name] += 1
        return list(groups.values())

    def spread(self, held: Sequence[NDArray[np.float64]], views: Sequence[View]) -> list[NDArray[np.float64]]:
        """Return for each view what is known of its own lookup, at the view's query positions; NaN where nothing is.

        Args:
            held: of each lookup, float64 [rows, columns] at every pixel.
            views: of the question.
        """
        found = []
        for view, place in zip(views, self.places, strict=True):
            height, width = (view.scale.positions(size) for size in view.noisy.pixels.shape[1:])
            known = np.full((height, width), np.nan) if place is None else held[place]
            found.append(known[:: view.scale.query_stride, :: view.scale.query_stride])
        return found


def choose_lookups(views: Sequence[View], scales: Sequence[Scale]) -> Lookups:
    """Choose what to look up for the views of a question. Views that look for the same share a lookup.

    Their factors sum to those of the views, and more where a term has a single view beside terms of several.

    Args:
        views: of the question.
        scales: of the index.
    """
    several = any(view.draws > 1 for view in views)
    lookups: dict[tuple[Scale, int, float], View] = {}
    places: list[int | None] = []
    for view in views:
        nearest = min(scales, key=lambda one: (abs(np.log(one.patch / view.scale.patch)), one.name != view.scale.name))
        same = nearest.name == view.scale.name
        scale = Scale(nearest.patch, nearest.downscale, train_stride=view.scale.train_stride if same else 1)
        noisy = replace(view.noisy, sigma=view.noisy.sigma * scale.patch / view.scale.patch)
        key = scale, id(view.noisy.pixels), noisy.sigma
        lumps = LUMPS if several and view.draws == 1 else 1.0
        factor = lumps * view.factor * view.positions / scale.query_positions(*noisy.pixels.shape[1:])
        before = lookups[key].factor if key in lookups else 0.0
        lookups[key] = View(noisy, scale, before + factor, view.timestep, view.draw, view.draws)
        places.append(list(lookups).index(key) if same else None)
    return Lookups(tuple(lookups.values()), tuple(places))

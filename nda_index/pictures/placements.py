"""Placements: how one picture lies in another, where many windows agree on one zoom, turn and displacement.

A window of the question has a softmax posterior over the windows of all pictures, levels and mirror images. With the
variance set by how far the last of its K neighbours is, the log odds of a neighbour at distance d against that one are
1 - d^2 / d_K^2: 1 for a copy, 0 for what many windows are like. The evidence of a placement is the sum of the log odds
of the windows that it explains (docs/pictures.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nda_index.pictures.catalogue import Catalogue
from nda_index.pictures.windows import KINDS, Kind, Windows

NEIGHBOURS = 10  # of a window: fewer make its odds of chance, more cost time
PROBES = 8  # cells that a window looks at
PICTURES = 50  # pictures and mirror images whose matches are looked at closely
PLACEMENTS = 12  # that are returned

_WEIGHT: dict[Kind, float] = {"points": 1.0, "grid": 0.2}  # grid windows overlap, so that they repeat what others say
_TURN = np.deg2rad(20)  # by which a piece may be turned
_OCTAVES = 1.9  # by which it may be zoomed
_FEWEST, _MOST = 40, 150  # matches that propose placements, and that decide between them
_REACH = 0.12  # of a window's width, by which it may lie apart from where a placement puts it; and
_SLACK = 4.0  # pixels
_EACH = 3  # placements of one picture


class Matches(NamedTuple):
    """Pairs of a window of the question and a window of the collection.

    Attributes:
        asked: float64 [n, 4], frames of the question's windows.
        found: float64 [n, 4], frames of the others; in the mirror image where that is what matches.
        odds: float64 [n], log odds of the pair.
        sides: int64 [n], twice the picture's number, and 1 more for its mirror image.
    """

    asked: NDArray[np.float64]
    found: NDArray[np.float64]
    odds: NDArray[np.float64]
    sides: NDArray[np.int64]

    def take(self, chosen: NDArray[np.int64]) -> Matches:
        """Return some of the pairs."""
        return Matches(self.asked[chosen], self.found[chosen], self.odds[chosen], self.sides[chosen])


@dataclass(frozen=True)
class Placement:
    """Where a picture lies in the question: pixel z of it, a complex number, at `zoom * z + shift`.

    Attributes:
        picture: number of the picture, over all catalogues.
        mirrored: whether its mirror image lies there.
        zoom: complex: by how much it is enlarged, and turned.
        shift: complex: where its corner lies.
        odds: sum of the log odds of the windows that agree.
        asked: float64 [n, 4], frames of these windows.
    """

    picture: int
    mirrored: bool
    zoom: complex
    shift: complex
    odds: float
    asked: NDArray[np.float64]


def find_placements(
    catalogues: Sequence[Catalogue], windows: dict[Kind, Windows], allowed: Sequence[NDArray[np.bool_]] | None = None
) -> list[Placement]:
    """Find where pictures lie in a question, the most evident placement first.

    Args:
        catalogues: the collection, in parts; pictures are numbered through them.
        windows: of the question, by kind.
        allowed: for each catalogue bool [N], the pictures that may be found; all by default.
    """
    return place_matches(match_windows(catalogues, [windows], allowed)[0], _sizes_of(catalogues))


def place_matches(matches: Matches, sizes: NDArray[np.int32]) -> list[Placement]:
    """Find where pictures of these sizes [N, 2] lie in the question of `matches`, as `find_placements`."""
    votes = np.bincount(matches.sides, matches.odds, 2 * len(sizes))
    best = np.argsort(-votes, kind="stable")[:PICTURES]
    placements = []
    for side in best[votes[best] > 0].tolist():
        of_side = matches.take(np.flatnonzero(matches.sides == side))
        placements += _place(of_side, side)
    return sorted(placements, key=lambda placement: -placement.odds)[:PLACEMENTS]


def match_windows(
    catalogues: Sequence[Catalogue],
    questions: Sequence[dict[Kind, Windows]],
    allowed: Sequence[NDArray[np.bool_]] | None = None,
) -> list[Matches]:
    """Match the windows of questions, as they are and mirrored, with those of the collection.

    Of the neighbours in one picture, or its mirror image, a window keeps the nearest. All questions are looked for
    together; other arguments are as for `find_placements`.
    """
    sizes = _sizes_of(catalogues)
    found: dict[Kind, list[Neighbours]] = {}
    for kind in KINDS:
        codes = [np.concatenate([windows[kind].codes, windows[kind].mirrored]) for windows in questions]
        cuts = np.cumsum([len(part) for part in codes])[:-1]
        fields = [np.split(field, cuts) for field in _nearest(catalogues, kind, np.concatenate(codes), allowed)]
        found[kind] = [Neighbours(*parts) for parts in zip(*fields, strict=True)]
    return [
        _match(windows, {kind: found[kind][number] for kind in KINDS}, sizes)
        for number, windows in enumerate(questions)
    ]


class Neighbours(NamedTuple):
    """Nearest windows over all catalogues, of a question's windows and, after these, of their mirror images.

    Attributes:
        distances: float64 [q, NEIGHBOURS], squared.
        owners: int64 [q, NEIGHBOURS], -1 where there are no more.
        frames: float64 [q, NEIGHBOURS, 4].
    """

    distances: NDArray[np.float64]
    owners: NDArray[np.int64]
    frames: NDArray[np.float64]


def _match(windows: dict[Kind, Windows], near: dict[Kind, Neighbours], sizes: NDArray[np.int32]) -> Matches:
    parts: list[Matches] = []
    numbers: list[NDArray[np.int64]] = []
    first = 0
    for kind in KINDS:
        asked = windows[kind]
        count = len(asked.frames)
        if count == 0:
            continue
        distances, owners, frames = near[kind]
        known = np.where(owners >= 0, distances, 0.0)
        last = known.max(axis=1)  # before the tenth, where fewer are near: a condition may leave few pictures
        last = np.where(last > 0, last, np.inf).reshape(2, count).min(axis=0)
        odds = 1 - known / (np.tile(last, 2)[:, None] + 1e-9)
        window, column = np.nonzero((owners >= 0) & (odds > 0))
        mirrored = window >= count
        found = frames[window, column]
        owner = owners[window, column]
        found[mirrored, 0] = sizes[owner[mirrored], 0] - found[mirrored, 0]
        if kind == "points":
            found[mirrored, 3] = np.pi - found[mirrored, 3]
        pairs = Matches(
            asked.frames[window % count].astype(np.float64), found, _WEIGHT[kind] * odds[window, column],
            2 * owner + mirrored,
        )  # fmt: skip
        likely = np.flatnonzero(_is_likely(pairs))
        parts.append(pairs.take(likely))
        numbers.append((window % count)[likely] + first)
        first += count
    if not parts:
        return Matches(np.zeros((0, 4)), np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))
    matches = Matches(*(np.concatenate(fields) for fields in zip(*parts, strict=True)))
    number = np.concatenate(numbers)
    order = np.lexsort((-matches.odds, matches.sides, number))
    apart = (np.diff(number[order], prepend=-1) != 0) | (np.diff(matches.sides[order], prepend=-1) != 0)
    return matches.take(order[apart])


def _sizes_of(catalogues: Sequence[Catalogue]) -> NDArray[np.int32]:
    return np.concatenate([catalogue.sizes for catalogue in catalogues])


def _nearest(
    catalogues: Sequence[Catalogue], kind: Kind, codes: NDArray[np.uint8], allowed: Sequence[NDArray[np.bool_]] | None
) -> Neighbours:
    found = []
    offset = 0
    for number, catalogue in enumerate(catalogues):
        lists, owners, frames = catalogue.windows[kind]
        if lists.count and len(codes):
            may = None if allowed is None else allowed[number]
            distances, members = lists.search(codes, NEIGHBOURS, PROBES, may)
            owned = np.where(members >= 0, owners[members] + offset, -1).astype(np.int64)
            found.append((distances.astype(np.float64), owned, frames[members].astype(np.float64)))
        offset += len(catalogue.sizes)
    if not found:
        shape = len(codes), NEIGHBOURS
        return Neighbours(np.full(shape, np.inf), np.full(shape, -1), np.zeros((*shape, 4)))
    distances, owned, places = (np.concatenate(part, axis=1) for part in zip(*found, strict=True))
    order = np.argsort(distances, axis=1, kind="stable")[:, :NEIGHBOURS]
    rows = np.arange(len(codes))[:, None]
    return Neighbours(
        np.asarray(distances[rows, order], np.float64),
        owned[rows, order],
        np.asarray(places[rows, order], np.float64),
    )


def _is_likely(pairs: Matches) -> NDArray[np.bool_]:
    """Tell which pairs a piece that is zoomed and turned within bounds can have."""
    turn = (pairs.asked[:, 3] - pairs.found[:, 3] + np.pi) % (2 * np.pi) - np.pi
    zoom = np.log2(pairs.asked[:, 2] / np.maximum(pairs.found[:, 2], 1e-6))
    return np.asarray((np.abs(turn) < _TURN) & (np.abs(zoom) < _OCTAVES))


def _place(matches: Matches, side: int) -> list[Placement]:
    """Find the placements of one picture or mirror image, in rounds: what one explains is left out of the next."""
    matches = matches.take(np.argsort(-matches.odds, kind="stable")[:_MOST])
    asked, found = (frames[:, 0] + 1j * frames[:, 1] for frames in (matches.asked, matches.found))
    octaves = np.log2(matches.asked[:, 2] / matches.found[:, 2])
    reach = _REACH * matches.asked[:, 2] + _SLACK
    zooms, shifts = _propose(matches, asked, found, octaves)
    with np.errstate(divide="ignore"):
        agreeing = np.abs(zooms[:, None] * found + shifts[:, None] - asked) < reach
        agreeing &= np.abs(np.log2(np.abs(zooms))[:, None] - octaves) < 0.7
    odds, placements = matches.odds.copy(), []
    for _ in range(_EACH):
        best = int(np.argmax((agreeing * odds).sum(axis=1)))
        zoom, shift, explained = _refine(zooms[best], shifts[best], asked, found, odds, reach, octaves, agreeing[best])
        total = float(odds[explained].sum())
        if total <= 0:
            break
        placements.append(Placement(side // 2, side % 2 == 1, zoom, shift, total, matches.asked[explained]))
        odds[explained | agreeing[best]] = 0
    return placements


Points = NDArray[np.complex128]


def _propose(matches: Matches, asked: Points, found: Points, octaves: NDArray[np.float64]) -> tuple[Points, Points]:
    """Propose zooms and shifts: of each pair of good matches, and of each good match alone."""
    few = min(len(asked), _FEWEST)
    one, other = np.triu_indices(few, 1)
    apart = found[other] - found[one]
    far = np.abs(apart) > 0.25 * np.minimum(matches.found[one, 2], matches.found[other, 2])
    one, other = one[far], other[far]
    zoom = (asked[other] - asked[one]) / apart[far]
    with np.errstate(divide="ignore"):
        octave = np.log2(np.abs(zoom))
    sound = (np.abs(np.angle(zoom)) < _TURN) & (np.abs(octave - octaves[one]) < 0.6)
    sound &= np.abs(octave - octaves[other]) < 0.6
    alone = 2.0 ** octaves[:few] * np.exp(1j * (matches.asked[:few, 3] - matches.found[:few, 3]))
    zooms = np.concatenate([zoom[sound], alone])
    return zooms, np.concatenate([asked[one[sound]], asked[:few]]) - zooms * np.concatenate(
        [found[one[sound]], found[:few]]
    )


def _refine(
    zoom: complex, shift: complex, asked: Points, found: Points, odds: NDArray[np.float64],
    reach: NDArray[np.float64], octaves: NDArray[np.float64], explained: NDArray[np.bool_],
) -> tuple[complex, complex, NDArray[np.bool_]]:  # fmt: skip
    """Fit a placement to what it explains, by weighted least squares, three times over."""
    for _ in range(3):
        weight = odds * explained / reach
        if np.count_nonzero(weight) < 2:
            break
        centre, middle = np.average(asked, weights=weight), np.average(found, weights=weight)
        spread = float((weight * np.abs(found - middle) ** 2).sum())
        if spread > 1e-6:
            fitted = complex((weight * (asked - centre) * np.conj(found - middle)).sum() / spread)
            if abs(fitted) > 1e-6 and abs(np.log2(abs(fitted) / abs(zoom))) < 0.5:
                zoom, shift = fitted, complex(centre - fitted * middle)
        explained = np.abs(zoom * found + shift - asked) < reach
        explained &= np.abs(np.log2(abs(zoom)) - octaves) < 0.7
    return complex(zoom), complex(shift), explained

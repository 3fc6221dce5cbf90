from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nda_index.coarse.neighbours import assign_cells, train_centroids
from nda_index.pictures.catalogue import Catalogue, Members
from nda_index.pictures.cpu import HostLists
from nda_index.pictures.placements import PLACEMENTS, Placement, find_placements, match_windows
from nda_index.pictures.record import IndexedPicture
from nda_index.pictures.windows import DIMENSIONS, Kind, Windows

SIZE = 400, 300
Frames = NDArray[np.float32]
Codes = NDArray[np.uint8]


def random_codes(count: int, seed: int) -> Codes:
    return np.random.default_rng(seed).integers(90, 166, (count, DIMENSIONS), np.uint8)


def random_frames(count: int, seed: int) -> Frames:
    """Of point windows, anywhere in a picture."""
    rng = np.random.default_rng(seed)
    frames = np.c_[
        rng.uniform(0, SIZE[0], count), rng.uniform(0, SIZE[1], count), rng.uniform(12, 60, count),
        rng.uniform(0, 2 * np.pi, count),
    ]  # fmt: skip
    return np.asarray(frames, np.float32)


def read(image_ids: Sequence[int]) -> list[IndexedPicture]:
    raise AssertionError("placements look at windows only")


def members(frames: Frames, codes: Codes, owners: Sequence[int]) -> Members:
    centroids = train_centroids(np.concatenate([np.zeros((1, DIMENSIONS), np.uint8), codes]), max(1, len(codes)))
    of = np.array(owners, np.int32)
    return Members(HostLists(codes, assign_cells(codes, centroids), centroids, of), of, frames)


def catalogue(pictures: int, windows: int, first: int = 0) -> Catalogue:
    """Pictures whose point windows have random codes; those of picture i are made with the seed i."""
    frames = np.concatenate([random_frames(windows, first + number) for number in range(pictures)])
    codes = np.concatenate([random_codes(windows, first + number) for number in range(pictures)])
    points = members(frames, codes, [number for number in range(pictures) for _ in range(windows)])
    sizes = np.tile(np.array(SIZE, np.int32), (pictures, 1))
    return Catalogue(sizes, {"points": points, "grid": members(frames[:0], codes[:0], [])}, read)


PARTS = [catalogue(3, 300), catalogue(5, 300, 3)]  # pictures 0 to 7
WHOLE = [catalogue(8, 300)]


def nothing() -> Windows:
    codes = np.zeros((0, DIMENSIONS), np.uint8)
    return Windows(np.zeros((0, 4), np.float32), codes, codes)


def points(frames: Frames, codes: Codes, mirrored: Codes) -> dict[Kind, Windows]:
    return {"points": Windows(frames, codes, mirrored), "grid": nothing()}


def question(
    number: int, zoom: complex, shift: complex, mirrored: bool, agreeing: int, outliers: int, jitter: float = 0.0
) -> dict[Kind, Windows]:
    """Windows of a question in which picture `number` lies so; the outliers look like it and lie anywhere."""
    rng = np.random.default_rng(5)
    count = agreeing + outliers
    codes, frames = random_codes(300, number)[:count], random_frames(300, number)[:count]
    place = frames[:, 0] + 1j * frames[:, 1]
    angle = frames[:, 3].astype(float)
    if mirrored:
        place = SIZE[0] - place.real + 1j * place.imag
        angle = np.pi - angle
    place = zoom * place + shift + jitter * (rng.normal(size=count) + 1j * rng.normal(size=count))
    place[agreeing:] = rng.uniform(0, 800, outliers) + 1j * rng.uniform(0, 600, outliers)
    asked = np.c_[place.real, place.imag, frames[:, 2] * abs(zoom), angle + np.angle(zoom)].astype(np.float32)
    others = random_codes(count, 1000)
    near = (codes + rng.integers(-3, 4, codes.shape)).astype(np.uint8)
    return points(asked, *((others, near) if mirrored else (near, others)))


def corners(placement: Placement) -> NDArray[np.complex128]:
    width, height = SIZE
    return np.array([0, width, width + 1j * height, 1j * height]) * placement.zoom + placement.shift


@settings(max_examples=40, deadline=None)
@given(
    number=st.integers(0, 7),
    octave=st.floats(-1.6, 1.6),
    turn=st.floats(-15, 15),
    shift=st.complex_numbers(max_magnitude=300),
    mirrored=st.booleans(),
    agreeing=st.integers(12, 100),
    outliers=st.integers(0, 60),
)
def test_a_picture_is_placed_where_it_lies_whatever_else_looks_like_it(
    number: int, octave: float, turn: float, shift: complex, mirrored: bool, agreeing: int, outliers: int
) -> None:
    zoom = 2.0**octave * np.exp(1j * np.deg2rad(turn))
    asked = question(number, zoom, shift, mirrored, agreeing, outliers, jitter=0.3)
    best = find_placements(PARTS, asked)[0]
    assert (best.picture, best.mirrored) == (number, mirrored)
    expected = Placement(number, mirrored, zoom, shift, 0.0, best.asked)
    assert np.abs(corners(best) - corners(expected)).max() < 2 + 0.02 * abs(zoom) * SIZE[0]
    assert abs(best.zoom) == pytest.approx(abs(zoom), rel=0.03)
    # A window that agrees is a copy: each is worth nearly 1, and few of the others agree.
    assert 0.8 * agreeing < best.odds < agreeing + 0.3 * outliers + 1
    assert len(best.asked) >= 0.9 * agreeing


def test_placements_do_not_depend_on_the_parts() -> None:
    asked = question(4, 1.5 + 0.1j, 20 + 30j, False, 40, 40)
    parts, whole = find_placements(PARTS, asked), find_placements(WHOLE, asked)
    best = [(place.picture, place.mirrored, place.zoom, place.odds) for place in (parts[0], whole[0])]
    assert best[0][:2] == best[1][:2] == (4, False)
    assert best[0][2] == pytest.approx(best[1][2], abs=0.01)
    assert best[0][3] == pytest.approx(best[1][3], rel=0.05)


def test_only_pictures_that_are_allowed_are_placed() -> None:
    asked = question(4, 1 + 0j, 0j, False, 40, 0)
    allowed = [np.ones(3, np.bool_), np.ones(5, np.bool_)]
    assert find_placements(PARTS, asked, allowed)[0].picture == 4
    allowed[1][1] = False
    others = find_placements(PARTS, asked, allowed)
    assert 4 not in {place.picture for place in others}
    assert all(place.odds < 3 for place in others)
    assert find_placements(PARTS, asked, [np.zeros(3, np.bool_), np.zeros(5, np.bool_)]) == []


def test_windows_that_look_alike_by_chance_are_no_evidence_however_few_are_allowed() -> None:
    """The odds are set against the last of the neighbours, of which there are fewer where little is allowed."""
    asked = points(random_frames(150, 90), random_codes(150, 91), random_codes(150, 92))
    most = max(place.odds for place in find_placements(WHOLE, asked))
    assert most < 4
    for kept in (1, 2, 4, 9):
        few = Catalogue(
            np.array([SIZE], np.int32),
            {
                "points": members(random_frames(kept, 0), random_codes(kept, 0), [0] * kept),
                "grid": members(random_frames(0, 0), random_codes(0, 0), []),
            },
            read,
        )
        assert max((place.odds for place in find_placements([few], asked)), default=0.0) < 4
        assert np.isfinite(match_windows([few], [asked])[0].odds).all()


def test_two_pieces_of_one_picture_have_two_placements() -> None:
    one, other = (question(2, zoom, shift, False, 60, 0) for zoom, shift in ((1 + 0j, 0j), (1.4 + 0j, 500 + 200j)))
    fields = [(getattr(one["points"], name), getattr(other["points"], name)) for name in Windows._fields]
    both: list[Any] = [np.concatenate([first[:30], second[30:60]]) for first, second in fields]
    found = [place for place in find_placements(WHOLE, points(*both)) if place.odds > 15]
    assert sorted(round(abs(place.zoom), 1) for place in found) == [1.0, 1.4]
    assert {place.picture for place in found} == {2}


def test_a_piece_beyond_the_bounds_is_not_placed() -> None:
    for zoom in (np.exp(1j * np.pi / 2), 4.0, 0.22, -1.0):
        found = find_placements(WHOLE, question(4, complex(zoom), 300 + 200j, False, 60, 0))
        assert all(place.odds < 4 for place in found), zoom


def test_the_most_evident_comes_first_and_there_are_not_many() -> None:
    several = [question(number, 1 + 0j, 0j, False, 10 + 5 * number, 0)["points"] for number in range(8)]
    found = find_placements(PARTS, points(*(np.concatenate(part) for part in zip(*several, strict=True))))
    assert [place.picture for place in found[:7]] == [7, 6, 5, 4, 3, 2, 1]
    assert [place.odds for place in found] == sorted((place.odds for place in found), reverse=True)
    assert len(found) <= PLACEMENTS


def test_a_window_counts_once_for_a_picture() -> None:
    """Of a window's neighbours in one picture the nearest is kept."""
    codes = np.repeat(random_codes(20, 0), 3, axis=0)
    codes[1::3] += 1
    there = members(random_frames(60, 0), codes, [0] * 60)
    parts = [Catalogue(np.array([SIZE], np.int32), {"points": there, "grid": members(*empty_windows(), [])}, read)]
    asked = points(random_frames(60, 0)[::3], codes[::3], random_codes(20, 7))
    matches = match_windows(parts, [asked])[0]
    plain = matches.take(np.flatnonzero(matches.sides == 0))
    assert len(plain.asked) == len(np.unique(plain.asked[:, :2], axis=0))
    assert plain.odds.max() == pytest.approx(1.0)


def test_a_question_or_a_collection_without_windows_has_no_placements() -> None:
    empty = Catalogue(
        np.array([SIZE], np.int32), {kind: members(*empty_windows(), []) for kind in ("points", "grid")}, read
    )
    asked = question(4, 1 + 0j, 0j, False, 40, 0)
    assert find_placements([empty], asked) == []
    assert find_placements(WHOLE, points(*nothing())) == []
    assert find_placements([empty, *PARTS], asked)[0].picture == 5


def empty_windows() -> tuple[Frames, Codes]:
    return np.zeros((0, 4), np.float32), np.zeros((0, DIMENSIONS), np.uint8)

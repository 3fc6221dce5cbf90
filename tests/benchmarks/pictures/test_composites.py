"""The box of a piece holds the piece, and the box in the source is what it was made of."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from benchmarks.pictures.collection import QUERY, Box, Crop, Tile
from benchmarks.pictures.composites import (
    AREAS,
    WHOLE_EDITS,
    Query,
    cut_piece,
    piece_size,
    source_size,
    write_composites,
    write_unrelated,
    write_whole,
)
from benchmarks.pictures.edits import EDITS, Edit
from benchmarks.pictures.judge import read_queries
from benchmarks.pictures.originals import Original
from tests.benchmarks.pictures.scenes import draw_scene

SMALL = 0.05  # area
GEOMETRIES = [edit for edit in EDITS if not edit.change and not edit.whole]


def correlate(one: Image.Image, other: Image.Image) -> float:
    """Correlate the luma of two pictures in 48 x 48."""
    first, second = (np.asarray(picture.convert("L").resize((48, 48)), float).ravel() for picture in (one, other))
    return float(np.corrcoef(first, second)[0, 1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("set")
    for name in ("collection", "queries"):
        (folder / name).mkdir()
    return folder


@pytest.fixture(scope="module")
def tiles(folder: Path) -> list[Tile]:
    found = []
    for number in range(4):
        size = 1000 - 20 * number, 900
        key = f"{number}.png"
        draw_scene(number, size).save(folder / "collection" / key, compress_level=1)
        found.append(
            Tile(key, size, Original(folder / "collection" / key, "package", str(number), size), (0, 0, *size))
        )
    return found


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> list[Crop]:
    path = tmp_path_factory.mktemp("bases") / "base.png"
    draw_scene(99, (QUERY, QUERY)).save(path)
    return [Crop(Original(path, "package", "base", (QUERY, QUERY)), (0, 0, QUERY, QUERY))]


@pytest.mark.parametrize("area", AREAS)
def test_pieces_cover_their_area(area: float) -> None:
    for seed in range(20):
        width, height = piece_size(area, random.Random(seed))
        assert width * height / QUERY**2 == pytest.approx(area, rel=0.01)
        assert max(width, height) < QUERY


@pytest.mark.parametrize("edit", GEOMETRIES, ids=[edit.name for edit in GEOMETRIES])
def test_a_piece_is_what_the_source_box_shows(edit: Edit) -> None:
    source = draw_scene(0, (900, 900))
    size = 160, 120
    width, height = source_size(size, edit)
    box: Box = (300, 250, 300 + width, 250 + height)
    piece = cut_piece(source, box, size, edit, 1)
    assert piece.size == size
    shown = source.crop(box)
    if edit.turn:
        # Turned back, the middle of the piece is the middle of the box
        piece = piece.rotate(-edit.turn, Image.Resampling.BICUBIC).crop((30, 30, 130, 90))
        left, top = (width - 100) // 2, (height - 60) // 2
        shown = shown.crop((left, top, left + 100, top + 60))
    assert correlate(piece, ImageOps.mirror(shown) if edit.mirror else shown) > 0.97


def test_a_turned_piece_has_no_empty_corner() -> None:
    white = Image.new("RGB", (900, 900), (255, 255, 255))
    edit = Edit("turn", turn=5.0)
    width, height = source_size((160, 120), edit)
    for sign in (1, -1):
        piece = cut_piece(white, (300, 250, 300 + width, 250 + height), (160, 120), edit, sign)
        assert np.asarray(piece).min() == 255


def test_composites_hold_pieces_where_they_say(folder: Path, tiles: list[Tile], bases: list[Crop]) -> None:
    queries = write_composites(tiles, folder, bases, 1, seed=1, areas=[SMALL])
    assert Counter((query.edit, query.area) for query in queries) == {(edit.name, SMALL): 1 for edit in EDITS}
    base = np.asarray(bases[0].open(), int)
    for query in queries:
        assert query.box and query.source_box and query.key
        with Image.open(folder / "queries" / query.query) as opened:
            picture = opened.convert("RGB")
        left, top, right, bottom = query.box
        assert 0 <= left < right <= QUERY
        assert 0 <= top < bottom <= QUERY
        assert (right - left) * (bottom - top) / QUERY**2 == pytest.approx(query.area, rel=0.02)
        outside = np.ones((QUERY, QUERY), bool)
        outside[top:bottom, left:right] = False
        changed = (np.abs(np.asarray(picture, int) - base)).max(2)
        if not query.query.endswith(".jpg"):
            assert not changed[outside].any()
        assert (changed[~outside] > 8).mean() > 0.5
        with Image.open(folder / "collection" / query.key) as source:
            shown = source.crop(query.source_box)
        piece = picture.crop(query.box)
        likeness = correlate(piece, ImageOps.mirror(shown) if "mirror" in query.edit else shown)
        if query.edit != "rotate 5":  # which the test of geometry turns back
            assert abs(likeness) > (0.3 if query.edit == "text" else 0.6), query


def test_composites_are_those_of_the_seed(folder: Path, tiles: list[Tile], bases: list[Crop]) -> None:
    first = write_composites(tiles, folder, bases, 1, seed=2, edits=EDITS[7:9], areas=[SMALL])
    files = {query.query: (folder / "queries" / query.query).read_bytes() for query in first}
    assert write_composites(tiles, folder, bases, 1, seed=2, edits=EDITS[7:9], areas=[SMALL]) == first
    assert {query.query: (folder / "queries" / query.query).read_bytes() for query in first} == files
    assert write_composites(tiles, folder, bases, 1, seed=3, edits=EDITS[7:9], areas=[SMALL]) != first


def test_whole_pictures(folder: Path, tiles: list[Tile]) -> None:
    queries = write_whole(tiles, folder, 1, seed=1)
    assert Counter(query.edit for query in queries) == dict.fromkeys(WHOLE_EDITS, 1)
    assert len({query.key for query in queries}) == 4
    for query in queries:
        assert query.key and query.box and query.source_box
        with Image.open(folder / "queries" / query.query) as picture:
            assert query.box == (0, 0, *picture.size)
        if query.edit == "exact copy":
            assert (folder / "queries" / query.query).read_bytes() == (folder / "collection" / query.key).read_bytes()
        if query.edit == "cropped to 70%":
            left, top, right, bottom = query.source_box
            size = next(tile.size for tile in tiles if tile.key == query.key)
            assert (right - left) * (bottom - top) / (size[0] * size[1]) == pytest.approx(0.7, rel=0.01)


def test_queries_are_read_as_they_were_written(folder: Path, bases: list[Crop]) -> None:
    queries = [*write_unrelated(bases, folder), Query("p.png", "0.png", "plain", 0.1, (0, 0, 9, 9), (1, 1, 10, 10))]
    (folder / "queries.json").write_text(json.dumps([query.as_row() for query in queries]))
    assert read_queries(folder) == queries

"""Tiles do not overlap, and have the sizes that they should; crops of held-out pictures meet no other."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.pictures.collection import HELD_OUT_SMALLEST, QUERY, cut_collection, find_crops, overlap, split
from benchmarks.pictures.make import UNRELATED, part_crops
from benchmarks.pictures.originals import Original
from tests.benchmarks.pictures.scenes import draw_scene


@pytest.fixture
def originals(tmp_path: Path) -> list[Original]:
    sizes = [(1900, 1500), (600, 500), (1700, 900)]
    found = []
    for number, size in enumerate(sizes):
        path = tmp_path / f"{number}.{'png' if number else 'jpg'}"
        draw_scene(number, size).save(path)
        found.append(Original(path, "package", str(number), size))
    return found


def test_parts_fill_the_box_and_do_not_overlap() -> None:
    for seed in range(20):
        parts = split((0, 0, 4000, 2400), 500, 1100, random.Random(seed))
        areas = [(right - left) * (bottom - top) for left, top, right, bottom in parts]
        assert sum(areas) == 4000 * 2400
        assert not any(overlap(one, other) for one, other in itertools.combinations(parts, 2))
        assert all(500 <= side <= 1100 for left, top, right, bottom in parts for side in (right - left, bottom - top))


def test_a_collection_is_what_its_tiles_say(tmp_path: Path, originals: list[Original]) -> None:
    folder = tmp_path / "collection"
    tiles = cut_collection(originals, folder, 100, seed=1)
    assert sorted(path.name for path in folder.iterdir()) == [tile.key for tile in tiles]
    for one, other in itertools.combinations(tiles, 2):
        assert one.original != other.original or not overlap(one.box, other.box)
    for tile in tiles:
        with Image.open(folder / tile.key) as picture, Image.open(tile.original.path) as original:
            assert picture.size == tile.size
            assert 500 <= min(tile.size) <= max(tile.size) <= 2000
            expected = np.asarray(original.convert("RGB").crop(tile.box), float)
            assert np.abs(np.asarray(picture.convert("RGB"), float) - expected).mean() < 5
    assert [tile.box for tile in tiles if tile.original == originals[1]] == [(0, 0, 600, 500)]
    assert tiles == cut_collection(originals, tmp_path / "again", 100, seed=1)
    assert len({tile.original.path for tile in cut_collection(originals, tmp_path / "few", 3, seed=1)}) == 3


def test_crops_of_held_out_pictures_do_not_overlap(originals: list[Original]) -> None:
    crops = find_crops(originals, 9, seed=1)
    assert {crop.original for crop in crops} == {originals[0], originals[2]}
    assert all(crop.box[2] - crop.box[0] >= HELD_OUT_SMALLEST for crop in crops)
    assert crops[0].open().size == (QUERY, QUERY)
    for one, other in itertools.combinations(crops, 2):
        assert one.original != other.original or not overlap(one.box, other.box)
    unrelated, bases = part_crops(crops)
    assert len(unrelated) + len(bases) == len(crops)
    assert not {(crop.original.path, crop.box) for crop in unrelated} & {
        (crop.original.path, crop.box) for crop in bases
    }
    assert len(part_crops(crops * 200)[0]) == UNRELATED

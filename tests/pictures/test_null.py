from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import nda_index as nda
from nda_index.pictures import null
from nda_index.pictures.catalogue import Catalogue
from nda_index.pictures.null import NULL, WAYS, make_null, read_null, write_null
from nda_index.pictures.placements import find_placements
from nda_index.pictures.windows import ASKED, find_windows
from nda_index.query.shard import Shard
from tests.pictures.scenes import scene


@pytest.fixture(scope="module")
def catalogue(photograph_index_folder: Path) -> Catalogue:
    made = Shard(photograph_index_folder, "cpu").catalogue
    assert made is not None
    return made


def test_an_index_has_the_null_that_its_pictures_make(
    photograph_index: nda.Index, photograph_index_folder: Path, catalogue: Catalogue
) -> None:
    written = read_null(photograph_index_folder, photograph_index.manifest.files)
    seen: list[tuple[str, int, int]] = []
    made = make_null([catalogue], 4, lambda *at: seen.append(at))
    np.testing.assert_array_equal(made, written)
    assert seen == [("null of regions", done, 4) for done in (1, 2, 3, 4)]
    assert (written >= 0).all()
    assert written.max() < 5  # what unrelated pictures get; a piece gets some dozens


def test_a_picture_is_asked_without_itself_and_turned(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where windows may be turned by any angle, a picture's own windows are not found."""
    monkeypatch.setattr("nda_index.pictures.placements._TURN", 4.0)
    assert make_null([catalogue], 3, lambda *at: None).max() < 10
    monkeypatch.undo()
    assert (
        make_null([catalogue, catalogue], 3, lambda *at: None).max() < 10
    )  # all pictures have a copy, which is upright
    copy = catalogue.read([0])[0].open_copy().transpose(Image.Transpose.ROTATE_90)
    monkeypatch.setattr("nda_index.pictures.placements._TURN", 4.0)
    assert find_placements([catalogue], find_windows(copy, ASKED))[0].odds > 50


def test_pictures_that_were_removed_are_not_asked(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, Any]] = []

    def ask(catalogues: Sequence[Catalogue], number: int, way: Any) -> float:
        asked.append((number, way))
        return float(number)

    monkeypatch.setattr(null, "_ask_turned", ask)
    sizes = catalogue.sizes.copy()
    sizes[[1, 3, 4]] = 0
    there = set(range(2 * len(sizes))) - {1, 3, 4}
    made = make_null([replace(catalogue, sizes=sizes), catalogue], 1000, lambda *at: None)
    assert set(asked) == {(number, way) for number in there for way in WAYS}  # fewer than are wanted: all ways
    assert len(made) == len(set(asked)) == len(asked)
    np.testing.assert_array_equal(np.unique(made), 1.5 * np.array(sorted(there)))  # and count more, as they vary less
    asked.clear()
    once = make_null([catalogue], len(sizes), lambda *at: None)
    np.testing.assert_array_equal(np.sort(once), np.arange(len(sizes)))
    asked.clear()
    make_null([catalogue], len(sizes) + 1, lambda *at: None)
    assert [way for _, way in asked] == [*[WAYS[0]] * len(sizes), WAYS[1]]
    assert make_null([catalogue], 0, lambda *at: None).shape == (0,)


def test_a_null_is_read_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    for evidence in (np.array([0.0, 1.25, 7.5]), np.empty(0)):
        write_null(tmp_path, evidence)
        np.testing.assert_array_equal(read_null(tmp_path, [NULL]), evidence)
        assert read_null(tmp_path, ["null.arrow"]).shape == (0,)


def test_regular_patterns_fit_anywhere(catalogue: Catalogue) -> None:
    """An unrelated scene gets no more than a null of some dozens would have at its top."""
    odds = [
        place.odds for seed in (70, 71, 72) for place in find_placements([catalogue], find_windows(scene(seed), ASKED))
    ]
    assert max(odds) < 5

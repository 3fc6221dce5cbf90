from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageOps

import nda_index as nda
from nda_index.answer.heat import SIDE, enlarge, lay_heat
from nda_index.answer.picture import BOX, CROP, MARGIN, PICTURE, SHOWN, as_png
from tests.pictures.scenes import pasted, scene


def pixels_of(answer: nda.Attribution) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(as_png(answer))).convert("RGB"))


def place_of(panel: Image.Image, picture: NDArray[np.uint8]) -> tuple[int, int]:
    """Where a panel is in the picture, pixel by pixel: the row and column of its corner; it must be there once."""
    wanted = np.asarray(panel.convert("RGB"))
    height, width = wanted.shape[:2]
    corners = (picture[: -height or None, : -width or None] == wanted[0, 0]).all(axis=2) & (
        picture[height - 1 : -1, width - 1 : -1] == wanted[-1, -1]
    ).all(axis=2)
    places = [
        (int(row), int(column))
        for row, column in np.argwhere(corners)
        if np.array_equal(picture[row : row + height, column : column + width], wanted)
    ]
    assert len(places) == 1
    return places[0]


def test_every_panel_is_in_its_place(answer: nda.Attribution) -> None:
    answer = replace(answer, query=255 - answer.query)  # its best match is the query itself
    picture = pixels_of(answer)
    row, column = place_of(enlarge(answer.query), picture)
    for rank in range(len(answer)):
        image = place_of(enlarge(answer.images[rank]), picture)
        on_query = place_of(lay_heat(answer.query, answer.query_map(rank)), picture)
        on_image = place_of(lay_heat(answer.images[rank], answer.train_map(rank)), picture)
        assert image[0] == row and image[1] >= column + SIDE  # in one row, from left to right
        assert image[1] == on_query[1] == on_image[1]  # one below the other
        assert on_query[0] > image[0] and on_image[0] > on_query[0]
        column = image[1]


@pytest.mark.parametrize("rank", [0, 3])
def test_shares_and_names_are_above_their_image(answer: nda.Attribution, rank: int) -> None:
    answer = replace(answer, query=255 - answer.query)
    before = pixels_of(answer)
    row, column = place_of(enlarge(answer.images[rank]), before)
    shares = answer.shares.copy()
    shares[rank] = 0.777
    for changed in (
        {"shares": shares},
        {"keys": tuple("other" if i == rank else key for i, key in enumerate(answer.keys))},
    ):
        rows, columns = np.nonzero((pixels_of(replace(answer, **changed)) != before).any(axis=2))
        assert len(rows) and rows.max() < row
        assert column <= columns.min() and columns.max() < column + SIDE


def test_only_the_best_images_are_shown(index: nda.Index, pictures: NDArray[np.uint8]) -> None:
    widths = [pixels_of(index.attribute(pictures[8], top=top)).shape[1] for top in (SHOWN - 1, SHOWN, SHOWN + 1)]
    assert widths[0] < widths[1] == widths[2]


def test_the_picture_says_that_images_could_not_be_searched(answer: nda.Attribution, tmp_path: Path) -> None:
    pictures = []
    for missing in (0, 7, 1234):
        replace(answer, missing=missing).save(tmp_path / "answer.png")
        pictures.append(np.asarray(Image.open(tmp_path / "answer.png").convert("L")))
    changed = [np.unique(np.argwhere(pictures[0] != other)[:, 0]) for other in pictures[1:]]
    assert all(len(rows) and rows.max() < 68 for rows in changed)  # a line above the pictures
    assert not np.array_equal(pictures[1], pictures[2])


def test_regions_are_boxed_and_both_crops_are_beside_them(photograph_index: nda.Index) -> None:
    asked = pasted(scene(3).crop((60, 40, 240, 200)))
    answer = photograph_index.attribute(asked.picture, top=2)
    region = replace(answer.leading_regions[0], box=(150, 100, 260, 200), percentile=0.995, null_pictures=199)
    answer = replace(answer, regions=(region,), crops=answer.crops[:1])
    without = pixels_of(replace(answer, picture_size=None))
    picture = pixels_of(answer)
    upper = picture[: len(picture) - len(without)]
    np.testing.assert_array_equal(picture[len(upper) :, : without.shape[1]][80:], without[80:])  # but for the heading
    whole = ImageOps.contain(Image.open(io.BytesIO(answer.picture)), PICTURE)
    scale = whole.width / asked.picture.width
    boxed = (upper == ImageColor.getrgb(BOX)).all(axis=2)[84 : 84 + whole.height, MARGIN : MARGIN + whole.width]
    rows, columns = np.nonzero(boxed)
    edges = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    np.testing.assert_allclose(edges, np.array(region.box) * scale, atol=2)
    crop = ImageOps.contain(Image.open(io.BytesIO(answer.crops[0])).convert("RGB"), CROP)
    assert place_of(crop, upper)[1] > MARGIN + whole.width


def test_a_picture_with_no_region_says_so(photograph_index: nda.Index) -> None:
    answer = replace(photograph_index.attribute(scene(3), top=1), regions=(), crops=())
    assert len(pixels_of(answer)) > len(pixels_of(replace(answer, picture_size=None)))

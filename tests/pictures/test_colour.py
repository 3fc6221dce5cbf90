from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageEnhance

import nda_index as nda
from nda_index.pictures.colour import compare_colours
from tests.pictures.scenes import pasted, scene


def shifted(picture: Image.Image, red: int, blue: int) -> Image.Image:
    return Image.fromarray(np.clip(np.asarray(picture).astype(int) + (red, 0, blue), 0, 255).astype(np.uint8))


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda picture: picture, []),
        (lambda picture: picture.resize((300, 50)), []),
        (lambda picture: picture.point([min(255, level + 40) for level in range(256)] * 3), ["brighter"]),
        (lambda picture: picture.point([max(0, level - 40) for level in range(256)] * 3), ["darker"]),
        (lambda picture: ImageEnhance.Contrast(picture).enhance(0.6), ["of less contrast"]),
        (lambda picture: shifted(picture, 20, -20), ["warmer"]),
        (lambda picture: shifted(picture, -20, 20), ["cooler"]),
        (lambda picture: picture.convert("L"), ["in grey"]),
        (lambda picture: ImageEnhance.Color(picture).enhance(0.4), ["paler"]),
    ],
)
def test_a_change_of_colour_has_its_word(edit: object, words: list[str]) -> None:
    picture = ImageEnhance.Contrast(scene(3)).enhance(0.6)  # no level at the ends of the range
    assert callable(edit)
    found = compare_colours(edit(picture), picture).describe()
    assert [word for word in found if word not in ("paler", "more colourful") or word in words] == words


def test_a_region_tells_its_colours_and_its_zoom(photograph_index: nda.Index) -> None:
    piece = scene(3).crop((60, 40, 240, 200))
    for edited, word in ((piece.convert("L").convert("RGB"), "in grey"), (piece, None)):
        region = photograph_index.attribute(pasted(edited).picture, top=1, mode="exact").regions[0]
        assert (region.key, region.colours is not None) == ("03.png", True)
        assert ("in grey" in region.describe()) == (word is not None)

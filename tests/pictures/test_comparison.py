from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from nda_index.pictures.comparison import Fit, compare
from nda_index.pictures.placements import Placement
from tests.pictures.scenes import overlap, pasted, scene, soft

CROP = 60, 40, 240, 200  # of the scene
AT = 120, 90  # of the question
WIDTH, HEIGHT = CROP[2] - CROP[0], CROP[3] - CROP[1]


def luma(picture: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(picture.convert("L"))


def place(zoom: complex, shift: complex, mirrored: bool = False, error: tuple[complex, complex] = (1, 0)) -> Placement:
    """A placement of the scene, whose windows in agreement cover the middle of the piece; with an error."""
    asked = [(AT[0] + zoom.real * x, AT[1] + zoom.real * y, 40.0, 0.0) for x in (40, 90, 140) for y in (40, 80, 120)]
    return Placement(0, mirrored, zoom * error[0], shift + error[1], 9.0, np.array(asked))


def reach(fit: Fit, box: tuple[int, int, int, int]) -> float:
    """How many pixels the edges lie apart."""
    return float(np.abs(np.subtract(fit.box, box)).max())


@pytest.mark.parametrize("zoom", [0.7, 1.0, 1.6])
@pytest.mark.parametrize("error", [(1, 0), (1.02, 3 - 4j), (1 + 0.03j, -5 + 2j)])
def test_the_box_of_a_pasted_piece_is_found_within_some_pixels(zoom: float, error: tuple[complex, complex]) -> None:
    size = round(WIDTH * zoom), round(HEIGHT * zoom)
    picture, box = pasted(scene(3).crop(CROP).resize(size, Image.Resampling.BICUBIC), AT)
    placement = place(zoom, complex(AT[0] - CROP[0] * zoom, AT[1] - CROP[1] * zoom), error=error)
    fit = compare(luma(picture), luma(scene(3)), 1.0, placement)
    level = min(1.0, 96 / np.sqrt((size[0] * 0.8) * (size[1] * 0.8)))
    assert reach(fit, box) < 3 + 13 / level  # a window beyond the edge may match by the half that lies within
    assert overlap(tuple(map(round, fit.box)), box) > 0.7
    assert fit.correlation > 0.8
    assert fit.share > 0.6
    corners = np.array([[box[0], box[1], 1], [box[2], box[3], 1]])
    np.testing.assert_allclose(corners @ fit.to_picture.T, [CROP[:2], CROP[2:]], atol=2.5)


def test_a_small_copy_will_do() -> None:
    picture, box = pasted(scene(3).crop(CROP), AT)
    copy = scene(3).resize((192, 156), Image.Resampling.LANCZOS)
    fit = compare(luma(picture), luma(copy), 0.6, place(1.0, complex(AT[0] - CROP[0], AT[1] - CROP[1])))
    assert overlap(tuple(map(round, fit.box)), box) > 0.65
    corners = np.array([[box[0], box[1], 1], [box[2], box[3], 1]])
    np.testing.assert_allclose(corners @ fit.to_picture.T, [CROP[:2], CROP[2:]], atol=4)


def test_brightness_and_contrast_do_not_matter() -> None:
    piece = scene(3).crop(CROP)
    placement = place(1.0, complex(AT[0] - CROP[0], AT[1] - CROP[1]))
    plain, dim = (
        compare(luma(pasted(shown, AT).picture), luma(scene(3)), 1.0, placement)
        for shown in (piece, piece.point(lambda value: round(40 + 0.5 * value)))
    )
    np.testing.assert_allclose(plain.box, dim.box, atol=12)
    assert dim.correlation > 0.9 * plain.correlation > 0.7


def test_what_lies_elsewhere_does_not_match() -> None:
    picture, _ = pasted(scene(3).crop(CROP), AT)
    placement = place(1.0, complex(AT[0] - CROP[0], AT[1] - CROP[1]))
    right = compare(luma(picture), luma(scene(3)), 1.0, placement)
    wrong = compare(luma(picture), luma(scene(4)), 1.0, placement)
    assert wrong.correlation < right.correlation - 0.15
    assert wrong.share < 0.5 * right.share


def test_a_piece_under_a_caption_stays_in_one_box() -> None:
    picture, box = pasted(scene(3).crop(CROP), AT)
    picture.paste("white", (AT[0], AT[1] + 70, AT[0] + WIDTH, AT[1] + 84))
    placement = place(1.0, complex(AT[0] - CROP[0], AT[1] - CROP[1]))
    fit = compare(luma(picture), luma(scene(3)), 1.0, placement)
    assert overlap(tuple(map(round, fit.box)), box) > 0.7
    assert fit.share < compare(luma(pasted(scene(3).crop(CROP), AT).picture), luma(scene(3)), 1.0, placement).share


@pytest.mark.parametrize(
    ("question", "zoom"),
    [
        (Image.new("L", (480, 400), 128), 1.0),  # nothing to compare
        (soft(1), 1.0),
        (scene(5, (480, 400)), 0.01),  # the picture covers two pixels
        (Image.new("L", (9, 9)), 1.0),
    ],
)
def test_where_pixels_tell_nothing_the_windows_in_agreement_have_the_word(question: Image.Image, zoom: float) -> None:
    asked = np.array([[60.0, 70, 40, 0], [160, 150, 40, 0]])
    fit = compare(luma(question), luma(scene(3)), 1.0, Placement(0, False, zoom, 5 + 7j, 2.0, asked))
    assert (fit.correlation, fit.share) == (0.0, 0.0)
    assert fit.box[2:] == (min(170, question.width), min(162, question.height))
    np.testing.assert_allclose(np.array([5, 7, 1]) @ fit.to_picture.T, [0, 0], atol=1e-9)
    np.testing.assert_allclose(np.array([5 + zoom, 7, 1]) @ fit.to_picture.T, [1, 0], atol=1e-9)


def test_a_placement_that_is_wrong_at_all_does_not_stretch_the_picture() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (400, 480), np.uint8))
    fit = compare(luma(noise), luma(scene(3)), 1.0, place(1.0, 60 + 50j))
    stretches = np.linalg.svd(fit.to_picture[:, :2], compute_uv=False)
    assert stretches.max() < 1.2**2
    assert stretches.min() > 1.2**-2

from __future__ import annotations

import numpy as np
import pytest

from nda_index.trust.duplicates import find_best_unrelated, group_duplicates
from nda_index.trust.evidence import measure_evidence
from tests.trust.pictures import EDITS, SCALES, code_again, photographs


def test_copies_are_near_duplicates_of_the_first() -> None:
    images = photographs(60)
    assert group_duplicates(images).tolist() == list(range(60))
    for edit in EDITS.values():
        both = np.concatenate([images[:20], np.stack([edit(image) for image in images[:20]])])
        assert np.mean(group_duplicates(both)[20:] == np.arange(20)) >= 0.8


def test_a_common_horizon_makes_no_near_duplicates() -> None:
    rng = np.random.default_rng(3)
    images = np.empty((12, 3, 32, 32), np.uint8)
    images[:, :, :16], images[:, :, 16:] = 200, 120
    for image in images:
        top, left = rng.integers(18, 26), rng.integers(0, 22)
        image[:, top : top + 5, left : left + 9] = rng.integers(0, 80, (3, 5, 9))
        image[:] = np.clip(image + rng.normal(0, 12, (1, 32, 32)), 0, 255)
    assert (group_duplicates(images) != np.arange(12)).sum() <= 1  # by their thumbnails alone most are alike


def test_patterns_of_one_brightness_in_colours_are_told_apart() -> None:
    rng = np.random.default_rng(0)
    images = np.zeros((5, 3, 32, 32), np.uint8)
    for image in images:
        marks = np.kron(rng.integers(0, 2, (4, 4)), np.ones((8, 8))).astype(bool)
        image[0][marks], image[2][~marks] = 180, 180
    images[4] = images[1, :, :, ::-1]
    assert group_duplicates(images).tolist() == [0, 1, 2, 3, 1]
    red, grey = photographs(2).astype(np.float32).mean(1), photographs(1)
    same = np.stack([np.stack([value, value * 0.2, value * 0.2]) for value in red] * 2)
    same[2:] = same[:2, ::-1]  # the same brightness everywhere, in blue
    assert group_duplicates(same.astype(np.uint8)).tolist() == [0, 1, 2, 3]
    assert group_duplicates(np.concatenate([grey, EDITS["recoloured"](grey[0])[None]])).tolist() == [0, 0]


def test_pictures_without_structure_are_alike_by_their_hue() -> None:
    colours = [(180, 0, 0), (0, 0, 180), (60, 60, 60), (200, 200, 203), (120, 0, 0)]
    flat = np.tile(np.array(colours, np.uint8)[:, :, None, None], (1, 1, 16, 16))
    assert group_duplicates(flat).tolist() == [0, 1, 2, 2, 0]
    assert group_duplicates(flat[:, :1]).tolist() == [0] * 5


def test_groups_are_transitive_and_named_by_their_first_image() -> None:
    images = photographs(7)
    images[5], images[6] = EDITS["cropped"](images[2]), EDITS["mirrored"](images[2])
    assert group_duplicates(images).tolist() == [0, 1, 2, 3, 4, 2, 2]
    assert group_duplicates(images[:1]).tolist() == [0]
    assert group_duplicates(images[:0]).tolist() == []


def test_a_thousand_images_are_grouped() -> None:
    images = photographs(1000)
    groups = group_duplicates(images)
    assert (groups != np.arange(1000)).sum() <= 2


def test_a_picture_and_its_copies_are_not_unrelated() -> None:
    images = photographs(30)
    images[10], images[11] = EDITS["mirrored"](images[0]), code_again(images[0])
    found = find_best_unrelated(images[0], images, SCALES)
    assert found == pytest.approx(
        measure_evidence(images[0], np.delete(images, [0, 10, 11], 0), SCALES).max(), rel=1e-4
    )
    assert found < 0.5


def test_an_outside_picture_has_its_best_match() -> None:
    images = photographs(20)
    outside = photographs(3, seed=5)
    found = [find_best_unrelated(picture, images[5:], SCALES) for picture in outside]
    np.testing.assert_allclose(found, [measure_evidence(p, images[5:], SCALES).max() for p in outside], rtol=1e-4)
    images[7] = EDITS["mirrored"](outside[1])  # a copy after all
    assert find_best_unrelated(outside[1], images[5:], SCALES) < 0.3
    assert find_best_unrelated(outside[1], images[:0], SCALES) == 0.0

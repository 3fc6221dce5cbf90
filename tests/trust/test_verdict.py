from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import nda_index as nda
from nda_index.trust.verdict import best_unrelated, evidence, judge, near_duplicates, percentile

SCALES = (nda.Scale(7), nda.Scale(14, 2))


def photographs(count: int, seed: int = 0, height: int = 32, width: int = 32) -> NDArray[np.uint8]:
    """Pictures of many rectangles before one another, with a little noise: uint8 [N, 3, height, width]."""
    rng = np.random.default_rng(seed)
    pictures = np.tile(rng.uniform(30, 225, (count, 3, 1, 1)), (1, 1, height, width))
    for picture in pictures:
        for size in np.sort(rng.uniform(0.1, 1.0, 40))[::-1]:
            h, w = max(2, int(size * height)), max(2, int(size * width * rng.uniform(0.5, 1.0)))
            top, left = rng.integers(-h // 2, height), rng.integers(-w // 2, width)
            colour = rng.uniform(30, 225) + rng.uniform(-30, 30, 3)
            picture[:, max(0, top) : top + h, max(0, left) : left + w] = colour[:, None, None]
    return np.asarray(np.clip(pictures + rng.normal(0, 2, pictures.shape), 0, 255), np.uint8)


def coded_again(image: NDArray[np.uint8], quality: int = 30) -> NDArray[np.uint8]:
    buffer = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(buffer, "JPEG", quality=quality)
    decoded: NDArray[np.uint8] = np.array(Image.open(buffer), np.uint8)  # [H, W, C]
    return np.ascontiguousarray(decoded.transpose(2, 0, 1), np.uint8)


def cropped(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    picture = Image.fromarray(image[:, 1:30, 1:30].transpose(1, 2, 0))
    resized: NDArray[np.uint8] = np.array(picture.resize((32, 32), Image.Resampling.BICUBIC), np.uint8)  # [H, W, C]
    return np.ascontiguousarray(resized.transpose(2, 0, 1), np.uint8)


EDITS: dict[str, Any] = {
    "identical": lambda image: image,
    "coded again": coded_again,
    "cropped": cropped,
    "shifted": lambda image: np.pad(image, ((0, 0), (2, 0), (3, 0)), mode="edge")[:, :32, :32],
    "mirrored": lambda image: np.ascontiguousarray(image[..., ::-1]),
    "darker": lambda image: np.asarray(image * 0.7, np.uint8),
    "less contrast": lambda image: np.asarray(128 + (image - 128.0) * 0.5, np.uint8),
    "recoloured": lambda image: np.asarray(image * np.array([1.0, 0.8, 0.9])[:, None, None], np.uint8),
}


@pytest.mark.parametrize("edit", EDITS)
def test_a_copy_has_more_evidence_than_any_unrelated_image(edit: str) -> None:
    images = photographs(40)
    for source in (0, 17, 39):
        found = evidence(EDITS[edit](images[source]), images, SCALES)
        others = np.delete(found, source)
        assert found[source] > 2 * others.max()


def test_evidence_runs_from_nothing_to_one() -> None:
    images = photographs(6)
    images[5] = 90  # flat: explains nothing, and nothing explains it
    found = evidence(images[2], images, SCALES)
    assert 0.8 < found[2] <= 1.0
    assert found[5] == pytest.approx(0, abs=1e-6)
    assert evidence(images[5], images, SCALES).max() < 0.05
    assert (evidence(images[2], images[:0], SCALES)).shape == (0,)


def test_evidence_of_an_image_does_not_depend_on_its_rivals() -> None:
    images = photographs(12)
    together = evidence(images[3], images, SCALES)
    alone = [evidence(images[3], images[i : i + 1], SCALES)[0] for i in range(12)]
    np.testing.assert_allclose(together, alone, rtol=1e-4)


def test_mirror_images_count_only_where_asked() -> None:
    images = photographs(8)
    turned = EDITS["mirrored"](images[4])
    assert evidence(turned, images, SCALES)[4] == pytest.approx(evidence(images[4], images, SCALES)[4], rel=0.02)
    assert evidence(turned, images, SCALES, mirror=False)[4] < 0.3


def test_windows_must_match_at_one_displacement() -> None:
    image = photographs(1)[0]
    tiles = image.reshape(3, 4, 8, 4, 8)
    shuffled = tiles[:, np.random.default_rng(1).permutation(4)][:, :, :, [2, 0, 3, 1]].reshape(3, 32, 32)
    found = evidence(image, np.stack([image, shuffled]), [nda.Scale(5)])
    assert found[1] < 0.5 * found[0]


def test_half_a_copy_has_evidence_for_both_of_its_sources() -> None:
    images = photographs(30)
    collage = images[3].copy()
    collage[:, :, 16:] = images[20][:, :, 16:]
    found = evidence(collage, images, SCALES)
    assert set(np.argsort(-found)[:2]) == {3, 20}
    assert found[[3, 20]].min() > 2 * np.delete(found, [3, 20]).max()
    whole = [evidence(images[i], images[i : i + 1], SCALES)[0] for i in (3, 20)]
    assert (found[[3, 20]] / whole).min() > 0.45  # a mean over windows would have 0.35


def test_scales_are_weighted_and_larger_or_grey_images_work() -> None:
    images = photographs(5, height=96, width=80)
    small, large = (evidence(images[1], images, [scale]) for scale in (nda.Scale(7), nda.Scale(16, 4)))
    both = evidence(images[1], images, [nda.Scale(7, weight=3.0), nda.Scale(16, 4)])
    np.testing.assert_allclose(both[1], (3 * small[1] + large[1]) / 4, rtol=1e-4)
    assert both.argmax() == 1
    assert evidence(images[1, :1], images[:, :1], SCALES).argmax() == 1


def test_copies_are_near_duplicates_of_the_first() -> None:
    images = photographs(60)
    assert near_duplicates(images).tolist() == list(range(60))
    for edit in EDITS.values():
        both = np.concatenate([images[:20], np.stack([edit(image) for image in images[:20]])])
        assert np.mean(near_duplicates(both)[20:] == np.arange(20)) >= 0.8


def test_a_common_horizon_makes_no_near_duplicates() -> None:
    rng = np.random.default_rng(3)
    images = np.empty((12, 3, 32, 32), np.uint8)
    images[:, :, :16], images[:, :, 16:] = 200, 120
    for image in images:
        top, left = rng.integers(18, 26), rng.integers(0, 22)
        image[:, top : top + 5, left : left + 9] = rng.integers(0, 80, (3, 5, 9))
        image[:] = np.clip(image + rng.normal(0, 12, (1, 32, 32)), 0, 255)
    assert (near_duplicates(images) != np.arange(12)).sum() <= 1  # by their thumbnails alone most are alike


def test_groups_are_transitive_and_named_by_their_first_image() -> None:
    images = photographs(7)
    images[5], images[6] = EDITS["cropped"](images[2]), EDITS["mirrored"](images[2])
    assert near_duplicates(images).tolist() == [0, 1, 2, 3, 4, 2, 2]
    assert near_duplicates(images[:1]).tolist() == [0]
    assert near_duplicates(images[:0]).tolist() == []


def test_a_thousand_images_are_grouped() -> None:
    images = photographs(1000)
    groups = near_duplicates(images)
    assert (groups != np.arange(1000)).sum() <= 2


def test_a_percentile_never_claims_more_than_the_null_supports() -> None:
    null = np.arange(99.0)
    assert percentile(1000.0, null) == 0.99
    assert percentile(-1.0, null) == 0.0
    assert percentile(50.0, null) == 0.50  # ties are not stronger
    assert not judge(1000.0, null[:98]).strong
    assert judge(1000.0, null).strong
    for wrong in (np.zeros(0), np.array([0.1, np.nan]), np.zeros((2, 2))):
        with pytest.raises(nda.ConfigError, match="the null"):
            percentile(0.5, wrong)


def test_an_unrelated_picture_is_called_strong_at_most_as_often_as_said() -> None:
    rng = np.random.default_rng(0)
    strong = [judge(value, rng.normal(size=150)).strong for value in rng.normal(size=4000)]
    assert np.mean(strong) < 0.0135


def test_wording_rounds_down() -> None:
    assert (
        str(judge(2.0, np.append(np.zeros(1998), [3.0]))) == "strong match: stronger than 99.9% of unrelated pictures"
    )
    assert str(judge(2.0, np.zeros(50))) == "no strong match"


def test_a_picture_and_its_copies_are_not_unrelated() -> None:
    images = photographs(30)
    images[10], images[11] = EDITS["mirrored"](images[0]), coded_again(images[0])
    found = best_unrelated(images[0], images, SCALES)
    assert found == pytest.approx(evidence(images[0], np.delete(images, [0, 10, 11], 0), SCALES).max(), rel=1e-4)
    assert found < 0.5


def test_an_outside_picture_has_its_best_match() -> None:
    images = photographs(20)
    outside = photographs(3, seed=5)
    found = [best_unrelated(picture, images[5:], SCALES) for picture in outside]
    np.testing.assert_allclose(found, [evidence(p, images[5:], SCALES).max() for p in outside], rtol=1e-4)
    images[7] = EDITS["mirrored"](outside[1])  # a copy after all
    assert best_unrelated(outside[1], images[5:], SCALES) < 0.3
    assert best_unrelated(outside[1], images[:0], SCALES) == 0.0


def test_torch_has_its_threads_back() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        evidence(photographs(1)[0], photographs(2), SCALES)
        with pytest.raises(nda.ConfigError):
            evidence(photographs(1)[0], photographs(2), ())
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("query", "images", "scales", "message"),
    [
        (np.zeros((3, 32, 32)), np.zeros((2, 3, 32, 32), np.uint8), SCALES, "query has shape .* type float64"),
        (np.zeros((3, 32, 32), np.uint8), np.zeros((3, 32, 32), np.uint8), SCALES, "images has shape"),
        (np.zeros((3, 32, 32), np.uint8), np.zeros((2, 3, 16, 32), np.uint8), SCALES, "must be the same"),
        (np.zeros((3, 32, 32), np.uint8), np.zeros((2, 3, 32, 32), np.uint8), (), "scales is empty"),
        (np.zeros((3, 9, 9), np.uint8), np.zeros((2, 3, 9, 9), np.uint8), SCALES, "does not fit"),
    ],
)
def test_what_cannot_be_compared_is_refused(query: Any, images: Any, scales: Any, message: str) -> None:
    with pytest.raises(nda.ConfigError, match=message):
        evidence(query, images, scales)

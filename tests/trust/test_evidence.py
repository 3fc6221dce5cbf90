from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import nda_index as nda
from nda_index.exact import gpu
from nda_index.trust.evidence import measure_evidence
from tests.trust.pictures import EDITS, SCALES, photographs


@pytest.mark.parametrize("edit", EDITS)
def test_a_copy_has_more_evidence_than_any_unrelated_image(edit: str) -> None:
    images = photographs(40)
    for source in (0, 17, 39):
        found = measure_evidence(EDITS[edit](images[source]), images, SCALES)
        others = np.delete(found, source)
        assert found[source] > 2 * others.max()


def test_evidence_runs_from_nothing_to_one() -> None:
    images = photographs(6)
    images[5] = 90  # flat: explains nothing, and nothing explains it
    found = measure_evidence(images[2], images, SCALES)
    assert 0.8 < found[2] <= 1.0
    assert found[5] == pytest.approx(0, abs=1e-6)
    assert measure_evidence(images[5], images, SCALES).max() < 0.05
    assert (measure_evidence(images[2], images[:0], SCALES)).shape == (0,)


def test_evidence_of_an_image_does_not_depend_on_its_rivals() -> None:
    images = photographs(12)
    together = measure_evidence(images[3], images, SCALES)
    alone = [measure_evidence(images[3], images[i : i + 1], SCALES)[0] for i in range(12)]
    np.testing.assert_allclose(together, alone, rtol=1e-4)


def test_mirror_images_count_only_where_asked() -> None:
    images = photographs(8)
    turned = EDITS["mirrored"](images[4])
    assert measure_evidence(turned, images, SCALES)[4] == pytest.approx(
        measure_evidence(images[4], images, SCALES)[4], rel=0.02
    )
    assert measure_evidence(turned, images, SCALES, mirror=False)[4] < 0.3


def test_windows_must_match_at_one_displacement() -> None:
    image = photographs(1)[0]
    tiles = image.reshape(3, 4, 8, 4, 8)
    shuffled = tiles[:, np.random.default_rng(1).permutation(4)][:, :, :, [2, 0, 3, 1]].reshape(3, 32, 32)
    found = measure_evidence(image, np.stack([image, shuffled]), [nda.Scale(5)])
    assert found[1] < 0.5 * found[0]


def test_half_a_copy_has_evidence_for_both_of_its_sources() -> None:
    images = photographs(30)
    collage = images[3].copy()
    collage[:, :, 16:] = images[20][:, :, 16:]
    found = measure_evidence(collage, images, SCALES)
    assert set(np.argsort(-found)[:2]) == {3, 20}
    assert found[[3, 20]].min() > 2 * np.delete(found, [3, 20]).max()
    whole = [measure_evidence(images[i], images[i : i + 1], SCALES)[0] for i in (3, 20)]
    assert (found[[3, 20]] / whole).min() > 0.45  # a mean over windows would have 0.35


def test_scales_are_weighted_and_larger_or_grey_images_work() -> None:
    images = photographs(5, height=96, width=80)
    small, large = (measure_evidence(images[1], images, [scale]) for scale in (nda.Scale(7), nda.Scale(16, 4)))
    both = measure_evidence(images[1], images, [nda.Scale(7, weight=3.0), nda.Scale(16, 4)])
    np.testing.assert_allclose(both[1], (3 * small[1] + large[1]) / 4, rtol=1e-4)
    assert both.argmax() == 1
    assert measure_evidence(images[1, :1], images[:, :1], SCALES).argmax() == 1


def test_torch_has_its_threads_back() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        measure_evidence(photographs(1)[0], photographs(2), SCALES)
        with pytest.raises(nda.ConfigError):
            measure_evidence(photographs(1)[0], photographs(2), ())
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
        measure_evidence(query, images, scales)


def test_a_gpu_measures_the_same_and_the_cpu_where_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    images = photographs(6)
    expected = measure_evidence(images[1], images, SCALES)
    monkeypatch.setattr(gpu, "available", lambda: True)
    for device in ("cuda" if torch.cuda.is_available() else "cpu", "no such device"):
        monkeypatch.setattr(gpu, "DEVICE", device)
        monkeypatch.setattr(gpu, "has_failed", lambda error: True)
        np.testing.assert_allclose(measure_evidence(images[1], images, SCALES, backend="auto"), expected, atol=1e-5)

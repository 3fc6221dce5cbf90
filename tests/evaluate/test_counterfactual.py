from __future__ import annotations

import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from nda_index import ConfigError, MissingDependencyError
from nda_index.evaluate.counterfactual import change

PICTURES = np.random.default_rng(0).integers(0, 200, (3, 9, 8, 3), np.uint8)


def test_equal_pictures_did_not_change() -> None:
    changed = change(PICTURES, PICTURES)
    assert (changed.distance == 0).all()
    np.testing.assert_allclose(changed.likeness, 1.0)


def test_distance_is_in_the_models_units() -> None:
    after = PICTURES.copy()
    after[1, 2, 3, 0] += 51  # of 255: 0.4 of a range of 2
    np.testing.assert_allclose(change(PICTURES, after).distance, [0, 0.4, 0])


def test_what_changes_more_is_less_alike() -> None:
    noise = np.random.default_rng(1).normal(0, 1, PICTURES.shape)
    little, much = (np.clip(PICTURES + amount * noise, 0, 255).astype(np.uint8) for amount in (5, 60))
    less, more = change(PICTURES, little), change(PICTURES, much)
    assert (less.distance < more.distance).all()
    assert (less.likeness > more.likeness).all()
    assert (more.likeness < 0.95).all()


@pytest.mark.parametrize("after", [PICTURES[:2], PICTURES[:, :, :, :1], PICTURES[0], PICTURES[:, :6]])
def test_pictures_that_cannot_be_compared_are_refused(after: NDArray[np.uint8]) -> None:
    with pytest.raises(ConfigError, match=r"both must be the same \[n, H, W, C\]"):
        change(PICTURES if after.shape != PICTURES[:, :6].shape else after, after)


def test_without_scikit_image_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage.metrics", None)
    with pytest.raises(MissingDependencyError, match=r"nda-index\[eval\]"):
        change(PICTURES, PICTURES)

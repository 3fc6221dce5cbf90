from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import nda_index as nda
from nda_index.evaluate import methods
from nda_index.evaluate.methods import (
    embedding_cosine,
    pixel_cosine,
    pixel_distance,
    posterior_scores,
    random_scores,
)
from nda_index.evaluate.study import Study

TRAIN = np.random.default_rng(0).integers(0, 256, (12, 10, 10, 3), np.uint8)
QUERIES = np.concatenate([TRAIN[3:5], np.random.default_rng(1).integers(0, 256, (1, 10, 10, 3), np.uint8)])
SCALES = [nda.Scale(3), nda.Scale(6, 2, weight=0.5)]


def test_posterior_scores_are_those_of_an_index(tmp_path: Path) -> None:
    index = nda.build_index(TRAIN, tmp_path / "noise.nda", image_size=10, scales=SCALES, null=0)
    for options in ({}, {"noise": "average", "draws": 2, "seed": 3}, {"mirror": True, "temper": 2.0}):
        scores = posterior_scores(TRAIN, QUERIES, SCALES, [50, 200], **options)
        np.testing.assert_allclose(scores, index.scores(QUERIES, [50, 200], **options), rtol=1e-6)


def test_posterior_scores_do_not_depend_on_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = posterior_scores(TRAIN, QUERIES, SCALES, 100)
    monkeypatch.setattr(methods, "BLOCK", 5)
    np.testing.assert_allclose(posterior_scores(TRAIN, QUERIES, SCALES, 100), whole, rtol=1e-5, atol=1e-6)


def test_pixel_distance_is_the_distance_of_values() -> None:
    scores = pixel_distance(TRAIN, QUERIES)
    difference = (QUERIES[:, None].astype(float) - TRAIN[None]) / 127.5
    np.testing.assert_allclose(scores, -(difference**2).sum(axis=(2, 3, 4)), atol=1e-3)
    assert scores.argmax(axis=1)[:2].tolist() == [3, 4]


def test_cosines_do_not_depend_on_the_length() -> None:
    def brighter(pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
        return (pictures.reshape(len(pictures), -1) / 127.5 - 1) * np.arange(1, len(pictures) + 1)[:, None]

    np.testing.assert_allclose(embedding_cosine(TRAIN, QUERIES, brighter), pixel_cosine(TRAIN, QUERIES), atol=1e-6)
    assert pixel_cosine(TRAIN, QUERIES)[0, 3] == pytest.approx(1.0)


def test_an_embedding_of_nothing_likes_nothing() -> None:
    assert (embedding_cosine(TRAIN, QUERIES, lambda pictures: np.zeros((len(pictures), 4))) == 0).all()


def test_random_scores_are_the_same_every_time() -> None:
    scores = random_scores(TRAIN, QUERIES)
    assert scores.shape == (3, 12)
    assert (scores == random_scores(TRAIN, QUERIES)).all()
    assert len(np.unique(scores)) == scores.size


def test_pictures_of_another_size_are_refused() -> None:
    train = np.zeros((4, 8, 8, 3), np.uint8)
    for queries in (np.zeros((2, 16, 16, 3), np.uint8), np.zeros((2, 8, 8, 1), np.uint8)):
        with pytest.raises(nda.ConfigError, match="one size"):
            posterior_scores(train, queries, [nda.Scale(3)], 100)
        with pytest.raises(nda.ConfigError, match="one size"):
            Study(train, np.eye(3, 4) > 0, {"new": queries}, {"new": np.zeros((3, 2))})
    with pytest.raises(nda.ConfigError, match="does not fit"):
        posterior_scores(train, train, [nda.Scale(9)], 100)

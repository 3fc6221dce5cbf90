from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from nda_index import Scale
from nda_index.diffusion import NoisyImage
from nda_index.exact import reference
from nda_index.exact.maps import evidence_maps
from nda_index.exact.posterior import PosteriorSettings, score_views
from nda_index.exact.views import total_score, views_of
from nda_index.images import to_float

SCALES = [Scale(5), Scale(6, 2, 0.5), Scale(4, query_stride=3, train_stride=2)]


def smooth_bytes(count: int, seed: int = 0) -> NDArray[np.uint8]:
    steps = np.random.default_rng(seed).integers(-40, 41, (count, 3, 14, 12))
    return np.clip(128 + np.cumsum(steps, axis=3), 0, 255).astype(np.uint8)


def score(scales: list[Scale], settings: PosteriorSettings, train: NDArray[np.uint8], image: int = 1) -> Any:
    views = views_of([NoisyImage(to_float(train[image]), 0.95, 0.3)], scales)
    return views, score_views(
        views, lambda: [to_float(train[:7]), to_float(train[7:])], len(train), settings, lambda done, total: None
    )


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(
    "settings", [PosteriorSettings(), PosteriorSettings(mirror=True), PosteriorSettings(per_image_topk=3)]
)
def test_maps_sum_to_the_scores(scale: Scale, settings: PosteriorSettings) -> None:
    train = smooth_bytes(12)
    views, result = score([scale], settings, train)
    on_query, on_train = evidence_maps(views, result.log_normalisers, train[:5], settings)
    assert on_query.shape == on_train.shape == (1, 5, 14, 12)
    np.testing.assert_allclose(on_query[0].sum(axis=(1, 2)), result.scores[:5], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(on_train[0].sum(axis=(1, 2)), result.scores[:5], rtol=1e-4, atol=1e-5)


def test_maps_of_scales_are_those_of_each_alone() -> None:
    train = smooth_bytes(12)
    views, result = score(SCALES, PosteriorSettings(), train)
    together = evidence_maps(views, result.log_normalisers, train[:5], PosteriorSettings())
    for place, view in enumerate(views):
        alone = evidence_maps([view], [result.log_normalisers[place]], train[:5], PosteriorSettings())
        for all_maps, maps in zip(together, alone, strict=True):
            np.testing.assert_allclose(all_maps[place], maps[0], rtol=1e-6)


def test_train_map_is_that_of_the_reference() -> None:
    train = smooth_bytes(9)
    scale = Scale(5)
    views, result = score([scale], PosteriorSettings(), train)
    _, on_train = evidence_maps(views, result.log_normalisers, train, PosteriorSettings())
    for image in range(9):
        expected = reference.train_map(
            torch.from_numpy(views[0].noisy.pixels.astype(np.float64)),
            torch.from_numpy(to_float(train[image]).astype(np.float64)) * 0.95,
            scale,
            torch.from_numpy(result.log_normalisers[0]),
            sigma=0.3,
            mask_value=float("inf"),
        )
        np.testing.assert_allclose(on_train[0, image], expected.numpy(), rtol=1e-3, atol=1e-5)


def test_maps_point_at_the_copied_region() -> None:
    """A piece of image 4 pasted into a foreign query: both maps of image 4 light up there."""
    train = smooth_bytes(10)
    query = smooth_bytes(1, seed=9)[0]
    query[:, 7:14, 5:12] = train[4][:, 2:9, 1:8]
    views = views_of([NoisyImage(to_float(query), 1.0, 0.1)], [Scale(5)])
    result = score_views(views, lambda: [to_float(train)], 10, PosteriorSettings(), lambda done, total: None)
    on_query, on_train = evidence_maps(views, result.log_normalisers, train[4:5], PosteriorSettings())
    rows, columns = slice(9, 12), slice(7, 10)
    assert on_query[0, 0][rows, columns].min() > 0.99
    assert on_train[0, 0][4:7, 3:6].min() > 0.99


def test_scores_of_all_images_sum_to_the_total() -> None:
    train = smooth_bytes(12)
    views, result = score(SCALES, PosteriorSettings(), train)
    assert result.scores.sum() == pytest.approx(total_score(views), rel=1e-5)

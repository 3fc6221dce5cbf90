"""Parts of a posterior merge exactly, and what is left out of it is as little as claimed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nda_index import ConfigError, Scale
from nda_index.exact import image_masses, image_scores, merge_log_totals
from nda_index.exact.masses import LEFT_OUT_BITS


def smooth_images(count: int, seed: int = 0) -> NDArray[np.float64]:
    return np.clip(np.cumsum(np.random.default_rng(seed).normal(0, 0.3, (count, 3, 12, 13)), axis=-1), -1, 1)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("topk", [None, 3])
def test_parts_in_any_order_are_the_whole(backend: str, topk: int | None) -> None:
    train = smooth_images(30)
    options: dict[str, Any] = {"signal": 0.95, "sigma": 0.2, "per_image_topk": topk, "backend": backend}
    noisy = 0.95 * train[20] + 0.2 * np.random.default_rng(1).normal(size=train[20].shape)
    parts = {start: image_masses(noisy, train[start : start + 11], Scale(5), **options) for start in (22, 0, 11)}
    normaliser = merge_log_totals([part.log_total for part in parts.values()])
    merged = np.concatenate([parts[start].scores(normaliser) for start in (0, 11, 22)])
    np.testing.assert_allclose(merged, image_scores(noisy, train, Scale(5), **options), rtol=1e-4, atol=1e-6)
    assert {part.backend for part in parts.values()} == {backend}
    weights = parts[11].weights(normaliser)
    assert weights.shape == (11, Scale(5).query_positions(12, 13))
    np.testing.assert_allclose(weights.sum(axis=1), merged[11:22], rtol=1e-12)


def test_what_is_left_out_is_below_its_bound_and_something_is() -> None:
    """At this variance sums are float64, so that nothing but what was left out can be missing."""
    train = 0.15 * smooth_images(40)
    options: dict[str, Any] = {"signal": 1.0, "sigma": 0.04, "mask_value": np.inf}
    noisy = train[7] + 0.04 * np.random.default_rng(2).normal(size=train[7].shape)
    exact = image_masses(noisy, train, Scale(5), backend="reference", **options)
    fast = image_masses(noisy, train, Scale(5), backend="cpu", **options)
    assert fast.left_out == 2.0**-LEFT_OUT_BITS and exact.left_out == 0
    missing = -np.expm1(fast.log_total - exact.log_total)
    assert missing.max() <= fast.left_out
    assert missing.min() > -1e-9
    weights, all_weights = fast.weights(exact.log_total), exact.weights(exact.log_total)
    vanished = (weights < all_weights / 2) & (all_weights > 0)
    assert vanished.mean() > 0.3
    assert all_weights[vanished].max() < fast.left_out


def test_nothing_is_left_out_where_all_weights_matter() -> None:
    train = smooth_images(5)
    masses = image_masses(train[0], train, Scale(5), signal=0.1, sigma=0.99, mask_value=np.inf, backend="cpu")
    assert masses.left_out == 0


def test_a_floor_saves_work_and_changes_nothing_that_matters() -> None:
    train = smooth_images(40)
    options: dict[str, Any] = {"signal": 1.0, "sigma": 0.15, "mask_value": np.inf, "backend": "cpu"}
    first = image_masses(train[3], train[:20], Scale(5), **options)
    free = image_masses(train[3], train[20:], Scale(5), **options)
    floored = image_masses(train[3], train[20:], Scale(5), floor=first.log_total, **options)
    normaliser = merge_log_totals([first.log_total, free.log_total])
    np.testing.assert_allclose(floored.scores(normaliser), free.scores(normaliser), atol=132 * 2.0**-LEFT_OUT_BITS)
    assert (floored.total == 0).sum() > (free.total == 0).sum()


def test_a_floor_of_the_wrong_shape_is_refused() -> None:
    train = smooth_images(2)
    with pytest.raises(ConfigError, match=r"floor has shape \(3,\)"):
        image_masses(train[0], train, Scale(5), signal=1.0, sigma=0.5, floor=np.zeros(3))


def test_the_gpu_is_refused() -> None:
    train = smooth_images(2)
    with pytest.raises(ConfigError, match="keeps no masses"):
        image_masses(train[0], train, Scale(5), signal=1.0, sigma=0.5, backend="gpu")

"""The Triton kernel against the float64 reference, on a CUDA device or under Triton's interpreter."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import nda_index as nda
from nda_index import ConfigError, Scale
from nda_index.diffusion import NoisyImage
from nda_index.exact import gpu, image_scores
from nda_index.exact.borders import pair_plan
from nda_index.exact.means import posterior_mean, sum_mean
from nda_index.exact.posterior import PosteriorSettings, score_views
from nda_index.exact.views import views_of


@pytest.fixture(autouse=True)
def any_device(monkeypatch: pytest.MonkeyPatch) -> None:
    if not torch.cuda.is_available():
        pytest.importorskip("triton", reason="the interpreter needs Triton, which is not installed here")
        monkeypatch.setattr(gpu, "DEVICE", "cpu")
        monkeypatch.setattr(gpu, "available", lambda: True)


def smooth_images(rng: np.random.Generator, *shape: int) -> NDArray[np.float64]:
    return np.clip(np.cumsum(rng.normal(0, 0.3, shape), axis=-1), -1, 1)


def case(scale: Scale, channels: int, height: int, width: int, count: int = 5) -> tuple[Any, Any, dict[str, Any]]:
    rng = np.random.default_rng(height * width + channels)
    train = smooth_images(rng, count, channels, height, width)
    return 0.9 * train[2] + 0.3 * rng.normal(size=train[2].shape), train, {"signal": 0.9, "sigma": 0.3}


@pytest.mark.parametrize(
    ("scale", "channels", "height", "width"),
    [
        (Scale(1), 1, 5, 4),
        (Scale(5), 3, 9, 8),
        (Scale(4), 1, 4, 4),
        (Scale(6, 2), 3, 9, 8),
        (Scale(4, query_stride=3, train_stride=2), 1, 10, 11),
        (Scale(6, 2, query_stride=3), 2, 9, 10),
    ],
)
def test_scores_agree_with_the_reference(scale: Scale, channels: int, height: int, width: int) -> None:
    noisy, train, level = case(scale, channels, height, width)
    exact = image_scores(noisy, train, scale, mask_value=np.inf, backend="reference", **level)
    scores = image_scores(noisy, train, scale, mask_value=np.inf, backend="gpu", **level)
    np.testing.assert_allclose(scores, exact, rtol=1e-4, atol=1e-5)


def test_a_finite_mask_is_the_same_where_the_border_is_negligible() -> None:
    noisy, train, level = case(Scale(3), 3, 8, 7)
    exact = image_scores(noisy, train, Scale(3), mask_value=10.0, backend="reference", **level)
    np.testing.assert_allclose(
        image_scores(noisy, train, Scale(3), mask_value=10.0, backend="gpu", **level), exact, rtol=1e-4
    )


def test_a_match_far_better_than_the_first_pass_saw() -> None:
    rng = np.random.default_rng(2)
    train = smooth_images(rng, 2, 3, 9, 9)
    noisy = np.roll(train[1], (3, 2), axis=(1, 2))
    options: dict[str, Any] = {"signal": 1.0, "sigma": 0.05, "mask_value": np.inf}
    exact = image_scores(noisy, train, Scale(5), backend="reference", **options)
    np.testing.assert_allclose(image_scores(noisy, train, Scale(5), backend="gpu", **options), exact, rtol=1e-3)


def test_views_blocks_and_mirror_images_share_their_softmaxes() -> None:
    rng = np.random.default_rng(3)
    train = smooth_images(rng, 5, 1, 6, 7).astype(np.float32)
    noisy = [NoisyImage(0.8 * train[i] + sigma, 0.8, sigma) for i, sigma in ((0, 0.2), (1, 0.6))]
    views = views_of(noisy, [Scale(3), Scale(4, 2, 0.5)])
    calls: list[tuple[int, int]] = []
    results = [
        score_views(
            views,
            lambda: [train[:2], train[2:]],
            5,
            PosteriorSettings(mirror=True, backend=backend),
            lambda done, total: calls.append((done, total)),
        )
        for backend in ("gpu", "reference")
    ]
    np.testing.assert_allclose(results[0].scores, results[1].scores, rtol=1e-4)
    assert [result.backend for result in results] == ["gpu", "reference"]
    assert calls[:4] == [(2, 10), (5, 10), (7, 10), (10, 10)]


def test_a_mean_takes_its_normalisers_from_the_gpu() -> None:
    train = smooth_images(np.random.default_rng(5), 5, 2, 8, 7).astype(np.float32)
    views = views_of([NoisyImage(0.8 * train[3] + 0.2, 0.8, 0.3)], [Scale(3), Scale(4, 2, 0.5)])
    blocks = [torch.from_numpy(part).to(gpu.DEVICE) for part in (train[:2], train[2:])]
    means = []
    for backend in ("gpu", "cpu"):
        options = PosteriorSettings(mirror=True, backend=backend)
        sums = sum_mean(views, lambda: blocks, 5, options, lambda done, total: None)
        means.append(posterior_mean(sums.pixels(sums.log_totals), [Scale(3), Scale(4, 2, 0.5)])[1])
    np.testing.assert_allclose(means[0], means[1], atol=1e-5)


def test_auto_takes_the_gpu_where_it_can_and_the_cpu_elsewhere() -> None:
    train = smooth_images(np.random.default_rng(4), 3, 1, 6, 6)

    def backend(**options: Any) -> str:
        views = views_of([NoisyImage(train[0], 1.0, options.pop("sigma", 0.3))], [Scale(3)])
        return score_views(views, lambda: [train], 3, PosteriorSettings(**options), lambda done, total: None).backend

    assert backend() == "gpu"
    assert (
        backend(per_image_topk=2) == backend(sigma=0.01) == backend(mask_value=0.5) == backend(backend="cpu") == "cpu"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"per_image_topk": 2}, "per_image_topk is 2"),
        ({"sigma": 0.01}, "float64 is needed"),
        ({"mask_value": 0.5}, "windows of different overhang"),
    ],
)
def test_what_the_gpu_cannot_compute_is_refused(options: dict[str, Any], message: str) -> None:
    train = np.zeros((2, 1, 6, 6))
    with pytest.raises(ConfigError, match=message):
        image_scores(train[0], train, Scale(3), backend="gpu", **{"signal": 1.0, "sigma": 0.5, **options})


def test_without_a_device_the_gpu_is_refused(monkeypatch: pytest.MonkeyPatch, index: nda.Index) -> None:
    monkeypatch.setattr(gpu, "available", lambda: False)
    train = np.zeros((2, 1, 6, 6))
    with pytest.raises(ConfigError, match="no CUDA device"):
        image_scores(train[0], train, Scale(3), signal=1.0, sigma=0.5, backend="gpu")
    with pytest.raises(ConfigError, match="no CUDA device"):
        nda.open_index(index.path, device="cuda")


@settings(max_examples=60, deadline=None)
@given(
    taps=st.integers(1, 20),
    downscale=st.sampled_from([1, 2, 3]),
    extra=st.tuples(st.integers(0, 30), st.integers(0, 9)),
    strides=st.tuples(st.integers(1, 4), st.integers(1, 4)),
)
def test_tiles_and_runs_hold_every_planned_pair_once(
    taps: int, downscale: int, extra: tuple[int, int], strides: tuple[int, int]
) -> None:
    scale = Scale(taps * downscale, downscale, 1.0, *strides)
    plan = pair_plan(scale.patch + extra[0], scale.patch + extra[1], scale, matching_overhang=True)
    tiling = gpu.tile_plan(plan, scale, 32)
    planned = Counter(
        (p // strides[0], p, p + d) for d, first, end, step in plan.rows.tolist() for p in range(first, end, step)
    )
    columns = plan.query_shape[1]
    tiled: Counter[tuple[int, int, int]] = Counter()
    for u, v, place in tiling.tiles.numpy():
        for slot in np.flatnonzero(place >= 0):
            window = slice(slot, slot + taps)
            assert len(u[window]) == taps
            assert (np.diff(u[window]) == downscale).all() and (v[window] - u[window] == v[slot] - u[slot]).all()
            tiled[(int(place[slot]) // columns, int(u[slot]), int(v[slot]))] += 1
    assert tiled == planned
    run = Counter(
        (place + i // period * step, x + i * downscale, x + i * downscale + dx)
        for x, dx, length, period, place, step in tiling.runs.tolist()
        for i in range(0, length, period)
    )
    assert run == Counter(
        (p // strides[0], p, p + d) for d, first, end, step in plan.columns.tolist() for p in range(first, end, step)
    )
    assert tiling.limits[0] == 0 and tiling.limits[-1] == len(tiling.runs)

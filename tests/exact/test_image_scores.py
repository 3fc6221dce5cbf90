"""The CPU kernel against the float64 reference, through `image_scores`."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nda_index import ConfigError, Scale
from nda_index.exact import cpu, cpu_kernels, image_scores, posterior, scores
from nda_index.exact.cpu_distances import Images
from nda_index.exact.simd import LANES


def smooth_images(rng: np.random.Generator, *shape: int) -> NDArray[np.float64]:
    """Images with neighbouring pixels alike, so that some windows match well."""
    return np.clip(np.cumsum(rng.normal(0, 0.3, shape), axis=-1), -1, 1)


def both(noisy: Any, train: Any, scale: Scale, **options: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    fast = image_scores(noisy, train, scale, backend="cpu", **options)
    return fast, image_scores(noisy, train, scale, backend="reference", **options)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    taps=st.integers(1, 9),
    downscale=st.sampled_from([1, 1, 2, 3, 4]),
    channels=st.sampled_from([1, 2, 3, 4]),
    extra=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    count=st.integers(1, 18),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    mask_value=st.sampled_from([np.inf, 1000.0, 10.0, 1.5, 0.0, -10.0]),
    topk=st.sampled_from([None, 1, 5, 1000]),
    mirror=st.booleans(),
    sigma=st.sampled_from([0.08, 0.3, 1.0]),
)
def test_cpu_agrees_with_the_reference(
    seed: int,
    taps: int,
    downscale: int,
    channels: int,
    extra: tuple[int, int],
    count: int,
    strides: tuple[int, int],
    mask_value: float,
    topk: int | None,
    mirror: bool,
    sigma: float,
) -> None:
    scale = Scale(min(taps, 12 // downscale) * downscale, downscale, 0.7, *strides)
    height, width = (scale.patch + more for more in extra)
    rng = np.random.default_rng(seed)
    train = smooth_images(rng, count, channels, height, width)
    signal = np.sqrt(1 - min(sigma, 0.99) ** 2)
    noisy = signal * train[0] + sigma * rng.normal(size=train[0].shape)
    fast, slow = both(
        noisy, train, scale, signal=signal, sigma=sigma, mask_value=mask_value, per_image_topk=topk, mirror=mirror
    )
    np.testing.assert_allclose(fast, slow, rtol=1e-3, atol=1e-4 * slow.sum())
    if topk is None and (mask_value != np.inf or scale.train_stride == 1):
        assert fast.sum() == pytest.approx(0.7 * scale.query_positions(height, width), rel=1e-5)


@pytest.mark.parametrize("sigma", [0.01, 0.03, 0.999])
def test_the_first_and_the_last_timestep(sigma: float) -> None:
    rng = np.random.default_rng(1)
    train = smooth_images(rng, 20, 3, 12, 12)
    noisy = train[3] + sigma * rng.normal(size=train[3].shape)
    fast, slow = both(noisy, train, Scale(5), signal=1.0, sigma=sigma, mask_value=np.inf)
    np.testing.assert_allclose(fast, slow, rtol=2e-4, atol=1e-6)


def test_one_good_window_far_from_the_others_is_not_lost() -> None:
    """A match that beats all earlier ones by hundreds of powers of two must not overflow."""
    rng = np.random.default_rng(2)
    train = smooth_images(rng, 17, 3, 16, 16)
    noisy = np.roll(train[16], (5, 3), axis=(1, 2))
    fast, slow = both(noisy, train, Scale(5), signal=1.0, sigma=0.05, mask_value=np.inf)
    np.testing.assert_allclose(fast, slow, rtol=1e-3, atol=1e-3)
    assert fast.argmax() == 16


def test_a_window_without_partner_of_its_overhang_takes_the_least_bad_one() -> None:
    """With every other training window left out, border windows must pay the penalty; the rest still decides."""
    rng = np.random.default_rng(6)
    train = smooth_images(rng, 3, 1, 6, 6)
    scale = Scale(3, train_stride=2)
    fast, slow = both(train[0], train, scale, signal=1.0, sigma=0.08, mask_value=1000.0)
    np.testing.assert_allclose(fast, slow, rtol=1e-4)
    assert fast.sum() == pytest.approx(36.0)


def test_constant_and_identical_images_share_evenly() -> None:
    train = np.zeros((5, 3, 10, 10))
    scores = image_scores(train[0], train, Scale(3), signal=0.9, sigma=0.5)
    np.testing.assert_allclose(scores, 20.0, rtol=1e-6)


def test_mirror_counts_an_image_and_its_mirror_image_once() -> None:
    rng = np.random.default_rng(3)
    train = smooth_images(rng, 6, 3, 12, 9)
    noisy = train[2][..., ::-1] + 0.05 * rng.normal(size=train[2].shape)
    options: dict[str, Any] = {"signal": 1.0, "sigma": 0.05, "mask_value": np.inf}
    doubled = image_scores(noisy, np.concatenate([train, train[..., ::-1]]), Scale(4), **options)
    scores = image_scores(noisy, train, Scale(4), mirror=True, **options)
    np.testing.assert_allclose(scores, doubled[:6] + doubled[6:], rtol=1e-5)
    assert scores.argmax() == 2


def test_more_images_than_a_block_still_share_one_softmax(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    train = smooth_images(rng, 40, 1, 9, 9)
    noisy = train[30] + 0.2 * rng.normal(size=train[30].shape)
    whole = image_scores(noisy, train, Scale(3), signal=1.0, sigma=0.2)
    monkeypatch.setattr(scores, "BLOCK", 7)
    np.testing.assert_allclose(image_scores(noisy, train, Scale(3), signal=1.0, sigma=0.2), whole, rtol=1e-5)
    monkeypatch.setattr(posterior, "KEPT_BYTES", 0)
    np.testing.assert_allclose(image_scores(noisy, train, Scale(3), signal=1.0, sigma=0.2), whole, rtol=1e-5)


def test_a_sample_of_many_images_needs_no_kernel_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[Images] = []

    def sweep(images: Images, *others: Any) -> None:
        compared.append(images)
        cpu_kernels.sweep(images, *others)

    monkeypatch.setattr(cpu, "sweep", sweep)
    train = smooth_images(np.random.default_rng(5), cpu.SAMPLED * LANES, 1, 4, 4)
    image_scores(train[0], train, Scale(3), signal=0.9, sigma=0.4, backend="cpu")
    assert [len(images.train) for images in compared] == [512, 16, 512]
    assert len({numba.typeof(images) for images in compared}) == 1  # type: ignore[no-untyped-call]


def test_tensors_views_and_float32_give_the_same() -> None:
    rng = np.random.default_rng(5)
    train = smooth_images(rng, 4, 3, 8, 8).astype(np.float32)
    expected = image_scores(train[1], train, Scale(3), signal=1.0, sigma=0.3)
    backwards = np.ascontiguousarray(train.transpose(3, 2, 1, 0)).transpose(3, 2, 1, 0)
    np.testing.assert_array_equal(image_scores(train[1], backwards, Scale(3), signal=1.0, sigma=0.3), expected)
    tensors = torch.from_numpy(train)
    np.testing.assert_array_equal(image_scores(tensors[1], tensors, Scale(3), signal=1.0, sigma=0.3), expected)


GOOD = np.zeros((2, 3, 8, 8))
WITH_NAN = GOOD.copy()
WITH_NAN[0, 0, 0, 0] = np.nan


@pytest.mark.parametrize(
    ("noisy", "train", "changes", "message"),
    [
        (WITH_NAN[0], GOOD, {}, "noisy holds NaN"),
        (GOOD[0], WITH_NAN, {}, "train holds NaN"),
        (GOOD[0], GOOD[0], {}, "must be .N, C, H, W"),
        (GOOD[0, :1], GOOD, {}, "they must be the same"),
        (GOOD[0].astype(np.uint8), GOOD, {}, "must be floats"),
        (GOOD[0], GOOD[:0], {}, "train holds 0 images"),
        (GOOD[0], GOOD, {"sigma": 0.0}, "sigma is 0.0"),
        (GOOD[0], GOOD, {"signal": -1.0}, "signal is -1.0"),
        (GOOD[0], GOOD, {"mask_value": np.nan}, "mask_value is nan"),
        (GOOD[0], GOOD, {"per_image_topk": 0}, "per_image_topk is 0"),
        (GOOD[0], GOOD, {"backend": "tpu"}, "backend is 'tpu'"),
        (GOOD[0, :, :2], GOOD[:, :, :2], {}, "does not fit an image of 2 x 8"),
    ],
)
def test_wrong_input_is_refused(noisy: Any, train: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        image_scores(noisy, train, Scale(3), **{"signal": 1.0, "sigma": 0.5, **changes})

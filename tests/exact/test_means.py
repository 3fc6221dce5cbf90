from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nda_index import ConfigError, Scale
from nda_index.diffusion import NoisyImage
from nda_index.exact import merge_log_totals, posterior, reference
from nda_index.exact.means import pixel_spans, posterior_mean, sum_mean
from nda_index.exact.posterior import PosteriorSettings
from nda_index.exact.views import View, views_of

WHOLE = PosteriorSettings()
SCALES = [Scale(5), Scale(6, 2, 0.5), Scale(4, query_stride=2, train_stride=2)]


def smooth_images(seed: int, *shape: int) -> NDArray[np.float64]:
    return np.clip(np.cumsum(np.random.default_rng(seed).normal(0, 0.3, shape), axis=-1), -1, 1)


def noisy_version(image: NDArray[np.float64], sigma: float, seed: int = 0) -> NoisyImage:
    noise = np.random.default_rng(seed).normal(size=image.shape)
    return NoisyImage(0.95 * image + sigma * noise, 0.95, sigma)


def silent(done: int, total: int) -> None:
    pass


def mean_of(
    views: Sequence[View], train: NDArray[np.float64], options: PosteriorSettings = WHOLE
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    half = len(train) // 2
    sums = sum_mean(views, lambda: [train[:half], train[half:]][half == 0 :], len(train), options, silent)
    return posterior_mean(sums.pixels(sums.log_totals), list(dict.fromkeys(view.scale for view in views)))


def by_definition(noisy: NoisyImage, train: NDArray[np.float64], scale: Scale) -> NDArray[np.float64]:
    mean = reference.posterior_mean(
        torch.from_numpy(noisy.pixels), torch.from_numpy(train.copy()) * noisy.signal, scale, sigma=noisy.sigma
    )
    return np.asarray((mean / noisy.signal).numpy().transpose(1, 2, 0))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    taps=st.integers(1, 6),
    downscale=st.sampled_from([1, 1, 2, 3]),
    channels=st.sampled_from([1, 2, 3, 4]),
    extra=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    count=st.integers(1, 18),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    mirror=st.booleans(),
    sigma=st.sampled_from([0.04, 0.3, 1.0]),
)
def test_the_mean_is_that_of_the_reference(
    seed: int,
    taps: int,
    downscale: int,
    channels: int,
    extra: tuple[int, int],
    count: int,
    strides: tuple[int, int],
    mirror: bool,
    sigma: float,
) -> None:
    scale = Scale(taps * downscale, downscale, 0.7, *strides)
    height, width = (scale.patch + more for more in extra)
    try:
        pixel_spans(height, width, scale)
    except ConfigError:
        assert strides != (1, 1)
        return
    train = smooth_images(seed, count, channels, height, width)
    noisy = noisy_version(train[0], sigma, seed)
    whole, parts = mean_of([View(noisy, scale, 0.7)], train, PosteriorSettings(mirror=mirror))
    collection = np.concatenate([train, train[..., ::-1]]) if mirror else train
    np.testing.assert_allclose(whole, by_definition(noisy, collection, scale), atol=5e-5)
    np.testing.assert_allclose(parts[0], whole, atol=1e-6)


def test_scales_count_by_their_weights_and_noisy_versions_evenly() -> None:
    train = smooth_images(1, 9, 3, 12, 11)
    versions = [noisy_version(train[3], 0.03, 5), noisy_version(train[3], 0.4, 6)]  # in float64 and in float32
    whole, parts = mean_of(views_of(versions, SCALES), train)
    expected = [np.mean([by_definition(noisy, train, scale) for noisy in versions], axis=0) for scale in SCALES]
    np.testing.assert_allclose(parts, expected, atol=5e-5)
    np.testing.assert_allclose(whole, (expected[0] + 0.5 * expected[1] + expected[2]) / 2.5, atol=5e-5)


@pytest.mark.parametrize("scale", [*SCALES, Scale(9, 3), Scale(7, train_stride=4), Scale(8, 4, query_stride=3)])
def test_constant_images_explain_that_constant(scale: Scale) -> None:
    """Weights sum to one at every pixel, whatever the query."""
    train = np.full((5, 2, 13, 12), 0.25)
    whole, _ = mean_of([View(noisy_version(smooth_images(2, 2, 13, 12), 0.5), scale, 1.0)], train)
    np.testing.assert_allclose(whole, 0.25, rtol=1e-6)


@pytest.mark.parametrize("scale", [Scale(5), Scale(6, 2)])
def test_an_image_of_the_collection_explains_itself(scale: Scale) -> None:
    train = smooth_images(3, 20, 3, 14, 12)
    noisy = NoisyImage(train[13], 1.0, 0.01)
    whole, _ = mean_of([View(noisy, scale, 1.0)], train)
    np.testing.assert_allclose(whole, train[13].transpose(1, 2, 0), atol=1e-3)


def test_a_copied_piece_brings_the_pixels_at_its_own_place() -> None:
    """The pieces lie elsewhere in their images, so that a pixel of the wrong place in the window would show."""
    train = smooth_images(4, 12, 3, 14, 12)
    query = smooth_images(5, 1, 3, 14, 12)[0]
    query[:, 6:13, 4:11] = train[4][:, 2:9, 3:10]
    whole, _ = mean_of([View(NoisyImage(query, 1.0, 0.03), Scale(4), 1.0)], train)
    # These pixels take windows that lie whole in the piece.
    np.testing.assert_allclose(whole[8:11, 6:9], query.transpose(1, 2, 0)[8:11, 6:9], atol=1e-3)
    assert np.abs(whole - query.transpose(1, 2, 0)).max() > 0.1


def test_sums_of_parts_add_up() -> None:
    train = smooth_images(6, 30, 3, 12, 12)
    views = views_of([noisy_version(train[20], 0.3)], SCALES)
    parts = [
        sum_mean(views, lambda: [train[:11]], 11, WHOLE, silent),
        sum_mean(views, lambda: [train[11:]], 19, WHOLE, silent),
    ]
    normalisers = [merge_log_totals(totals) for totals in zip(*[part.log_totals for part in parts], strict=True)]
    together = sum(part.pixels(normalisers) for part in parts)
    nothing = sum_mean(views, list, 0, WHOLE, silent)
    assert all(np.isneginf(total).all() for total in nothing.log_totals)
    assert not nothing.pixels(normalisers).any()
    np.testing.assert_allclose(posterior_mean(np.asarray(together), SCALES)[0], mean_of(views, train)[0], atol=1e-5)


@pytest.mark.parametrize("kept", [1 << 30, 0])
def test_progress_counts_both_passes(kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posterior, "KEPT_BYTES", kept)
    train = smooth_images(7, 6, 1, 9, 9)
    views = views_of([noisy_version(train[0], 0.3)], [Scale(3)])
    seen: list[tuple[int, int]] = []
    sums = sum_mean(views, lambda: [train[:4], train[4:]], 6, WHOLE, lambda done, total: seen.append((done, total)))
    sums.pixels(sums.log_totals)
    assert seen == [(4, 12), (6, 12), (10, 12), (12, 12)]


def test_windows_share_out_the_pixels() -> None:
    # Of an even patch the centre lies between two pixels; at the border there is one window less.
    assert pixel_spans(5, 5, Scale(2))[:4, 2:].tolist() == [[0, 2], [1, 3], [2, 4], [3, 5]]
    # Every third window: pixels 1 and 2 are nearer to one, none lies between two.
    assert pixel_spans(7, 7, Scale(5, query_stride=3))[:3, 2:].tolist() == [[0, 2], [2, 5], [5, 7]]
    # Window 1 sticks out by an amount that no training window on the stride does: its pixel goes to 0 and 2.
    assert pixel_spans(9, 9, Scale(5, train_stride=2))[:4, 2:].tolist() == [[0, 2], [0, 0], [1, 3], [3, 4]]


@pytest.mark.parametrize("scale", [Scale(3, query_stride=4), Scale(1, query_stride=2), Scale(3, 1, 1.0, 2, 3)])
def test_strides_that_leave_pixels_out_are_refused(scale: Scale) -> None:
    with pytest.raises(ConfigError, match=f"the scale {scale.name} has query_stride {scale.query_stride}.*smaller"):
        pixel_spans(9, 9, scale)

"""Maps, links and posterior means on a GPU, or in the same torch code without one, against those of the CPU."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from nda_index import Scale
from nda_index.diffusion import NoisyImage
from nda_index.exact import gpu, gpu_weights
from nda_index.exact.links import cell_links
from nda_index.exact.maps import evidence_maps
from nda_index.exact.means import pixel_spans, sum_mean
from nda_index.exact.posterior import PosteriorSettings, score_views
from nda_index.exact.views import views_of
from nda_index.images import to_float
from tests.exact.test_maps import smooth_bytes

SCALES = [Scale(5), Scale(6, 2, 0.5), Scale(4, query_stride=2, train_stride=2)]
SETTINGS = [
    PosteriorSettings(),
    PosteriorSettings(mirror=True),
    PosteriorSettings(per_image_topk=2),
    PosteriorSettings(per_image_topk=2, mirror=True),
]
SMALL = 32 * 168 * 20  # bytes for a piece of twenty positions of the largest case: many pieces


@pytest.fixture(autouse=True)
def any_device(monkeypatch: pytest.MonkeyPatch) -> None:
    if not torch.cuda.is_available():
        monkeypatch.setattr(gpu, "DEVICE", "cpu")
    monkeypatch.setattr(gpu, "available", lambda: True)
    for name in ("sum_both_ways", "link_cells", "pixel_sums"):
        monkeypatch.setattr(gpu_weights, name, partial(getattr(gpu_weights, name), budget=SMALL))


def ask(settings: PosteriorSettings) -> tuple[Any, Any, Any]:
    train = smooth_bytes(9)
    noise = np.random.default_rng(1).normal(0, 0.3, train[1].shape)
    views = views_of([NoisyImage(0.95 * to_float(train[1]) + noise, 0.95, 0.3)], SCALES)
    on_cpu = PosteriorSettings(settings.mask_value, settings.per_image_topk, settings.mirror, "cpu")
    result = score_views(views, lambda: [to_float(train)], len(train), on_cpu, lambda done, total: None)
    return train, views, result.log_normalisers


def both(settings: PosteriorSettings) -> list[PosteriorSettings]:
    return [
        PosteriorSettings(settings.mask_value, settings.per_image_topk, settings.mirror, backend)
        for backend in ("cpu", "gpu")
    ]


@pytest.mark.parametrize("settings", SETTINGS)
def test_maps_are_those_of_the_cpu(settings: PosteriorSettings) -> None:
    train, views, normalisers = ask(settings)
    expected, maps = (evidence_maps(views, normalisers, train[:4], some) for some in both(settings))
    for ours, theirs in zip(maps, expected, strict=True):
        assert theirs.max() > 0.1
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("settings", SETTINGS)
def test_links_are_those_of_the_cpu(settings: PosteriorSettings) -> None:
    train, views, normalisers = ask(settings)
    expected, links = (cell_links(views, normalisers, train[1], some) for some in both(settings))
    assert expected.max() > 0.1
    np.testing.assert_allclose(links, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("as_bytes", [False, True])
def test_means_are_those_of_the_cpu(mirror: bool, as_bytes: bool) -> None:
    train, views, normalisers = ask(PosteriorSettings(mirror=mirror))

    def sums_on(backend: str, images: Any) -> Any:
        settings = PosteriorSettings(mirror=mirror, backend=backend)
        blocks = [images[:4], images[4:]]
        return sum_mean(views, lambda: blocks, len(train), settings, lambda done, total: None).pixels(normalisers)

    expected = sums_on("cpu", to_float(train))
    ours = sums_on("gpu", torch.from_numpy(train) if as_bytes else to_float(train))
    assert np.abs(expected).max() > 0.5
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scale", [Scale(9, 3), Scale(8, 4, query_stride=3), Scale(7, train_stride=4), Scale(2)])
def test_weights_of_a_mean_sum_to_the_windows_of_a_pixel(scale: Scale) -> None:
    """Whatever the strides: some pixels at the border take windows that lie a few pixels off."""
    train = smooth_bytes(3)
    views = views_of([NoisyImage(to_float(train[0]), 0.9, 0.5)], [scale])
    settings = PosteriorSettings(backend="cpu")
    result = score_views(views, lambda: [to_float(train)], 3, settings, lambda done, total: None)
    spans = pixel_spans(14, 12, scale)
    images = torch.from_numpy(to_float(train))
    sums = gpu_weights.pixel_sums(views[0].noisy, images, scale, result.log_normalisers[0], spans)
    windows = np.zeros((14, 12))
    for (top, bottom, left, right), log in zip(spans, result.log_normalisers[0], strict=True):
        windows[top:bottom, left:right] += np.isfinite(log)
    assert windows.min() >= 1
    np.testing.assert_allclose(sums[..., -1], windows, rtol=1e-4)  # normalisers are float32


def test_what_memory_does_not_hold_is_left_to_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise torch.cuda.OutOfMemoryError

    train, views, normalisers = ask(PosteriorSettings())
    for name in ("sum_both_ways", "link_cells", "pixel_sums"):
        monkeypatch.setattr(gpu_weights, name, fail)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    for some in both(PosteriorSettings()):
        assert evidence_maps(views, normalisers, train[:2], some)[0].max() > 0.1
        assert cell_links(views, normalisers, train[1], some).max() > 0.1

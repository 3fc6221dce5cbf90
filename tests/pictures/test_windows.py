from __future__ import annotations

import gc
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from nda_index.images import open_upright
from nda_index.pictures.windows import ASKED, DIMENSIONS, INDEXED, KINDS, Kind, _projection, find_windows, reduce_luma
from tests.conftest import encoded
from tests.pictures.scenes import scene

MIRROR = Image.Transpose.FLIP_LEFT_RIGHT


def distances(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Squared distances of all pairs of codes."""
    return np.asarray(((one[:, None].astype(np.int64) - other[None]) ** 2).sum(axis=2))


@pytest.mark.parametrize("kind", KINDS)
def test_windows_of_a_mirrored_picture_have_the_mirrored_codes(kind: Kind) -> None:
    picture = scene(3)
    sampling = replace(ASKED, quotas=(10_000,) * len(ASKED.quotas))  # all: which are drawn differs
    here, there = (find_windows(image, sampling)[kind] for image in (picture, picture.transpose(MIRROR)))
    x, y, width, turn = here.frames.T
    expected = np.c_[picture.width - x, y, width, (np.pi - turn) if kind == "points" else turn]
    apart = np.abs(expected[:, None, :3] - there.frames[None, :, :3]).max(axis=2)
    angle = (expected[:, None, 3] - there.frames[None, :, 3] + np.pi) % (2 * np.pi) - np.pi
    near = (apart < (1.5 if kind == "points" else 0.01)) & (np.abs(angle) < 0.1)
    found = np.flatnonzero(near.any(axis=1))
    assert len(found) > (0.6 if kind == "points" else 0.9) * len(here.frames) > 100
    partner = near[found].argmax(axis=1)
    mirrored, plain = (
        np.median(((codes[found].astype(int) - there.codes[partner]) ** 2).sum(axis=1))
        for codes in (here.mirrored, here.codes)
    )
    assert mirrored < 0.02 * plain


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_windows_are_found_in_another_size_and_light(kind: Kind) -> None:
    picture = scene(2)
    there = picture.resize((416, 338), Image.Resampling.BICUBIC).point(lambda value: round(value * 0.7 + 30))
    asked, indexed = find_windows(there, ASKED)[kind], find_windows(picture, INDEXED)[kind]
    nearest = distances(asked.codes, indexed.codes).argmin(axis=1)
    right = np.abs(asked.frames[:, :2] / 1.3 - indexed.frames[nearest, :2]).max(axis=1) < 8
    assert right.mean() > 0.25
    zoom = asked.frames[right, 2] / indexed.frames[nearest[right], 2]
    assert np.median(zoom) == pytest.approx(1.3, rel=0.05)
    other = find_windows(scene(77), INDEXED)[kind]
    nearest = distances(asked.codes, other.codes).argmin(axis=1)
    assert (np.abs(asked.frames[:, :2] / 1.3 - other.frames[nearest, :2]).max(axis=1) < 8).mean() < 0.05


def test_windows_lie_in_the_picture_and_no_more_than_the_sampling_says() -> None:
    for sampling in (INDEXED, ASKED):
        found = find_windows(scene(0, (700, 560)), sampling)
        for kind, most in (("points", sampling.points), ("grid", sum(sampling.quotas))):
            frames, codes, mirrored = found[kind]  # type: ignore[index]
            assert 0 < len(frames) <= most
            assert codes.shape == mirrored.shape == (len(frames), DIMENSIONS)
            assert codes.dtype == mirrored.dtype == np.uint8
            assert (frames[:, :2] >= 0).all()
            assert (frames[:, :2] <= (700, 560)).all()
        grid = found["grid"].frames
        reach = grid[:, 2:3] / 2
        assert (grid[:, :2] - reach > -0.1).all()
        assert (grid[:, :2] + reach < np.add((700, 560), 0.1)).all()
        np.testing.assert_allclose(np.unique(np.round(grid[:, 2] / 560, 4)), sampling.widths, atol=1e-3)


def test_points_are_spread_over_the_picture() -> None:
    busy = np.full((400, 400), 128, np.uint8)
    rng = np.random.default_rng(0)
    busy[:200, :200] = np.asarray(Image.fromarray(rng.integers(0, 256, (50, 50), np.uint8)).resize((200, 200)))
    busy[250:350, 250:350] = np.asarray(Image.fromarray(rng.integers(120, 137, (12, 12), np.uint8)).resize((100, 100)))
    frames = find_windows(Image.fromarray(busy), INDEXED)["points"].frames
    assert len(frames) == INDEXED.points
    assert (frames[:, :2] > 240).all(axis=1).sum() > 20  # faint, but in places of its own


def test_what_has_no_structure_has_no_windows() -> None:
    for picture in (Image.new("RGB", (300, 200), "red"), Image.new("L", (1, 1)), Image.new("RGB", (3000, 20))):
        for sampling in (INDEXED, ASKED):
            for windows in find_windows(picture, sampling).values():
                assert windows.frames.shape == (0, 4)
                assert windows.codes.shape == windows.mirrored.shape == (0, DIMENSIONS)


@pytest.mark.parametrize("size", [(3000, 20), (20, 3000), (900, 1), (2, 2), (7, 7), (40, 40)])
def test_a_picture_may_have_any_shape(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), np.uint8))
    for windows in find_windows(picture, ASKED).values():
        assert np.isfinite(windows.frames).all()
        assert (windows.frames[:, 2] > 0).all()
        assert len(windows.codes) == len(windows.frames)


def test_small_pictures_have_no_grid_windows_of_few_pixels() -> None:
    for side in (64, 40, 25, 16):
        widths = find_windows(scene(2).resize((side, side)), INDEXED)["grid"].frames[:, 2]
        expected = [part * side for part in INDEXED.widths if part * side >= 20] or [INDEXED.widths[-1] * side]
        np.testing.assert_allclose(np.unique(widths), expected, rtol=1e-5)


def test_large_pictures_are_reduced_and_small_ones_are_not() -> None:
    luma, scale = reduce_luma(Image.new("RGB", (2000, 1024), "white"), 512)
    assert (luma.shape, scale, int(luma.min())) == ((512, 1000), 0.5, 255)
    luma, scale = reduce_luma(Image.new("RGB", (600, 100)), 512)
    assert (luma.shape, scale) == ((100, 600), 1.0)
    luma, _ = reduce_luma(Image.new("RGB", (9000, 3)), 1)
    assert luma.shape == (1, 3000)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "I;16", "CMYK"])
def test_a_picture_of_any_mode_has_the_windows_of_what_is_seen(mode: str) -> None:
    grey = scene(4).convert("L")
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    else:
        picture = grey.quantize(256) if mode == "P" else grey.convert("RGB").convert(mode)
    expected = find_windows(grey, INDEXED)
    for kind, windows in find_windows(open_upright(picture), INDEXED).items():
        nearest = distances(windows.codes, expected[kind].codes).argmin(axis=1)
        apart = np.abs(windows.frames[:, :2] - expected[kind].frames[nearest, :2]).max(axis=1)
        assert np.quantile(apart, 0.8) < 1.5, mode


def test_what_is_transparent_is_white_and_has_no_windows() -> None:
    picture = scene(4).convert("RGBA")
    picture.putalpha(Image.new("L", picture.size, 0))
    assert all(len(windows.frames) == 0 for windows in find_windows(open_upright(picture), INDEXED).values())
    turned = Image.Exif()
    turned[0x0112] = 6
    assert open_upright(encoded(scene(4), "JPEG", exif=turned)).size == scene(4).size[::-1]


def test_the_file_of_the_projection_is_closed() -> None:
    for kind in KINDS:
        mean, axes = _projection.__wrapped__(kind)
        assert (mean.shape, axes.shape) == ((128,), (128, DIMENSIONS))
    gc.collect()  # a file that is left open warns, and a warning is an error

"""The launches of the GPU backend: every address of the kernels is looked at, under Triton's interpreter."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from nda_index.diffusion import NoisyImage
from nda_index.errors import ConfigError
from nda_index.exact import gpu, gpu_launch, gpu_plain
from nda_index.exact.gpu_launch import KernelTuning, Tuning, check_bounds
from nda_index.exact.gpu_numbers import plane_shape, sum_blocks, whole_images, window_offsets
from nda_index.exact.gpu_tiles import tile_windows
from nda_index.scales import Scale

pytest.importorskip("triton", reason="Triton is not installed here")
SMALL = Tuning(KernelTuning(32), KernelTuning(16), 16)  # an inside of two of the border's tiles, in small images


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Fail where a kernel reads or writes outside of the tensors that it is given; count the accesses of each kind."""
    interpreter = pytest.importorskip("triton.runtime.interpreter")
    if torch.cuda.is_available():
        pytest.skip("addresses are looked at under the interpreter")
    ranges: list[tuple[int, int]] = []
    counts = {"load": 0, "store": 0, "atomic_rmw": 0}
    start = interpreter.GridExecutor.__call__

    def call(self: Any, *arguments: Any, **options: Any) -> Any:
        ranges.clear()
        for tensor in (a for a in arguments if isinstance(a, torch.Tensor)):
            last = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
            ranges.append((tensor.data_ptr(), tensor.data_ptr() + (last + 1) * tensor.element_size()))
        return start(self, *arguments, **options)

    def look(name: str, pointers: int, masks: int) -> None:
        access = getattr(interpreter._interpreter, name)

        def looking(*arguments: Any) -> Any:
            at = arguments[pointers][np.broadcast_to(arguments[masks], arguments[pointers].shape).astype(bool)]
            allowed = np.zeros(at.shape, bool)
            for begin, end in ranges:
                allowed |= (at >= begin) & (at < end)
            assert allowed.all(), f"{name} outside of what the kernel was given"
            counts[name] += 1
            return access(*arguments)

        monkeypatch.setattr(interpreter._interpreter, name, looking)

    monkeypatch.setattr(interpreter.GridExecutor, "__call__", call)
    look("load", 0, 1)
    look("store", 0, 2)
    look("atomic_rmw", 1, 3)
    return counts


def pictures(seed: int, *shape: int) -> torch.Tensor:
    steps = np.random.default_rng(seed).normal(0, 30, shape)
    return torch.from_numpy((128 + np.cumsum(steps, axis=-1)).clip(0, 255).astype(np.uint8)).to(device())


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def noisy_version(image: torch.Tensor, signal: float, sigma: float, noise: float) -> NoisyImage:
    clean = image.cpu().numpy() / 127.5 - 1
    drawn = np.random.default_rng(1).normal(size=clean.shape)
    return NoisyImage(signal * clean + noise * drawn, signal, sigma)


def scores_by_definition(noisy: NoisyImage, train: torch.Tensor, scale: Scale) -> NDArray[np.float64]:
    total, _ = gpu_plain.log_masses(noisy, train.float() / 127.5 - 1, scale, np.inf, None, 1 << 28)
    shares = (total - total.logsumexp(dim=0)).exp().nan_to_num()  # [N, P]; no window is at a position: no share
    return np.asarray(shares.sum(dim=1).cpu().numpy())


@pytest.mark.parametrize("scale", [Scale(7), Scale(14, 2)])
def test_images_of_the_usual_size_in_the_default_tiles(scale: Scale, looked_at: dict[str, int]) -> None:
    train = pictures(0, 3, 1, 32, 32)
    for noise, low in ((0.0, False), (0.3, True)):
        noisy = noisy_version(train[0], 0.9, 0.3, noise)
        ((sweep, _),) = gpu_launch.prepare([noisy], scale, train.device)
        assert sweep.takes_low == low and sweep.tiling.train.inside >= 2
        masses = gpu.block_masses([noisy], train[1:], scale)[0]
        exact = scores_by_definition(noisy, train[1:], scale)
        np.testing.assert_allclose(masses.scores(masses.log_total), exact, rtol=1e-4)
    assert all(looked_at.values())


@pytest.mark.parametrize(
    "scale",
    [
        Scale(1),
        Scale(3),
        Scale(6, 2),
        Scale(4, query_stride=3, train_stride=2),
        Scale(5, query_stride=2, train_stride=3),
        Scale(8, 4),
    ],
)
def test_no_tile_leaves_its_arrays(scale: Scale, looked_at: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    train = pictures(1, 2, 1, 11, 9)
    queries = [noisy_version(train[0], 0.9, 0.3, noise) for noise in (0.0, 0.2)]
    exact = [scores_by_definition(query, train, scale) for query in queries]
    for kept, tuning in ((256, SMALL), (256, replace(SMALL, budget=1, query_tile=32)), (0, SMALL)):
        monkeypatch.setattr(gpu_launch, "KEPT_COORDINATES", kept)
        results = gpu.block_masses(queries, train, scale, tuning=tuning)
        for masses, right in zip(results, exact, strict=True):
            np.testing.assert_allclose(masses.scores(masses.log_total), right, rtol=1e-4)
    assert all(looked_at.values())


def test_many_images_have_a_program_each(monkeypatch: pytest.MonkeyPatch, looked_at: dict[str, int]) -> None:
    monkeypatch.setattr(gpu_launch, "PROGRAMS", 2)
    train = pictures(2, 6, 1, 9, 9)
    noisy = noisy_version(train[3], 0.9, 0.3, 0.1)
    masses = gpu.block_masses([noisy], train, Scale(3), tuning=SMALL)[0]
    exact = scores_by_definition(noisy, train, Scale(3))
    np.testing.assert_allclose(masses.scores(masses.log_total), exact, rtol=1e-4)
    assert all(looked_at.values())


@pytest.mark.parametrize("scale", [Scale(5), Scale(6, 2), Scale(12, 4)])
def test_bytes_are_summed_as_their_definition_says(scale: Scale, looked_at: dict[str, int]) -> None:
    train = pictures(3, 3, 2, 9, 14)
    images = whole_images(train, scale)
    assert images is not None and torch.equal(images, sum_blocks(train.float() - 128, scale).half())
    assert looked_at["store"] > 0


def test_a_tiling_that_points_outside_is_refused() -> None:
    scale = Scale(3)
    tiling = tile_windows(8, 8, scale, 16, 16)
    rows, columns = plane_shape(8, 8, scale)
    offsets = window_offsets(2, 8, 8, scale)
    check_bounds(tiling, offsets, 2 * rows * columns)
    with pytest.raises(IndexError, match="windows are in the image"):
        check_bounds(tiling, offsets, 2 * rows * columns - 1)
    with pytest.raises(IndexError, match="tiles that meet exist"):
        check_bounds(replace(tiling, last=tiling.last + tiling.query.tiles), offsets, 2 * rows * columns)
    with pytest.raises(IndexError, match="tiles inside meet the same"):
        first = tiling.first.copy()
        first[0] += 1
        check_bounds(replace(tiling, first=first), offsets, 2 * rows * columns)
    with pytest.raises(IndexError, match="tiles are whole"):
        check_bounds(replace(tiling, query=replace(tiling.query, tile=48)), offsets, 2 * rows * columns)


def test_tiles_that_crash_or_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="query_tile is 128"):
        Tuning(query_tile=128)
    with pytest.raises(ConfigError, match="powers of 2"):
        Tuning(border=KernelTuning(48))
    with pytest.raises(ConfigError, match="the border's the smaller one"):
        Tuning(inside=KernelTuning(32), border=KernelTuning(64))

"""The GPU backend against the float64 reference, on a CUDA device or under Triton's interpreter."""

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
from nda_index.exact import gpu, gpu_launch, gpu_numbers, gpu_plain, image_scores, posterior
from nda_index.exact.borders import pair_plan
from nda_index.exact.gpu_tiles import tile_windows
from nda_index.exact.means import posterior_mean, sum_mean
from nda_index.exact.posterior import PosteriorSettings, PosteriorSums, ViewScores, score_views, sum_posterior
from nda_index.exact.views import views_of
from nda_index.images import to_float


@pytest.fixture(autouse=True)
def any_device(monkeypatch: pytest.MonkeyPatch) -> None:
    if not torch.cuda.is_available():
        pytest.importorskip("triton", reason="the interpreter needs Triton, which is not installed here")
        monkeypatch.setattr(gpu, "DEVICE", "cpu")
        monkeypatch.setattr(gpu, "available", lambda: True)


@pytest.fixture
def by_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where float64 is taken, so that a test of the kernels tests them."""

    def refuse(*_: Any) -> None:
        raise AssertionError("float64 was taken")

    monkeypatch.setattr(gpu_plain, "log_masses", refuse)


def pictures(seed: int, *shape: int) -> NDArray[np.uint8]:
    steps = np.random.default_rng(seed).normal(0, 30, shape)
    return (128 + np.cumsum(steps, axis=-1)).clip(0, 255).astype(np.uint8)


def noisy_version(image: NDArray[np.floating], signal: float, sigma: float, seed: int = 0) -> NDArray[np.float64]:
    return signal * image + sigma * np.random.default_rng(seed).normal(size=image.shape)


CASES = [
    (Scale(1), 1, 5, 4),
    (Scale(5), 3, 9, 8),
    (Scale(4), 1, 4, 4),
    (Scale(6, 2), 3, 9, 8),
    (Scale(4, query_stride=3, train_stride=2), 1, 10, 11),
    (Scale(6, 2, query_stride=3), 2, 9, 10),
    (Scale(8, 4), 1, 12, 11),
]


@pytest.mark.usefixtures("by_products")
@pytest.mark.parametrize(("scale", "channels", "height", "width"), CASES)
@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_scores_agree_with_the_reference(scale: Scale, channels: int, height: int, width: int, noise: float) -> None:
    train = to_float(pictures(height * width, 4, channels, height, width))
    noisy = noisy_version(train[2], 0.9, noise)
    options: dict[str, Any] = {"signal": 0.9, "sigma": 0.3, "mask_value": np.inf}
    exact = image_scores(noisy, train, scale, backend="reference", **options)
    scores = image_scores(noisy, train, scale, backend="gpu", **options)
    np.testing.assert_allclose(scores, exact, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("by_products")
def test_much_noise_is_one_part_and_windows_may_come_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_launch, "KEPT_COORDINATES", 16)
    train = to_float(pictures(1, 3, 3, 9, 8))
    for signal, sigma, tolerance in ((0.02, 1.0, 1e-3), (0.9, 0.3, 1e-4)):
        noisy = noisy_version(train[0], signal, sigma)
        options: dict[str, Any] = {"signal": signal, "sigma": sigma, "mask_value": np.inf}
        exact = image_scores(noisy, train, Scale(5), backend="reference", **options)
        scores = image_scores(noisy, train, Scale(5), backend="gpu", **options)
        np.testing.assert_allclose(scores, exact, rtol=tolerance, atol=1e-5)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a kernel that was compiled keeps its axes")
@pytest.mark.usefixtures("by_products")
@pytest.mark.parametrize("kept", [256, 16])
def test_the_axes_of_older_and_newer_versions_of_triton_give_the_same(
    kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels = gpu_launch.import_kernels()
    monkeypatch.setattr(gpu_launch, "KEPT_COORDINATES", kept)  # whole windows, and windows in pieces
    train = to_float(pictures(1, 3, 3, 9, 8))
    found = []
    for last in (False, True):
        monkeypatch.setattr(kernels, "WINDOWS_LAST", type(kernels.FAR)(last))
        noisy = noisy_version(train[0], 0.9, 0.3)
        found.append(image_scores(noisy, train, Scale(5), signal=0.9, sigma=0.3, mask_value=np.inf, backend="gpu"))
    exact = image_scores(noisy, train, Scale(5), signal=0.9, sigma=0.3, mask_value=np.inf, backend="reference")
    np.testing.assert_allclose(found, [exact, exact], rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("by_products")
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")  # a GPU says infinity
def test_a_match_far_better_than_the_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "SAMPLED", (1, 1))
    train = to_float(pictures(2, 2, 3, 9, 9))
    noisy = np.roll(train[1], (3, 2), axis=(1, 2))
    options: dict[str, Any] = {"signal": 1.0, "sigma": 0.05, "mask_value": np.inf}
    exact = image_scores(noisy, train, Scale(5), backend="reference", **options)
    np.testing.assert_allclose(image_scores(noisy, train, Scale(5), backend="gpu", **options), exact, rtol=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {"per_image_topk": 2},
        {"mask_value": 0.5},
        {"mask_value": 10.0},
        {"sigma": 0.01},
        {"mask_value": 0.5, "per_image_topk": 3, "mirror": True},
    ],
)
def test_every_option_agrees_with_the_reference(options: dict[str, Any]) -> None:
    train = to_float(pictures(3, 4, 2, 8, 7))
    noisy = noisy_version(train[1], 0.9, 0.1)
    settings = {"signal": 0.9, "sigma": 0.5, "mask_value": np.inf, **options}
    exact = image_scores(noisy, train, Scale(3), backend="reference", **settings)
    scores = image_scores(noisy, train, Scale(3), backend="gpu", **settings)
    np.testing.assert_allclose(scores, exact, rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("by_products")
@pytest.mark.parametrize("scale", [Scale(5), Scale(6, 2), Scale(4, query_stride=3, train_stride=2), Scale(5, 5)])
@pytest.mark.parametrize("kind", ["halves", "floats", "bytes"])
@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_latents_and_other_floats_are_multiplied_too(scale: Scale, kind: str, noise: float) -> None:
    train = np.cumsum(np.random.default_rng(0).normal(0, 0.7, (4, 3, 9, 8)), axis=3)
    if kind == "bytes":  # fp16 holds no sums of 25 of them; the sums are two parts then
        train = to_float((40 * train + 128).clip(0, 255).astype(np.uint8)).astype(np.float64)
    train = train.astype(np.float16 if kind == "halves" else np.float32).astype(np.float64)
    coded = gpu_numbers.code_images(torch.from_numpy(train).float(), scale)
    assert coded is not None
    single = (kind == "halves" and scale.downscale == 1) or (kind == "bytes" and scale.downscale < 5)
    assert coded[1].parts == (1 if single else 2) and coded[1].whole == (kind == "bytes" and single)
    noisy = noisy_version(train[2], 0.9, noise)
    options: dict[str, Any] = {"signal": 0.9, "sigma": 0.3, "mask_value": np.inf}
    exact = image_scores(noisy, train, scale, backend="reference", **options)
    scores = image_scores(noisy, train, scale, backend="gpu", **options)
    np.testing.assert_allclose(scores, exact, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("shift", [30.0, 3e4])
def test_latents_that_fp16_would_round_too_much_take_float64(shift: float) -> None:
    """Their windows are alike but for a small part of their values."""
    train = shift + np.random.default_rng(0).uniform(-1, 1, (4, 2, 8, 7))
    noisy = noisy_version(train[1], 0.9, 0.1)
    options: dict[str, Any] = {"signal": 0.9, "sigma": 0.3, "mask_value": np.inf}
    exact = image_scores(noisy, train.astype(np.float32), Scale(3), backend="reference", **options)
    scores = image_scores(noisy, train.astype(np.float32), Scale(3), backend="gpu", **options)
    np.testing.assert_allclose(scores, exact, rtol=1e-4)


@pytest.mark.usefixtures("by_products")
@pytest.mark.parametrize("kept", [1 << 30, 0])
def test_views_blocks_and_mirror_images_share_their_softmaxes(monkeypatch: pytest.MonkeyPatch, kept: int) -> None:
    monkeypatch.setattr(posterior, "KEPT_BYTES_OF_A_GPU", kept)
    monkeypatch.setattr(posterior, "BYTES_OF_A_LAUNCH", 1)
    train = to_float(pictures(4, 5, 1, 6, 7))
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
    assert calls[: 2 if kept else 4] == ([(2, 5), (5, 5)] if kept else [(2, 10), (5, 10), (7, 10), (10, 10)])


@pytest.mark.usefixtures("by_products")
def test_totals_of_shards_merge() -> None:
    train = to_float(pictures(5, 4, 2, 8, 7))
    views = views_of([NoisyImage(noisy_version(train[3], 0.9, 0.3), 0.9, 0.3)], [Scale(3)])

    def shard(part: NDArray[np.float32]) -> PosteriorSums:
        return sum_posterior(views, lambda: [part], 2, PosteriorSettings(backend="gpu"), lambda done, total: None)

    shards = [shard(train[:2]), shard(train[2:])]
    whole = nda.exact.merge_log_totals([shard.log_totals[0] for shard in shards])
    scores = np.concatenate([shard.scores([whole]).scores for shard in shards])
    exact = score_views(views, lambda: [train], 4, PosteriorSettings(backend="reference"), lambda done, total: None)
    np.testing.assert_allclose(whole, exact.log_normalisers[0], atol=1e-4)
    np.testing.assert_allclose(scores, exact.scores, rtol=1e-4)


@pytest.mark.parametrize("topk", [None, 2])
@pytest.mark.parametrize("mirror", [False, True])
def test_weights_of_images_outside_are_those_of_the_cpu(topk: int | None, mirror: bool) -> None:
    """Over totals of others, which one of the images is far above."""
    train = pictures(8, 7, 2, 8, 7)
    views = views_of([NoisyImage(0.9 * to_float(train)[6] + 0.02, 0.9, 0.15)], [Scale(3), Scale(4, 2, 0.5)])
    inside = score_views(
        views, lambda: [to_float(train[:4])], 4, PosteriorSettings(backend="cpu"), lambda done, total: None
    )
    weights = [
        posterior.image_weights(
            views, train[4:], PosteriorSettings(per_image_topk=topk, mirror=mirror, backend=backend),
            inside.log_normalisers,
        )
        for backend in ("cpu", "gpu")
    ]  # fmt: skip
    for theirs, ours in zip(*weights, strict=True):
        assert ours.shape == theirs.shape and theirs.max() > 100
        scale = theirs.max(axis=0).clip(1.0)  # the CPU leaves out what is nothing beside an image of the block
        np.testing.assert_allclose(ours / scale, theirs / scale, rtol=1e-3, atol=1e-6)


def test_bytes_and_floats_are_the_same_images() -> None:
    pixels = torch.from_numpy(pictures(6, 3, 2, 7, 6))
    for scale in (Scale(3), Scale(6, 3)):
        images = gpu_numbers.whole_images(pixels, scale)
        assert images is not None and images.dtype == torch.float16
        floats = gpu_numbers.whole_images(torch.from_numpy(to_float(pixels.numpy())), scale)
        assert floats is not None and torch.equal(images, floats)
    assert gpu_numbers.whole_images(pixels, Scale(5, 5)) is None  # sums beyond what fp16 holds


def test_a_mean_takes_its_normalisers_from_the_gpu() -> None:
    train = to_float(pictures(7, 5, 2, 8, 7))
    views = views_of([NoisyImage(0.8 * train[3] + 0.2, 0.8, 0.3)], [Scale(3), Scale(4, 2, 0.5)])
    blocks = [torch.from_numpy(part).to(gpu.DEVICE) for part in (train[:2], train[2:])]
    means = []
    for backend in ("gpu", "cpu"):
        options = PosteriorSettings(mirror=True, backend=backend)
        sums = sum_mean(views, lambda: blocks, 5, options, lambda done, total: None)
        means.append(posterior_mean(sums.pixels(sums.log_totals), [Scale(3), Scale(4, 2, 0.5)])[1])
    np.testing.assert_allclose(means[0], means[1], atol=1e-5)


def test_too_little_memory_halves_blocks_and_then_takes_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    train = pictures(9, 7, 2, 8, 7)
    views = views_of([NoisyImage(0.8 * to_float(train)[3] + 0.2, 0.8, 0.3)], [Scale(3)])
    start, sizes = gpu.start_masses, list[int]()

    def run(most: int) -> ViewScores:
        def short_of_memory(queries: Any, block: torch.Tensor, *rest: Any) -> Any:
            sizes.append(len(block))
            if len(block) > most:
                raise torch.cuda.OutOfMemoryError("no memory")
            return start(queries, block, *rest)

        sizes.clear()
        monkeypatch.setattr(gpu, "start_masses", short_of_memory)
        return score_views(views, lambda: [train], 7, PosteriorSettings(backend="gpu"), lambda done, total: None)

    monkeypatch.setattr(posterior, "FEWEST_IMAGES", 2)
    whole = run(7)
    assert whole.backend == "gpu" and sizes == [7]
    for most, backend, tried in ((2, "gpu", [7, 4, 2, 2, 3, 2, 1]), (1, "cpu and gpu", [7, 4, 2, 2, 3, 2, 1])):
        result = run(most)
        assert result.backend == backend and sizes == tried
        np.testing.assert_allclose(result.scores, whole.scores, rtol=1e-4)


def test_auto_takes_the_gpu_where_there_is_one() -> None:
    train = to_float(pictures(8, 3, 1, 6, 6))

    def backend(**options: Any) -> str:
        views = views_of([NoisyImage(train[0], 1.0, 0.3)], [Scale(3)])
        return score_views(views, lambda: [train], 3, PosteriorSettings(**options), lambda done, total: None).backend

    assert backend() == "gpu" and backend(per_image_topk=2) == "gpu" and backend(backend="cpu") == "cpu"


def test_without_a_device_the_gpu_is_refused(monkeypatch: pytest.MonkeyPatch, index: nda.Index) -> None:
    monkeypatch.setattr(gpu, "available", lambda: False)
    train = np.zeros((2, 1, 6, 6))
    with pytest.raises(ConfigError, match="no CUDA device"):
        image_scores(train[0], train, Scale(3), signal=1.0, sigma=0.5, backend="gpu")
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(ConfigError, match="no CUDA device"):
        nda.open_index(index.path, device="cuda")


@settings(max_examples=60, deadline=None)
@given(
    taps=st.integers(1, 8),
    downscale=st.sampled_from([1, 2, 3]),
    extra=st.tuples(st.integers(0, 20), st.integers(0, 9)),
    strides=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    tiles=st.tuples(st.sampled_from([16, 64]), st.sampled_from([16, 32])),
)
def test_tiles_hold_every_planned_pair_once(
    taps: int, downscale: int, extra: tuple[int, int], strides: tuple[int, int], tiles: tuple[int, int]
) -> None:
    scale = Scale(taps * downscale, downscale, 1.0, *strides)
    height, width = scale.patch + extra[0], scale.patch + extra[1]
    plan = pair_plan(height, width, scale, matching_overhang=True)
    rows, columns = (
        [(p // strides[0], (p + d) // strides[1]) for d, first, end, step in axis for p in range(first, end, step)]
        for axis in (plan.rows.tolist(), plan.columns.tolist())
    )
    planned = {
        (y * plan.query_shape[1] + x, v * plan.train_shape[1] + u) for y, v in rows for x, u in columns
    }  # an image's windows of equal overhang
    tiling = tile_windows(height, width, scale, *tiles)
    query, train = tiling.query, tiling.train
    for side, shape in ((query, plan.query_shape), (train, plan.train_shape)):
        held = side.positions[side.positions >= 0]
        assert sorted(held.tolist()) == list(range(shape[0] * shape[1]))
        assert ((side.positions < 0) == (side.classes < 0)).all()
        assert (side.classes[: side.inside * side.tile] <= 0).all() and (
            side.classes[side.inside * side.tile :] != 0
        ).all()
    met: Counter[tuple[int, int]] = Counter()
    for t in range(train.tiles):
        here = slice(tiling.first[t] * query.tile, tiling.last[t] * query.tile)
        there = slice(t * train.tile, (t + 1) * train.tile)
        same = query.classes[here, None] == train.classes[there]
        masked = t >= train.inside
        counts = same if masked else (query.positions[here, None] >= 0) & (train.positions[there] >= 0)
        if not masked:  # the kernel takes no mask there
            assert tiling.last[t] <= query.inside
        for i, j in np.argwhere(counts):
            met[(int(query.positions[here][i]), int(train.positions[there][j]))] += 1
    assert set(met) == planned and set(met.values()) <= {1}
    assert (tiling.possible == np.isin(query.positions, [p for p, _ in planned])).all()

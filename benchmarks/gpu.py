"""The GPU backend on one card: checked against float64, then timed, without an index.

    python -m benchmarks.gpu              # under two minutes on a fresh card, kernels compiled
    python -m benchmarks.gpu --quick      # the targets alone
    python -m benchmarks.gpu --tiny       # every section at tiny sizes, on the CPU by Triton's interpreter
    python -m benchmarks.gpu --sweep --tiles 64x64,64x128 --warps 4,8 --stages 1,2 --registers 0,128

Kernels of a sweep compile side by side in processes of their own, each with --images 64 --share I/N, into one cache.

Needs torch, Triton and NumPy, and this checkout; neither LanceDB nor FAISS. Prints a table, and writes gpu.json to the
folder $OUT, or to --out. A section that fails prints its error, and the others go on.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import sys
import time
import traceback
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
if "nda_index" not in sys.modules:
    for name in ("nda_index", "nda_index.exact"):  # modules without what their packages import, LanceDB among it
        bare = types.ModuleType(name)
        bare.__path__ = [str(Path(__file__).parents[1].joinpath(*name.split(".")))]
        sys.modules[name] = bare

from nda_index.diffusion import NoisyImage, noisy_images
from nda_index.exact import gpu, gpu_plain, reference
from nda_index.exact.gpu_numbers import whole_images
from nda_index.exact.views import View, views_of_recipe
from nda_index.recipe import DEFAULT, Recipe, as_recipe
from nda_index.scales import Scale, parse_scale

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
TARGETS = {"7 clean": 30.0, "7 noisy": 45.0, "14/2 clean": 20.0, "1500 images, two terms": 3.0, "16 draws": 500.0}


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    images: int = 50_000
    shortlist: int = 1_500
    size: int = 32
    channels: int = 3
    draws: int = 16
    checked: int = 24
    published: int = 2_000
    coarse: int = 1_000_000
    coarse_query: int = 1_024
    large: tuple[tuple[int, int, int], ...] = ((64, 1, 2_000), (64, 2, 10_000), (128, 2, 500))
    matmul: int = 8_192
    scales: tuple[str, ...] = ("7", "14/2")
    repeats: int = 5


TINY = Sizes(3, 2, 10, 1, 2, 2, 3, 4, 32, ((8, 2, 2),), 64, ("3", "4/2"), 1)


@dataclass
class Report:
    """What was measured, and until when a section may begin."""

    deadline: float
    rows: list[dict[str, Any]] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, **values: Any) -> None:
        """Keep a row, and print it."""
        self.rows.append({"name": name, **values})
        shown = ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in values.items())
        print(f"{name:<42} {shown}", flush=True)

    def section(self, name: str, work: Callable[[], None]) -> None:
        """Do some work; print its error where it fails, and leave it out where the time is over."""
        if time.monotonic() > self.deadline:
            self.errors[name] = "left out: the time is over"
            print(f"{name}: left out, the time is over", flush=True)
            return
        begin = time.monotonic()
        try:
            work()
        except Exception as error:
            self.errors[name] = f"{type(error).__name__}: {error}"
            print(f"{name} FAILED: {self.errors[name][:500]}", flush=True)
            traceback.print_exc(limit=-4)
        if DEVICE.type == "cuda":
            torch.cuda.empty_cache()
        print(f"  [{name}: {time.monotonic() - begin:.1f} s]", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Check, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="the targets alone, in 40 s")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, for the interpreter")
    parser.add_argument("--sweep", action="store_true", help="time tiles x warps x stages, and nothing else")
    parser.add_argument("--tiles", default="64x64", help="QUERYxTRAIN windows of a tile; several with --sweep")
    parser.add_argument("--warps", default="4", help="of a program; several with --sweep")
    parser.add_argument("--stages", default="2", help="tiles fetched ahead; several with --sweep")
    parser.add_argument("--registers", default="0", help="of a thread at most, 0 for any; several with --sweep")
    parser.add_argument("--rows", default="", help="with --sweep: some of the rows, as '7 clean,14/2 noisy'")
    parser.add_argument("--images", type=int, help="instead of 50,000")
    parser.add_argument("--share", default="0/1", help="with --sweep: I/N, every N-th tuning from the I-th on")
    parser.add_argument("--seconds", type=float, help="begin no section after so many seconds")
    parser.add_argument("--out", default=os.environ.get("OUT"), help="folder for gpu.json")
    options = parser.parse_args(arguments)
    sizes = TINY if options.tiny else Sizes()
    tunings = read_tunings(
        options.tiles if not options.tiny else "32x32", options.warps, options.stages, options.registers
    )
    sizes = replace(sizes, images=options.images or sizes.images)
    share, shares = map(int, options.share.split("/"))
    tunings = tunings[share::shares]
    report = Report(time.monotonic() + (options.seconds or (34.0 if options.quick else 105.0)))
    print(f"{describe_device()}, torch {torch.__version__}, {tunings[0] if not options.sweep else len(tunings)}")
    pictures = make_pictures(sizes.images + 1, sizes.channels, sizes.size)
    train, query = pictures[:-1], pictures[-1].cpu().numpy()
    if options.sweep:
        report.section("sweep", lambda: sweep_tunings(report, sizes, train, query, tunings, options.rows))
    else:
        measure(report, sizes, train, query, tunings[0], options.quick)
    print_table(report)
    if options.out:
        text = json.dumps({"device": describe_device(), "rows": report.rows, "errors": report.errors}, indent=1)
        Path(options.out).mkdir(parents=True, exist_ok=True)
        Path(options.out, "gpu.json").write_text(text + "\n")
    return 1 if report.errors else 0


def measure(report: Report, sizes: Sizes, train: Tensor, query: Any, tuning: gpu.Tuning, quick: bool) -> None:
    """Run the sections, the targets first."""
    run = report.section
    run("products", lambda: time_products(report, sizes))
    run("check", lambda: check(report, sizes, train, query, tuning, sizes.scales))
    run("exact", lambda: time_exact(report, sizes, train, query, tuning))
    run("shortlist", lambda: time_shortlist(report, sizes, train, query, tuning))
    run("draws", lambda: time_draws(report, sizes, train, query, tuning))
    if not quick:
        run("published", lambda: time_published(report, sizes, train, query, tuning))
        run("coarse", lambda: time_coarse(report, sizes))
        run("large", lambda: time_large(report, sizes, tuning))
        run("float64", lambda: time_float64(report, sizes, train, query))
        run("faiss", lambda: time_faiss(report, sizes))
        others = ("3", "4", "20") if sizes.size > 20 else ("6",)
        run("check other patches", lambda: check(report, sizes, train, query, tuning, others))


def time_products(report: Report, sizes: Sizes) -> None:
    """Time a plain product of fp16 matrices: what the card can do."""
    a = torch.randn(sizes.matmul, sizes.matmul, device=DEVICE).half()
    seconds = time_it(lambda: a @ a, 5)
    report.add("plain fp16 product", ms=seconds * 1e3, tflops=2 * sizes.matmul**3 / seconds / 1e12)


def check(report: Report, sizes: Sizes, train: Tensor, query: Any, tuning: gpu.Tuning, names: Sequence[str]) -> None:
    """Compare scores of a few images with float64; and float64 on the device with the definition, of one image."""
    some = train[: sizes.checked]
    for name in names:
        scale = parse_scale(name)
        for timestep in (20, 100, 400) if sizes.size > 20 else (100, 400):
            for noise in ("none", "draw"):
                noisy = view(query, timestep, noise)
                masses = gpu.block_masses([noisy], some, scale, tuning=tuning)[0]
                ours = masses.scores(masses.log_total)
                total, _ = gpu_plain.log_masses(noisy, to_unit(some), scale, np.inf, None, 1 << 30)
                exact = (total - total.logsumexp(dim=0)).exp().sum(dim=1).cpu().numpy()
                error = float((np.abs(ours - exact) / np.maximum(exact, 1.0)).max())
                by = "products" if masses.total.dtype == torch.float32 else "float64"
                report.add(f"check {name} t={timestep} {noise}", error=error, by=by)
                if error > 2e-3:
                    report.errors[f"check {name} t={timestep} {noise}"] = f"the error is {error:.2g}"
    noisy, scale = view(query, 100, "draw"), parse_scale(sizes.scales[0])
    one = to_unit(some[:1])
    total, _ = gpu_plain.log_masses(noisy, one, scale, np.inf, None, 1 << 30)
    images = (one.cpu().double() * noisy.signal, torch.from_numpy(noisy.pixels).double())
    defined, _ = reference.log_masses(images[1], images[0], scale, sigma=noisy.sigma, mask_value=np.inf)
    report.add("check float64 on the device", error=float((total.cpu() - defined).abs().max()))


def time_exact(report: Report, sizes: Sizes, train: Tensor, query: Any, tuning: gpu.Tuning) -> None:
    """Time one question over all images: pixels (bytes on the device) to scores, and the product alone."""
    for name in sizes.scales:
        scale = parse_scale(name)
        for label, noise in (("clean", "none"), ("noisy", "draw")):
            noisy = view(query, 100, noise)
            seconds = time_it(partial(question, train, [(scale, [noisy])], tuning), sizes.repeats)
            report.add(f"{name} {label}, {len(train)} images", ms=seconds * 1e3, target=TARGETS.get(f"{name} {label}"))
            time_sweep(report, sizes, train, scale, noisy, tuning, f"{name} {label}")


def time_sweep(
    report: Report, sizes: Sizes, train: Tensor, scale: Scale, noisy: NoisyImage, tuning: gpu.Tuning, name: str
) -> None:
    """Time the parts of a question."""
    images = whole_images(train, scale)
    prepared = gpu.prepare([noisy], scale, DEVICE, tuning)
    if images is None or not prepared:
        report.add(f"  {name}: float64")
        return
    sweep = prepared[0][0]
    first = gpu.sweep_masses(sweep, images)[0]
    floors = [first.log_total]
    kernel = time_it(lambda: gpu.sweep_masses(sweep, images, floors), sizes.repeats)
    parts = {
        "convert": time_it(lambda: whole_images(train, scale), 3),
        "prepare": time_it(lambda: gpu.prepare([noisy], scale, DEVICE, tuning), 3),
        "score": time_it(lambda: first.scores(floors[0]), 3),
    }
    low = 1 + bool(sweep.numbers.needs_low.any())
    padded = sweep.tiling.pairs * sweep.numbers.high.shape[2]
    count = train.shape[1] * scale.taps**2
    useful = sum((sweep.tiling.query.classes == c).sum() * n for c, n in classes_of(sweep.tiling.train.classes)) * count
    report.add(
        f"  {name}: product", ms=kernel * 1e3, tflops=2e-12 * len(train) * low * padded / kernel,
        useful_tflops=2e-12 * len(train) * low * float(useful) / kernel,
        **{key: value * 1e3 for key, value in parts.items()},
    )  # fmt: skip


def time_shortlist(report: Report, sizes: Sizes, train: Tensor, query: Any, tuning: gpu.Tuning) -> None:
    """Time two terms over a shortlist."""
    terms = [(parse_scale(name), [view(query, 100, "draw")]) for name in sizes.scales]
    some = train[: sizes.shortlist].clone()
    seconds = time_it(lambda: question(some, terms, tuning), 3 * sizes.repeats)
    report.add(f"{len(some)} images, two terms", ms=seconds * 1e3, target=TARGETS["1500 images, two terms"])


def time_draws(report: Report, sizes: Sizes, train: Tensor, query: Any, tuning: gpu.Tuning) -> None:
    """Time the default recipe with more draws over all images."""
    recipe = Recipe(tuple(replace(term, draws=sizes.draws if term.draws else 0) for term in DEFAULT.terms))
    for name, some in ((f"{sizes.draws} draws", recipe), ("the recipe as it is", as_recipe("models"))):
        terms = group_views(views_of_recipe(some, query, 0))
        seconds = time_it(partial(question, train, terms, tuning), min(3, sizes.repeats))
        report.add(f"{name}, {len(train)} images", ms=seconds * 1e3, target=TARGETS.get(name))


def time_published(report: Report, sizes: Sizes, train: Tensor, query: Any, tuning: gpu.Tuning) -> None:
    """Time the published formulation on some images, and ours on as many and on all, by image."""
    some = train[: sizes.published]
    for name in sizes.scales:
        noisy, scale = view(query, 100, "draw"), parse_scale(name)
        theirs = time_it(partial(published, noisy, some, scale), 3) / len(some)
        ours = time_it(partial(question, some, [(scale, [noisy])], tuning), 3) / len(some)
        whole = time_it(partial(question, train, [(scale, [noisy])], tuning), 3) / len(train)
        report.add(
            f"published, {name}, {len(some)} images",
            us_an_image=theirs * 1e6, ours=ours * 1e6, ours_of_all=whole * 1e6, ratio=theirs / whole,
        )  # fmt: skip


def published(noisy: NoisyImage, train: Tensor, scale: Scale) -> Tensor:
    """Score as the paper's code (arXiv 2510.14269) does: query patches as kernels, all weights in memory."""
    k, r = scale.patch, scale.downscale
    images = F.pad(to_unit(train) * noisy.signal, (scale.padding,) * 4, value=10.0)  # [N, C, H + 2 pad, W + 2 pad]
    query = F.pad(torch.from_numpy(noisy.pixels).float().to(DEVICE)[None], (scale.padding,) * 4, value=10.0)
    patches = F.unfold(query, k)[0].T.reshape(-1, images.shape[1], k, k)  # [P, C, k, k]
    means = F.avg_pool2d(patches, r)  # [P, C, k / r, k / r]
    kernels = means.repeat_interleave(r, dim=2).repeat_interleave(r, dim=3)  # [P, C, k, k]
    projected = F.avg_pool2d(images, r, stride=1) * r  # [N, C, H', W']
    ones = torch.ones(1, images.shape[1], scale.taps, scale.taps, device=DEVICE)
    norms = F.conv2d(projected.square(), ones, dilation=r)[:, 0]  # [N, rows, columns]
    parts = []
    for batch, mean in zip(torch.split(kernels, 64), torch.split(means, 64), strict=True):
        products = F.conv2d(images, batch)  # [N, 64, rows, columns]
        squares = (mean * r).square().sum(dim=(1, 2, 3))  # [64]
        distance = (squares[:, None, None, None] + norms[None] - 2 * products.permute(1, 0, 2, 3)).clamp(min=0)
        weights = torch.softmax((-distance / (2 * noisy.sigma**2)).flatten(1), dim=1)  # [64, N rows columns]
        parts.append(weights.view(len(batch), *norms.shape).sum(dim=(2, 3)))  # [64, N]
    return torch.cat(parts).sum(dim=0)  # [N]


def time_coarse(report: Report, sizes: Sizes) -> None:
    """Time a flat pass over 64 short vectors of each of many images."""
    from benchmarks import gpu_coarse

    tile = min(64, sizes.coarse_query)
    vectors = torch.empty(sizes.coarse, 64, 32, dtype=torch.float16, device=DEVICE).normal_()
    query = torch.randn(sizes.coarse_query, 32, device=DEVICE).half()
    norms = query.float().square().sum(dim=1)  # [Q]
    out, near = torch.empty(sizes.coarse, device=DEVICE), torch.zeros(sizes.coarse_query, device=DEVICE)

    def run() -> None:
        each = max(1, sizes.coarse // 20_000)
        gpu_coarse.flat_pass[(-(-sizes.coarse // each),)](
            vectors, query, norms, near, out, 0.05, sizes.coarse_query // tile, each, sizes.coarse,
            COORDINATES=32, WINDOWS=64, TILE=tile, num_warps=4, num_stages=2,
        )  # fmt: skip

    seconds = time_it(run, sizes.repeats)
    there = vectors[:2].double()  # [2, 64, K]
    exact = (2.0 ** (-0.05 * torch.cdist(query.double()[None], there).square())).sum(dim=(1, 2))  # [2]
    error = float((out[:2].double() / exact - 1).abs().max())
    flops = 2 * sizes.coarse * 64 * sizes.coarse_query * 32
    report.add(f"flat coarse pass, {sizes.coarse} images", ms=seconds * 1e3, tflops=flops / seconds / 1e12, error=error)


def time_large(report: Report, sizes: Sizes, tuning: gpu.Tuning) -> None:
    """Time larger images."""
    for size, stride, count in sizes.large:
        pictures = make_pictures(count + 1, sizes.channels, size)
        noisy = view(pictures[-1].cpu().numpy(), 100, "draw")
        scale = Scale(parse_scale(sizes.scales[0]).patch, query_stride=stride, train_stride=stride)
        seconds = time_it(partial(question, pictures[:-1], [(scale, [noisy])], tuning), 2)
        name = f"{size} x {size}, patch {scale.patch}, stride {stride}, {count} images"
        report.add(name, ms=seconds * 1e3, us_an_image=seconds / count * 1e6)


def time_float64(report: Report, sizes: Sizes, train: Tensor, query: Any) -> None:
    """Time the path without kernels."""
    some, scale = train[: sizes.shortlist], parse_scale(sizes.scales[0])
    noisy = view(query, 2, "draw")
    seconds = time_it(lambda: question(some, [(scale, [noisy])], gpu.TUNING), 1)
    report.add(f"float64, t=2, {len(some)} images", ms=seconds * 1e3, us_an_image=seconds / len(some) * 1e6)
    seconds = time_it(lambda: gpu.block_masses([noisy], some, scale, per_image_topk=4), 1)
    report.add(f"float64, 4 best windows, {len(some)} images", ms=seconds * 1e3, us_an_image=seconds / len(some) * 1e6)


def time_faiss(report: Report, sizes: Sizes) -> None:
    """Time the search of FAISS's lists on the card, where it is installed."""
    if importlib.util.find_spec("faiss") is None:
        print("faiss: not installed, left out")
        return
    faiss: Any = importlib.import_module("faiss")

    if not hasattr(faiss, "StandardGpuResources"):
        print("faiss: without GPU support, left out")
        return
    count, width, lists = min(sizes.coarse * 4, 4_000_000), 28, 4_096 if sizes.coarse > 1_000 else 4
    vectors = np.random.default_rng(0).normal(size=(count, width)).astype(np.float32)
    settings = faiss.GpuIndexIVFScalarQuantizerConfig()
    index = faiss.GpuIndexIVFScalarQuantizer(
        faiss.StandardGpuResources(), width, lists, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_L2, True, settings
    )
    begin = time.perf_counter()
    index.train(vectors[: lists * 64])
    index.add(vectors)
    report.add(f"faiss: train and add {count}", ms=(time.perf_counter() - begin) * 1e3)
    index.nprobe = 32
    for k in (256, 512):
        seconds = time_it(partial(index.search, vectors[: sizes.coarse_query], k), 3)
        report.add(f"faiss: {sizes.coarse_query} windows, 32 cells, {k} best", ms=seconds * 1e3)


def sweep_tunings(
    report: Report, sizes: Sizes, train: Tensor, query: Any, tunings: Sequence[gpu.Tuning], rows: str
) -> None:
    """Time the product alone for every tuning."""
    for name in sizes.scales:
        scale = parse_scale(name)
        images = whole_images(train, scale)
        for label, noise in (("clean", "none"), ("noisy", "draw")):
            if images is None or (rows and f"{name} {label}" not in rows.split(",")):
                continue
            noisy = view(query, 100, noise)
            floors: list[Any] = []
            for tuning in tunings:
                if time.monotonic() > report.deadline:
                    print("the time is over")
                    return
                row = f"{name} {label} {tuning.query_tile}x{tuning.train_tile}"
                row += f" {tuning.warps} warps {tuning.stages} stages {tuning.registers} registers"
                try:
                    sweep = gpu.prepare([noisy], scale, DEVICE, tuning)[0][0]
                    floors = floors or [gpu.sweep_masses(sweep, images)[0].log_total]
                    seconds = time_it(partial(gpu.sweep_masses, sweep, images, floors), sizes.repeats)
                except Exception as error:
                    report.errors[row] = f"{type(error).__name__}: {error}"
                    print(f"{row}: {report.errors[row][:200]}", flush=True)
                    continue
                flops = 2e-12 * len(train) * sweep.tiling.pairs * sweep.numbers.high.shape[2]
                flops *= 1 + bool(sweep.numbers.needs_low.any())
                report.add(row, ms=seconds * 1e3, tflops=flops / seconds)


def question(train: Tensor, terms: Sequence[tuple[Scale, list[NoisyImage]]], tuning: gpu.Tuning) -> Any:
    """Answer a question over images on the device: their scores, float64 [N]."""
    total = np.zeros(len(train))
    for scale, queries in terms:
        for masses in gpu.block_masses(queries, train, scale, tuning=tuning):
            total += masses.scores(masses.log_total)
    return total


def group_views(views: Sequence[View]) -> list[tuple[Scale, list[NoisyImage]]]:
    """Put the noisy images of a scale together."""
    scales = dict.fromkeys(view.scale for view in views)
    return [(scale, [view.noisy for view in views if view.scale == scale]) for scale in scales]


def view(query: Any, timestep: int, noise: Any) -> NoisyImage:
    """Return the noisy version of a picture, uint8 [C, H, W]."""
    return noisy_images((query / np.float32(127.5) - 1).astype(np.float32), timestep, noise)[0]


def classes_of(classes: Any) -> list[tuple[int, int]]:
    """Count the windows of each class."""
    values, counts = np.unique(classes[classes >= 0], return_counts=True)
    return list(zip(values.tolist(), counts.tolist(), strict=True))


def make_pictures(count: int, channels: int, size: int) -> Tensor:
    """Make pictures whose neighbouring pixels are alike, uint8 [count, channels, size, size] on the device."""
    generator = torch.Generator(device=DEVICE).manual_seed(0)
    parts = []
    for some in torch.split(torch.arange(count), 8192):
        total = torch.full((len(some), channels, size, size), 120.0, device=DEVICE)
        for cells, height in ((2, 45.0), (4, 30.0), (8, 20.0), (size, 6.0)):
            noise = torch.randn(len(some), channels, cells, cells, device=DEVICE, generator=generator) * height
            total += F.interpolate(noise, size=(size, size), mode="bilinear", align_corners=False)
        parts.append(total.clamp(0, 255).to(torch.uint8))
    return torch.cat(parts)


def to_unit(train: Tensor) -> Tensor:
    """Return bytes as floats in [-1, 1]."""
    return train.float() / 127.5 - 1.0


def time_it(work: Callable[[], Any], repeats: int) -> float:
    """Return the median of some runs in seconds, after one that compiles."""
    if DEVICE.type == "cuda":
        work()
    seconds = []
    for _ in range(repeats):
        wait()
        begin = time.perf_counter()
        work()
        wait()
        seconds.append(time.perf_counter() - begin)
    return median(seconds)


def wait() -> None:
    """Wait for the device."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def read_tunings(tiles: str, warps: str, stages: str, registers: str) -> list[gpu.Tuning]:
    """Return all combinations.

    Example:
        >>> [tuning.train_tile for tuning in read_tunings("64x64,64x128", "4", "2", "0")]
        [64, 128]
    """
    shapes = [tuple(map(int, tile.split("x"))) for tile in tiles.split(",")]
    return [
        gpu.Tuning(query_tile, train_tile, w, s, r)
        for query_tile, train_tile in shapes
        for w in map(int, warps.split(","))
        for s in map(int, stages.split(","))
        for r in map(int, registers.split(","))
    ]


def describe_device() -> str:
    """Name the card."""
    return torch.cuda.get_device_name() if DEVICE.type == "cuda" else "CPU, by Triton's interpreter"


def print_table(report: Report) -> None:
    """Print the rows that have a time, and what failed."""
    print(f"\n{'':<44}{'ms':>10}{'target':>8}{'TFLOP/s':>9}")
    for row in report.rows:
        if "ms" in row:
            target, tflops = row.get("target"), row.get("tflops")
            print(f"{row['name']:<44}{row['ms']:>10.3f}{target or '':>8}{f'{tflops:.0f}' if tflops else '':>9}")
    for name, error in report.errors.items():
        print(f"{name}: {error[:300]}")


if __name__ == "__main__":
    sys.exit(main())

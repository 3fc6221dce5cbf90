"""The exact stage against the published formulation, KeOps and FAISS; its errors, its growth, the machine's ceilings.

    python -m benchmarks.exact

Reads ../shared (CIFAR-10, Tiny ImageNet, the published scores); writes benchmarks/results/exact.md, .json and .png. The
optional comparisons need `pip install --group bench`. Takes about a quarter of an hour on two cores.
"""

from __future__ import annotations

import ast
import io
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import numba
import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console

from benchmarks.ceilings import ceilings
from benchmarks.machine import RESULTS, SHARED, describe_machine
from benchmarks.published import faiss_neighbours, keops_scores, published_scores
from benchmarks.roofline import pairs_of_an_image, roofline
from nda_index import Scale
from nda_index.diffusion import NoisyImage, noisy_images
from nda_index.exact import image_scores
from nda_index.exact.posterior import PosteriorSettings, score_views
from nda_index.exact.views import views_of
from nda_index.images import to_float
from nda_index.scales import parse_scale

TIMESTEP = 100
SCALES = {name: [parse_scale(part) for part in name.split("+")] for name in ("3", "7", "15", "14/2", "7+14/2")}
STRIDED = [Scale(7, query_stride=4, train_stride=4)]

console = Console(width=200)


def main() -> None:
    """Measure, then write."""
    results: dict[str, Any] = {"machine": describe_machine(), "torch": torch.__version__}
    results["errors"] = measure_errors() + measure_hard_cases()
    results["ceilings"] = {threads: ceilings(threads) for threads in (1, 2)}
    results["growth"] = measure_growth()
    results["others"] = measure_others()
    results["variants"] = measure_variants()
    results["speed"] = measure_speed()
    results["roofline"] = roofline(results)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "exact.json").write_text(json.dumps(results, indent=1) + "\n")
    (RESULTS / "exact.md").write_text(as_markdown(results))
    draw_growth(results)


def measure_speed() -> list[dict[str, Any]]:
    """Ours and the published formulation, alternating in one run."""
    cases = [(name, 32, 64, threads, 5) for name in SCALES for threads in (1, 2)]
    cases += [(name, 32, 1000, 2, 3) for name in SCALES]
    cases += [(name, 32, 5000, 2, 1) for name in ("7", "14/2")]
    cases += [("7", 64, 64, 2, 1), ("7 strided", 128, 64, 2, 3), ("7 strided", 128, 1000, 2, 1)]
    rows = []
    for name, size, count, threads, repeats in cases:
        scales = STRIDED if name.endswith("strided") else SCALES[name]
        query, train = pictures(size, count)
        seconds = alternate(
            {"ours": partial(our_scores, query, train, scales), "published": partial(both, query, train, scales)},
            repeats,
            threads,
        )
        row = {"scale": name, "size": size, "images": count, "threads": threads, "repeats": repeats}
        row |= {key: value / count * 1e3 for key, value in seconds.items()}
        row["ratio"] = seconds["published"] / seconds["ours"]
        rows.append(row)
        console.print(row)
    return rows


def measure_others() -> list[dict[str, Any]]:
    """KeOps and FAISS's exact search over the same patches, 64 images."""
    rows = []
    query, train = pictures(32, 64)
    for name in ("3", "7", "14/2"):
        for other in (keops_scores, faiss_neighbours):
            scale = SCALES[name][0]
            try:
                seconds = alternate(
                    {"ours": partial(our_scores, query, train, [scale]), "other": partial(other, query, train, scale)},
                    3,
                    2,
                )
            except ImportError as error:
                console.print(f"{other.__name__} is left out: {error}")
                continue
            ours, theirs = (seconds[key] / 64 * 1e3 for key in ("ours", "other"))
            rows.append(
                {"scale": name, "other": other.__name__, "ours": ours, "theirs": theirs, "ratio": theirs / ours}
            )
            console.print(rows[-1])
    return rows


def measure_variants() -> list[dict[str, Any]]:
    """Patch 7, 1,000 images: eight draws in one call, the K best windows of an image, and timesteps."""
    _, train = pictures(32, 1000)
    clean = to_float(np.asarray(test_image().resize((32, 32))).transpose(2, 0, 1))
    rows = []
    for name, timestep, settings in (
        ("t=20", 20, {}),
        ("t=100", 100, {}),
        ("t=400", 400, {}),
        ("8 draws in one call, each", 100, {}),
        ("per_image_topk=1", 100, {"per_image_topk": 1}),
        ("per_image_topk=10", 100, {"per_image_topk": 10}),
        ("per_image_topk=100", 100, {"per_image_topk": 100}),
        ("mirror images too", 100, {"mirror": True}),
    ):
        draws = 8 if name.startswith("8") else 1
        queries = [noisy_images(clean, timestep, seed=seed)[0] for seed in range(draws)]
        views = views_of(queries, SCALES["7"])
        chosen = PosteriorSettings(backend="cpu", **settings)
        call = partial(score_views, views, lambda: [train], len(train), chosen, lambda done, total: None)
        rows.append({"variant": name, "ours": alternate({"ours": call}, 3, 2)["ours"] / len(train) / draws * 1e3})
        console.print(rows[-1])
    return rows


def test_image() -> Image.Image:
    """A CIFAR-10 test image."""
    table = pq.read_table(SHARED / "data" / "cifar10_test.parquet", columns=["image"])["image"]
    return Image.open(io.BytesIO(table[3].as_py()["bytes"])).convert("RGB")


def alternate(functions: dict[str, Callable[[], Any]], repeats: int, threads: int) -> dict[str, float]:
    """Median seconds of each, called in turns after one call to warm up (none where there is only one repeat)."""
    available = numba.get_num_threads()
    numba.set_num_threads(threads)
    torch.set_num_threads(threads)
    times: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(repeats + (repeats > 1)):
        for name, function in functions.items():
            time.sleep(0.1)  # the other's threads spin on for a while, waiting for more work
            start = time.perf_counter()
            function()
            if turn > 0 or repeats == 1:
                times[name].append(time.perf_counter() - start)
    numba.set_num_threads(available)
    return {name: median(values) for name, values in times.items()}


def our_scores(query: NoisyImage, train: NDArray[np.float32], scales: list[Scale]) -> NDArray[np.float64]:
    """All scales in one call, the normaliser included."""
    views = views_of([query], scales)
    return score_views(
        views, lambda: [train], len(train), PosteriorSettings(backend="cpu"), lambda done, total: None
    ).scores


def both(query: NoisyImage, train: NDArray[np.float32], scales: list[Scale]) -> NDArray[np.floating]:
    """The published scores summed over scales."""
    return np.asarray(sum(published_scores(query, train, scale) for scale in scales))


def pictures(size: int, count: int) -> tuple[NoisyImage, NDArray[np.float32]]:
    """A noisy test image, and training images: CIFAR-10, Tiny ImageNet, or the latter enlarged to 128 pixels."""
    name = "cifar10" if size == 32 else "tinyimagenet50"
    parts = []
    for part, rows in (("test" if size == 32 else "val", 1), ("train", count)):
        table = pq.read_table(SHARED / "data" / f"{name}_{part}.parquet", columns=["image"])["image"].slice(0, rows)
        files = [row["bytes"] if isinstance(row, dict) else row for row in table.to_pylist()]
        decoded = [Image.open(io.BytesIO(file)).convert("RGB").resize((size, size)) for file in files]
        parts.append(to_float(np.stack([np.asarray(image) for image in decoded]).transpose(0, 3, 1, 2)))
    return noisy_images(parts[0][0], TIMESTEP)[0], parts[1]


def measure_errors() -> list[dict[str, Any]]:
    """Every published case: largest errors against the published code in float64, of ours and of its own float32."""
    rows = []
    for name in ("cifar", "gray"):
        archive = np.load(SHARED / "reference" / f"nda_reference_{name}.npz")
        if "train" in archive:
            train, queries = archive["train"], archive["query"]
        if name == "cifar":
            train, queries = (to_float(archive[f"{part}_uint8"].transpose(0, 3, 1, 2)) for part in ("train", "query"))
        for number, text in enumerate(archive["cases"]):
            kind, patch, timestep, topk, mask = ast.literal_eval(str(text))
            worst: dict[str, float] = {"ours": 0.0, "relative": 0.0, "published": 0.0}
            for q in (0, 1):
                noisy = noisy_images(queries[q], timestep)[0]
                scores = image_scores(
                    noisy.pixels, train, Scale(patch, 2 if kind == "down" else 1), signal=noisy.signal,
                    sigma=noisy.sigma, mask_value=mask, per_image_topk=None if topk == -1 else topk, backend="cpu",
                )  # fmt: skip
                exact = archive[f"score_{number}_q{q}_f64"]
                large = exact > 1e-3
                relative = np.abs(scores - exact)[large] / exact[large]
                worst["ours"] = max(worst["ours"], float(np.abs(scores - exact).max()))
                worst["relative"] = max(worst["relative"], float(relative.max()))
                published = float(np.abs(archive[f"score_{number}_q{q}_f32"] - exact).max())
                worst["published"] = max(worst["published"], published)
            rows.append({"case": f"{name} {text}", **worst})
    return rows


def measure_hard_cases() -> list[dict[str, Any]]:
    """Against our float64 reference: the ends of the schedule, equal images, single images and positions."""
    rng = np.random.default_rng(0)
    smooth = np.clip(np.cumsum(rng.normal(0, 0.3, (24, 3, 16, 16)), axis=-1), -1, 1)
    cases: dict[str, tuple[Any, Scale, int, float]] = {
        "t=0": (smooth, Scale(7), 0, np.inf),
        "t=999": (smooth, Scale(7), 999, np.inf),
        "mask 1000, t=0": (smooth, Scale(5), 0, 1e3),
        "mask 1000, t=500": (smooth, Scale(6, 2), 500, 1e3),
        "mask 1 (borders matter)": (smooth, Scale(7), 100, 1.0),
        "constant images": (np.repeat(rng.uniform(-1, 1, (24, 3, 1, 1)), 16, 2).repeat(16, 3), Scale(7), 50, np.inf),
        "identical images": (np.repeat(smooth[:1], 24, axis=0), Scale(7), 20, np.inf),
        "one image": (smooth[:1], Scale(7), 100, np.inf),
        "one position": (smooth[:, :, :2, :2], Scale(2), 100, np.inf),
        "patch = image": (smooth, Scale(16), 100, np.inf),
        "patch = image, downscale 4": (smooth, Scale(16, 4), 100, np.inf),
    }
    rows = []
    for name, (train, scale, timestep, mask) in cases.items():
        noisy = noisy_images(train[0].astype(np.float32), timestep)[0]
        exact, scores = (
            image_scores(
                noisy.pixels, train, scale, signal=noisy.signal, sigma=noisy.sigma, mask_value=mask, backend=backend
            )
            for backend in ("reference", "cpu")
        )
        relative = float((np.abs(scores - exact) / np.maximum(exact, 1e-3)).max())
        rows.append({"case": name, "ours": float(np.abs(scores - exact).max()), "relative": relative})
    return rows


def measure_growth() -> dict[str, Any]:
    """Time against the number of images and against the patch; memory against the number of images."""
    query, train = pictures(32, 8192)
    counts, patches = (16, 32, 64, 128, 512, 2048, 8192), (3, 5, 7, 9, 11, 15, 19)
    in_count = {
        n: alternate({"ours": partial(our_scores, query, train[:n], SCALES["7"])}, 3, 2)["ours"] for n in counts
    }
    per_image, per_pair = {}, {}
    for k in patches:
        seconds = alternate({"ours": partial(our_scores, query, train[:512], [Scale(k)])}, 3, 2)["ours"]
        per_image[k] = seconds / 512 * 1e3
        per_pair[k] = seconds / 512 / pairs_of_an_image(Scale(k)) * 1e9
    memory = {n: peak_mib_of_streaming(n) for n in (1024, 4096, 16384)}
    return {
        "seconds by images": in_count,
        "ms an image by patch": per_image,
        "ns a pair by patch": per_pair,
        "peak MiB by images": memory,
    }


def peak_mib_of_streaming(count: int) -> float:
    """Peak memory of a process that scores blocks of 1,024 images made as they are needed."""
    code = f"import benchmarks.exact as b; b.stream(1024); b.stream({count}); print(b.peak())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[0])


def stream(count: int) -> None:
    """Score random images block by block."""
    query = NoisyImage(np.zeros((3, 32, 32), np.float32), 0.9, 0.4)

    def blocks() -> Any:
        for seed in range(count // 1024):
            yield np.random.default_rng(seed).uniform(-1, 1, (1024, 3, 32, 32)).astype(np.float32)

    score_views(
        views_of([query], [Scale(15)]), blocks, count, PosteriorSettings(backend="cpu"), lambda done, total: None
    )


def peak() -> float:
    """Largest memory of this process so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def draw_growth(results: dict[str, Any]) -> None:
    """The figure of `measure_growth`."""
    try:
        import matplotlib
    except ImportError as error:
        console.print(f"The figure is left out: {error}")
        return
    matplotlib.use("agg")
    from matplotlib import pyplot

    growth = results["growth"]
    figure, axes = pyplot.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    for axis, (title, label, unit) in zip(
        axes,
        (
            ("seconds by images", "training images (patch 7)", "seconds"),
            ("ms an image by patch", "patch", "ms a training image"),
            ("peak MiB by images", "training images, streamed (patch 15)", "peak memory, MiB"),
        ),
        strict=True,
    ):
        axis.plot(list(growth[title]), list(growth[title].values()), "o-")
        axis.set(xlabel=label, ylabel=unit)
        axis.grid(alpha=0.3)
    axes[0].set(xscale="log", yscale="log")
    for axis in axes[1:]:
        axis.set_ylim(bottom=0)
    axes[2].set_xticks(list(growth["peak MiB by images"]))
    figure.suptitle("The exact stage on the CPU: time linear in images, no slower for larger patches, memory flat")
    figure.savefig(RESULTS / "exact.png", dpi=110)


def as_markdown(results: dict[str, Any]) -> str:
    """The results page."""
    lines = [
        "# The exact stage",
        "",
        f"`python -m benchmarks.exact` on {results['machine']}, torch {results['torch']}.",
        "",
    ]
    lines += ["## Speed against the published formulation", ""]
    lines += ["Milliseconds a training image, normaliser included, medians of alternating runs.", ""]
    lines += ["| scale | pixels | images | threads | ours | published | ratio |", "|---|---|---|---|---|---|---|"]
    for r in results["speed"]:
        lines.append(
            f"| {r['scale']} | {r['size']} | {r['images']} | {r['threads']} | {r['ours']:.3f} | {r['published']:.2f} "
            f"| {r['ratio']:.0f} x |"
        )
    lines += ["", "## Against other libraries", "", "64 images, two threads, milliseconds an image.", ""]
    lines += ["| scale | other | ours | theirs | ratio |", "|---|---|---|---|---|"]
    for r in results["others"]:
        lines.append(f"| {r['scale']} | {r['other']} | {r['ours']:.3f} | {r['theirs']:.2f} | {r['ratio']:.0f} x |")
    lines += ["", "## Variants", "", "Patch 7, 1,000 images, two threads, milliseconds an image.", ""]
    lines += ["| variant | ms |", "|---|---|"]
    lines += [f"| {r['variant']} | {r['ours']:.3f} |" for r in results["variants"]]
    roof = results["roofline"]
    lines += ["", "## How far from the machine's ceilings", ""]
    lines += [
        f"Patch 7, 1,000 images, two cores: {roof['ms an image']:.3f} ms an image, "
        f"{roof['billion pairs a second']:.2f} billion pairs of windows a second.",
        "",
        "| kind of work | vectors of 16 an image | ceiling, billion vectors a second | ms an image at the ceiling |",
        "|---|---|---|---|",
    ]
    for name, count in roof["vector operations an image"].items():
        ceiling = results["ceilings"][2][name]
        lines.append(f"| {name} | {count:,.0f} | {ceiling:.2f} | {roof['ms an image at the ceiling'][name]:.3f} |")
    growth = results["growth"]
    lines += ["", "## Growth", "", "![Growth](exact.png)", ""]
    lines.append(
        "Images and seconds: " + ", ".join(f"{n}: {s:.3f}" for n, s in growth["seconds by images"].items()) + "."
    )
    lines.append("")
    lines.append(
        "Patch, ms an image and ns a pair of windows: "
        + ", ".join(
            f"{k}: {ms:.2f}, {growth['ns a pair by patch'][k]:.2f}" for k, ms in growth["ms an image by patch"].items()
        )
        + ". (Larger patches have fewer pairs: fewer windows lie inside the image.)"
    )
    lines.append("")
    lines.append(
        "Images and peak MiB: " + ", ".join(f"{n}: {s:.0f}" for n, s in growth["peak MiB by images"].items()) + "."
    )
    lines += ["", "## Errors", ""]
    lines += ["Largest over images (and two queries) against float64. Relative to scores above 0.001.", ""]
    lines += ["| case | ours | ours, relative | published code in float32 |", "|---|---|---|---|"]
    for r in results["errors"]:
        published = f"{r['published']:.1e}" if "published" in r else ""
        lines.append(f"| {r['case']} | {r['ours']:.1e} | {r['relative']:.1e} | {published} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

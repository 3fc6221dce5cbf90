"""How build and questions grow with the collection: 10,000, 100,000 and 1,000,000 images.

    python -m benchmarks.scaling --work FOLDER

The collection is CIFAR-10's 50,000 training images and, beyond those, distractors made of them (crop, flip, colour,
blend of two; seeded), all JPEG files in Parquet. Each size is built and asked in a process of its own. FOLDER keeps the
collection, the indexes (10 GB) and what was measured, and a run goes on from there. Reads ../shared/data; writes
benchmarks/results/scaling.md, .json and .png.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps
from rich.console import Console

import nda_index as nda
from benchmarks.machine import RESULTS, SHARED, describe_machine
from benchmarks.setting import FIRST_SCALES
from nda_index.images import decode_image

SIZES = (10_000, 100_000, 1_000_000)
SHARD = 50_000
PLANTED = 32  # queries whose source is in every collection
UNRELATED = 32  # queries of the test set
STAGES = ("decode", "probe", "fetch", "exact", "coverage", "maps", "verdict")  # probe: with embedding


console = Console(width=160)


def main() -> None:
    """Measure every size, then write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--stage", choices=("collection", "build", "ask"), help="one step of one size; for itself")
    arguments = parser.parse_args()
    work, sizes = arguments.work, arguments.sizes
    if arguments.stage == "collection":
        make_collection(work, sizes[0])
    elif arguments.stage == "build":
        measure_build(work, sizes[0])
    elif arguments.stage == "ask":
        measure_questions(work, sizes[0])
    else:
        work.mkdir(parents=True, exist_ok=True)
        for size in sizes:
            for stage in ("collection", "build", "ask"):
                command = [sys.executable, "-m", "benchmarks.scaling", "--work", str(work), "--sizes", str(size)]
                subprocess.run([*command, "--stage", stage], check=True)
        write(work, sizes)


def make_collection(work: Path, size: int) -> None:
    """Parquet shards of 50,000 JPEG files each: the training images, then distractors made of them."""
    originals: list[Image.Image] = []
    for shard in range(-(-size // SHARD)):
        path = shard_path(work, shard)
        if path.exists():
            continue
        if not originals:
            table = pq.read_table(SHARED / "data" / "cifar10_train.parquet", columns=["image"])["image"]
            originals = [Image.open(io.BytesIO(row["bytes"])).convert("RGB") for row in table.to_pylist()]
        rng = np.random.default_rng(shard)
        rows = [
            (f"{number:05d}-{shard:02d}", as_jpeg(original if shard == 0 else distractor(original, originals, rng)))
            for number, original in enumerate(originals)
        ]
        keys, files = zip(*rows, strict=True)
        pq.write_table(pa.table({"key": list(keys), "image": pa.array(list(files), pa.binary())}), path)
        console.print(f"collection: shard {shard}")


def shard_path(work: Path, shard: int) -> Path:
    """One file of the collection."""
    return work / f"collection-{shard:03d}.parquet"


def distractor(image: Image.Image, others: list[Image.Image], rng: np.random.Generator) -> Image.Image:
    """A variant of an image: a crop of 60 to 90%, mirrored or not, other colours, or a blend with another image."""
    kind = rng.integers(4)
    if kind == 0:
        side = int(rng.integers(19, 29))
        left, top = (int(value) for value in rng.integers(0, 32 - side + 1, 2))
        image = image.resize((32, 32), Image.Resampling.BILINEAR, (left, top, left + side, top + side))
    elif kind == 1:
        image = ImageEnhance.Color(image).enhance(rng.uniform(0, 2))
        image = ImageEnhance.Brightness(image).enhance(rng.uniform(0.6, 1.4))
    elif kind == 2:
        image = Image.blend(image, others[int(rng.integers(len(others)))], rng.uniform(0.3, 0.7))
    else:
        image = image.rotate(rng.uniform(-15, 15), Image.Resampling.BILINEAR)
    return ImageOps.mirror(image) if rng.random() < 0.5 else image


def as_jpeg(image: Image.Image, quality: int = 90) -> bytes:
    """A JPEG file."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def measure_build(work: Path, size: int) -> None:
    """Build an index of the collection's first images, and note time, disk and peak memory."""
    path, result = work / f"{size}.nda", work / f"{size}-build.json"
    if result.exists():
        return
    source: Any = [shard_path(work, shard) for shard in range(-(-size // SHARD))]
    if size % SHARD:
        source = work / f"{size}.parquet"
        pq.write_table(pq.read_table(shard_path(work, 0)).slice(0, size), source)
    estimated = nda.estimate_build(source)
    stages: dict[str, float] = {}
    start = last = time.perf_counter()

    def report(stage: str, done: int, total: int) -> None:
        nonlocal last
        now = time.perf_counter()
        stages[stage] = stages.get(stage, 0.0) + now - last
        last = now

    nda.build_index(source, path, scales=FIRST_SCALES, resume=path.exists(), progress=report).close()
    files = [file for file in path.rglob("*") if file.is_file()]
    values = {
        "seconds": time.perf_counter() - start,
        "stages": stages,
        "disk": sum(file.stat().st_size for file in files),
        "lists": sum(file.stat().st_size for file in files if "lists-" in file.name),
        "peak_memory": status("VmHWM"),
        "estimated": {"seconds": estimated.seconds, "disk": estimated.disk_bytes, "memory": estimated.memory_bytes},
        "coarse": nda.open_index(path).manifest.config.to_json()["coarse"],
    }
    result.write_text(json.dumps(values, indent=1))
    console.print(f"{size:,} images built in {values['seconds']:.0f} s")


def measure_questions(work: Path, size: int) -> None:
    """Ask an index about copies of images that it has, and about others, and note times by stage."""
    before = status("VmRSS")
    start = time.perf_counter()
    index = nda.open_index(work / f"{size}.nda", device="cpu")
    opened = time.perf_counter() - start
    numbers = np.random.default_rng(0).choice(SIZES[0], PLANTED, replace=False)
    planted = [edited_copy(picture) for picture in index.pixels(np.sort(numbers)).transpose(0, 2, 3, 1)]
    table = pq.read_table(SHARED / "data" / "cifar10_test.parquet", columns=["image"])["image"].slice(0, UNRELATED)
    unrelated = [decode_image(row["bytes"], (32, 32), 3).transpose(1, 2, 0) for row in table.to_pylist()]
    index.attribute(unrelated[-1])  # compiles
    first, found, scored, covered = 0, 0, list[int](), list[float]()
    seconds: dict[str, list[float]] = {stage: [] for stage in ("whole", *STAGES)}
    for number, picture in enumerate([*planted, *unrelated]):
        start = time.perf_counter()
        answer = index.attribute(picture)
        seconds["whole"].append(time.perf_counter() - start)
        spent = {**answer.seconds, "probe": answer.seconds["embed"] + answer.seconds["probe"]}
        for stage in STAGES:
            seconds[stage].append(spent[stage])
        scored.append(answer.scored)
        covered.append(answer.mass_covered)
        if number < PLANTED:
            sources = [key.partition("-")[0] == f"{np.sort(numbers)[number]:05d}" for key in answer.keys]
            first, found = first + sources[0], found + any(sources)
    values: dict[str, Any] = {
        "open": opened,
        "seconds": {stage: percentiles(times) for stage, times in seconds.items()},
        "first": first / PLANTED,
        "found": found / PLANTED,
        "scored": float(np.median(scored)),
        "mass_covered": float(np.median(covered)),
        "memory": status("VmRSS") - before,
        "memory_private": status("RssAnon"),
    }
    (work / f"{size}-ask.json").write_text(json.dumps(values, indent=1))
    console.print(f"{size:,} images: {values['seconds']['whole']}, planted found {values['found']:.2f}")


def edited_copy(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture as it might come back: shifted by two pixels, darker, and coded again."""
    shifted = np.roll(picture, (2, 2), axis=(0, 1))
    darker = ImageEnhance.Brightness(Image.fromarray(shifted)).enhance(0.9)
    return np.asarray(Image.open(io.BytesIO(as_jpeg(darker, quality=60))).convert("RGB"))


def percentiles(times: list[float]) -> list[float]:
    """Median and 99th percentile."""
    return [float(np.percentile(times, part)) for part in (50, 99)]


def status(name: str) -> int:
    """Bytes that /proc says of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def write(work: Path, sizes: list[int]) -> None:
    """Put the sizes together, with growth exponents."""
    rows = [
        {
            "images": size,
            "build": json.loads((work / f"{size}-build.json").read_text()),
            "ask": json.loads((work / f"{size}-ask.json").read_text()),
        }
        for size in sizes
    ]
    results: dict[str, Any] = {"machine": describe_machine(), "rows": rows}
    (RESULTS / "scaling.json").write_text(json.dumps(results, indent=1) + "\n")
    (RESULTS / "scaling.md").write_text(as_markdown(results))
    draw(rows)
    console.print(as_markdown(results))


def exponent(sizes: list[int], values: list[float]) -> float:
    """Slope in logarithms: 1 is linear."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def as_markdown(results: dict[str, Any]) -> str:
    """The results page."""
    rows = results["rows"]
    sizes = [row["images"] for row in rows]
    lines = ["# Growth with the collection", "", f"`python -m benchmarks.scaling` on {results['machine']}."]
    lines += ["CIFAR-10's training images and, beyond 50,000, distractors made of them (crop, colour, blend, rotation;"]
    lines += [
        "half of them mirrored), JPEG files in Parquet; default settings. 32 questions are edited copies of images"
    ]
    lines += ["that every collection has (shifted, darker, coded again), 32 are test images.", ""]
    lines += ["![Growth](scaling.png)", "", "## Build", ""]
    lines += ["| images | time | estimated | images/s | peak memory | on disk | lists | bytes/image | codes, stride |"]
    lines += ["|---" * 9 + "|"]
    for row in rows:
        n, b = row["images"], row["build"]
        coarse = "; ".join(f"{name}: {c['codec']}, {c['stride']} px" for name, c in b["coarse"].items())
        lines.append(
            f"| {n:,} | {b['seconds']:.0f} s | {b['estimated']['seconds']:.0f} s | {n / b['seconds']:.0f} "
            f"| {b['peak_memory'] / 2**30:.2f} GiB | {b['disk'] / 2**30:.2f} GiB | {b['lists'] / 2**30:.2f} GiB "
            f"| {b['disk'] / n:.0f} | {coarse} |"
        )
    lines += ["", "Seconds by stage:", "", "| images | " + " | ".join(rows[-1]["build"]["stages"]) + " |"]
    lines += ["|---" * (1 + len(rows[-1]["build"]["stages"])) + "|"]
    for row in rows:
        figures = " | ".join(f"{value:.1f}" for value in row["build"]["stages"].values())
        lines.append(f"| {row['images']:,} | {figures} |")
    lines += ["", "## Questions", "", "Seconds, median / 99th percentile.", ""]
    lines += ["| images | open | whole | " + " | ".join(STAGES) + " | scored | mass covered | memory | private |"]
    lines += ["|---" * (7 + len(STAGES)) + "|"]
    for row in rows:
        a = row["ask"]
        figures = " | ".join(f"{p50:.2f} / {p99:.2f}" for p50, p99 in (a["seconds"][s] for s in ("whole", *STAGES)))
        lines.append(
            f"| {row['images']:,} | {a['open']:.2f} | {figures} | {a['scored']:.0f} | {a['mass_covered']:.2f} "
            f"| {a['memory'] / 2**30:.2f} GiB | {a['memory_private'] / 2**30:.2f} GiB |"
        )
    lines += ["", "| images | source first | source in the top 10 |", "|---|---|---|"]
    lines += [f"| {row['images']:,} | {row['ask']['first']:.2f} | {row['ask']['found']:.2f} |" for row in rows]
    if len(rows) > 1:
        build = exponent(sizes, [row["build"]["seconds"] for row in rows])
        ask = exponent(sizes, [row["ask"]["seconds"]["whole"][0] for row in rows])
        lines += ["", f"Growth exponents: build {build:.2f}, question {ask:.2f} (1 is linear)."]
    return "\n".join(lines) + "\n"


def draw(rows: list[dict[str, Any]]) -> None:
    """Build time and question time against the number of images."""
    try:
        import matplotlib
    except ImportError as error:
        console.print(f"The figure is left out: {error}")
        return
    matplotlib.use("agg")
    from matplotlib import pyplot

    sizes = [row["images"] for row in rows]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    left.loglog(sizes, [row["build"]["seconds"] for row in rows], "o-", label="build, s")
    left.loglog(sizes, [row["build"]["disk"] / 2**20 for row in rows], "s-", label="on disk, MiB")
    left.loglog(sizes, [row["build"]["peak_memory"] / 2**20 for row in rows], "^-", label="peak memory, MiB")
    for stage in ("whole", "probe", "exact", "coverage", "fetch"):
        right.loglog(sizes, [row["ask"]["seconds"][stage][0] for row in rows], "o-", label=stage)
    right.set_ylabel("seconds, median")
    for axis in (left, right):
        axis.set_xlabel("images")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.savefig(RESULTS / "scaling.png", dpi=110)


if __name__ == "__main__":
    main()

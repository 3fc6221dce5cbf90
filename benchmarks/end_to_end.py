"""The main job on CIFAR-10: build time and memory, latency by stage, and what the shortlist keeps of the exact ranking.

    python -m benchmarks.end_to_end

Reads ../shared/data (CIFAR-10 as JPEG of quality 75); writes benchmarks/results/end_to_end.md and .json.
"""

from __future__ import annotations

import json
import multiprocessing
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import track

import nda_index as nda
from benchmarks.machine import RESULTS, SHARED, describe_machine, peak_gib
from benchmarks.setting import FIRST_SCALES

TIMESTEPS = (20, 50, 100, 200, 400)
LATENCY_QUERIES = 20
RECALL_QUERIES = 6
RECALL_IMAGES = 5000
CANDIDATES = (250, 500, 1000)


console = Console()


def main() -> None:
    """Measure, then write."""
    train, test = (SHARED / "data" / f"cifar10_{part}.parquet" for part in ("train", "test"))
    queries = [row["bytes"] for row in pq.read_table(test, columns=["image"])["image"].slice(0, 40).to_pylist()]
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "small.parquet"
        pq.write_table(pq.read_table(train).slice(0, RECALL_IMAGES), small)
        # Each in a process of its own, so that its peak memory is its own.
        results: dict[str, Any] = {"machine": describe_machine()}
        results["build"] = in_own_process(measure_build, train, Path(folder) / "cifar.nda")
        results["query"] = in_own_process(measure_queries, Path(folder) / "cifar.nda", queries)
        nda.build_index(small, Path(folder) / "small.nda", scales=FIRST_SCALES)
        results["recall"] = measure_recall(Path(folder) / "small.nda", queries[:RECALL_QUERIES])
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "end_to_end.json").write_text(json.dumps(results, indent=1) + "\n")
    (RESULTS / "end_to_end.md").write_text(as_markdown(results))
    console.print(as_markdown(results))


def in_own_process(measure: Any, *arguments: Any) -> dict[str, Any]:
    """Call a function in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        result: dict[str, Any] = pool.apply(measure, arguments)
    return result


def measure_build(source: Path, folder: Path) -> dict[str, Any]:
    """Build the index of 50,000 images."""
    start = time.perf_counter()
    index = nda.build_index(source, folder, scales=FIRST_SCALES)
    seconds = time.perf_counter() - start
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    coarse = index.manifest.config.to_json()["coarse"]
    return {
        "images": len(index),
        "seconds": seconds,
        "peak_gib": peak_gib(),
        "disk_mib": size / 2**20,
        "coarse": coarse,
    }


def measure_queries(folder: Path, queries: list[bytes]) -> dict[str, Any]:
    """Open the index and ask it, 1000 candidates each; the first question compiles and is not counted."""
    start = time.perf_counter()
    index = nda.open_index(folder)
    opened = time.perf_counter() - start
    index.attribute(queries[-1], candidates=1000)
    stages: dict[str, list[float]] = {}
    totals = []
    for query in queries[:LATENCY_QUERIES]:
        start = time.perf_counter()
        answer = index.attribute(query, candidates=1000)
        totals.append(time.perf_counter() - start)
        for stage, seconds in answer.seconds.items():
            stages.setdefault(stage, []).append(seconds)
    return {
        "open_seconds": opened,
        "median": float(np.median(totals)),
        "p90": float(np.percentile(totals, 90)),
        "slowest": max(totals),
        "stages": {stage: float(np.median(values)) for stage, values in stages.items()},
        "peak_gib": peak_gib(),
    }


def measure_recall(folder: Path, queries: list[bytes]) -> list[dict[str, Any]]:
    """The shortlist's images against the exact ranking of the same noise draw, over all images."""
    index = nda.open_index(folder)
    rows = []
    for timestep in track(TIMESTEPS, "recall", console=console):
        exact = index.scores(queries, timestep, noise="draw")
        for candidates in CANDIDATES:
            found: dict[str, list[float]] = {"recall_10": [], "recall_100": [], "mass": [], "mass_estimate": []}
            for query, scores in zip(queries, exact, strict=True):
                answer = index.attribute(query, timestep, top=candidates, noise="draw", candidates=candidates)
                ranking = np.argsort(-scores)
                for depth in (10, 100):
                    found[f"recall_{depth}"].append(float(np.isin(ranking[:depth], answer.image_ids).mean()))
                found["mass"].append(float(scores[answer.image_ids].sum() / scores.sum()))
                found["mass_estimate"].append(answer.mass_covered)
            means = {name: float(np.mean(values)) for name, values in found.items()}
            rows.append({"timestep": timestep, "candidates": candidates, **means})
    return rows


def as_markdown(results: dict[str, Any]) -> str:
    """The figures as a page."""
    build, query = results["build"], results["query"]
    stages = ", ".join(f"{name} {1000 * value:.0f} ms" for name, value in query["stages"].items())
    kept_of = f"{RECALL_IMAGES:,} images, {RECALL_QUERIES} queries, one draw"
    lines = [
        "# End to end on CIFAR-10",
        "",
        f"{results['machine']}. JPEG-q75 CIFAR-10, scales 7 and 14/2. `python -m benchmarks.end_to_end`",
        "",
        "| what | figure | target |",
        "|---|---|---|",
        f"| build, {build['images']:,} images | {build['seconds']:.0f} s | < 300 s |",
        f"| peak memory of the build | {build['peak_gib']:.2f} GiB | < 3 GB |",
        f"| size on disk | {build['disk_mib']:.0f} MiB | |",
        f"| open | {query['open_seconds']:.1f} s | |",
        f"| attribute, 1000 candidates, t=100, median of {LATENCY_QUERIES} | {query['median']:.2f} s | < 2 s |",
        f"| 90th percentile, slowest | {query['p90']:.2f} s, {query['slowest']:.2f} s | |",
        f"| peak memory of a process that asks | {query['peak_gib']:.2f} GiB | |",
        "",
        f"Median by stage: {stages}.",
        "",
        f"## What the shortlist keeps of the exact ranking ({kept_of})",
        "",
        "| t | candidates | kept | recall@10 | recall@100 | mass | mass as estimated |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in results["recall"]:
        share = row["candidates"] / RECALL_IMAGES
        figures = " | ".join(f"{row[name]:.2f}" for name in ("recall_10", "recall_100", "mass", "mass_estimate"))
        lines.append(f"| {row['timestep']} | {row['candidates']} | {share:.0%} | {figures} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

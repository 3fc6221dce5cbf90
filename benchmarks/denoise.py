"""The posterior mean on CIFAR-10: its cost, and what the shortlist and the best images change.

    python -m benchmarks.denoise

Reads ../shared/data (CIFAR-10 as JPEG of quality 75); writes benchmarks/results/denoise.md and .json.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import track

import nda_index as nda
from benchmarks.machine import RESULTS, SHARED, describe_machine
from benchmarks.setting import FIRST_SCALES

IMAGES = 2000
QUERIES = 4
TIMESTEPS = (20, 100, 200, 400)
REMOVED = 5
CANDIDATES = 200  # a tenth of the images


console = Console()


def main() -> None:
    """Measure, then write."""
    train, test = (SHARED / "data" / f"cifar10_{part}.parquet" for part in ("train", "test"))
    queries = [row["bytes"] for row in pq.read_table(test, columns=["image"])["image"].slice(0, QUERIES).to_pylist()]
    with tempfile.TemporaryDirectory() as folder:
        some = Path(folder) / "some.parquet"
        pq.write_table(pq.read_table(train).slice(0, IMAGES), some)
        index = nda.build_index(some, Path(folder) / "some.nda", scales=FIRST_SCALES, null=0)
        measure(index, queries[0], TIMESTEPS[0])  # compiles
        rows = [
            {"timestep": timestep, **measure(index, query, timestep)}
            for timestep in track(TIMESTEPS, console=console)
            for query in queries
        ]
    results = {"machine": describe_machine(), "rows": rows}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "denoise.json").write_text(json.dumps(results, indent=1) + "\n")
    (RESULTS / "denoise.md").write_text(as_markdown(results))
    console.print(as_markdown(results))


def measure(index: nda.Index, query: bytes, timestep: int) -> dict[str, float]:
    """Measure one query: times of the scores and of the mean over all images, and distances from the picture."""
    scores, scoring = time_call(lambda: index.scores([query], timestep)[0])
    exact, averaging = time_call(lambda: index.denoise(query, timestep, mode="exact"))
    shortlist = index.denoise(query, timestep, candidates=CANDIDATES)
    best = np.argsort(-scores)[:REMOVED]
    others = np.random.default_rng(timestep).choice(np.setdiff1d(np.arange(IMAGES), best), REMOVED, replace=False)
    return {
        "scoring": scoring,
        "averaging": averaging,
        "exact": exact.distance,
        "shortlist": shortlist.distance,
        "apart": float(np.sqrt(np.square(exact.image - shortlist.image).mean())),
        "without_best": index.denoise(query, timestep, mode="exact", without=best).distance,
        "without_others": index.denoise(query, timestep, mode="exact", without=others).distance,
    }


def time_call(call: Callable[[], Any]) -> tuple[Any, float]:
    """Call a function: return its result and the seconds it took."""
    start = time.perf_counter()
    result = call()
    return result, time.perf_counter() - start


def as_markdown(results: dict[str, Any]) -> str:
    """Write the results page."""
    lines = [
        "# The posterior mean",
        "",
        f"`python -m benchmarks.denoise` on {results['machine']}.",
        "",
        f"{IMAGES:,} CIFAR-10 images, {QUERIES} test images, patches 7 and 14/2. Distances are root mean squares of",
        "pixels from -1 to 1, means over the queries. Times are medians and include reading the images; scores and",
        "mean are timed right after each other, so their ratio holds while other work runs; the times do not.",
        "",
        "| t | scores, ms an image | mean, ms an image | ratio | picture to mean "
        f"| picture to mean of {CANDIDATES} candidates | between these means "
        f"| picture to mean without the best {REMOVED} | without {REMOVED} others |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for timestep in TIMESTEPS:
        rows = [row for row in results["rows"] if row["timestep"] == timestep]
        scoring, averaging = (np.array([row[name] for row in rows]) / IMAGES * 1e3 for name in ("scoring", "averaging"))
        names = ("exact", "shortlist", "apart", "without_best", "without_others")
        distances = " | ".join(f"{np.mean([row[name] for row in rows]):.4f}" for name in names)
        lines.append(
            f"| {timestep} | {np.median(scoring):.2f} | {np.median(averaging):.2f} | "
            f"{np.median(averaging / scoring):.1f} | {distances} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

"""The exact stage of two checkouts of this repository, by turns in one run: whether a change cost speed.

    git worktree add ../before COMMIT
    python -m benchmarks.versions ../before

Each checkout's kernel runs in a process of its own, on one thread, a few times by turns; the least time of each counts.
Takes about five minutes. Writes benchmarks/results/versions.md and .json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.machine import RESULTS, describe_machine

ROUNDS = 3
IMAGES = 1000
# What runs in both: it names only what `nda_index.exact` has exported since its first version.
PROGRAM = """
import json, sys, time
import numpy as np
from nda_index import Scale
from nda_index.exact import image_scores
rng = np.random.default_rng(0)
train = np.clip(np.cumsum(rng.normal(0, 0.2, (int(sys.argv[1]), 3, 32, 32)), axis=-1), -1, 1).astype(np.float32)
noisy = (0.9461 * train[5] + 0.3238 * rng.normal(size=train[5].shape)).astype(np.float32)
cases = {"7": (Scale(7), {}), "14/2": (Scale(14, 2), {}), "7, per_image_topk 10": (Scale(7), {"per_image_topk": 10})}
seconds = {}
for name, (scale, options) in cases.items():
    def score():
        return image_scores(
            noisy, train, scale, signal=0.9461, sigma=0.3238, backend="cpu", mask_value=np.inf, **options
        )
    scores = score()
    times = []
    for _ in range(3):
        start = time.process_time()
        score()
        times.append(time.process_time() - start)
    seconds[name] = [min(times), float(scores.sum()), float(scores.max())]
print(json.dumps(seconds))
"""


def main() -> None:
    """Measure, then write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("before", type=Path, help="a checkout to compare with")
    before = parser.parse_args().before
    checkouts = {"before": before.resolve(), "now": Path(__file__).resolve().parents[1]}
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in checkouts}
    for _ in range(ROUNDS):
        for name, folder in checkouts.items():
            runs[name].append(time_exact(folder))
    commits = {name: commit_of(folder) for name, folder in checkouts.items()}
    results: dict[str, Any] = {"machine": describe_machine(), "images": IMAGES, "commits": commits, "cases": {}}
    for case in runs["now"][0]:
        least = {name: min(run[case][0] for run in runs[name]) / IMAGES * 1e3 for name in checkouts}
        moved = [abs(runs["now"][0][case][i] / runs["before"][0][case][i] - 1) for i in (1, 2)]
        results["cases"][case] = {**least, "ratio": least["now"] / least["before"], "moved": max(moved)}
    (RESULTS / "versions.json").write_text(json.dumps(results, indent=1) + "\n")
    (RESULTS / "versions.md").write_text(as_markdown(results))
    Console(width=200).print(as_markdown(results))


def time_exact(folder: Path) -> dict[str, Any]:
    """Time the exact stage of a checkout: for each case CPU seconds, and the sum and maximum of the scores."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "NUMBA_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PROGRAM, str(IMAGES)]
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(run.stdout)
    return found


def commit_of(folder: Path) -> str:
    """Return the short hash of a checkout's commit."""
    command = ["git", "-C", str(folder), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def as_markdown(results: dict[str, Any]) -> str:
    """Write the results as a page."""
    lines = [
        "# The exact stage of two versions",
        "",
        f"`python -m benchmarks.versions BEFORE`, {results['machine']}.",
        "",
    ]
    lines += [f"CPU milliseconds an image on one thread, {results['images']:,} images of 32 x 32, by turns in one run;"]
    lines += [f"before: {results['commits']['before']}, now: {results['commits']['now']}. The last column says by how"]
    lines += ["much the scores' sum or maximum moved.", ""]
    lines += ["| case | before | now | ratio | scores moved |", "|---|---|---|---|---|"]
    for case, row in results["cases"].items():
        moved = np.format_float_scientific(row["moved"], 0)
        lines.append(f"| {case} | {row['before']:.3f} | {row['now']:.3f} | {row['ratio']:.2f} | {moved} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

"""Which noise setting gives the most stable ranking for what it costs, and which temper stands for an average.

    python -m benchmarks.noise --truth FOLDER

FOLDER holds exact scores of 50,000 CIFAR-10 images for four draws, which `benchmarks.recall` computed. Tempers are
compared over the first 5,000 images; these scores are kept in FOLDER too, and a run goes on from what is there. Writes
benchmarks/results/noise.md and .json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.machine import RESULTS, SHARED, describe_machine
from benchmarks.recall import FOUR_DRAWS, TIMESTEPS
from nda_index.diffusion import NoisyImage, noisy_images
from nda_index.exact.posterior import PosteriorSettings, score_views
from nda_index.exact.views import views_of
from nda_index.images import decode_image, to_float
from nda_index.indexing.request import DEFAULT_SCALES

TOP = 100
DRAWS = 4
TEMPERS = (1.0, 1.5, 2.0, 3.0, 4.0)
TEMPER_TIMESTEPS = (20, 50, 100, 200)
SUBSET = 5_000  # images over which tempers are compared
BLOCK = 1024

console = Console(width=200)

Scores = NDArray[np.float64]


def main() -> None:
    """Measure, then write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--truth", type=Path, required=True)
    arguments = parser.parse_args()
    results: dict[str, Any] = {"machine": describe_machine(), "queries": FOUR_DRAWS, "top": TOP, "subset": SUBSET}
    results["agreement"] = measure_agreement(arguments.truth)
    results["temper"] = measure_tempers(arguments.truth)
    (RESULTS / "noise.json").write_text(json.dumps(results, indent=1) + "\n")
    (RESULTS / "noise.md").write_text(as_markdown(results))
    console.print(as_markdown(results))


def measure_agreement(truth: Path) -> list[dict[str, Any]]:
    """Overlap of independent answers over all images, for each query and timestep."""
    rows = []
    for query in range(FOUR_DRAWS):
        for timestep in TIMESTEPS:
            draws = [known_scores(truth, query, timestep, str(draw)) for draw in range(DRAWS)]
            clean = known_scores(truth, query, timestep, "none")
            rows.append({"query": query, "timestep": timestep} | agreement(draws, {"none": clean}))
    return rows


def known_scores(truth: Path, query: int, timestep: int, version: str) -> Scores:
    """Exact scores of all images, over both scales."""
    files = [truth / f"q{query}_t{timestep}_{version}_s{number}.npz" for number in range(len(DEFAULT_SCALES))]
    return np.asarray(sum(np.load(file)["scores"].astype(np.float64) for file in files), np.float64)


def measure_tempers(truth: Path) -> list[dict[str, Any]]:
    """The same over the first images, with the clean query at each temper."""
    train = pq.read_table(SHARED / "data" / "cifar10_train.parquet", columns=["image"])["image"].slice(0, SUBSET)
    pixels = np.stack([decode_image(row["bytes"], (32, 32), 3) for row in train.to_pylist()])
    test = pq.read_table(SHARED / "data" / "cifar10_test.parquet", columns=["image"])["image"].slice(0, FOUR_DRAWS)
    rows = []
    for query, row in enumerate(test.to_pylist()):
        clean = to_float(decode_image(row["bytes"], (32, 32), 3))
        for timestep in TEMPER_TIMESTEPS:
            name = f"first{SUBSET}_q{query}_t{timestep}"
            draws = [
                scores_of(noisy, pixels, truth / f"{name}_{draw}.npz")
                for draw, noisy in enumerate(noisy_images(clean, timestep, "average", draws=DRAWS))
            ]
            tempered = {
                str(temper): scores_of(
                    noisy_images(clean, timestep, "none", temper=temper)[0], pixels, truth / f"{name}_none_{temper}.npz"
                )
                for temper in TEMPERS
            }
            rows.append({"query": query, "timestep": timestep} | agreement(draws, tempered))
            console.print(rows[-1])
    return rows


def scores_of(noisy: NoisyImage, pixels: NDArray[np.uint8], file: Path) -> Scores:
    """Exact scores of some images, from the file or computed into it."""
    if not file.exists():

        def blocks() -> Iterator[NDArray[np.float32]]:
            return (to_float(pixels[i : i + BLOCK]) for i in range(0, len(pixels), BLOCK))

        views = views_of([noisy], DEFAULT_SCALES)
        found = score_views(views, blocks, len(pixels), PosteriorSettings(backend="cpu"), lambda done, total: None)
        np.savez(file, scores=found.scores)
    return np.asarray(np.load(file)["scores"], np.float64)


def agreement(draws: list[Scores], clean: dict[str, Scores]) -> dict[str, float]:
    """Mean overlap of independent answers, and of clean answers with averages, by name."""
    everything = np.mean(draws, axis=0)
    others = [np.mean([d for j, d in enumerate(draws) if j != i], axis=0) for i in range(len(draws))]
    halves = [
        (np.mean([draws[i] for i in half], axis=0), np.mean([d for j, d in enumerate(draws) if j not in half], axis=0))
        for half in combinations(range(len(draws)), len(draws) // 2)
    ]
    out: dict[str, Any] = {
        "draw, draw": np.mean([overlap(a, b) for a, b in combinations(draws, 2)]),
        "half, half": np.mean([overlap(a, b) for a, b in halves]),
        "draw, others": np.mean([overlap(a, b) for a, b in zip(draws, others, strict=True)]),
    }
    for name, scores in clean.items():
        out[f"{name}, others"] = np.mean([overlap(scores, other) for other in others])
        out[f"{name}, average"] = overlap(scores, everything)
    return {name: float(value) for name, value in out.items()}


def overlap(a: Scores, b: Scores) -> float:
    """Part of the best images that two answers share.

    Example:
        >>> overlap(np.arange(300.0), np.arange(300.0) % 250)
        0.5
    """
    return len(np.intersect1d(np.argsort(-a, kind="stable")[:TOP], np.argsort(-b, kind="stable")[:TOP])) / TOP


def as_markdown(results: dict[str, Any]) -> str:
    """The results page."""
    lines = ["# Noise settings", ""]
    lines += [f"`python -m benchmarks.noise` on {results['machine']}. CIFAR-10 images, scales 7 and 14/2, exact scores"]
    lines += [f"of all images, {results['queries']} queries that are not among them. Figures are overlaps of the top"]
    lines += [f"{results['top']}, means over queries and over all ways to choose the draws.", ""]
    lines += ["## How stable each setting is, 50,000 images", ""]
    lines += ["| t | two draws | two averages of two draws | one draw with the average of three others "]
    lines[-1] += "| no noise with the average of three | no noise with the average of four |"
    columns = ["draw, draw", "half, half", "draw, others", "none, others", "none, average"]
    lines += ["|---" * (1 + len(columns)) + "|"]
    lines += table_rows(results["agreement"], TIMESTEPS, columns)
    lines += ["| cost, passes | 1 | 2 | 1 | 1 | 1 |", ""]
    lines += ["The first two columns are two runs of one setting with other seeds; two runs without noise are equal."]
    lines += ["The others set one pass against an average. An average of K draws costs K passes.", ""]
    lines += [f"## Tempers, the first {results['subset']:,} images", ""]
    lines += ["The clean query with its logits divided by the temper, one pass, with the average of four draws. To"]
    lines += ["compare: what draws themselves reach. Overlaps are higher than above, being of a larger part of fewer"]
    lines += ["images.", ""]
    lines += ["| t |" + "".join(f" temper {temper:g} |" for temper in TEMPERS) + " one draw with three others "]
    lines[-1] += "| two averages of two |"
    columns = [f"{temper}, average" for temper in TEMPERS] + ["draw, others", "half, half"]
    lines += ["|---" * (1 + len(columns)) + "|"]
    lines += table_rows(results["temper"], TEMPER_TIMESTEPS, columns)
    return "\n".join(lines) + "\n"


def table_rows(rows: list[dict[str, Any]], timesteps: tuple[int, ...], columns: list[str]) -> list[str]:
    """A line for each timestep: means over queries."""
    lines = []
    for t in timesteps:
        means = [np.mean([row[column] for row in rows if row["timestep"] == t]) for column in columns]
        lines.append(f"| {t} | " + " | ".join(f"{value:.2f}" for value in means) + " |")
    return lines


if __name__ == "__main__":
    main()

"""The coarse stage and the error bars, against exact scores of all 50,000 CIFAR-10 images.

    python -m benchmarks.recall --truth FOLDER --queries 32

Exact scores are kept in FOLDER (half a minute a query and timestep on two cores the first time) and a run goes on from
what is there; with `--computed` it takes only what is there. Reads ../shared/data; writes benchmarks/results/recall.md,
.json and .png.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from rich.console import Console
from scipy.stats import spearmanr

import nda_index as nda
from benchmarks.machine import RESULTS, SHARED, describe_machine
from benchmarks.setting import FIRST_SCALES
from nda_index.diffusion import NoiseSetting, noisy_images
from nda_index.exact.posterior import PosteriorSettings, score_views
from nda_index.exact.views import View
from nda_index.images import decode_image, to_float

TIMESTEPS = (20, 50, 100, 200, 400)
SHARES = (0.005, 0.01, 0.02, 0.03, 0.05, 0.1)
TARGET = SHARES.index(0.05)
FOUR_DRAWS = 4  # queries that are asked with an average of 4 draws too
CANDIDATES = (500, 1500)  # by turns
FRESH = 32  # queries from this number on had no part in choosing the constants of the error bars
SETTINGS: dict[str, tuple[NoiseSetting, int]] = {
    "none": ("none", 1),
    "draw": ("draw", 1),
    "average of 2": ("average", 2),
    "average of 4": ("average", 4),
}


console = Console(width=200)


@dataclass(frozen=True)
class Case:
    """A query, by its number in the test set, as it was asked, and the exact scores of all images."""

    number: int
    query: NDArray[np.uint8]
    timestep: int
    setting: str
    exact: NDArray[np.float64]

    @property
    def noise(self) -> NoiseSetting:
        """As `Index.attribute` takes it."""
        return SETTINGS[self.setting][0]

    @property
    def draws(self) -> int:
        """Noise draws; 1 without noise."""
        return SETTINGS[self.setting][1]


def main() -> None:
    """Measure, then write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--queries", type=int, default=32)
    parser.add_argument("--index", type=Path, help="an index of cifar10_train.parquet; built by default")
    parser.add_argument("--computed", action="store_true", help="take only exact scores that are in the folder")
    arguments = parser.parse_args()
    table = pq.read_table(SHARED / "data" / "cifar10_test.parquet", columns=["image"])["image"]
    queries = [decode_image(row["bytes"], (32, 32), 3) for row in table.slice(0, arguments.queries).to_pylist()]
    with tempfile.TemporaryDirectory() as folder:
        source = SHARED / "data" / "cifar10_train.parquet"
        path = arguments.index or Path(folder) / "cifar.nda"
        index = nda.open_index(path) if arguments.index else nda.build_index(source, path, scales=FIRST_SCALES)
        pixels = index.pixels(np.arange(len(index)))
        cases = known_cases(index, pixels, queries, arguments.truth, arguments.computed)
        results: dict[str, Any] = {"machine": describe_machine(), "images": len(index), "candidates": list(CANDIDATES)}
        votes, seconds = coarse_votes(index, cases)
        results["recall"] = measure_recall(pixels, cases, votes, seconds)
        results["calibration"] = measure_calibration(index, cases, votes)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "recall.json").write_text(json.dumps(results, indent=1) + "\n")
    (RESULTS / "recall.md").write_text(as_markdown(results))
    draw_curves(results)
    console.print(as_markdown(results))


def known_cases(
    index: nda.Index, pixels: NDArray[np.uint8], queries: list[NDArray[np.uint8]], folder: Path, computed: bool
) -> list[Case]:
    """Cases whose exact scores are in the folder, or are computed into it."""
    folder.mkdir(parents=True, exist_ok=True)
    cases = []
    for number, query in enumerate(queries):
        for timestep in TIMESTEPS:
            for setting, (noise, draws) in SETTINGS.items():
                if draws == 4 and number >= FOUR_DRAWS:
                    continue
                versions = ["none"] if noise == "none" else [str(draw) for draw in range(draws)]
                scores = [
                    exact_scores(index, pixels, query, timestep, version, folder, f"q{number}_t{timestep}", computed)
                    for version in versions
                ]
                if all(score is not None for score in scores):
                    cases.append(
                        Case(number, query, timestep, setting, np.mean([s for s in scores if s is not None], axis=0))
                    )
    return cases


def exact_scores(
    index: nda.Index,
    pixels: NDArray[np.uint8],
    query: NDArray[np.uint8],
    timestep: int,
    version: str,
    folder: Path,
    name: str,
    computed: bool,
) -> NDArray[np.float64] | None:
    """Scores of all images, over both scales; `version` is "none" or a draw's seed."""
    files = [folder / f"{name}_{version}_s{number}.npz" for number in range(len(index.scales))]
    if computed and not all(file.exists() for file in files):
        return None
    clean = to_float(query)
    total = np.zeros(len(pixels))
    for file, scale in zip(files, index.scales, strict=True):
        if not file.exists():
            clean_only = version == "none"
            noisy = noisy_images(
                clean, timestep, "none" if clean_only else "draw", seed=0 if clean_only else int(version)
            )
            found = score_views(
                [View(noisy[0], scale, 1.0)],
                lambda: (to_float(pixels[i : i + 1024]) for i in range(0, len(pixels), 1024)),
                len(pixels),
                PosteriorSettings(backend="cpu"),
                _quiet,
            )
            np.savez(file, scores=found.scores.astype(np.float32), log=found.log_normalisers[0])
        total += np.load(file)["scores"]
    return total


def coarse_votes(index: nda.Index, cases: list[Case]) -> tuple[list[NDArray[np.float64]], list[float]]:
    """What the coarse stage makes of each case, and the seconds that it takes."""
    votes_of_case(index, cases[0])  # compiles
    votes, seconds = [], []
    for case in cases:
        start = time.perf_counter()
        votes.append(votes_of_case(index, case))
        seconds.append(time.perf_counter() - start)
    return votes, seconds


def measure_recall(
    pixels: NDArray[np.uint8], cases: list[Case], votes: list[NDArray[np.float64]], seconds: list[float]
) -> list[dict[str, Any]]:
    """What each way of choosing images keeps of the exact ranking, for each share of the images kept."""
    rng = np.random.default_rng(0)
    thumbnails = to_float(pixels).reshape(len(pixels), -1)
    found: dict[tuple[str, int, str], list[dict[str, Any]]] = {}
    for case, vote, took in zip(cases, votes, seconds, strict=True):
        ways = {"coarse stage": vote, "random": rng.random(len(pixels))}
        ways["pixel distance"] = -((thumbnails - to_float(case.query).reshape(-1)) ** 2).sum(axis=1)
        for way, score in ways.items():
            row = kept(case.exact, score)
            row["spearman"] = float(spearmanr(case.exact, score).statistic)
            row["seconds"] = took if way == "coarse stage" else float("nan")
            found.setdefault((way, case.timestep, case.setting), []).append(row)
    return [
        {"way": way, "timestep": t, "noise": noise, "queries": len(rows)}
        | {key: np.mean([row[key] for row in rows], axis=0).tolist() for key in rows[0]}
        for (way, t, noise), rows in found.items()
    ]


def kept(exact: NDArray[np.float64], score: NDArray[np.float64]) -> dict[str, Any]:
    """Recall of the exact top 10 and top 100, and mass, by share of the images kept."""
    ranking, order = np.argsort(-exact), np.argsort(-score, kind="stable")
    row: dict[str, Any] = {"recall_10": [], "recall_100": [], "mass": []}
    for share in SHARES:
        chosen = order[: int(share * len(exact))]
        row["recall_10"].append(float(np.isin(ranking[:10], chosen).mean()))
        row["recall_100"].append(float(np.isin(ranking[:100], chosen).mean()))
        row["mass"].append(float(exact[chosen].sum() / exact.sum()))
    return row


def measure_calibration(index: nda.Index, cases: list[Case], votes: list[NDArray[np.float64]]) -> list[dict[str, Any]]:
    """Errors of `mass_covered` and of the top scores, in units of the standard errors that the answer gives."""
    rows = []
    for case, vote in zip(cases, votes, strict=True):
        candidates = CANDIDATES[case.number % len(CANDIDATES)]
        start = time.perf_counter()
        picture = case.query.transpose(1, 2, 0)
        answer = index.attribute(picture, case.timestep, 10, noise=case.noise, draws=case.draws, candidates=candidates)
        seconds = time.perf_counter() - start
        inside = np.argsort(-vote, kind="stable")[:candidates]
        mass = float(case.exact[inside].sum() / case.exact.sum())
        exact = case.exact[answer.image_ids]
        rows.append(
            {
                "query": case.number, "timestep": case.timestep, "noise": case.setting,
                "candidates": candidates, "mass": mass,
                "mass_covered": answer.mass_covered, "mass_error": answer.mass_error,
                "score_z": ((answer.scores - exact) / np.maximum(answer.score_errors, 1e-3 * exact)).tolist(),
                "score_relative": (np.abs(answer.scores - exact) / exact).tolist(),
                "seconds": seconds,
                "stages": {**answer.seconds, "probe": answer.seconds["embed"] + answer.seconds["probe"]},
            }
        )  # fmt: skip
    return rows


def votes_of_case(index: nda.Index, case: Case) -> NDArray[np.float64]:
    """What the coarse stage makes of a case."""
    return index.votes(case.query.transpose(1, 2, 0), case.timestep, noise=case.noise, draws=case.draws)


def as_markdown(results: dict[str, Any]) -> str:
    """The results page."""
    lines = ["# The coarse stage and the error bars", ""]
    lines += [f"`python -m benchmarks.recall` on {results['machine']}. {results['images']:,} CIFAR-10 images"]
    lines += ["(JPEG q75), scales 7 and 14/2, against exact scores of all images under the same noise setting."]
    lines += ["The page's rows say how many queries were asked.", ""]
    lines += ["![Recall](recall.png)", "", "## What is kept", ""]
    lines += ["Recall of the exact top 100 by share of the images kept. Targets at 5%, t = 20 to 200: 0.95 (none,"]
    lines += ["average), 0.90 (one draw).", ""]
    lines += [
        "| way | t | noise | queries |"
        + "".join(f" {share:.1%} |" for share in SHARES)
        + " top 10 at 5% | mass at 5% | Spearman | seconds |"
    ]
    lines += ["|---" * 14 + "|"]
    for r in sorted(results["recall"], key=lambda r: (r["way"], r["noise"], r["timestep"])):
        recall = " | ".join(f"{value:.2f}" for value in r["recall_100"])
        seconds = "" if np.isnan(r["seconds"]) else f"{r['seconds']:.2f}"
        lines.append(
            f"| {r['way']} | {r['timestep']} | {r['noise']} | {r['queries']} | {recall} | {r['recall_10'][TARGET]:.2f} "
            f"| {r['mass'][TARGET]:.2f} | {r['spearman']:.2f} | {seconds} |"
        )
    rows = results["calibration"]
    lines += ["", "## Error bars", ""]
    lines += ["How often the exact value lies within 1.96 standard errors of the answer's, wanted: 0.95 +- 0.03.", ""]
    lines += ["| t | cases | mass_covered: within | its error, rms | its standard error | top 10 scores: within |"]
    lines += ["|---|---|---|---|---|---|"]
    groups = {str(t): [r for r in rows if r["timestep"] == t] for t in TIMESTEPS}
    groups |= {"all": rows, f"all, queries from {FRESH} on": [r for r in rows if r["query"] >= FRESH]}
    for name, mine in groups.items():
        if not mine:
            continue
        error = np.array([r["mass_covered"] - r["mass"] for r in mine])
        standard = np.array([max(r["mass_error"], 1e-3) for r in mine])
        z = np.abs(np.concatenate([r["score_z"] for r in mine]))
        lines.append(
            f"| {name} | {len(mine)} | {(np.abs(error) < 1.96 * standard).mean():.2f} "
            f"| {np.sqrt((error**2).mean()):.3f} | {standard.mean():.3f} | {(z < 1.96).mean():.2f} |"
        )
    lines += ["", "## Time", "", f"Median seconds of an answer by stage, {CANDIDATES[-1]:,} candidates.", ""]
    lines += ["| noise | whole | probe | exact | coverage | fetch | maps | probe's part |"]
    lines += ["|---" * 8 + "|"]
    for noise in SETTINGS:
        mine = [r for r in rows if r["noise"] == noise and r["candidates"] == CANDIDATES[-1]]
        stages = {s: float(np.median([r["stages"][s] for r in mine])) for s in mine[0]["stages"]}
        whole = float(np.median([r["seconds"] for r in mine]))
        figures = " | ".join(f"{stages[s]:.2f}" for s in ("probe", "exact", "coverage", "fetch", "maps"))
        lines.append(f"| {noise} | {whole:.2f} | {figures} | {stages['probe'] / whole:.0%} |")
    return "\n".join(lines) + "\n"


def draw_curves(results: dict[str, Any]) -> None:
    """Recall of the top 100 against the share kept, one panel a noise setting."""
    try:
        import matplotlib
    except ImportError as error:
        console.print(f"The figure is left out: {error}")
        return
    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 4, figsize=(14, 3.4), layout="constrained", sharey=True)
    for axis, noise in zip(axes, SETTINGS, strict=True):
        for r in results["recall"]:
            if r["noise"] == noise and r["way"] == "coarse stage":
                axis.plot([100 * share for share in SHARES], r["recall_100"], "o-", label=f"t = {r['timestep']}")
            elif r["noise"] == noise and r["way"] == "pixel distance" and r["timestep"] == 100:
                axis.plot([100 * share for share in SHARES], r["recall_100"], "k:", label="pixel distance, t = 100")
        axis.axhline(0.9 if noise == "draw" else 0.95, color="grey", lw=0.8)
        axis.set(xscale="log", xlabel="% of the images kept", title=f"noise: {noise}", ylim=(0, 1.02))
        axis.set_xticks([100 * share for share in SHARES], [f"{100 * share:g}" for share in SHARES])
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("recall of the exact top 100")
    axes[3].legend(fontsize=8)
    figure.savefig(RESULTS / "recall.png", dpi=110)


def _quiet(done: int, total: int) -> None:
    pass


if __name__ == "__main__":
    main()

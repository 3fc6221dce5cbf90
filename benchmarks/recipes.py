"""A recipe's shortlist and error bars against exact scores, and what a question costs beside timestep 100.

    python -m benchmarks.recipes [--images 50000] [--queries 10] [--recipe models] [--truth FOLDER]
    python -m benchmarks.recipes --recipe "3@100(stride=2)" --scale 3 --scale 5

Exact scores take about 40 s a query at 50,000 images on two cores; FOLDER keeps them. The queries are test pictures
that had no part in choosing the recipes. Reads ../shared/data; writes benchmarks/results/recipes-IMAGES-RECIPE.json and
benchmarks/results/recipes.md, which has all that were measured. A recipe without a name, or other scales of the index,
are printed and not written.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

import nda_index as nda
from benchmarks.machine import RESULTS, describe_machine
from benchmarks.recall import SHARES, kept
from benchmarks.setting import FIRST_SCALES, read_pictures
from nda_index.indexing.request import DEFAULT_SCALES
from nda_index.recipe import RECIPES, as_recipe
from nda_index.scales import parse_scale

FIRST_QUERY = 300  # of the test set
TIMED = 9  # questions of each kind, by turns
CANDIDATES = (None, 1500, 500)  # by turns
TOP = 10

console = Console(width=200)


def main() -> None:
    """Measure, then write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--queries", type=int, default=10)
    parser.add_argument("--recipe", default="models")
    parser.add_argument("--truth", type=Path)
    parser.add_argument("--scale", type=parse_scale, action="append", help="of the index; the default ones otherwise")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = measure(arguments, Path(folder))
    if arguments.scale or arguments.recipe not in RECIPES:
        console.print(as_markdown([results]))
        return
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"recipes-{arguments.images}-{arguments.recipe}.json").write_text(json.dumps(results, indent=1) + "\n")
    page = as_markdown([json.loads(path.read_text()) for path in sorted(RESULTS.glob("recipes-*.json"))])
    (RESULTS / "recipes.md").write_text(page)
    console.print(page)


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Build both indexes, compare, and time."""
    train = read_pictures("train", 0, arguments.images)
    queries = read_pictures("test", FIRST_QUERY, arguments.queries)
    index = nda.build_index(train, folder / "now.nda", scales=arguments.scale or DEFAULT_SCALES, null=0)
    before = nda.build_index(train, folder / "before.nda", scales=FIRST_SCALES, null=0)
    cases = []
    for number, query in enumerate(track(queries, "queries")):
        name = f"{str(as_recipe(arguments.recipe)).replace('/', 'r')}-{arguments.images}-{FIRST_QUERY + number}.npy"
        exact = exact_scores(index, query, arguments.recipe, arguments.truth and arguments.truth / name)
        cases.append(compare(index, query, arguments.recipe, exact, CANDIDATES[number % len(CANDIDATES)]))
    return {
        "machine": describe_machine(),
        "images": arguments.images,
        "recipe": arguments.recipe,
        "terms": str(as_recipe(arguments.recipe)),
        "scales": [scale.name for scale in index.scales],
        "cases": cases,
        "seconds": measure_seconds(index, before, queries, arguments.recipe),
    }


def exact_scores(index: nda.Index, query: NDArray[np.uint8], recipe: str, path: Path | None) -> NDArray[np.float64]:
    """Score all images exactly, or read the scores that are kept."""
    if path is not None and path.exists():
        return np.asarray(np.load(path), np.float64)
    scores: NDArray[np.float64] = index.scores(query[None], recipe=recipe)[0]
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, scores)
    return scores


def compare(
    index: nda.Index, query: NDArray[np.uint8], recipe: str, exact: NDArray[np.float64], candidates: int | None
) -> dict[str, Any]:
    """Return what the shortlist keeps of the exact ranking, and the errors of an answer in its standard errors."""
    votes = index.votes(query, recipe=recipe)
    answer = index.attribute(query, top=TOP, recipe=recipe, candidates=candidates)
    inside = np.argsort(-votes, kind="stable")[: answer.scored]
    mass, errors = float(exact[inside].sum() / exact.sum()), np.maximum(answer.score_errors, 1e-6)
    found = kept(exact, votes)
    return {
        "recall_100": found["recall_100"],
        "mass_by_share": found["mass"],
        "candidates": answer.scored,
        "mass": mass,
        "mass_covered": answer.mass_covered,
        "mass_z": float((answer.mass_covered - mass) / max(answer.mass_error, 1e-6)),
        "score_z": ((answer.scores - exact[answer.image_ids]) / errors).tolist(),
        "score_relative": float(np.abs(answer.scores / exact[answer.image_ids] - 1).mean()),
        "found_10": float(np.isin(np.argsort(-exact)[:TOP], answer.image_ids).mean()),
    }


def measure_seconds(
    index: nda.Index, before: nda.Index, queries: NDArray[np.uint8], recipe: str
) -> dict[str, list[float]]:
    """Time the recipe beside timestep 100 on an index of version 0.1.0's default scales, by turns."""
    kinds: dict[str, Callable[[NDArray[np.uint8]], Any]] = {
        "recipe": lambda query: index.attribute(query, recipe=recipe),
        "before": lambda query: before.attribute(query, 100),
    }
    for ask in kinds.values():
        ask(queries[0])  # compiles
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for turn in range(TIMED):
        for name, ask in kinds.items():
            start = time.perf_counter()
            ask(queries[turn % len(queries)])
            seconds[name].append(time.perf_counter() - start)
    return seconds


def as_markdown(measured: list[dict[str, Any]]) -> str:
    """Write the results page."""
    lines = ["# Recipes: shortlists, error bars and cost", ""]
    lines += [
        "`python -m benchmarks.recipes`, on CIFAR-10 (JPEG q75), indexes of the default scales, against exact scores",
        f"of all images. Queries: test pictures from {FIRST_QUERY} on. recall@100 by share of the images kept;",
        "`mass_covered` and the top ten scores of answers, within 1.96 of their standard errors (wanted: 0.95).",
        "Seconds of a question with the default shortlist, median, beside timestep 100 without noise on an index of",
        "scales 7 and 14/2, by turns.",
        "",
    ]
    shares = " | ".join(f"{share:.1%}" for share in SHARES)
    lines += [f"| recipe | images | queries | {shares} | mass at 5% | mass_covered | top ten scores | s | s before |"]
    lines += ["|---" * (9 + len(SHARES)) + "|"]
    for one in measured:
        cases = one["cases"]
        recall = " | ".join(f"{value:.3f}" for value in np.mean([case["recall_100"] for case in cases], axis=0))
        at_five = np.mean([case["mass_by_share"][SHARES.index(0.05)] for case in cases])
        z = np.abs([case["mass_z"] for case in cases]), np.abs(np.concatenate([case["score_z"] for case in cases]))
        within = [f"{(values < 1.96).mean():.2f} of {values.size}" for values in z]
        seconds = [f"{np.median(one['seconds'][kind]):.2f}" for kind in ("recipe", "before")]
        lines.append(
            f"| {one['recipe']} | {one['images']:,} | {len(cases)} | {recall} | {at_five:.2f} | {' | '.join(within)} "
            f"| {' | '.join(seconds)} |"
        )
    lines += [""]
    explained = [f"- {one['recipe']}: `{one['terms']}`, index of {' and '.join(one['scales'])}" for one in measured]
    lines += dict.fromkeys(explained)
    lines += ["", *dict.fromkeys(f"Measured on {one['machine']}." for one in measured), ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()

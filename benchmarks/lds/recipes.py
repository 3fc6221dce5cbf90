"""Recipes and their terms judged by models of halves at 32 x 32: one half of the pictures chose, the other confirms.

    python -m benchmarks.lds.recipes [--terms FOLDER]
    python -m benchmarks.lds.recipes --recipe "3@100(draws=4, stride=2)" --recipe "3@100 + 5@200"
    python -m benchmarks.lds.recipes --pack

Needs ../shared/data (CIFAR-10) and benchmarks/lds/data/medium.npz: the losses of 64 models of halves and 40 more of
another seed on 200 held-out and 200 generated pictures, these pictures, and scores by the gradients of the full model.
`--pack` makes that file from ../shared/data/cifar2_32. Takes under ten minutes on two cores; FOLDER keeps the scores of
each term, and a run goes on from there. Writes benchmarks/results/lds-recipes.md and .json; rows of recipes that are
given are printed only.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.lds.influence import ridge_scores
from benchmarks.lds.setting import MEDIUM, draw_masks, load_held_out_images, load_training_images
from benchmarks.machine import RESULTS, SHARED, describe_machine
from nda_index.evaluate.lds import linear_datamodeling_scores, mean_with_interval
from nda_index.evaluate.methods import pixel_cosine, recipe_scores
from nda_index.recipe import RECIPES, Recipe, parse_recipe

DATA = Path(__file__).parent / "data"
PACKED = DATA / "medium.npz"
PARTS = {"chose": (0, 100), "confirms": (100, 200)}  # of the held-out and of the generated pictures
GROUPS = ("held-out", "generated")
BY_GRADIENTS = {"TRAK": ("loss", 1.0), "D-TRAK": ("norm", 0.01)}  # method: gradients and lambda, the best on `chose`
COMPARED = (("models", "published"), ("models", "TRAK"), ("models", "D-TRAK"), ("models", "EK-FAC"))

console = Console(width=160)


def main() -> None:
    """Score, then write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--terms", type=Path, help="folder that keeps the scores of each term")
    parser.add_argument("--pack", action="store_true", help="make medium.npz from ../shared/data/cifar2_32")
    parser.add_argument("--recipe", type=parse_recipe, action="append", help="to be scored in place of the named ones")
    arguments = parser.parse_args()
    if arguments.pack:
        pack_shared_data()
        return
    start = time.perf_counter()
    packed = np.load(PACKED)
    held = load_held_out_images(MEDIUM)
    train, queries = load_training_images(MEDIUM), np.concatenate([held, packed["generated"]])
    scores = {name.removeprefix("scores/"): packed[name] for name in packed.files if name.startswith("scores/")}
    scores["cosine of the pixels"] = pixel_cosine(train, queries)
    for recipe in arguments.recipe or RECIPES.values():
        scores |= score_terms(recipe, train, queries, arguments.terms)
    values = {method: judge(found, packed) for method, found in scores.items()}
    results: dict[str, Any] = {
        "machine": describe_machine(),
        "seconds": time.perf_counter() - start,
        "rows": {method: describe(by_seed) for method, by_seed in values.items()},
        "differences": {
            f"{first} - {second}": describe_difference(values[first], values[second])
            for first, second in COMPARED
            if first in values and second in values
        },
    }
    if arguments.recipe:
        console.print(as_markdown(results))
        return
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "lds-recipes.json").write_text(json.dumps(results, indent=1) + "\n")
    (RESULTS / "lds-recipes.md").write_text(as_markdown(results))
    console.print(as_markdown(results))


def pack_shared_data() -> None:
    """Write what scoring needs of ../shared/data/cifar2_32: means of the losses over timesteps, and ridge scores."""
    folder = SHARED / "data" / "cifar2_32"
    losses, gradients = np.load(folder / "lds.npz"), np.load(folder / "gradients.npz")
    arrays = {f"losses{seed}": losses[f"losses{seed}"].mean(axis=2) for seed in (0, 1)}  # [M, 2 Q]
    arrays["generated"] = np.load(folder / "generated.npz")["generated"]
    for method, (kind, ratio) in BY_GRADIENTS.items():
        gram, cross = (torch.from_numpy(gradients[f"{part}_{kind}"]) for part in ("gram", "cross"))
        found = ridge_scores(gram, cross, ratio).numpy()
        arrays[f"scores/{method}"] = (found / np.abs(found).max(axis=1, keepdims=True)).astype(np.float16)
    kept = dict(np.load(PACKED)) if PACKED.exists() else {}  # with the scores of benchmarks.lds.ekfac
    np.savez_compressed(PACKED, **{**kept, **arrays})


def score_terms(
    recipe: Recipe, train: NDArray[np.uint8], queries: NDArray[np.uint8], folder: Path | None
) -> dict[str, NDArray[np.float64]]:
    """Score all images by a recipe, the weighted sum of its terms' normalised scores, and by each term alone."""
    found: dict[str, NDArray[np.float64]] = {}
    for term in recipe.terms:
        alone = replace(term, scale=replace(term.scale, weight=1.0))
        kept = None if folder is None else folder / f"{str(alone).replace('/', 'r')}.npy"
        if kept is not None and kept.exists():
            found[str(alone)] = np.load(kept)
            continue
        found[str(alone)] = recipe_scores(train, queries, Recipe((alone,)))
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            np.save(kept, found[str(alone)])
        console.print(f"{recipe.name}: {alone}")
    weights = [term.scale.weight for term in recipe.terms]
    whole = sum(weight * part for weight, part in zip(weights, found.values(), strict=True))
    return {recipe.name or str(recipe): np.asarray(whole, np.float64), **(found if len(found) > 1 else {})}


def judge(scores: NDArray[np.floating], packed: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
    """Return the linear datamodeling score of every picture, the mean over both seeds' models: float64 [2, Q]."""
    masks = draw_masks(MEDIUM)
    by_seed = [
        linear_datamodeling_scores(scores, masks[: len(losses)], losses)
        for losses in (packed["losses0"], packed["losses1"])
    ]
    return np.asarray(np.mean(by_seed, axis=0).reshape(len(GROUPS), -1), np.float64)


def describe(values: NDArray[np.float64]) -> dict[str, str]:
    """Write mean and interval of each part and group of pictures."""
    return {
        f"{group}, {part}": str(mean_with_interval(values[row, first:last]))
        for part, (first, last) in PARTS.items()
        for row, group in enumerate(GROUPS)
    }


def describe_difference(first: NDArray[np.float64], second: NDArray[np.float64]) -> dict[str, str]:
    """Write mean and interval of the differences on the same pictures."""
    return describe(first - second)


def as_markdown(results: dict[str, Any]) -> str:
    """Write the results page."""
    lines = ["# Recipes, judged by models at 32 x 32", ""]
    lines += [
        f"`python -m benchmarks.lds.recipes` on {results['machine']}, in {results['seconds']:.0f} s.",
        "CIFAR-2 (automobile, horse), 1,000 images, U-Nets of 4.4 million parameters: 64 of random halves, and 40 of",
        "the first halves again with other first weights. 200 held-out pictures and 200 that the model of all images",
        "generated. Mean over pictures and over both seeds of Spearman's correlation between subset sums of scores and",
        "the models' negative losses, with 95% bootstrap intervals over pictures. Recipes and the lambdas of TRAK,",
        "D-TRAK and EK-FAC were chosen on one half of the pictures of each kind; the other half confirms. Each",
        "gradient is of 40 draws of noise.",
        "",
    ]
    columns = list(next(iter(results["rows"].values())))
    for title, part in (("method", results["rows"]), ("difference on the same pictures", results["differences"])):
        lines += [f"| {title} | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
        lines += [f"| {name} | " + " | ".join(row[column] for column in columns) + " |" for name, row in part.items()]
        lines += [""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()

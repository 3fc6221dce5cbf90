"""Linear datamodeling scores of every method, from the kept losses: no model is trained.

    python -m benchmarks.lds.rescore

Reads ../shared/data and benchmarks/lds/data, takes a minute or two on two cores, and prints the same figures to the
last digit every time. Writes benchmarks/results/lds.md, .json and .png. Options:

    --grid     scores many patch sizes, timesteps and noise settings, in half an hour: lds-grid.md and .json
    --confirm  scores other pictures with what was chosen on these, in some minutes: lds-confirm.md and .json
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

import nda_index as nda
from benchmarks.lds.setting import SMALL, draw_masks, load_held_out_images, load_training_images
from benchmarks.machine import RESULTS, describe_machine
from benchmarks.setting import FIRST_SCALES
from nda_index.evaluate.comparison import BASELINES, Row, as_markdown, baseline_rows, judge_scores, posterior_rows
from nda_index.evaluate.lds import linear_datamodeling_scores
from nda_index.evaluate.methods import recipe_scores
from nda_index.evaluate.study import Study
from nda_index.question import Options
from nda_index.recipe import RECIPES
from nda_index.scales import parse_scale

DATA = Path(__file__).parent / "data"
GROUPS = ("held-out", "generated")
TIMESTEPS = (100, 200, 400)
NOISY = (200, 400)  # timesteps at which noise settings are compared
DRAWS = 8
AVERAGE: Options = {"noise": "average", "draws": DRAWS}
GRID = tuple(parse_scale(text) for text in ("3", "5", "7", "10/2", "14/2"))
GRID_SMALLER, GRID_FASTEST = nda.Scale(5), nda.Scale(14, 2)
GRID_TIMESTEPS = (50, 100, 200, 400)
GRID_OTHERS = (100, 600)  # timesteps of too little noise and of too much
GRID_DRAWS = (2, 4, 16)
GRID_MORE = (32, 64)  # draws of the fastest scale
GRID_BETWEEN = (300, 500)  # timesteps of it
# The terms of "models" with patches of half the size, as these pictures are half as large as those that chose it.
HALVED = "2@150(draws=2) + 5@400*0.5(draws=2) + 5@50*0.02(draws=0)"
BEST, MOST = (400,), 16  # timestep and draws that did best
MOST_DRAWS: Options = {"noise": "average", "draws": MOST}
CHOSEN = ("trak-1", "d-trak-0.01", "d-trak-0.001", "ekfac-0.001")  # of each gradient method, lambdas that did best

console = Console(width=200)


def main() -> None:
    """Score, then write."""
    parser = argparse.ArgumentParser()
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--grid", dest="page", action="store_const", const="lds-grid", help="many settings")
    other.add_argument("--confirm", dest="page", action="store_const", const="lds-confirm", help="other pictures")
    name = parser.parse_args().page or "lds"
    start = time.perf_counter()
    if name == "lds-confirm":
        rows = confirm_rows(load_study(further=True))
    else:
        rows = (grid_rows if name == "lds-grid" else main_rows)(load_study())
    seconds = time.perf_counter() - start
    made = json.loads((DATA / "small.json").read_text())
    results = {"machine": describe_machine(), "seconds": seconds, "made": made, "rows": [row.to_dict() for row in rows]}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n")
    (RESULTS / f"{name}.md").write_text(write_page(rows, made, seconds, name))
    if name == "lds":
        draw_bars(rows)
    console.print((RESULTS / f"{name}.md").read_text())


def load_study(*, further: bool = False) -> Study:
    """Read the small setting's images, and the losses and gradient scores that were kept of its models.

    Args:
        further: the pictures that had no part in choosing settings, and the last seed's models alone.
    """
    kept, gradients = np.load(DATA / "small.npz"), np.load(DATA / "small-gradients.npz")
    half = SMALL.queries
    if further:
        generated, losses, first = kept["further"], kept["further_losses"].mean(axis=2), 2 * half
    else:
        generated, losses, first = kept["generated"], kept["losses"].mean(axis=(0, 3)), 0
    return Study(
        load_training_images(SMALL),
        draw_masks(SMALL)[: len(losses)],
        dict(zip(GROUPS, (load_held_out_images(SMALL, further=further), generated), strict=True)),
        dict(zip(GROUPS, (losses[:, :half], losses[:, half:]), strict=True)),  # [M, 2 Q]: means over timesteps, seeds
        {
            name: {group: gradients[name][first + i * half :][:half] for i, group in enumerate(GROUPS)}
            for name in gradients.files
            if len(gradients[name]) > first
        },
    )


def main_rows(study: Study) -> list[Row]:
    """Make rows of baselines, the posterior, its noise settings, and shortlists next to all images."""
    rows = baseline_rows(study)
    rows += posterior_rows(study, FIRST_SCALES, TIMESTEPS)
    rows += label_rows(posterior_rows(study, FIRST_SCALES, NOISY, noise="draw"), "one draw")
    rows += label_rows(posterior_rows(study, FIRST_SCALES, NOISY, **AVERAGE), f"average of {DRAWS} draws")
    return rows + list(shortlist_rows(study, [("t = 100", 100, {})]))


def label_rows(rows: Sequence[Row], label: str) -> list[Row]:
    """Add a setting to the names of rows."""
    return [replace(row, method=f"{row.method}, {label}") for row in rows]


def shortlist_rows(study: Study, settings: Sequence[tuple[str, int, Options]]) -> Iterator[Row]:
    """Make rows of shortlists, where all other images have score 0.

    Args:
        study: models and their losses.
        settings: for each row its name, timestep and options.
    """
    name = " + ".join(scale.name for scale in FIRST_SCALES)
    with tempfile.TemporaryDirectory() as folder:
        index = nda.build_index(study.train, Path(folder) / "x.nda", image_size=SMALL.size, scales=FIRST_SCALES, null=0)
        for label, timestep, setting in settings:
            options: Options = {**setting, "mode": "ann"}
            start = time.perf_counter()
            scores = {group: index.scores(queries, timestep, **options) for group, queries in study.queries.items()}
            length = np.mean([(of_group > 0).sum(axis=1).mean() for of_group in scores.values()])
            seconds = time.perf_counter() - start
            yield judge_scores(study, f"{name}, {label}, shortlist of {length:.0f}", scores, seconds)


def grid_rows(study: Study) -> list[Row]:
    """Make rows of patch sizes and timesteps without noise; then of draws, tempers, and what else changes scores."""
    rows = baseline_rows(study) + posterior_rows(study, GRID, GRID_TIMESTEPS)
    noises: dict[str, Options] = {
        **{f"average of {draws} draws": {"noise": "average", "draws": draws} for draws in GRID_DRAWS},
        "temper 2": {"temper": 2.0},
        "temper 4": {"temper": 4.0},
        "10 windows an image": {"per_image_topk": 10},
        "mirrored": {"mirror": True},
    }
    for label, options in noises.items():
        rows += label_rows(posterior_rows(study, FIRST_SCALES, NOISY, **options), label)
    average = f"average of {DRAWS} draws"
    rows += label_rows(posterior_rows(study, [GRID_SMALLER], [*NOISY, *GRID_OTHERS], **AVERAGE), average)
    rows += label_rows(posterior_rows(study, FIRST_SCALES, GRID_OTHERS, **AVERAGE), average)
    for draws in GRID_MORE:
        more: Options = {"noise": "average", "draws": draws}
        rows += label_rows(posterior_rows(study, [GRID_FASTEST], BEST, **more), f"average of {draws} draws")
    for timestep in GRID_BETWEEN:
        rows += label_rows(posterior_rows(study, [GRID_FASTEST], [timestep], **MOST_DRAWS), f"average of {MOST} draws")
    short: Options = {"candidates": 50}
    both: Options = {**AVERAGE, "candidates": 50}
    return rows + list(shortlist_rows(study, [("t = 100", 100, short), (f"t = 400, {average}", 400, both)]))


def confirm_rows(study: Study) -> list[Row]:
    """Make rows of baselines, the default, one draw, and the averages that did best on the first pictures."""
    recipes = {f"recipe {name}": partial(recipe_scores, recipe=name) for name in (*RECIPES, HALVED)}
    rows = baseline_rows(study, {**recipes, **BASELINES}) + posterior_rows(study, FIRST_SCALES, TIMESTEPS[:1])
    rows += label_rows(posterior_rows(study, FIRST_SCALES, NOISY, noise="draw"), "one draw")
    rows += label_rows(posterior_rows(study, FIRST_SCALES, NOISY, **AVERAGE), f"average of {DRAWS} draws")
    return rows + label_rows(posterior_rows(study, FIRST_SCALES, BEST, **MOST_DRAWS), f"average of {MOST} draws")


def seeds_agree(losses: NDArray[np.floating], masks: NDArray[np.bool_]) -> list[float]:
    """Measure how well one seed's losses rank the subsets as another's, by group; nothing where there is one seed.

    Args:
        losses: [seeds, M, 2 Q, timesteps].
        masks: bool [M, N].
    """
    if len(losses) < 2:
        return []
    by_seed = losses.mean(axis=3)  # [seeds, M, 2 Q]
    # A query's scores are any that sum to its losses over subsets: the other seed's, through the masks' pseudo-inverse.
    scores = -(np.linalg.pinv(masks.astype(np.float64)) @ by_seed[0]).T  # [2 Q, N]
    by_picture = linear_datamodeling_scores(scores, masks, by_seed[1])
    return [float(part.mean()) for part in np.split(by_picture, 2)]


def write_page(rows: Sequence[Row], made: dict[str, Any], seconds: float, name: str) -> str:
    """Write the results page."""
    setting, option = made["setting"], name.removeprefix("lds").replace("-", " --", 1)
    further = name == "lds-confirm"
    places = made["machines"][-1:] if further else made["machines"]
    lines = ["# Linear datamodeling score", ""]
    lines += [f"`python -m benchmarks.lds.rescore{option}` on {describe_machine()}, in {seconds:.0f} s,"]
    lines += [f"from the losses that `{made['command']}` measured on"]
    lines += ["; ".join(dict.fromkeys(places)) + "."]
    lines += [
        f"CIFAR-2 (automobile, horse): {setting['images']:,} images at {setting['size']} x {setting['size']}, "
        f"{made['subsets']} random halves, {len(places)} model(s) on each: a U-Net of widths {setting['widths']}, "
        f"{setting['epochs']} epochs. {setting['queries']} held-out pictures and {setting['queries']} that the model "
        "of all images generated."
    ]
    lines += ["Mean over pictures of Spearman's correlation between subset sums of scores and the models' negative"]
    lines += [f"losses (mean over {len(setting['timesteps'])} timesteps), with its 95% bootstrap interval.", ""]
    if further:
        lines += ["Neither these pictures nor these models had a part in choosing any setting of a method.", ""]
    else:
        losses = np.load(DATA / "small.npz")["losses"]
        agree = seeds_agree(losses, draw_masks(SMALL)[: losses.shape[1]])
        if agree:
            both = " and ".join(f"{mean:.3f} ({group})" for mean, group in zip(agree, GROUPS, strict=True))
            lines += [f"So measured, the losses of one seed's models agree with another's to {both}.", ""]
    if name == "lds":
        lines += ["![Linear datamodeling scores](lds.png)", ""]
    return "\n".join([*lines, compare_pairs(rows), as_markdown(rows)])


def compare_pairs(rows: Sequence[Row]) -> str:
    """Write the differences on the same pictures between methods that a reader will want to compare."""
    by_name = {row.method: row for row in rows}
    scales = " + ".join(scale.name for scale in FIRST_SCALES)
    noisy, best = (", ".join(map(str, timesteps)) for timesteps in (NOISY, BEST))
    draw, average = (f"{scales}, t = {noisy}, {noise}" for noise in ("one draw", f"average of {DRAWS} draws"))
    most = f"{scales}, t = {best}, average of {MOST} draws"
    others = ("pixel cosine", draw, f"{scales}, t = 100", *CHOSEN)
    pairs = [(first, second) for first in (most, average) for second in others] + [(draw, "pixel cosine")]
    pairs += [(f"recipe {name}", "recipe published") for name in ("models", HALVED)]
    lines = ["Differences on the same pictures:", "", "| first | minus | held-out | generated |", "|---|---|---|---|"]
    for first, second in pairs:
        if first in by_name and second in by_name:
            difference = by_name[first].minus(by_name[second])
            lines.append(f"| {first} | {second} | " + " | ".join(str(difference[group]) for group in GROUPS) + " |")
    return "\n".join(lines) + "\n"


def draw_bars(rows: Sequence[Row]) -> None:
    """Draw the scores of the methods, best at the top, both groups side by side."""
    try:
        import matplotlib
    except ImportError as error:
        console.print(f"The figure is left out: {error}")
        return
    matplotlib.use("agg")
    from matplotlib import pyplot

    order = sorted(rows, key=lambda row: row.lds["generated"].mean)
    figure, axis = pyplot.subplots(figsize=(9, 0.24 * len(order) + 1), layout="constrained")
    for offset, group in zip((-0.2, 0.2), GROUPS, strict=True):
        means = np.array([row.lds[group].mean for row in order])
        low, high = (np.array([getattr(row.lds[group], end) for row in order]) for end in ("low", "high"))
        axis.errorbar(
            means, np.arange(len(order)) + offset, xerr=[means - low, high - means], fmt="o", ms=4, label=group
        )
    axis.set_yticks(range(len(order)), [row.method for row in order], fontsize=8)
    axis.axvline(0, color="grey", lw=0.8)
    axis.set_xlabel("linear datamodeling score, 95% interval")
    axis.grid(alpha=0.3, axis="x")
    axis.legend()
    figure.savefig(RESULTS / "lds.png", dpi=110)


if __name__ == "__main__":
    main()

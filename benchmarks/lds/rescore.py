"""Linear datamodeling scores of every method, from the kept losses: no model is trained.

    python -m benchmarks.lds.rescore

Reads ../shared/data and benchmarks/lds/data, takes a minute or two on two cores, and prints the same figures to the
last digit every time. Writes benchmarks/results/lds.md, .json and .png. With `--grid` it scores many patch sizes,
timesteps and noise settings instead, in a quarter of an hour, and writes benchmarks/results/lds-grid.md.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

import nda_index as nda
from benchmarks.lds.setting import SMALL, held_out_images, masks_of, training_images
from benchmarks.machine import RESULTS, describe_machine
from nda_index.evaluate.comparison import Row, as_markdown, baseline_rows, judged, posterior_rows
from nda_index.evaluate.lds import linear_datamodeling_scores
from nda_index.evaluate.study import Study
from nda_index.question import Options
from nda_index.scales import parse_scale

DATA = Path(__file__).parent / "data"
GROUPS = ("held-out", "generated")
DEFAULT = (nda.Scale(7), nda.Scale(14, 2))
TIMESTEPS = (100, 200, 400)
NOISY = (200, 400)  # timesteps at which noise settings are compared
DRAWS = 8
AVERAGE: Options = {"noise": "average", "draws": DRAWS}
GRID = tuple(parse_scale(text) for text in ("3", "5", "7", "10/2", "14/2"))
GRID_SMALLER = nda.Scale(5)
GRID_TIMESTEPS = (50, 100, 200, 400)
GRID_OTHERS = (100, 600)  # timesteps of too little noise and of too much
GRID_DRAWS = (2, 4, 16)

console = Console(width=200)


def main() -> None:
    """Score, then write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--grid", action="store_true", help="many patch sizes and timesteps, in a quarter of an hour")
    arguments = parser.parse_args()
    start = time.perf_counter()
    study = kept_study()
    rows = grid_rows(study) if arguments.grid else main_rows(study)
    name = "lds-grid" if arguments.grid else "lds"
    seconds = time.perf_counter() - start
    made = json.loads((DATA / "small.json").read_text())
    results = {"machine": describe_machine(), "seconds": seconds, "made": made, "rows": [row.to_dict() for row in rows]}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n")
    (RESULTS / f"{name}.md").write_text(page(rows, made, seconds, name))
    if not arguments.grid:
        draw_bars(rows)
    console.print((RESULTS / f"{name}.md").read_text())


def kept_study() -> Study:
    """The small setting's images, and the losses and gradient scores that were kept of its models."""
    kept = np.load(DATA / "small.npz")
    losses = kept["losses"].mean(axis=(0, 3))  # [M, 2 Q]: over seeds and timesteps
    half = SMALL.queries
    gradients = np.load(DATA / "small-gradients.npz")
    return Study(
        training_images(SMALL),
        masks_of(SMALL)[: len(losses)],
        dict(zip(GROUPS, (held_out_images(SMALL), kept["generated"]), strict=True)),
        dict(zip(GROUPS, (losses[:, :half], losses[:, half:]), strict=True)),
        {
            name: dict(zip(GROUPS, (gradients[name][:half], gradients[name][half:]), strict=True))
            for name in gradients.files
        },
    )


def main_rows(study: Study) -> list[Row]:
    """Baselines, the posterior, its noise settings, and shortlists beside all images."""
    rows = baseline_rows(study)
    rows += posterior_rows(study, DEFAULT, TIMESTEPS)
    rows += named(posterior_rows(study, DEFAULT, NOISY, noise="draw"), "one draw")
    rows += named(posterior_rows(study, DEFAULT, NOISY, **AVERAGE), f"average of {DRAWS} draws")
    return rows + list(shortlist_rows(study, [("t = 100", 100, {})]))


def named(rows: Sequence[Row], label: str) -> list[Row]:
    """Rows with a setting in their names."""
    return [replace(row, method=f"{row.method}, {label}") for row in rows]


def shortlist_rows(study: Study, settings: Sequence[tuple[str, int, Options]]) -> Iterator[Row]:
    """Scores of a shortlist, where all other images have 0.

    Args:
        study: models and their losses.
        settings: for each row its name, timestep and options.
    """
    name = " + ".join(scale.name for scale in DEFAULT)
    with tempfile.TemporaryDirectory() as folder:
        index = nda.build_index(study.train, Path(folder) / "x.nda", image_size=SMALL.size, scales=DEFAULT, null=0)
        for label, timestep, given in settings:
            options: Options = {**given, "mode": "ann"}
            start = time.perf_counter()
            scores = {group: index.scores(queries, timestep, **options) for group, queries in study.queries.items()}
            length = np.mean([(found > 0).sum(axis=1).mean() for found in scores.values()])
            seconds = time.perf_counter() - start
            yield judged(study, f"{name}, {label}, shortlist of {length:.0f}", scores, seconds)


def grid_rows(study: Study) -> list[Row]:
    """Patch sizes and timesteps without noise; then more and more draws, tempers, and what else changes scores."""
    rows = posterior_rows(study, GRID, GRID_TIMESTEPS)
    noises: dict[str, Options] = {
        **{f"average of {draws} draws": {"noise": "average", "draws": draws} for draws in GRID_DRAWS},
        "temper 2": {"temper": 2.0},
        "temper 4": {"temper": 4.0},
        "10 windows an image": {"per_image_topk": 10},
        "mirrored": {"mirror": True},
    }
    for label, options in noises.items():
        rows += named(posterior_rows(study, DEFAULT, NOISY, **options), label)
    average = f"average of {DRAWS} draws"
    rows += named(posterior_rows(study, [GRID_SMALLER], [*NOISY, *GRID_OTHERS], **AVERAGE), average)
    rows += named(posterior_rows(study, DEFAULT, GRID_OTHERS, **AVERAGE), average)
    short: Options = {"candidates": 50}
    both: Options = {**AVERAGE, "candidates": 50}
    return rows + list(shortlist_rows(study, [("t = 100", 100, short), (f"t = 400, {average}", 400, both)]))


def seeds_agree(losses: NDArray[np.floating], masks: NDArray[np.bool_]) -> list[float]:
    """How well one seed's losses rank the subsets as another's, by group; nothing where there is one seed.

    Args:
        losses: [seeds, M, 2 Q, timesteps].
        masks: bool [M, N].
    """
    if len(losses) < 2:
        return []
    by_seed = losses.mean(axis=3)  # [seeds, M, 2 Q]
    # A query's scores are any that sum to its losses over subsets: the other seed's, through the masks' pseudo-inverse.
    scores = -(np.linalg.pinv(masks.astype(np.float64)) @ by_seed[0]).T  # [2 Q, N]
    found = linear_datamodeling_scores(scores, masks, by_seed[1])
    return [float(part.mean()) for part in np.split(found, 2)]


def page(rows: Sequence[Row], made: dict[str, Any], seconds: float, name: str) -> str:
    """The results page."""
    setting = made["setting"]
    lines = ["# Linear datamodeling score", ""]
    grid = " --grid" if name == "lds-grid" else ""
    lines += [f"`python -m benchmarks.lds.rescore{grid}` on {describe_machine()}, in {seconds:.0f} s, from the losses"]
    lines += [f"that `{made['command']}` measured on {made['machine']}."]
    lines += [
        f"CIFAR-2 (automobile, horse): {setting['images']:,} images at {setting['size']} x {setting['size']}, "
        f"{made['subsets']} random halves, {made['seeds']} model(s) on each: a U-Net of widths {setting['widths']}, "
        f"{setting['epochs']} epochs. {setting['queries']} held-out pictures and {setting['queries']} that the model "
        "of all images generated."
    ]
    lines += ["Mean over pictures of Spearman's correlation between subset sums of scores and the models' negative"]
    lines += [f"losses (mean over {len(setting['timesteps'])} timesteps), with its 95% bootstrap interval.", ""]
    losses = np.load(DATA / "small.npz")["losses"]
    agree = seeds_agree(losses, masks_of(SMALL)[: losses.shape[1]])
    if agree:
        lines += [
            f"Two models of the same halves agree to {agree[0]:.3f} (held-out) and {agree[1]:.3f} (generated).",
            "",
        ]
    if name == "lds":
        lines += ["![Linear datamodeling scores](lds.png)", ""]
        lines += [paired(rows)]
    return "\n".join(lines) + "\n" + as_markdown(rows)


def paired(rows: Sequence[Row]) -> str:
    """Differences on the same pictures between methods that a reader will want to compare."""
    by_name = {row.method: row for row in rows}
    scales = " + ".join(scale.name for scale in DEFAULT)
    draw, average = (
        f"{scales}, t = {', '.join(map(str, NOISY))}, {noise}" for noise in ("one draw", f"average of {DRAWS} draws")
    )
    pairs = [(average, "pixel cosine"), (average, draw), (average, f"{scales}, t = 100"), (draw, "pixel cosine")]
    pairs += [(average, name) for name in ("trak-1", "d-trak-0.01", "d-trak-0.001", "ekfac-0.001")]
    lines = ["Differences on the same pictures:", "", "| first | minus | held-out | generated |", "|---|---|---|---|"]
    for first, second in pairs:
        difference = by_name[first].minus(by_name[second])
        lines.append(f"| {first} | {second} | " + " | ".join(str(difference[group]) for group in GROUPS) + " |")
    return "\n".join(lines) + "\n"


def draw_bars(rows: Sequence[Row]) -> None:
    """Scores of the methods, best at the top, both groups beside one another."""
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

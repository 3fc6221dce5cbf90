"""Counterfactuals: how a picture changes when a model is trained without the images that a method ranks first.

    python -m benchmarks.lds.counterfactual FOLDER --pictures 6

One file in FOLDER for each model, that of all images too, so that a run goes on from what is there. For each of
the first generated pictures and each method the best tenth of the training images is left out; a new model is trained,
and makes its picture from the same noise. The same change is then predicted from the posterior mean, without training.
Writes benchmarks/results/counterfactual.md and .json. A model takes two to three minutes on a core.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from scipy.stats import spearmanr

import nda_index as nda
from benchmarks.lds.model import generate, load_model, to_tensor
from benchmarks.lds.rescore import AVERAGE, BEST, DRAWS, MOST, MOST_DRAWS, NOISY, load_study
from benchmarks.lds.setting import SMALL
from benchmarks.lds.train import train_missing
from benchmarks.machine import RESULTS, describe_machine
from benchmarks.setting import FIRST_SCALES
from nda_index.diffusion import draw_noise, noise_level
from nda_index.evaluate.counterfactual import change
from nda_index.evaluate.lds import mean_with_interval
from nda_index.evaluate.methods import pixel_cosine, posterior_scores, random_scores
from nda_index.evaluate.study import Study

REMOVED = SMALL.images // 10
GRADIENTS = "ekfac-0.001"
PREDICTED = (100, 200, 400, 600)  # timesteps at which changes are predicted

console = Console(width=200)


def main() -> None:
    """Train what is missing, compare, then write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pictures", type=int, default=6)
    parser.add_argument("--workers", type=int, default=2, help="models trained at a time, each on one core")
    arguments = parser.parse_args()
    study = load_study()
    pictures = study.queries["generated"][: arguments.pictures]
    removals = {
        f"{method}-{number}": np.argsort(-row, kind="stable")[:REMOVED]
        for method, scores in score_methods(study, pictures).items()
        for number, row in enumerate(scores)
    }
    files = {
        name: arguments.folder / f"without-{hash_removed(removed)}.safetensors" for name, removed in removals.items()
    }
    full = arguments.folder / "full-0.safetensors"
    jobs = [(files[name], mask_kept(removed), 0) for name, removed in removals.items()]
    arguments.folder.mkdir(parents=True, exist_ok=True)
    train_missing(SMALL, [(full, mask_kept(np.empty(0, np.int64)), 0), *jobs], arguments.workers)
    rows = [measure_change(name, files[name], pictures) for name in removals]
    predictions = predict_changes(study, pictures, removals, files, full)
    results = {"machine": describe_machine(), "removed": REMOVED, "rows": rows, "predictions": predictions}
    (RESULTS / "counterfactual.json").write_text(json.dumps(results, indent=1) + "\n")
    (RESULTS / "counterfactual.md").write_text(as_markdown(results))
    console.print(as_markdown(results))


def score_methods(study: Study, pictures: NDArray[np.uint8]) -> dict[str, NDArray[np.floating]]:
    """Score every training image for every picture, [Q, N], by each method."""
    return {
        f"posterior, {MOST} draws": posterior_scores(study.train, pictures, FIRST_SCALES, BEST, **MOST_DRAWS),
        f"posterior, {DRAWS} draws": posterior_scores(study.train, pictures, FIRST_SCALES, NOISY, **AVERAGE),
        "pixel cosine": pixel_cosine(study.train, pictures),
        GRADIENTS: study.scores[GRADIENTS]["generated"][: len(pictures)],
        "random": random_scores(study.train, pictures),
    }


def mask_kept(removed: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Mark the images that are left, bool [N]."""
    kept = np.ones(SMALL.images, np.bool_)
    kept[removed] = False
    return kept


def hash_removed(removed: NDArray[np.int64]) -> str:
    """Name a file by the images that are left out, so that no other model is taken for it."""
    return hashlib.sha256(np.sort(removed).tobytes()).hexdigest()[:16]


def measure_change(name: str, file: Path, pictures: NDArray[np.uint8]) -> dict[str, Any]:
    """Measure how much a picture changed."""
    method, _, number = name.rpartition("-")
    seed = int(number)
    made = generate(load_model(SMALL, file), SMALL, range(seed, seed + 1))
    changed = change(pictures[seed : seed + 1], made)
    return {
        "method": method,
        "picture": seed,
        "distance": float(changed.distance[0]),
        "ssim": float(changed.likeness[0]),
    }


def predict_changes(
    study: Study,
    pictures: NDArray[np.uint8],
    removals: dict[str, NDArray[np.int64]],
    files: dict[str, Path],
    full: Path,
) -> list[dict[str, Any]]:
    """Compare the change of what a model makes of a noisy picture with that of the posterior mean.

    Returns:
        A row for each removal and timestep.
    """
    model, rows = load_model(SMALL, full), []
    with tempfile.TemporaryDirectory() as path:
        index = nda.build_index(study.train, Path(path) / "x.nda", image_size=SMALL.size, scales=FIRST_SCALES, null=0)
        for timestep in PREDICTED:
            before = [index.denoise(each, timestep, noise="draw", mode="exact").image for each in pictures]
            models = [denoise_with(model, each, timestep) for each in pictures]
            for name, removed in removals.items():
                method, _, number = name.rpartition("-")
                picture = int(number)
                after = index.denoise(pictures[picture], timestep, noise="draw", mode="exact", without=removed).image
                ours = after - before[picture]
                real = denoise_with(load_model(SMALL, files[name]), pictures[picture], timestep) - models[picture]
                rows.append(
                    {
                        "timestep": timestep,
                        "method": method,
                        "picture": picture,
                        "predicted": float(np.linalg.norm(ours)),
                        "real": float(np.linalg.norm(real)),
                        "cosine": float((ours * real).sum() / (np.linalg.norm(ours) * np.linalg.norm(real) + 1e-12)),
                    }
                )
    return rows


@torch.inference_mode()
def denoise_with(model: torch.nn.Module, picture: NDArray[np.uint8], timestep: int) -> NDArray[np.float32]:
    """Denoise the noisy picture with a model: float32 [H, W, C], the picture less the noise that it predicts."""
    level = noise_level(timestep)
    clean = to_tensor(picture[None])
    noisy = level.signal * clean + level.sigma * torch.from_numpy(draw_noise((3, SMALL.size, SMALL.size), timestep))
    denoised = (noisy - level.sigma * model(noisy, timestep).sample) / level.signal  # [1, C, H, W]
    return np.asarray(denoised[0].permute(1, 2, 0).numpy())


def as_markdown(results: dict[str, Any]) -> str:
    """Write the results page."""
    rows, predictions = results["rows"], results["predictions"]
    names = list(dict.fromkeys(row["method"] for row in rows))
    pictures = len({row["picture"] for row in rows})
    command = f"python -m benchmarks.lds.counterfactual FOLDER --pictures {pictures}"
    lines = ["# Counterfactuals", "", f"`{command}` on {results['machine']}."]
    lines += [f"The small setting of the [LDS](lds.md), {pictures} generated pictures; {results['removed']} of"]
    lines += [f"{SMALL.images:,} images are left out, and a new model makes its picture from the same noise."]
    lines += ["", "## How much the picture changes", ""]
    lines += [
        "More is better: a longer distance, a lower SSIM. `random` is what any other training does; on the right,"
    ]
    lines += ["what a method does beyond it on the same pictures. Means with 95% bootstrap intervals.", ""]
    lines += ["| left out by | distance of pixels | SSIM | distance beyond random | SSIM beyond random |"]
    lines += ["|---|---|---|---|---|"]
    values = {
        (name, key): np.array([row[key] for row in rows if row["method"] == name])
        for name in names
        for key in ("distance", "ssim")
    }
    for name in names:
        whole = [str(mean_with_interval(values[name, key])) for key in ("distance", "ssim")]
        beyond = [str(mean_with_interval(values[name, key] - values["random", key])) for key in ("distance", "ssim")]
        lines.append("| " + " | ".join([name, *whole, *(beyond if name != "random" else ["", ""])]) + " |")
    lines += ["", "## What the posterior mean predicts", ""]
    lines += ["At each timestep, the change of what the model makes of the noisy picture, and the change that"]
    lines += ["`index.denoise(..., without=ids)` predicts. Cosine: of the two changes, over pixels. Rank: Spearman's"]
    lines += ["correlation of their lengths over all removals.", ""]
    lines += ["| t | " + " | ".join(f"cosine, {name}" for name in names) + " | rank | predicted / real length |"]
    lines += ["|---" * (len(names) + 3) + "|"]
    for timestep in PREDICTED:
        at = [row for row in predictions if row["timestep"] == timestep]
        cosines = [np.mean([row["cosine"] for row in at if row["method"] == name]) for name in names]
        ours, real = (np.array([row[key] for row in at]) for key in ("predicted", "real"))
        cells = " | ".join(f"{cosine:.3f}" for cosine in cosines)
        lines.append(f"| {timestep} | {cells} | {spearmanr(ours, real).statistic:.2f} | {np.median(ours / real):.2f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

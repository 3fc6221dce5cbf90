"""Train the models of the evaluation, and keep their losses and pictures.

    python -m benchmarks.lds.train FOLDER --setting small --seeds 2

One file for each model, so that a run goes on from what is in FOLDER. Writes benchmarks/lds/data/SETTING.npz: the
generated pictures and the losses of every model on every query, and SETTING.json: how they were made. Seeds whose
losses are there already are not trained again; delete these two files to start over. The small setting takes about an
hour a seed on two cores.

The losses of the last seed's models are measured on the same number of further pictures too: what was chosen on the
first pictures can be confirmed on others.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track

from benchmarks.lds.model import denoising_losses, generate, load_model, save_model, train_model
from benchmarks.lds.setting import SETTINGS, Setting, draw_masks, load_held_out_images, load_training_images
from benchmarks.machine import describe_machine

DATA = Path(__file__).parent / "data"


def main() -> None:
    """Train what is missing, then write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--setting", choices=SETTINGS, default="small")
    parser.add_argument("--seeds", type=int, default=1, help="models trained on each subset")
    parser.add_argument("--subsets", type=int, help="only the first ones; by default all of the setting")
    parser.add_argument("--workers", type=int, default=2, help="models trained at a time, each on one core")
    arguments = parser.parse_args()
    setting, folder = SETTINGS[arguments.setting], arguments.folder
    masks = draw_masks(setting)[: arguments.subsets]
    losses, machines = load_losses(setting, len(masks))
    seeds = range(len(losses), arguments.seeds)
    if not seeds:
        print(f"The losses of {len(losses)} seed(s) are in {DATA} already; give a higher --seeds, or delete them.")
        return
    folder.mkdir(parents=True, exist_ok=True)
    everything = np.ones(setting.images, np.bool_)
    train_missing(setting, [(folder / "full-0.safetensors", everything, 0)], 1)
    names = [[f"subset-{subset:02d}-{seed}" for subset in range(len(masks))] for seed in seeds]
    jobs = [
        (folder / f"{name}.safetensors", mask, 1 + seed * setting.subsets + subset)
        for seed, row in zip(seeds, names, strict=True)
        for subset, (name, mask) in enumerate(zip(row, masks, strict=True))
    ]
    train_missing(setting, jobs, arguments.workers)
    generated, further = load_or_generate(setting, folder)
    queries = np.concatenate([load_held_out_images(setting), generated])
    losses += [np.stack([measure_losses(setting, folder / name, "losses", queries) for name in row]) for row in names]
    queries = np.concatenate([load_held_out_images(setting, further=True), further])
    of_further = np.stack([measure_losses(setting, folder / name, "further", queries) for name in names[-1]])
    DATA.mkdir(exist_ok=True)
    np.savez_compressed(
        DATA / f"{setting.name}.npz",
        generated=generated,
        losses=np.stack(losses),
        further=further,
        further_losses=of_further,
    )
    made = {
        "command": f"python -m benchmarks.lds.train FOLDER {' '.join(sys.argv[2:])}".rstrip(),
        "machines": machines + [describe_machine()] * len(seeds),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "seeds": arguments.seeds,
        "subsets": len(masks),
        "setting": asdict(setting),
    }
    (DATA / f"{setting.name}.json").write_text(json.dumps(made, indent=1) + "\n")


def load_losses(setting: Setting, subsets: int) -> tuple[list[NDArray[np.float32]], list[str]]:
    """Read the losses of the seeds that are kept, each [subsets, 2 Q, timesteps], and where they were measured."""
    path = DATA / f"{setting.name}.json"
    if not path.exists():
        return [], []
    made: dict[str, Any] = json.loads(path.read_text())
    if (made["setting"], made["subsets"]) != (json.loads(json.dumps(asdict(setting))), subsets):
        raise SystemExit(f"{path} is of another setting or of other subsets; delete it and {setting.name}.npz")
    return list(np.load(path.with_suffix(".npz"))["losses"]), made["machines"]


def train_missing(setting: Setting, jobs: Sequence[tuple[Path, NDArray[np.bool_], int]], workers: int) -> None:
    """Train the models whose file is missing.

    Args:
        setting: of the models.
        jobs: for each model its file, the images that it sees, bool [N], and its seed.
        workers: processes, each on one core.
    """
    missing = [job for job in jobs if not job[0].exists()]
    with ProcessPoolExecutor(workers, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        done = [pool.submit(_train, setting, *job) for job in missing]
        for future in track(done, f"{len(missing)} models"):
            future.result()


def load_or_generate(setting: Setting, folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Read or generate the pictures of the model of all images, from the first seeds and the next: uint8 [Q, H, W, C].

    Kept pictures stay as they are: trained on another machine, the model makes slightly different ones.
    """
    path, model = DATA / f"{setting.name}.npz", folder / "full-0.safetensors"
    kept = dict(np.load(path)) if path.exists() else {}
    first, further = range(setting.queries), range(setting.queries, 2 * setting.queries)
    for name, seeds in (("generated", first), ("further", further)):
        if name not in kept:
            kept[name] = generate(load_model(setting, model), setting, seeds)
    return kept["generated"], kept["further"]


def measure_losses(setting: Setting, model: Path, name: str, queries: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Measure a model's losses, float32 [Q, timesteps], or read them from the file next to it."""
    path = model.with_name(f"{model.name}-{name}.npy")
    if not path.exists():
        np.save(path, denoising_losses(load_model(setting, model.with_suffix(".safetensors")), setting, queries))
    return np.asarray(np.load(path))


def _train(setting: Setting, path: Path, chosen: NDArray[np.bool_], seed: int) -> None:
    save_model(train_model(setting, load_training_images(setting)[chosen], seed), path)


if __name__ == "__main__":
    main()

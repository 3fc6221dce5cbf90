"""Train the models of the evaluation, and keep what they say.

    python -m benchmarks.lds.train FOLDER --setting small --seeds 1

One file for each model, so that a run goes on from what is in FOLDER. Writes benchmarks/lds/data/SETTING.npz: the
generated pictures and the losses of every model on every query, and SETTING.json: how they were made. The small setting
takes about an hour a seed on two cores.
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

import diffusers
import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track

from benchmarks.lds.model import denoising_losses, generate, load_model, save_model, train_model
from benchmarks.lds.setting import SETTINGS, Setting, held_out_images, masks_of, training_images
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
    folder.mkdir(parents=True, exist_ok=True)
    everything = np.ones(setting.images, np.bool_)
    train_missing(setting, [(folder / "full-0.safetensors", everything, 0)], 1)
    generated = generated_pictures(setting, folder)
    masks = masks_of(setting)[: arguments.subsets]
    names = [[f"subset-{subset:02d}-{seed}" for subset in range(len(masks))] for seed in range(arguments.seeds)]
    jobs = [
        (folder / f"{name}.safetensors", mask, 1 + seed * setting.subsets + subset)
        for seed, row in enumerate(names)
        for subset, (name, mask) in enumerate(zip(row, masks, strict=True))
    ]
    train_missing(setting, jobs, arguments.workers)
    queries = np.concatenate([held_out_images(setting), generated])
    losses = [[losses_of(setting, folder / f"{name}.safetensors", queries) for name in row] for row in names]
    DATA.mkdir(exist_ok=True)
    np.savez_compressed(DATA / f"{setting.name}.npz", generated=generated, losses=np.array(losses))
    made = {
        "command": f"python -m benchmarks.lds.train FOLDER {' '.join(sys.argv[2:])}".rstrip(),
        "machine": describe_machine(),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "seeds": arguments.seeds,
        "subsets": len(masks),
        "setting": asdict(setting),
    }
    (DATA / f"{setting.name}.json").write_text(json.dumps(made, indent=1) + "\n")


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


def generated_pictures(setting: Setting, folder: Path) -> NDArray[np.uint8]:
    """What the model of all images makes of the first seeds' noise: uint8 [Q, H, W, C]."""
    path = folder / "generated.npy"
    if not path.exists():
        np.save(path, generate(load_model(setting, folder / "full-0.safetensors"), setting, range(setting.queries)))
    return np.asarray(np.load(path))


def losses_of(setting: Setting, model: Path, queries: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A model's losses, float32 [Q, timesteps], from a file beside it if they are known."""
    path = model.with_suffix(".npy")
    if not path.exists():
        np.save(path, denoising_losses(load_model(setting, model), setting, queries))
    return np.asarray(np.load(path))


def _train(setting: Setting, path: Path, chosen: NDArray[np.bool_], seed: int) -> None:
    save_model(train_model(setting, training_images(setting)[chosen], seed), path)


if __name__ == "__main__":
    main()

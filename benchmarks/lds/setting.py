"""The setting of the evaluation: which images, which subsets, which models, which queries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks.machine import SHARED
from nda_index.evaluate.lds import subset_masks
from nda_index.images import decode_image

AUTOMOBILE, HORSE = 1, 7


@dataclass(frozen=True)
class Setting:
    """CIFAR-2 at some size, and the models that are trained on it.

    Attributes:
        name: of its files.
        images: number of training images, half of each class: the first ones in CIFAR-10's order.
        size: their side in pixels.
        subsets: number of random subsets, each of half the images.
        epochs: passes over the training images.
        batch: images in a step.
        widths: channels of the U-Net at each resolution.
        layers: residual blocks at each resolution.
        rate: highest learning rate; it warms up over the first steps and falls to 0 along a cosine.
        queries: number of held-out and of generated pictures each, and of further ones of both kinds.
        steps: of DDIM, when pictures are generated.
        noises: noise draws of a query at each timestep, when losses are measured.
        timesteps: at which they are measured.
    """

    name: str
    images: int
    size: int
    subsets: int
    epochs: int
    batch: int
    widths: tuple[int, ...]
    layers: int
    rate: float
    queries: int = 100
    steps: int = 50
    noises: int = 2
    timesteps: tuple[int, ...] = tuple(range(25, 1000, 50))


SMALL = Setting("small", 1000, 16, subsets=64, epochs=100, batch=32, widths=(16, 32, 32), layers=1, rate=2e-3)
MEDIUM = Setting(
    "medium", 1000, 32, subsets=64, epochs=72, batch=64, widths=(64, 128, 128), layers=1, rate=1e-3, queries=200
)
FULL = Setting("full", 5000, 32, subsets=64, epochs=200, batch=128, widths=(128, 256, 256, 256), layers=2, rate=1e-4)
SETTINGS = {setting.name: setting for setting in (SMALL, MEDIUM, FULL)}


def load_training_images(setting: Setting) -> NDArray[np.uint8]:
    """Read the training images, automobiles first: uint8 [N, H, W, C]."""
    return _of_both_classes("train", setting.images, setting.size)


def load_held_out_images(setting: Setting, *, further: bool = False) -> NDArray[np.uint8]:
    """Read pictures of the same classes that no model has seen, the first ones or the next: uint8 [Q, H, W, C]."""
    return _of_both_classes("test", setting.queries, setting.size, skipped=setting.queries if further else 0)


def draw_masks(setting: Setting) -> NDArray[np.bool_]:
    """Draw which images are in which subset: bool [subsets, N]."""
    return subset_masks(setting.images, setting.subsets, seed=0)


def _of_both_classes(part: str, count: int, size: int, skipped: int = 0) -> NDArray[np.uint8]:
    table = pq.read_table(SHARED / "data" / f"cifar10_{part}.parquet", columns=["image", "label"])
    labels = table["label"].to_numpy()
    wanted = slice(skipped // 2, (skipped + count) // 2)
    chosen = np.concatenate([np.flatnonzero(labels == label)[wanted] for label in (AUTOMOBILE, HORSE)])
    rows = table["image"].take(chosen).to_pylist()
    return np.stack([decode_image(row["bytes"], (size, size), 3).transpose(1, 2, 0) for row in rows])

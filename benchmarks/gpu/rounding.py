"""How far scores are off when a noisy query is rounded to fewer bits, on CIFAR-10 in float64: no card needed.

    python -m benchmarks.gpu.rounding

Windows inside the image, patch 7, one noise draw; the largest error of an image's score, relative to it or to 1. Two
parts of 8 bits are 16 bits for the range of the query; "passed on": each rounding error is made up for by the pixels
beside it; one part of fp16 is what the kernels take where noise hides its error.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.setting import read_pictures
from nda_index.diffusion import noisy_images
from nda_index.exact.gpu_numbers import MIDDLE, UNIT

PATCH, IMAGES, QUERIES, TIMESTEPS = 7, 1500, 3, (20, 100, 400)
LARGEST = 32_000  # of a query's whole numbers of 16 bits
TOGETHER = 50  # query windows that are compared at a time


def main() -> int:
    """Print a line for each query and timestep."""
    train, queries = (to_numbers(read_pictures(*part)) for part in (("train", 0, IMAGES), ("test", 0, QUERIES)))
    windows = F.unfold(torch.from_numpy(train), PATCH).transpose(1, 2)  # [N, P, K]
    for timestep in TIMESTEPS:
        for query in queries:
            noisy = noisy_images(((query + MIDDLE) / UNIT - 1).astype(np.float32), timestep, "draw")[0]
            exact = np.asarray(noisy.pixels, np.float64) / noisy.signal * UNIT + UNIT - MIDDLE  # [C, H, W]
            variance = (noisy.sigma / noisy.signal * UNIT) ** 2
            step = np.abs(exact).max() / LARGEST
            ways = {
                "two parts of 8 bits": np.rint(exact / step) * step,
                "passed on": pass_on(exact / step) * step,
                "one part of fp16": exact.astype(np.float16).astype(np.float64),
            }
            right = score(exact, windows, variance)
            errors = {
                name: float(((score(way, windows, variance) - right).abs() / right.clamp_min(1)).max())
                for name, way in ways.items()
            }
            print(
                f"t = {timestep:<4}" + "".join(f"{name}: {error:.1e}   " for name, error in errors.items()), flush=True
            )
    return 0


def to_numbers(pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return bytes [N, H, W, C] less their middle, float64 [N, C, H, W]."""
    return np.asarray(pictures.transpose(0, 3, 1, 2) - MIDDLE, np.float64)


def pass_on(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round values [C, H, W] so that sums over rows and columns are off by no more than single values are."""
    sums = np.rint(values.cumsum(axis=-1).cumsum(axis=-2))
    return np.asarray(np.diff(np.diff(sums, axis=-1, prepend=0), axis=-2, prepend=0))


def score(query: NDArray[np.float64], windows: Tensor, variance: float) -> Tensor:
    """Score images whose windows are float64 [N, P, K]: [N]."""
    mine = F.unfold(torch.from_numpy(query)[None], PATCH)[0].T  # [P, K]
    theirs = windows.flatten(0, 1)  # [N P, K]
    norms, total = theirs.square().sum(dim=1), torch.zeros(len(windows), dtype=torch.float64)  # [N P], [N]
    for some in torch.split(mine, TOGETHER):
        weights = ((2 * some @ theirs.T - norms) / (2 * variance)).softmax(dim=1)  # [n, N P]
        total += weights.view(len(some), len(windows), -1).sum(dim=(0, 2))
    return total


if __name__ == "__main__":
    sys.exit(main())

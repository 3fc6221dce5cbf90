"""What the CPU still does of a question that a card answers: milliseconds on one core, made-up numbers, no card needed.

python -m benchmarks.gpu.host
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.gpu.pictures import make_noisy, make_pictures
from nda_index.coarse.embedding import fit_embedding
from nda_index.coarse.shortlist import shortlist
from nda_index.coarse.windows import query_windows
from nda_index.exact.gpu_launch import TUNING
from nda_index.exact.gpu_numbers import query_numbers
from nda_index.exact.gpu_tiles import tile_windows
from nda_index.scales import parse_scale
from nda_index.trust.coverage import SAMPLE, OutsideSample, draw_outside, estimate_coverages
from nda_index.trust.duplicates import group_duplicates

IMAGES = 1_000_000
SIDES = (26, 19, 28)  # positions along a side, of three views
SHOWN = 20  # images of an answer
REPEATS = 15


def main() -> int:
    """Print a line for each part."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    pictures = make_pictures(256, 3, 32).cpu().numpy()
    votes = np.exp(rng.normal(0, 3, IMAGES)) * (rng.random(IMAGES) < 0.5)
    others = np.setdiff1d(np.arange(IMAGES), shortlist(votes, None, 10, None))
    show("the regression behind mass_covered, three views", make_regression(rng))
    show(f"a shortlist of {IMAGES:,} images", lambda: shortlist(votes, None, 10, None))
    show("a sample of those outside", lambda: draw_outside(others, votes, 0))
    show(f"near-duplicates among {SHOWN} images", lambda: group_duplicates(pictures[:SHOWN]))
    for name in ("4", "10/2"):
        scale, noisy = parse_scale(name), make_noisy(pictures[0], 100, "draw")
        embedding = fit_embedding(pictures, scale, 28)
        show(
            f"windows of a query for the lists of {name}",
            partial(query_windows, embedding, 4, pictures[0], noisy, False),
        )
    for name in ("7", "14/2"):
        scale, noisy = parse_scale(name), make_noisy(pictures[0], 100, "draw")
        tiling = tile_windows(32, 32, scale, TUNING.query_tile, TUNING.border.tile)
        show(f"numbers of a query for products, {name}", partial(query_numbers, [noisy], scale, tiling))
    return 0


def make_regression(rng: np.random.Generator) -> Callable[[], object]:
    """Make up what sampled images weigh, and return the work that learns from it."""
    ratios, totals, held = list[NDArray[np.float64]](), list[NDArray[np.float64]](), list[NDArray[np.float64]]()
    for side in SIDES:
        level = rng.normal(-3, 1.5, side * side)  # [P], log odds of the outside
        ratios.append(np.exp(2 * rng.normal(size=(SAMPLE, len(level))) + level - 6))
        totals.append(-10 * level + rng.normal(0, 3, len(level)))
        held.append((1 / (1 + np.exp(level + rng.normal(0, 0.5, len(level))))).reshape(side, side))
    sample = OutsideSample(np.arange(SAMPLE), 90 * rng.uniform(0.5, 2, SAMPLE), complete=False)
    return lambda: estimate_coverages(ratios, totals, held, [False] * len(SIDES), sample)


def show(name: str, work: Callable[[], object]) -> None:
    """Print the median of some runs after one that compiles."""
    work()
    seconds = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    print(f"{name:<52}{median(seconds) * 1e3:>8.2f} ms", flush=True)


if __name__ == "__main__":
    sys.exit(main())

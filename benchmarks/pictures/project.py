"""Fit the projections that nda_index.pictures.windows describes windows with, on the pictures of a set.

    python -m benchmarks.pictures.project FOLDER

FOLDER is what `make` wrote for the set `choosing`. Principal axes of the descriptors, each divided by the fourth root
of its variance: half whitened, so that the first axes do not decide alone. Writes nda_index/pictures/projections.npz.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track

from nda_index.pictures import windows
from nda_index.pictures.windows import DIMENSIONS, INDEXED, KINDS, describe, reduce_luma

SPREAD = 4.5  # standard deviations of the first axis that a byte holds on either side


def main() -> None:
    """Fit and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    paths = sorted((parser.parse_args().folder / "collection").iterdir())
    found = [describe(reduce_luma(Image.open(path), INDEXED.side)[0], INDEXED) for path in track(paths)]
    arrays = {}
    for kind in KINDS:
        descriptors = np.concatenate([part[kind] for part in found]).astype(np.float64)
        mean = descriptors.mean(0)
        variances, axes = np.linalg.eigh(np.cov((descriptors - mean).T))
        variances, axes = variances[::-1][:DIMENSIONS], axes[:, ::-1][:, :DIMENSIONS]
        scale = 127 / (SPREAD * variances[0] ** 0.25)
        arrays[f"{kind}_mean"] = mean.astype(np.float32)
        arrays[f"{kind}_axes"] = (axes / variances**0.25 * scale).astype(np.float32)
    np.savez(Path(windows.__file__).with_name("projections.npz"), **arrays)


if __name__ == "__main__":
    main()

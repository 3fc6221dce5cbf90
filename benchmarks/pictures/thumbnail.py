"""Thumbnails: a baseline that compares pictures as wholes, and tells no place.

A picture is 32 x 32 px of colour without its mean, of length one; the score is the cosine. It finds copies, and shows
how many of the queries a search by whole pictures answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.pictures.judge import Candidate

SIDE = 32  # px
TOP = 20  # candidates


@dataclass(frozen=True)
class Thumbnails:
    """The collection.

    Args:
        keys: of the pictures.
        vectors: [pictures, 3072], of length one.
    """

    keys: tuple[str, ...]
    vectors: NDArray[np.float32]


def build(collection: Path) -> Thumbnails:
    """Read the pictures of a folder."""
    paths = sorted(collection.iterdir())
    vectors = []
    for path in paths:
        with Image.open(path) as picture:
            vectors.append(describe(picture))
    return Thumbnails(tuple(path.name for path in paths), np.stack(vectors))


def ask(state: Thumbnails, picture: Image.Image) -> list[Candidate]:
    """Name the pictures that are most like a picture as a whole."""
    scores = state.vectors @ describe(picture)
    return [Candidate(state.keys[place], float(scores[place]), None) for place in np.argsort(-scores)[:TOP]]


def describe(picture: Image.Image) -> NDArray[np.float32]:
    """Reduce a picture to a vector [3072] of length one."""
    small = picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX)
    levels = np.asarray(small, np.float32).ravel()
    levels = levels - levels.mean()
    return np.asarray(levels / (np.linalg.norm(levels) + 1e-6), np.float32)

"""The null of an index: the best evidence that unrelated pictures get from it, made once, for all verdicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nda_index.arrow import read_arrow, write_arrow
from nda_index.coarse.cells import Cells
from nda_index.coarse.probe import probe
from nda_index.coarse.windows import query_windows
from nda_index.corpus import Corpus
from nda_index.diffusion import noisy_images
from nda_index.exact.evidence import to_float
from nda_index.images import decode_image
from nda_index.verdict import null_of_collection, null_of_pictures

NULL = "null.arrow"
DEFAULT_PICTURES = 199  # so that "stronger than 99.5%" can be said
TIMESTEP = 50
BEST = 16  # images that each picture is compared with


def make_null(
    corpus: Corpus,
    coarse: Sequence[Cells],
    pictures: int | Sequence[Any],
    seed: int,
    report: Callable[[str, int, int], None],
) -> NDArray[np.float64]:
    """Ask an index about pictures that are not in it.

    Args:
        corpus, coarse: of the index.
        pictures: unrelated pictures, as for `Index.attribute`; or how many of the collection's own to take, each asked
            about as if it and its near-duplicates were not there.
        seed: chooses them.
        report: is called with (stage, done, total).

    Returns:
        float64 [m], the best evidence for each picture.
    """
    scales = [cells.embedding.scale for cells in coarse]
    asked = 0
    total = min(pictures, corpus.count) if isinstance(pictures, int) else len(pictures)

    def candidates(picture: NDArray[np.uint8], own: int | None) -> NDArray[np.int64]:
        nonlocal asked
        asked += 1
        report("null", asked, total)
        noisy = noisy_images(to_float(picture), TIMESTEP, "none")[0]
        votes = np.zeros(corpus.count)
        for cells in coarse:
            windows = query_windows(cells.embedding, cells.stride, picture, noisy, mirror=False)
            votes += cells.embedding.scale.weight * probe(cells, windows, corpus.count, allowed=None).votes
        return np.argsort(-votes, kind="stable")[:BEST]

    if not isinstance(pictures, int):
        decoded = (decode_image(picture, corpus.shape[1:], corpus.shape[0]) for picture in pictures)
        return null_of_pictures(decoded, candidates, corpus.pixels, scales)
    chosen = np.random.default_rng(seed).choice(corpus.count, total, replace=False)
    return null_of_collection(chosen.tolist(), candidates, corpus.pixels, scales)


def write_null(folder: Path, null: NDArray[np.float64]) -> None:
    """Write a null into an index's folder."""
    write_arrow(folder / NULL, {"evidence": null}, {})


def read_null(folder: Path) -> NDArray[np.float64]:
    """Read what `write_null` wrote."""
    return np.asarray(read_arrow(folder / NULL)[0]["evidence"].to_numpy(), np.float64)

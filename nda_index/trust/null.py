"""The null of an index: the best evidence that unrelated pictures get from it, made once, for all verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from nda_index.coarse.cells import Cells
from nda_index.coarse.probe import probe_several
from nda_index.coarse.windows import query_windows
from nda_index.diffusion import noisy_images
from nda_index.images import decode_image, to_float
from nda_index.progress import Progress
from nda_index.store.arrow import read_arrow, write_arrow
from nda_index.store.corpus import Corpus
from nda_index.threads import one_torch_thread
from nda_index.trust.duplicates import find_best_unrelated

NULL = "null.arrow"
DEFAULT_PICTURES = 199  # so that "stronger than 99.5%" can be said
TIMESTEP = 50
BEST = 16  # images that each picture is compared with
TOGETHER = 32  # pictures that the coarse stage is asked about at a time: more save little more
MEMORY = 1 << 30  # bytes that they may take


def make_null(
    corpus: Corpus,
    coarse: Sequence[Cells],
    pictures: int | Sequence[Any],
    seed: int,
    report: Progress,
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
    asked = _chosen(corpus, pictures, seed) if isinstance(pictures, int) else _decoded(corpus, pictures)
    null: list[float] = []
    together = _together(corpus, coarse)
    for start in range(0, len(asked), together):
        block = asked[start : start + together]
        for picture, found in zip(block, _best_matches(corpus.count, coarse, block), strict=True):
            null.append(find_best_unrelated(picture, corpus.pixels(found), scales))
            report("null", len(null), len(asked))
    return np.array(null, np.float64)


def _chosen(corpus: Corpus, count: int, seed: int) -> NDArray[np.uint8]:
    ids = np.random.default_rng(seed).choice(corpus.count, min(count, corpus.count), replace=False)
    return corpus.pixels(ids)


def _decoded(corpus: Corpus, pictures: Sequence[Any]) -> NDArray[np.uint8]:
    images = [decode_image(picture, corpus.shape[1:], corpus.shape[0]) for picture in pictures]
    return np.array(images, np.uint8).reshape(-1, *corpus.shape)


def _together(corpus: Corpus, coarse: Sequence[Cells]) -> int:
    """How many pictures the coarse stage may be asked about at a time."""
    height, width = corpus.shape[1:]
    pairs = max(
        len(cells.centroids) * cells.embedding.scale.positions(height) * cells.embedding.scale.positions(width)
        for cells in coarse
    )
    return int(np.clip(MEMORY // (5 * pairs + (4 * numba.get_num_threads() + 24) * corpus.count), 1, TOGETHER))


@one_torch_thread()
def _best_matches(count: int, coarse: Sequence[Cells], pictures: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Ids of the images with the most votes for each picture, best first: [Q, BEST]."""
    votes = np.zeros((len(pictures), count))
    for cells in coarse:
        queries = [
            query_windows(
                cells.embedding,
                cells.stride,
                picture,
                noisy_images(to_float(picture), TIMESTEP, "none")[0],
                mirror=False,
            )
            for picture in pictures
        ]
        votes += cells.embedding.scale.weight * probe_several(cells, queries, count)
    return np.argsort(-votes, axis=1, kind="stable")[:, :BEST]


def write_null(folder: Path, null: NDArray[np.float64]) -> None:
    """Write a null into an index's folder."""
    write_arrow(folder / NULL, {"evidence": null}, {})


def read_null(folder: Path) -> NDArray[np.float64]:
    """Read what `write_null` wrote."""
    return np.asarray(read_arrow(folder / NULL)[0]["evidence"].to_numpy(), np.float64)

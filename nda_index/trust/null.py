"""The null of the verdicts: the best evidence that unrelated pictures get from an index, made when it is built."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from nda_index.coarse.lists import InvertedLists
from nda_index.coarse.probe import probe_several
from nda_index.coarse.windows import query_windows
from nda_index.diffusion import noisy_images
from nda_index.images import Pixels, decode_image, to_float
from nda_index.progress import Progress
from nda_index.scales import Scale
from nda_index.store.arrow import read_arrow, write_arrow
from nda_index.store.corpus import Images
from nda_index.threads import one_torch_thread
from nda_index.trust.duplicates import find_best_unrelated

NULL = "null.arrow"
DEFAULT_PICTURES = 199  # so that "stronger than 99.5%" can be said
TIMESTEP = 50
BEST = 16  # images that each picture is compared with
TOGETHER = 32  # pictures that are searched for at a time: more save little more
MEMORY = 1 << 30  # bytes that the visits of several pictures may take


EVIDENCE_SCALES = (Scale(7), Scale(14, 2))  # windows that show a layout; smaller ones match by chance

Vote = Callable[[Pixels], NDArray[np.float64]]  # pictures [Q, C, H, W] to votes of all images [Q, N]
Read = Callable[[NDArray[np.int64]], Pixels]  # image ids [n] to pixels [n, C, H, W]


@dataclass(frozen=True)
class Null:
    """What unrelated pictures get.

    Attributes:
        evidence: float64 [m], the best evidence of each picture; empty where there is no null.
        scales: at which this evidence was measured: that of an answer's images must be measured at the same ones.
    """

    evidence: NDArray[np.float64]
    scales: tuple[Scale, ...]


def choose_evidence_scales(size: tuple[int, int], scales: Sequence[Scale]) -> tuple[Scale, ...]:
    """Return the scales at which evidence is measured: `EVIDENCE_SCALES` that fit the images, or the index's own.

    Args:
        size: (height, width) of the images.
        scales: of the index.

    Example:
        >>> [scale.name for scale in choose_evidence_scales((12, 12), [Scale(4)])]
        ['p7r1']
    """
    return tuple(scale for scale in EVIDENCE_SCALES if scale.patch <= min(size)) or tuple(scales)


def choose_pictures(images: Images, pictures: int | Sequence[Any], seed: int) -> Pixels:
    """Return the pictures that a null is made with, uint8 [Q, C, H, W].

    Args:
        images: of the collection.
        pictures: unrelated pictures, as for `Index.attribute`; or how many of the collection's own to take, each as if
            it and its near-duplicates were not there. More make rarer matches tell apart, at a cost that grows alike.
        seed: chooses them.

    Raises:
        ImageDecodeError: a picture cannot be read.
    """
    if isinstance(pictures, int):
        chosen = np.random.default_rng(seed).choice(images.count, min(pictures, images.count), replace=False)
        return images.pixels(chosen)
    decoded = [decode_image(picture, images.shape[1:], images.shape[0]) for picture in pictures]
    return np.array(decoded, np.uint8).reshape(-1, *images.shape)


def make_null(
    pictures: Pixels, pixels: Read, vote: Vote, scales: Sequence[Scale], report: Progress, backend: str = "cpu"
) -> Null:
    """Compare unrelated pictures with their best matches in a collection.

    Args:
        pictures: uint8 [Q, C, H, W], from `choose_pictures`.
        pixels: reads images of the collection.
        vote: estimates the scores of all images for several pictures, from `vote_on_cells` or on other machines.
        scales: of the evidence, from `choose_evidence_scales`.
        report: is called with ("null", done, total).
        backend: what measures evidence, as for `measure_evidence`.
    """
    null: list[float] = []
    for start in range(0, len(pictures), TOGETHER):
        block = pictures[start : start + TOGETHER]
        best = np.argsort(-vote(block), axis=1, kind="stable")[:, :BEST]
        for picture, image_ids in zip(block, best, strict=True):
            null.append(find_best_unrelated(picture, pixels(image_ids), scales, backend=backend))
            report("null", len(null), len(pictures))
    return Null(np.array(null, np.float64), tuple(scales))


def vote_on_cells(coarse: Sequence[InvertedLists], count: int) -> Vote:
    """Return a function that estimates the scores of `count` images by the coarse stage, for several pictures at once.

    The lists may lie on a GPU. Pictures share their visits to cells, as many of them as `MEMORY` allows.
    """

    def vote(pictures: Pixels) -> NDArray[np.float64]:
        together = _pictures_together(coarse, count, pictures.shape[2:])
        blocks = [pictures[start : start + together] for start in range(0, len(pictures), together)]
        return np.concatenate([np.empty((0, count)), *(_votes(coarse, count, block) for block in blocks)])

    return vote


def _pictures_together(coarse: Sequence[InvertedLists], count: int, size: tuple[int, ...]) -> int:
    """How many pictures may visit cells together: they need 5 bytes a window and cell, 4 an image and thread."""
    height, width = size
    pairs = max(
        len(lists.cells.centroids) * scale.positions(height) * scale.positions(width)
        for lists in coarse
        for scale in (lists.cells.embedding.scale,)
    )
    return max(1, MEMORY // (5 * pairs + (4 * numba.get_num_threads() + 24) * count))


@one_torch_thread()
def _votes(coarse: Sequence[InvertedLists], count: int, pictures: Pixels) -> NDArray[np.float64]:
    votes = np.zeros((len(pictures), count))
    for lists in coarse:
        cells = lists.cells
        queries = [
            query_windows(
                cells.embedding, cells.stride, picture, noisy_images(to_float(picture), TIMESTEP, "none")[0],
                mirror=False,
            )
            for picture in pictures
        ]  # fmt: skip
        votes += cells.embedding.scale.weight * probe_several(lists, queries, count)
    return votes


def null_features(null: Null, scales: Sequence[Scale]) -> list[str]:
    """Return the features that a reader of an index with this null must know: whose scales are not the index's own."""
    return [] if null.scales == tuple(scales) else ["evidence"]


def write_null(folder: Path, null: Null) -> None:
    """Write a null into an index's folder."""
    write_arrow(folder / NULL, {"evidence": null.evidence}, {"scales": [asdict(scale) for scale in null.scales]})


def read_null(folder: Path, scales: Sequence[Scale]) -> Null:
    """Read what `write_null` wrote.

    Args:
        folder: of the index.
        scales: of the index: version 0.1.0 measured evidence at these, and did not write which.
    """
    table, header = read_arrow(folder / NULL)
    written = tuple(Scale(**scale) for scale in header.get("scales", ()))
    return Null(np.asarray(table["evidence"].to_numpy(), np.float64), written or tuple(scales))

"""The inverted lists of one scale as arrays: cells, their members' codes, and the images that they come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nda_index.coarse.embedding import Embedding


class Census(NamedTuple):
    """How many members each cell has, and what they are like.

    Attributes:
        counts: int64 [C].
        means, variances: float64 [C, d], of the members' decoded vectors; 0 for an empty cell.
    """

    counts: NDArray[np.int64]
    means: NDArray[np.float64]
    variances: NDArray[np.float64]


@dataclass(frozen=True)
class Segment:
    """Members that were written together. They may lie on disk, mapped to memory.

    Attributes:
        offsets: int64 [C + 1], where each cell's members start.
        codes: uint8 [T, bytes of a member].
        image_ids: int32 [T].
        means, variances: float64 [C, d], of the members' decoded vectors in each cell: so precise that those of several
            segments or shards together do not depend on how the members are divided.
    """

    offsets: NDArray[np.int64]
    codes: NDArray[np.uint8]
    image_ids: NDArray[np.int32]
    means: NDArray[np.float64]
    variances: NDArray[np.float64]


@dataclass(frozen=True)
class Cells:
    """The coarse stage of one scale, open for questions.

    Attributes:
        embedding: of its windows.
        stride: every how many pixels a window of a training image was taken.
        centroids: float32 [C, d].
        codebook: how codes become what is added to a centroid: float32 [2, d], offset and step of each coordinate, or
            [256, d] for product quantisation.
        segments: the members.
        joint_census: where other shards hold members too, the census of all shards; None: the members here are all.
    """

    embedding: Embedding
    stride: int
    centroids: NDArray[np.float32]
    codebook: NDArray[np.float32]
    segments: tuple[Segment, ...]
    joint_census: Census | None = None

    @cached_property
    def census(self) -> Census:
        """The census of all segments, or of all shards where they were joined."""
        if self.joint_census is not None:
            return self.joint_census
        parts = [Census(np.diff(segment.offsets), segment.means, segment.variances) for segment in self.segments]
        return merge_census(parts)

    def merge_segments(self, segments: Sequence[Segment], renumbered: NDArray[np.int32]) -> Segment:
        """Merge several segments into one.

        Args:
            segments: of these cells.
            renumbered: int32 [N], the new id of each image; the members of an image with -1 are left out.
        """
        sizes = [np.diff(segment.offsets) for segment in segments]
        places = np.concatenate([np.repeat(np.arange(len(self.centroids)), size) for size in sizes])  # [T]
        image_ids = renumbered[np.concatenate([segment.image_ids for segment in segments])]
        order = np.argsort(places, kind="stable")
        order = order[image_ids[order] >= 0]
        codes = np.concatenate([segment.codes for segment in segments])[order]
        counts = np.bincount(places[order], minlength=len(self.centroids))
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        means, variances = (np.zeros(self.centroids.shape) for _ in range(2))
        for cell in np.flatnonzero(counts).tolist():
            mine = codes[offsets[cell] : offsets[cell + 1]]
            members = decode(mine, self.centroids[cell], self.codebook).astype(np.float64)  # [n, d]
            means[cell], variances[cell] = members.mean(axis=0), members.var(axis=0)
        return Segment(offsets, codes, image_ids[order], means, variances)


def merge_census(parts: Sequence[Census]) -> Census:
    """Return the census of several segments or shards together.

    Example:
        >>> one = np.ones((1, 1))
        >>> merged = merge_census([Census(np.array([1]), one, 0 * one), Census(np.array([1]), 3 * one, 0 * one)])
        >>> merged.counts.item(), merged.means.item(), merged.variances.item()
        (2, 2.0, 1.0)
    """
    counts = np.asarray(sum(part.counts for part in parts), np.int64)  # [C]
    weights = [part.counts[:, None] / np.maximum(counts, 1)[:, None] for part in parts]  # [C, 1] each
    mean = sum(w * part.means for w, part in zip(weights, parts, strict=True))  # [C, d]
    variance = sum(
        w * (part.variances + (part.means - mean) ** 2) for w, part in zip(weights, parts, strict=True)
    )  # [C, d]
    return Census(counts, np.asarray(mean, np.float64), np.asarray(variance, np.float64))


def decode(
    codes: NDArray[np.uint8], centroids: NDArray[np.float32], codebook: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return members' vectors, float32 [n, d], from their codes [n, bytes] and their cells' centroids [n, d] or [d]."""
    dimensions = codebook.shape[1]
    if len(codebook) == 2:
        return np.asarray(centroids + codebook[0] + codebook[1] * codes, np.float32)  # [n, d]
    part = np.arange(dimensions) // (dimensions // codes.shape[1])  # [d]
    return np.asarray(centroids + codebook[codes[:, part], np.arange(dimensions)], np.float32)  # [n, d]

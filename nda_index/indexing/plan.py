"""What a build will make of a collection: how patches are taken and kept, and what that costs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nda_index.coarse.embedding import count_positions, embed, fit_embedding
from nda_index.coarse.ivf import ID_BYTES, POINTS_PER_LIST, CodecChoice, choose_codec, list_count
from nda_index.coarse.trainer import KMEANS_ITERATIONS, time_assignment
from nda_index.errors import ConfigError
from nda_index.scales import Scale
from nda_index.sources import OpenSource, read_batches

EMBEDDED_DIMENSIONS = 28  # even, for product quantisation
PATCHES_PER_IMAGE = 256  # at most, unless coarse_stride says otherwise
FEWEST_PATCHES = 32  # of an image, however little memory there is
SEGMENT_BYTES = 256 << 20  # of lists that are held in memory and written as one file
CHUNK_BYTES = 64 << 20  # of pixels that are added to the table, and noted as finished, at a time
READ_BATCH = 1024  # images that are decoded, or embedded, at a time
READ_PICTURES = 64  # where windows of each are taken: progress shows after so many
ROW_BYTES = 100  # of an image in the table, apart from its pixels: key, hashes and what Lance adds
SAMPLE = 512  # images that an estimate of the time is made from
PROCESS_BYTES = 600 << 20  # Python, torch, FAISS and Lance without any image


@dataclass(frozen=True)
class ScalePlan:
    """How the patches of one scale are taken and kept.

    Attributes:
        scale: the scale.
        stride: every how many pixels a patch is taken.
        per_image: patches of an image.
        codec: how they are kept, and why.
    """

    scale: Scale
    stride: int
    per_image: int
    codec: CodecChoice

    @property
    def patch_bytes(self) -> int:
        """Bytes of a patch in the lists."""
        return self.codec.bytes_per_patch + ID_BYTES

    @property
    def images_per_segment(self) -> int:
        """Images whose patches make a segment, a multiple of the batch that is read at a time."""
        return images_per_segment(self.per_image, self.patch_bytes)


@dataclass(frozen=True)
class Estimate:
    """What a build is expected to need.

    Attributes:
        images: number of images in the source.
        patches: number of patches over all scales.
        disk_bytes: size of the index.
        memory_bytes: peak memory of the build.
        served_bytes: of lists that an open index maps to memory.
        seconds: time of the build, from a sample that was timed on this machine.
        scales: for each scale, how patches are taken and kept.
        notes: columns that are kept under another name, or not at all.
    """

    images: int
    patches: int
    disk_bytes: int
    memory_bytes: int
    served_bytes: int
    seconds: float
    scales: dict[str, str]
    notes: tuple[str, ...] = ()


def plan_scales(
    images: int, size: tuple[int, int], scales: Sequence[Scale], memory: int, coarse_stride: int | None
) -> list[ScalePlan]:
    """Choose how patches are taken and kept: as densely and precisely as the memory allows.

    Args:
        images: their number.
        size: (height, width).
        scales: of the index.
        memory: bytes that the lists of all scales may take.
        coarse_stride: every how many pixels a patch is taken; None chooses the smallest stride with at most 256
            patches an image that fits the memory.

    Raises:
        ConfigError: nothing fits.

    Example:
        >>> [plan] = plan_scales(1_000_000, (32, 32), [Scale(7)], 1536 << 20, None)
        >>> plan.stride, plan.codec.codec
        (4, 'pq')
    """
    return [_plan_scale(images, size, scale, memory // len(scales), coarse_stride) for scale in scales]


def estimate_need(opened: OpenSource, size: tuple[int, int], channels: int, plans: Sequence[ScalePlan]) -> Estimate:
    """Estimate what a build will need, from a sample of the source."""
    start = time.perf_counter()
    sample = next(read_batches(opened, size, channels, SAMPLE)).images
    reading = (time.perf_counter() - start) / max(1, len(sample))
    pixel_bytes = channels * size[0] * size[1]
    seconds = opened.count * reading
    patches = sum(plan.per_image for plan in plans) * opened.count
    served = sum(plan.per_image * plan.patch_bytes for plan in plans) * opened.count
    for plan in plans:
        seconds += _encoding_seconds(sample, plan, opened.count) if len(sample) else 0.0
    lists = [list_count(plan.per_image * opened.count) for plan in plans]
    training = max(POINTS_PER_LIST * count * EMBEDDED_DIMENSIONS * 8 for count in lists)
    return Estimate(
        images=opened.count,
        patches=patches,
        disk_bytes=opened.count * (pixel_bytes + ROW_BYTES) + served,
        memory_bytes=PROCESS_BYTES + max(4 * SEGMENT_BYTES, 2 * training),
        served_bytes=served,
        seconds=seconds,
        scales={plan.scale.name: describe_plan(plan, opened.count) for plan in plans},
        notes=opened.notes,
    )


def images_per_segment(per_image: int, patch_bytes: int) -> int:
    """Return how many images' patches make a segment, a multiple of the batch that is read at a time."""
    return max(1, SEGMENT_BYTES // (per_image * patch_bytes * READ_BATCH)) * READ_BATCH


def describe_plan(plan: ScalePlan, images: int) -> str:
    """Say in words how patches are kept."""
    return (
        f"{images * plan.per_image:,} patches (every {plan.stride} px), {plan.codec.codec} codes of "
        f"{plan.codec.bytes_per_patch} bytes: {plan.codec.reason}"
    )


def _plan_scale(images: int, size: tuple[int, int], scale: Scale, memory: int, coarse_stride: int | None) -> ScalePlan:
    stride = coarse_stride or default_coarse_stride(scale, *size)
    while True:
        per_image = count_positions(scale, *size, stride)
        try:
            return ScalePlan(scale, stride, per_image, choose_codec(images * per_image, EMBEDDED_DIMENSIONS, memory))
        except ConfigError:
            if coarse_stride or count_positions(scale, *size, stride + 1) < FEWEST_PATCHES:
                raise
        stride += 1


def default_coarse_stride(scale: Scale, height: int, width: int) -> int:
    """Return the smallest stride that leaves at most 256 patches an image.

    Example:
        >>> default_coarse_stride(Scale(7), 32, 32)
        2
    """
    stride = 1
    while count_positions(scale, height, width, stride) > PATCHES_PER_IMAGE:
        stride += 1
    return stride


def _encoding_seconds(sample: NDArray[np.uint8], plan: ScalePlan, images: int) -> float:
    """Seconds to embed and encode all images, with as many cells as there will be."""
    lists = list_count(images * plan.per_image)
    embedding = fit_embedding(sample[:64], plan.scale, EMBEDDED_DIMENSIONS)
    embed(embedding, sample[:8], plan.stride)  # the first call is slower than any other
    start = time.perf_counter()
    patches = embed(embedding, sample, plan.stride).reshape(-1, embedding.dimensions)  # [n, d]
    embedding_one = (time.perf_counter() - start) / len(sample)
    assigning_one = time_assignment(patches, lists)
    training = KMEANS_ITERATIONS * POINTS_PER_LIST * lists
    return images * embedding_one + (images * plan.per_image + training) * assigning_one

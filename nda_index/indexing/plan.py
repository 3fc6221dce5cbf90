"""What a build will make of a collection: how its patches are taken and kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nda_index.coarse.embedding import count_positions
from nda_index.coarse.ivf import ID_BYTES, CodecChoice, choose_codec
from nda_index.errors import ConfigError
from nda_index.scales import Scale

EMBEDDED_DIMENSIONS = 28  # even, for product quantisation
PATCHES_PER_IMAGE = 256  # at most, unless coarse_stride says otherwise
FEWEST_PATCHES = 32  # of an image, however little memory there is
SEGMENT_BYTES = 256 << 20  # of lists that are held in memory and written as one file
CHUNK_BYTES = 64 << 20  # of pixels that are added to the table, and noted as finished, at a time
READ_BATCH = 1024  # images that are decoded, or embedded, at a time
READ_PICTURES = 64  # where windows of each are taken: progress shows after so many


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

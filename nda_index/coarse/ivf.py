"""How many inverted lists a collection gets, and how a patch is coded in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from nda_index.errors import ConfigError

Codec = Literal["sq8", "pq"]

ID_BYTES = 4
POINTS_PER_LIST = 64  # training patches for each list
FEWEST_PER_LIST = 39  # FAISS warns where fewer patches than this train a list


@dataclass(frozen=True)
class CodecChoice:
    """How patches are stored in the lists, and why."""

    codec: Codec
    bytes_per_patch: int
    reason: str


def choose_codec(patches: int, dimensions: int, memory: int) -> CodecChoice:
    """The most precise way to keep that many patches within a number of bytes.

    Args:
        patches: number of embedded patches.
        dimensions: their length.
        memory: bytes that the lists may take when the index is open.

    Returns:
        "sq8" keeps one byte a coordinate, "pq" product-quantises two coordinates to a byte.

    Raises:
        ConfigError: not even "pq" fits.

    Example:
        >>> choose_codec(1_000, 25, memory=1 << 20).codec
        'sq8'
    """
    sizes: dict[Codec, int] = {"sq8": dimensions, "pq": pq_codes(dimensions)}
    for codec, size in sizes.items():
        needed = patches * (size + ID_BYTES)
        if needed <= memory:
            return CodecChoice(codec, size, f"{_mib(needed)} of lists fit the {_mib(memory)} allowed")
    raise ConfigError(
        f"{patches} patches need {_mib(needed)} even with product quantisation, the memory allowed is {_mib(memory)}; "
        f"allow more memory, or take fewer patches with a larger coarse_stride"
    )


def pq_codes(dimensions: int) -> int:
    """Bytes of a product-quantised patch: one for two coordinates, where that divides evenly."""
    return dimensions // 2 if dimensions % 2 == 0 else dimensions


def list_count(patches: int) -> int:
    """Number of inverted lists for that many patches: a power of two near 1.5 sqrt(patches), 39 patches or more each.

    Example:
        >>> list_count(8_450_000), list_count(1)
        (4096, 1)
    """
    most = max(1, min(int(1.5 * np.sqrt(patches)), patches // FEWEST_PER_LIST))
    return 1 << (most.bit_length() - 1)


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"

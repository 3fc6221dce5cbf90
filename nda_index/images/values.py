"""One rule for numbers that are no bytes: integers by the range of their type, floats by a stated one."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nda_index.errors import ConfigError

ValueRange: TypeAlias = "tuple[float, float]"  # what is black, and what is white
RANGES = "0..1, -1..1 or 0..255"
DEPTHS = {"u1": 8, "u2": 16, "u4": 32}  # bits of a brightness, by type
_FILE_DEPTHS = (*DEPTHS, "i2", "i4")  # of pictures that Pillow has read: their files say how many bits count


class UnfitValues(ValueError):
    """Numbers that cannot be a picture's, with what would do."""


def parse_value_range(given: str | tuple[float, float] | None) -> ValueRange | None:
    """Read the range of float pictures: what is black and what is white.

    Args:
        given: text as "0..1", "-1..1" or "0..255"; or the two numbers; or None: float pictures are refused.

    Raises:
        ConfigError: it is not two rising numbers.

    Example:
        >>> parse_value_range("-1..1")
        (-1.0, 1.0)
    """
    if given is None:
        return None
    try:
        low, high = (float(part) for part in (given.split("..") if isinstance(given, str) else given))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"value_range is {given!r}; it must be two numbers, as {RANGES}") from error
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ConfigError(f"value_range is {given!r}; the first number, which is black, must be below the second")
    return low, high


def check_values(dtype: np.dtype[Any], value_range: ValueRange | None) -> None:
    """Check that numbers of a type can be the pixels of a picture.

    Raises:
        UnfitValues: floats or signed integers without a range, or a type that holds no brightness. Signed integers are
            refused since they mostly hold 0..255, which would be black beside the range of their type.

    Example:
        >>> check_values(np.dtype(np.uint16), None)
    """
    if _needs_range(dtype):
        if value_range is None:
            remedy = "" if dtype.kind == "f" else "make them uint8 where they are 0..255, or "
            latents = ". Latents of a model are indexed with latents=True (--latents)" if dtype.kind == "f" else ""
            raise UnfitValues(
                f"has numbers of type {dtype}, whose range is not known; {remedy}say it with value_range "
                f"(--value-range), in a question through read_picture(x, value_range=...): {RANGES}{latents}"
            )
    elif dtype.kind != "b" and dtype.str[1:] not in DEPTHS:
        raise UnfitValues(
            f"has numbers of type {dtype}; they must be uint8, uint16 or uint32, or floats or signed integers with "
            f"value_range ({RANGES})"
        )


def _needs_range(dtype: np.dtype[Any]) -> bool:
    """Tell whether numbers of a type say nothing of what is white."""
    return dtype.kind in "fi" or dtype.str[1:] == "u8"


def as_bytes(values: NDArray[Any], value_range: ValueRange | None, bits: int | None = None) -> NDArray[np.uint8]:
    """Return numbers as bytes: the upper eight bits of integers, and floats and signed integers by their range.

    Args:
        values: of any shape.
        value_range: of floats and signed integers.
        bits: of an integer's brightness, of a picture that was read from a file, whatever type it has in memory.

    Raises:
        UnfitValues: as `check_values`; negative integers, floats that are no numbers or far outside the range.

    Example:
        >>> as_bytes(np.array([0, 32768, 65535], np.uint16), None).tolist()
        [0, 128, 255]
        >>> as_bytes(np.array([-1.0, 0.0, 1.0]), (-1, 1)).tolist()
        [0, 128, 255]
    """
    if bits is None or values.dtype.str[1:] not in _FILE_DEPTHS:
        check_values(values.dtype, value_range)
    if values.dtype == np.uint8:
        return np.asarray(values, np.uint8)
    if values.dtype.kind == "b":
        return np.asarray(values.astype(np.uint8) * np.uint8(255))
    if values.dtype.kind == "f" or (bits is None and _needs_range(values.dtype)):
        return _scale_to_bytes(values, value_range or (0.0, 1.0))
    if values.dtype.kind == "i" and values.size and values.min() < 0:
        raise UnfitValues(f"has negative numbers of type {values.dtype}; make them uint8 or uint16 first")
    depth = bits or DEPTHS[values.dtype.str[1:]]
    return np.asarray((values >> max(depth - 8, 0)).clip(0, 255), np.uint8)


def _scale_to_bytes(values: NDArray[Any], value_range: ValueRange) -> NDArray[np.uint8]:
    low, high = value_range
    if values.size:
        least, most = float(values.min()), float(values.max())
        if not (np.isfinite(least) and np.isfinite(most)):
            raise UnfitValues("has NaN or infinite values; every value must be a finite number")
        kind = "floats" if values.dtype.kind == "f" else "integers"
        margin = (high - low) / 2  # a model's picture may overshoot a little; twice the range is another range
        if not (least >= low - margin and most <= high + margin):
            raise UnfitValues(
                f"has {kind} from {least:g} to {most:g}, and value_range says {low:g}..{high:g}; give their own range"
            )
    scaled = (values.astype(np.float64) - low) * (255.0 / (high - low))
    return np.asarray(np.floor(scaled + 0.5).clip(0, 255), np.uint8)

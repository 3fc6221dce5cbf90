"""One rule for every mode and depth of a picture: to eight bits, into sRGB, upright, and on white."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageCms, ImageOps

from nda_index.images.values import ValueRange, as_bytes

_SPACES = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}  # of a profile that goes with a mode
_TRANSFORMS = 32  # of as many profiles as are kept: a profile of CMYK has half a megabyte
_STEPS = {"L;2": 85, "L;4": 17}  # raw modes of PNG whose values Pillow spreads over a byte, and by how much


class _Depth(NamedTuple):
    """What a file says of its numbers, which decoded pixels no longer tell.

    Attributes:
        bits: of a brightness.
        unsigned: Pillow's signed numbers of 32 bits stand for unsigned ones.
    """

    bits: int
    unsigned: bool = False


def flatten(picture: Image.Image, value_range: ValueRange | None) -> Image.Image:
    """Return a picture in sRGB or grey, upright, with eight bits and on white.

    Integers of more bits keep their upper eight, floats need a range. An embedded profile is applied; one that is
    broken or of another kind is ignored. What is transparent becomes white, at every depth.

    Args:
        picture: of any mode of Pillow, opened or decoded.
        value_range: of floats.

    Returns:
        A picture of mode "RGB" or "L".

    Raises:
        UnfitValues: floats without a range, or numbers outside it.
        Others, as Pillow: it is damaged.

    Example:
        >>> flatten(Image.new("RGBA", (2, 2), (0, 0, 0, 0)), None).getpixel((0, 0))
        (255, 255, 255)
    """
    raw = _read_raw_mode(picture)
    depth, clear = _read_depth(picture, raw), _read_transparency(picture, raw)
    upright = ImageOps.exif_transpose(picture)
    upright.load()
    alpha = _make_alpha(upright, clear)
    if upright.mode == "F" or upright.mode.startswith("I"):
        values = np.asarray(upright)
        values = values.view(np.uint32) if depth.unsigned else values
        colour = Image.fromarray(as_bytes(values, value_range, depth.bits))
    else:
        colour = _convert_to_srgb(upright)
    if alpha is not None:
        colour = Image.composite(colour, Image.new(colour.mode, colour.size, "white"), alpha)
    return colour


def _read_raw_mode(picture: Image.Image) -> str:
    """Return how a file that is not decoded yet holds its numbers, in Pillow's words; "" where that is not known."""
    tiles = getattr(picture, "tile", None)
    args = tiles[0][3] if tiles else ""
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""


def _read_depth(picture: Image.Image, raw: str) -> _Depth:
    if raw.startswith("I;12"):
        return _Depth(12)
    if picture.mode.startswith("I;16") or picture.format in ("PNG", "PPM"):
        return _Depth(16)
    if raw.startswith("I;16"):
        return _Depth(15 if raw.endswith("S") else 16)
    unsigned = raw.startswith("I;32") and not raw.endswith("S")
    return _Depth(32 if unsigned else 31, unsigned)


def _read_transparency(picture: Image.Image, raw: str) -> int | tuple[int, ...] | None:
    """Return the one value that is transparent, as decoded pixels have it; None where there is none."""
    value = picture.info.get("transparency")
    if picture.mode in ("1", "L", "I", "I;16") and isinstance(value, int):
        return value * _STEPS.get(raw, 1)
    if picture.mode == "RGB" and isinstance(value, tuple) and len(value) == 3:
        return tuple(part >> 8 for part in value) if ";16" in raw else value  # as Pillow reads the pixels
    return None


def _make_alpha(picture: Image.Image, clear: int | tuple[int, ...] | None) -> Image.Image | None:
    """Return how opaque each pixel is, of mode "L"; None where all are."""
    if clear is not None:
        different = np.asarray(picture) != np.asarray(clear)
        return Image.fromarray(
            (different.any(2) if different.ndim == 3 else different).astype(np.uint8) * np.uint8(255)
        )
    if picture.mode in ("RGBA", "LA"):
        return picture.getchannel("A")
    if picture.mode in ("RGBa", "La"):
        return picture.convert(picture.mode.upper()).getchannel("A")
    if picture.mode == "PA" or (picture.mode == "P" and picture.has_transparency_data):
        return picture.convert("RGBA").getchannel("A")
    return None


def _convert_to_srgb(picture: Image.Image) -> Image.Image:
    """Convert colours, without alpha, to "RGB" or "L" by the profile that the picture carries."""
    profile = picture.info.get("icc_profile")
    if picture.mode in ("1", "LA", "La"):
        picture = picture.convert("LA").convert("L") if picture.mode == "La" else picture.convert("L")
    elif picture.mode == "RGBa":
        picture = picture.convert("RGBA").convert("RGB")
    elif picture.mode not in ("L", "RGB", "CMYK", "LAB"):
        picture = picture.convert("RGB")
    transform: ImageCms.ImageCmsTransform | None
    if picture.mode == "LAB":
        transform = _find_lab_transform()
    else:
        transform = _find_transform(profile, picture.mode) if isinstance(profile, bytes) and profile else None
    if transform is not None:
        return ImageCms.applyTransform(picture, transform) or picture
    return picture.convert("RGB") if picture.mode == "CMYK" else picture


@lru_cache(maxsize=_TRANSFORMS)
def _find_transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return what takes colours of a mode and profile to sRGB; None where that would change nothing, or cannot be."""
    try:
        opened = ImageCms.getOpenProfile(io.BytesIO(profile))
        if opened.profile.xcolor_space.strip() != _SPACES[mode] or "sRGB" in ImageCms.getProfileDescription(opened):
            return None
        return _build_transform(opened, mode)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


@lru_cache(maxsize=1)
def _find_lab_transform() -> ImageCms.ImageCmsTransform:
    return _build_transform(ImageCms.createProfile("LAB"), "LAB")


def _build_transform(profile: Any, mode: str) -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(
        profile,
        ImageCms.createProfile("sRGB"),
        mode,
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )

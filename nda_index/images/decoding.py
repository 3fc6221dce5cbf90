"""Pictures decoded, turned upright, resized and cropped as the index compares them."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from nda_index.errors import ConfigError, ImageDecodeError
from nda_index.images.colour import flatten
from nda_index.images.encodings import explain_contents, read_head
from nda_index.images.forms import describe_input, open_picture, unwrap
from nda_index.images.quiet import no_warnings
from nda_index.images.truncation import is_truncated
from nda_index.images.values import UnfitValues, ValueRange, parse_value_range
from nda_index.paths import is_address

_CUT_SHORT = ("truncated", "not enough image data")  # what Pillow says of such files


@dataclass(frozen=True)
class Picture:
    """A decoded picture.

    Attributes:
        image: upright, in mode "RGB" or "L", at its own size.
        frames: of its file, of which it is the first.
    """

    image: Image.Image
    frames: int


def decode_image(
    image: Any, image_size: tuple[int, int], channels: int, value_range: str | ValueRange | None = None
) -> NDArray[np.uint8]:
    """Decode an image into the pixels that the index compares.

    The EXIF orientation is honoured, profiles are converted to sRGB and transparency put on white. The image is
    resized, antialiased, so that it covers `image_size`, and cropped at its centre; one of that size keeps its pixels.

    Args:
        image: path, bytes of an image file, open file, `{"bytes", "path"}`, PIL image, or array or tensor of numbers
            [H, W, C], [C, H, W] or [H, W]. Integers count by the range of their type.
        image_size: (height, width).
        channels: 3 (RGB) or 1 (grey).
        value_range: what is black and what is white in floats, as "0..1"; without it they are refused.

    Returns:
        uint8 [channels, height, width].

    Raises:
        ImageDecodeError: it is not an image, it is broken, or it has too many pixels.
        ConfigError: `value_range` is not two rising numbers.

    Example:
        >>> decode_image(np.zeros((10, 20), np.uint8), (8, 8), channels=3).shape
        (3, 8, 8)
    """
    return fit_pixels(read_upright(image, parse_value_range(value_range)).image, image_size, channels)


def fit_pixels(picture: Image.Image, image_size: tuple[int, int], channels: int) -> NDArray[np.uint8]:
    """Resize and crop an upright picture to the pixels that the index compares, as `decode_image`.

    Example:
        >>> fit_pixels(Image.new("RGB", (20, 10)), (8, 8), channels=1).shape
        (1, 8, 8)
    """
    mode = "RGB" if channels == 3 else "L"
    picture = picture if picture.mode == mode else picture.convert(mode)
    height, width = image_size
    if picture.size != (width, height):
        picture = ImageOps.fit(picture, (width, height), Image.Resampling.LANCZOS)
    pixels = np.asarray(picture)
    return np.ascontiguousarray(pixels.reshape(*image_size, channels).transpose(2, 0, 1))


def open_upright(image: Any) -> Image.Image:
    """Open an image in RGB and at its own size, turned and on white as `decode_image` does it.

    Args:
        image: as for `decode_image`.

    Raises:
        ImageDecodeError: as `decode_image`.

    Example:
        >>> open_upright(np.zeros((10, 20), np.uint8)).size
        (20, 10)
    """
    return read_picture(image)


def read_picture(image: Any, *, value_range: str | ValueRange | None = None) -> Image.Image:
    """Read a picture as an index does, at its own size: for floats, whose range only you know.

    Args:
        image: as for `Index.attribute`, or numbers of any type that a source may have.
        value_range: what is black and what is white in floats: "0..1", "-1..1", "0..255" or two numbers.

    Returns:
        A PIL image in RGB, upright and on white. `Index.attribute` and all others take it.

    Raises:
        ImageDecodeError: it is not an image, is broken, or has numbers outside the range.
        ConfigError: `value_range` is not two rising numbers.

    Example:
        >>> read_picture(np.ones((3, 10, 20), np.float32), value_range="-1..1").getpixel((0, 0))
        (255, 255, 255)
    """
    picture = read_upright(image, parse_value_range(value_range)).image
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def crop_region(picture: Image.Image, region: tuple[int, int, int, int]) -> Image.Image:
    """Cut a part out of a picture.

    Args:
        picture: of any size.
        region: left, top, right, bottom in its pixels.

    Raises:
        ConfigError: it reaches beyond the picture.

    Example:
        >>> crop_region(Image.new("RGB", (60, 40)), (10, 0, 30, 40)).size
        (20, 40)
    """
    width, height = picture.size
    if region[2] > width or region[3] > height:
        raise ConfigError(f"region is {region}; the picture is {width} x {height} pixels, so it must lie within these")
    return picture.crop(region)


def read_upright(image: Any, value_range: ValueRange | None) -> Picture:
    """Decode an image at its own size; of an animation or a file of several pages, the first.

    Raises:
        ImageDecodeError: as `decode_image`, whatever a decoder raises.
    """
    name = describe_input(image)
    try:
        with no_warnings():
            return _decode(open_picture(image, value_range), value_range, own=not isinstance(image, Image.Image))
    except UnfitValues as error:
        raise ImageDecodeError(f"{name} {error}") from error
    except FileNotFoundError as error:
        if is_address(image):
            raise ImageDecodeError(f"{name} is an address, which is not read; download the picture first") from error
        raise ImageDecodeError(f"there is no image at {name}; check the path") from error
    except IsADirectoryError as error:
        raise ImageDecodeError(f"{name} is a folder; give the file of one picture") from error
    except Image.DecompressionBombError as error:
        raise ImageDecodeError(f"{name} has too many pixels: {error}; make it smaller first") from error
    except Exception as error:  # decoders of damaged files raise almost anything
        raise ImageDecodeError(f"{name} {_explain(image, error)}") from error


def _decode(opened: Image.Image, value_range: ValueRange | None, own: bool) -> Picture:
    """Decode an opened picture; one that is our own is closed: files of several frames stay open otherwise."""
    try:
        most = Image.MAX_IMAGE_PIXELS
        if own and most is not None and opened.width * opened.height > most:  # where Pillow warns
            raise Image.DecompressionBombError(f"{opened.width:,} x {opened.height:,}, at most {most:,} are read")
        picture = flatten(opened, value_range)
        picture.load()
        return Picture(picture, _count_frames(opened))
    finally:
        if own:
            opened.close()


def _count_frames(picture: Image.Image) -> int:
    """Count the frames of an opened file; those of MPO beyond the first are previews and maps of the camera."""
    if picture.format == "MPO":
        return 1
    try:
        return int(getattr(picture, "n_frames", 1))
    except Exception:  # a later frame is damaged: there is one
        return 2


def _explain(image: Any, error: Exception) -> str:
    """Say why a picture cannot be decoded, and what would do."""
    held = unwrap(image)
    if isinstance(held, str | PathLike):
        try:
            known = explain_contents(read_head(held))
            held = b"" if known else Path(held).read_bytes()
        except OSError as unreadable:
            return f"cannot be opened: {unreadable.strerror or unreadable}; check its permissions"
    else:
        known = explain_contents(read_head(held)) if isinstance(held, bytes) else None
    unknown = isinstance(error, UnidentifiedImageError)  # its text has the file's name again, or an address in memory
    said = str(error).splitlines()[0] if str(error) else type(error).__name__
    reason = "it is of no known encoding" if unknown else said
    if known:
        return known
    if isinstance(held, bytes) and (is_truncated(held) or any(word in reason.lower() for word in _CUT_SHORT)):
        return "is truncated: the file ends before its picture does; copy it again"
    return f"cannot be read as an image: {reason}; give a PNG, JPEG or WebP"

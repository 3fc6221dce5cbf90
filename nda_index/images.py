"""Images: decoded, turned upright, resized and cropped as the index compares them; and pixels as floats and as PNG."""

from __future__ import annotations

import io
import struct
import warnings
from os import PathLike, fspath
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from nda_index.errors import ConfigError, ImageDecodeError


def decode_image(image: Any, image_size: tuple[int, int], channels: int) -> NDArray[np.uint8]:
    """Decode an image into the pixels that the index compares.

    The EXIF orientation is honoured and transparency put on white. The image is resized, antialiased, so that it covers
    `image_size`, and cropped at its centre; one of that size keeps its pixels.

    Args:
        image: path, bytes of an image file, PIL image, or uint8 array [H, W, 3], [H, W, 1] or [H, W].
        image_size: (height, width).
        channels: 3 (RGB) or 1 (grey).

    Returns:
        uint8 [channels, height, width].

    Raises:
        ImageDecodeError: it is not an image, it is broken, or it has too many pixels.

    Example:
        >>> decode_image(np.zeros((10, 20), np.uint8), (8, 8), channels=3).shape
        (3, 8, 8)
    """
    picture = _decode(image, "RGB" if channels == 3 else "L")
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
    return _decode(image, "RGB")


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


def _decode(image: Any, mode: str) -> Image.Image:
    """Decode an image, turned upright and converted to a mode; `ImageDecodeError` where that cannot be done."""
    name = describe_input(image)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            warnings.simplefilter("ignore", UserWarning)  # odd EXIF or palette data of pictures that decode well
            picture = _convert(ImageOps.exif_transpose(_open(image)), mode)
            picture.load()
            return picture
    except FileNotFoundError as error:
        raise ImageDecodeError(f"there is no image at {name}; check the path") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ImageDecodeError(f"{name} has too many pixels: {error}; make it smaller first") from error
    except (OSError, SyntaxError, ValueError, TypeError, EOFError, struct.error, MemoryError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ImageDecodeError(f"{name} cannot be read as an image: {reason}; give a PNG, JPEG or WebP") from error


@overload
def to_float(pixels: NDArray[np.uint8]) -> NDArray[np.float32]: ...


@overload
def to_float(pixels: NDArray[np.uint8], dtype: type[np.float64]) -> NDArray[np.float64]: ...


def to_float(pixels: NDArray[np.uint8], dtype: type[Any] = np.float32) -> NDArray[Any]:
    """Return bytes as floats in [-1, 1].

    Args:
        pixels: uint8, of any shape.
        dtype: np.float32, or np.float64 where the difference of large sums of them counts.

    Example:
        >>> to_float(np.array([0, 51, 255], np.uint8)).tolist()
        [-1.0, -0.6000000238418579, 1.0]
    """
    return np.asarray(pixels / dtype(127.5) - dtype(1.0), dtype)


def encode_png(image: Image.Image) -> bytes:
    """Encode an image as a PNG file.

    Example:
        >>> encode_png(Image.new("L", (2, 2)))[1:4]
        b'PNG'
    """
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def encode_jpeg(image: Image.Image, longest: int) -> bytes:
    """Encode an image as a JPEG file, reduced to a longer side of at most `longest` pixels.

    Example:
        >>> encode_jpeg(Image.new("RGB", (2000, 1000)), 500)[:3].hex()
        'ffd8ff'
    """
    reduced = image.convert("RGB")
    reduced.thumbnail((longest, longest), Image.Resampling.LANCZOS, reducing_gap=3.0)
    buffer = io.BytesIO()
    reduced.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def describe_input(thing: Any) -> str:
    """Describe a path, an array, bytes or a picture in a message.

    Example:
        >>> describe_input(np.zeros((10, 20), np.uint8))
        'the array [10, 20]'
    """
    if isinstance(thing, str | PathLike):
        return repr(fspath(thing))
    if isinstance(thing, np.ndarray):
        return f"the array {list(thing.shape)}"
    if isinstance(thing, bytes | bytearray | memoryview):
        return f"the {len(thing)} bytes"
    if isinstance(thing, Image.Image):
        return "the picture"
    return f"the {type(thing).__name__}"


def _open(image: Any) -> Image.Image:
    if isinstance(image, Image.Image):
        return image
    if isinstance(image, bytes | bytearray | memoryview):
        return Image.open(io.BytesIO(image))
    if isinstance(image, str | PathLike):
        return Image.open(image)
    if isinstance(image, np.ndarray):
        squeezed = image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image
        if image.dtype != np.uint8 or squeezed.ndim not in (2, 3) or (squeezed.ndim == 3 and image.shape[2] != 3):
            raise ValueError(f"an array must be uint8 [H, W, 3] or [H, W], this is {image.dtype} {list(image.shape)}")
        return Image.fromarray(squeezed)
    raise TypeError(f"a {type(image).__name__} is not a path, bytes, a PIL image or an array")


def _convert(picture: Image.Image, mode: str) -> Image.Image:
    if picture.mode.startswith("I") or picture.mode == "F":  # 16 or 32 bits: the full range becomes 0..255
        values = np.asarray(picture).astype(np.float64)
        highest = 65535.0 if picture.mode.startswith("I") and values.max(initial=0) > 255 else 255.0
        picture = Image.fromarray((values * (255.0 / highest)).clip(0, 255).round().astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    if picture.mode != mode:
        return picture.convert(mode)
    picture.load()
    return picture

"""One image: decoded, turned upright, resized and cropped as the index compares it."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    pass

import struct
import warnings
from os import PathLike, fspath

from PIL import ImageOps

from nda_index.errors import ImageDecodeError


def decode_image(image: Any, image_size: tuple[int, int], channels: int) -> NDArray[np.uint8]:
    """One image as the index compares it.

    The EXIF orientation is honoured and transparency put on white. The image is resized, antialiased, so that it covers
    `image_size`, and cropped at its centre; one of that size is left as it is.

    Args:
        image: path, bytes of an image file, PIL image, or uint8 array [H, W, 3], [H, W, 1] or [H, W].
        image_size: (height, width).
        channels: 3 (RGB) or 1 (grey).

    Returns:
        uint8 [channels, height, width].

    Raises:
        ImageDecodeError: it is no image, or a broken one.

    Example:
        >>> decode_image(np.zeros((10, 20), np.uint8), (8, 8), channels=3).shape
        (3, 8, 8)
    """
    name = name_of(image)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            warnings.simplefilter("ignore", UserWarning)  # odd EXIF or palette data of pictures that decode well
            picture = ImageOps.exif_transpose(_opened(image))
            picture = _in_mode(picture, "RGB" if channels == 3 else "L")
            height, width = image_size
            if picture.size != (width, height):
                picture = ImageOps.fit(picture, (width, height), Image.Resampling.LANCZOS)
    except FileNotFoundError as error:
        raise ImageDecodeError(f"there is no image at {name}; check the path") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ImageDecodeError(f"{name} has too many pixels: {error}; make it smaller first") from error
    except (OSError, SyntaxError, ValueError, TypeError, EOFError, struct.error, MemoryError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ImageDecodeError(f"{name} cannot be read as an image: {reason}; give a PNG, JPEG or WebP") from error
    pixels = np.asarray(picture)
    return np.ascontiguousarray(pixels.reshape(*image_size, channels).transpose(2, 0, 1))


def upright(image: Any) -> Image.Image:
    """A picture in RGB and at its own size, turned and on white as `decode_image` makes it.

    Args:
        image: as for `decode_image`.

    Raises:
        OSError, ValueError, TypeError: it is no image.

    Example:
        >>> upright(np.zeros((10, 20), np.uint8)).size
        (20, 10)
    """
    return _in_mode(ImageOps.exif_transpose(_opened(image)), "RGB")


def _opened(image: Any) -> Image.Image:
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
    raise TypeError(f"a {type(image).__name__} is no path, bytes, PIL image or array")


def _in_mode(picture: Image.Image, mode: str) -> Image.Image:
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


def name_of(thing: Any) -> str:
    """How a message calls a path, an array, bytes or a picture."""
    if isinstance(thing, str | PathLike):
        return repr(fspath(thing))
    if isinstance(thing, np.ndarray):
        return f"the array {list(thing.shape)}"
    if isinstance(thing, bytes | bytearray | memoryview):
        return f"the {len(thing)} bytes"
    if isinstance(thing, Image.Image):
        return "the picture"
    return f"the {type(thing).__name__}"


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


def png_bytes(image: Image.Image) -> bytes:
    """An image as a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()

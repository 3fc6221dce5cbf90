"""Whatever holds a picture: paths, bytes, files, dictionaries, pictures of Pillow, arrays and tensors."""

from __future__ import annotations

import io
from os import PathLike, fspath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nda_index.images.encodings import open_file, read_head
from nda_index.images.quiet import no_warnings
from nda_index.images.values import UnfitValues, ValueRange, as_bytes

FORMS = (
    'a path, bytes, an open file, {"bytes", "path"}, a PIL image, or an array or tensor [H, W, 3], [3, H, W] or [H, W]'
)


def open_picture(thing: Any, value_range: ValueRange | None) -> Image.Image:
    """Open what holds a picture, as a picture of Pillow; a file is not decoded yet.

    Raises:
        UnfitValues: it holds no picture, or its numbers cannot be a picture's.
        Others, as Pillow: it cannot be opened.

    Example:
        >>> open_picture(np.zeros((3, 10, 20), np.uint8), None).size
        (20, 10)
    """
    thing = unwrap(thing)
    if isinstance(thing, Image.Image):
        return thing
    if isinstance(thing, str | PathLike) and fspath(thing).lower().endswith(".npy"):
        thing = np.load(thing, allow_pickle=False)
    if isinstance(thing, bytes | str | PathLike):
        return open_file(thing)
    array, tensor = as_array(thing), is_tensor(thing)
    while array.ndim > 3 and array.shape[0] == 1:  # a batch of one
        array = array[0]
    pixels = as_bytes(arrange_axes(array, 3, tensor), value_range)
    return Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels))


def unwrap(thing: Any) -> Any:
    """Return what a dictionary, an open file or a view of bytes holds; other things as they are.

    Raises:
        UnfitValues: a dictionary without a picture.
    """
    if isinstance(thing, dict):
        held = next((thing[name] for name in ("bytes", "path") if thing.get(name) is not None), None)
        if held is None:
            raise UnfitValues(f'is a dictionary without "bytes" or "path"; it has {", ".join(map(str, thing))}')
        return unwrap(held)
    if isinstance(thing, bytearray | memoryview):
        return bytes(thing)
    if isinstance(thing, io.IOBase) or (hasattr(thing, "read") and hasattr(thing, "seek")):
        return bytes(thing.read())
    return thing


def is_tensor(thing: Any) -> bool:
    """Tell whether a thing is a tensor of torch, whose channels come first."""
    return hasattr(thing, "detach") and hasattr(thing, "cpu")


def as_array(thing: Any) -> NDArray[Any]:
    """Return an array, or a tensor of torch or another library, as an array of numpy.

    Raises:
        UnfitValues: it is neither.
    """
    try:
        if is_tensor(thing):
            host = thing.detach().cpu()
            return np.asarray(host.float() if str(host.dtype) == "torch.bfloat16" else host)
        array = np.asarray(thing) if hasattr(thing, "__array__") else None
    except (TypeError, ValueError, RuntimeError) as error:
        raise UnfitValues(f"cannot be read as an array: {error}; give {FORMS}") from error
    if array is None:
        raise UnfitValues(f"is no picture; give {FORMS}")
    return array


def arrange_axes(array: NDArray[Any], axes: int, channels_first: bool = False) -> NDArray[Any]:
    """Return an array of one picture (3 axes) or several (4) with its channels last: 1, 3, or 4 with transparency.

    Args:
        array: [H, W], [H, W, C] or [C, H, W]; of several, each with a first axis N.
        axes: 3 or 4.
        channels_first: where both could be, the channels are first, as in tensors of torch.

    Raises:
        UnfitValues: another shape.

    Example:
        >>> arrange_axes(np.zeros((5, 3, 10, 20)), 4).shape, arrange_axes(np.zeros((10, 20)), 3).shape
        ((5, 10, 20, 3), (10, 20, 1))
    """
    batch = axes - 3
    if array.ndim == axes - 1 and 0 not in array.shape[batch:]:
        return array[..., None]
    if array.ndim == axes and 0 not in array.shape[batch:]:
        first, last = array.shape[batch], array.shape[-1]
        choices = [(last, False), (first, True)]
        if channels_first:
            choices.reverse()
        for counts in ((1, 3), (4,)):
            for count, is_first in choices:
                if count in counts:
                    return np.moveaxis(array, batch, -1) if is_first else array
    form = "[H, W, C], [C, H, W] or [H, W]" if axes == 3 else "[N, H, W, C], [N, C, H, W] or [N, H, W]"
    raise UnfitValues(f"has shape {list(array.shape)}; it must be {form} with 1, 3 or 4 channels")


def measure_side(thing: Any) -> int:
    """Return the shorter side of a picture in pixels, by its header; 0 where it cannot be read."""
    try:
        with no_warnings():
            held = unwrap(thing)
            if isinstance(held, Image.Image | bytes | str | PathLike):
                picture = open_picture(held, None)
                size = picture.size
                if picture is not held:
                    picture.close()
                return int(min(size))
            return int(min(arrange_axes(as_array(held), 3, is_tensor(held)).shape[:2]))
    except Exception:  # parsers of damaged files raise almost anything; reading will say what
        return 0


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
    if is_tensor(thing):
        return f"the tensor {list(thing.shape)}"
    if isinstance(thing, bytes | bytearray | memoryview):
        return f"the {len(thing)} bytes"
    if isinstance(thing, Image.Image):
        return "the picture"
    return f"the {type(thing).__name__}"


def read_start(thing: Any) -> bytes | None:
    """Return the first bytes of a file, given its path or bytes; None where that is something else."""
    held = unwrap(thing)
    return read_head(held) if isinstance(held, bytes | str | PathLike) else None

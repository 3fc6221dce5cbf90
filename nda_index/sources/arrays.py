"""Images in memory or in one .npz file: uint8 arrays [N, H, W, C] or [N, H, W]."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nda_index.errors import ConfigError, SourceError
from nda_index.sources.base import OpenSource, RawImage

IMAGE_NAMES = ("images", "image", "train", "data", "x")  # of several arrays that could be images, the first of these


def open_array(array: NDArray[Any]) -> OpenSource:
    """Open an array of images. Their keys are their positions.

    Args:
        array: uint8 [N, H, W, C] with 1 or 3 channels, or [N, H, W].

    Raises:
        ConfigError: another type or shape.

    Example:
        >>> next(open_array(np.zeros((5, 8, 8, 3), np.uint8)).read()).key
        '00000000'
    """
    if array.dtype != np.uint8:
        raise ConfigError(
            f"the array has type {array.dtype}; it must be uint8: floats in 0..1 as (x * 255).astype('uint8')"
        )
    if array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[3] not in (1, 3)):
        raise ConfigError(
            f"the array has shape {list(array.shape)}; it must be [N, H, W, C] with 1 or 3 channels, or [N, H, W]"
        )

    def read() -> Iterator[RawImage]:
        for i, image in enumerate(array):
            yield RawImage(f"{i:08d}", image, {})

    return OpenSource("array", len(array), pa.schema([]), read)


def open_npz(path: Path) -> OpenSource:
    """Open an .npz file. All of it is loaded into memory.

    Args:
        path: of a file with an array `images` (or the only uint8 array of four axes), uint8 [N, H, W, C] or
            [N, C, H, W]. An array `keys` or `key` [N] gives the keys; other arrays [N] of numbers, booleans or strings
            are metadata.

    Raises:
        SourceError: it is not an .npz, holds pickles, or has no array of images.
        ConfigError: as `open_array`.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "set.npz")
        >>> np.savez(path, images=np.zeros((2, 8, 8, 3), np.uint8), year=np.array([1999, 2001]))
        >>> [image.metadata for image in open_npz(path).read()]
        [{'year': 1999}, {'year': 2001}]
    """
    arrays = _load_arrays(path)
    name = _find_images(path, arrays)
    images = arrays[name]
    if images.shape[3] not in (1, 3) and images.shape[1] in (1, 3):
        images = images.transpose(0, 2, 3, 1)
    positions = open_array(images)
    rows = {n: a for n, a in arrays.items() if a.shape == (len(images),) and a.dtype.kind in "biufU" and n != name}
    keys = rows.pop("keys", rows.pop("key", None))
    columns = pa.table({name: pa.array(array) for name, array in rows.items()})

    def read() -> Iterator[RawImage]:
        for i, raw in enumerate(positions.read()):
            key = raw.key if keys is None else str(keys[i])
            yield RawImage(key, raw.data, {name: columns[name][i].as_py() for name in columns.column_names})

    return OpenSource("npz", positions.count, columns.schema, read)


def _load_arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise SourceError(
            f"{str(path)!r} cannot be read as .npz without pickles: {error}; save plain arrays"
        ) from error


def _find_images(path: Path, arrays: dict[str, NDArray[Any]]) -> str:
    stacks = [name for name, array in arrays.items() if array.dtype == np.uint8 and array.ndim == 4]
    known = [name for name in IMAGE_NAMES if name in stacks]
    if known:
        return known[0]
    if len(stacks) == 1:
        return stacks[0]
    raise SourceError(f"{str(path)!r} has no array 'images' of uint8 [N, H, W, C]; it has {', '.join(arrays)}")

"""Images in memory, or in one .npz or .npy file: arrays [N, H, W, C], [N, C, H, W] or [N, H, W]."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nda_index.errors import ConfigError, SourceError
from nda_index.images import ValueRange, arrange_axes, check_values
from nda_index.images.values import UnfitValues
from nda_index.sources.base import Failure, OpenSource, RawImage, to_text

IMAGE_NAMES = ("images", "image", "train", "x_train", "train_images", "data", "x")  # of several, the first of these
KEY_NAMES = ("keys", "key")
NPY = b"\x93NUMPY"
NPZ = b"PK"


def open_array(array: NDArray[Any], value_range: ValueRange | None = None, channels_first: bool = False) -> OpenSource:
    """Open an array of images. Their keys are their positions.

    Args:
        array: [N, H, W, C] or [N, C, H, W] with 1, 3 or 4 channels, or [N, H, W]; unsigned integers, or floats.
        value_range: what is black and what is white in floats.
        channels_first: where both could be, [N, C, H, W] is meant.

    Raises:
        ConfigError: another type or shape.

    Example:
        >>> next(open_array(np.zeros((5, 8, 8, 3), np.uint8)).read()).key
        '00000000'
    """
    try:
        if array.ndim == 3 and array.shape[-1] in (3, 4) and min(array.shape[:2]) > array.shape[-1]:
            raise UnfitValues(
                f"has shape {list(array.shape)}, that of one picture [H, W, C]; give array[None] to index it, or "
                f"array[..., None] where it is {len(array):,} grey pictures of {array.shape[-1]} pixels width"
            )
        check_values(array.dtype, value_range)
        images = arrange_axes(array, 4, channels_first)
    except UnfitValues as error:
        raise ConfigError(f"the array {error}") from error

    def read() -> Iterator[RawImage]:
        for i, image in enumerate(images):
            yield RawImage(f"{i:08d}", image, {})

    return OpenSource("array", len(images), pa.schema([]), read, value_range=value_range)


def open_npy(path: Path, value_range: ValueRange | None = None) -> OpenSource:
    """Open an .npy file of images. It is mapped to memory, not loaded.

    Args:
        path: of a file with an array as for `open_array`.
        value_range: what is black and what is white in floats.

    Raises:
        SourceError: it is not an .npy, or holds pickles.
        ConfigError: as `open_array`.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "set.npy")
        >>> np.save(path, np.zeros((2, 3, 8, 8), np.uint8))
        >>> open_npy(path).count
        2
    """
    array = load_npy(path)
    try:
        opened = open_array(array, value_range)
    except ConfigError as error:
        raise ConfigError(f"{to_text(path)!r}: {error}") from error
    return OpenSource("npy", opened.count, opened.schema, opened.read, value_range=value_range)


def open_npz(path: Path, value_range: ValueRange | None = None) -> OpenSource:
    """Open an .npz file. All of it is loaded into memory.

    Args:
        path: of a file with an array of images as for `open_array`: the only one, or one named `images`, `train`,
            `x_train`, `train_images`, `data` or `x`. An array `keys` or `key` [N] gives the keys; other arrays [N] of
            numbers, booleans or strings are metadata.
        value_range: what is black and what is white in floats.

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
    arrays = load_arrays(path)
    name = _find_images(path, arrays)
    try:
        positions = open_array(arrays[name], value_range)
    except ConfigError as error:
        raise ConfigError(f"{to_text(path)!r}, array {name!r}: {error}") from error
    keys, columns, left_out = split_columns(path, arrays, positions.count, {name})

    def read() -> Iterator[RawImage]:
        for i, raw in enumerate(positions.read()):
            key = raw.key if keys is None else str(keys[i])
            yield RawImage(key, raw.data, {name: columns[name][i].as_py() for name in columns.column_names})

    return OpenSource("npz", positions.count, columns.schema, read, left_out=left_out, value_range=value_range)


def split_columns(
    path: Path, arrays: dict[str, NDArray[Any]], count: int, used: Collection[str | None]
) -> tuple[NDArray[Any] | None, pa.Table, list[Failure]]:
    """Split the arrays of an .npz that are not images into keys, metadata and what is left out.

    Args:
        path: of the file, for messages.
        arrays: by name.
        count: number of images.
        used: names of the arrays of images.

    Raises:
        SourceError: an array has values that no column can hold.
    """
    rows = {n: a for n, a in arrays.items() if a.shape == (count,) and a.dtype.kind in "biufU" and n not in used}
    left_out = [
        Failure(n, f"is neither images nor a plain value for each of them: {a.dtype} {list(a.shape)}")
        for n, a in arrays.items()
        if n not in rows and n not in used
    ]
    keys = next((rows.pop(known) for known in KEY_NAMES if known in rows), None)
    try:
        columns = pa.table({name: pa.array(array) for name, array in rows.items()})
    except (pa.ArrowException, ValueError) as error:
        raise SourceError(f"{to_text(path)!r} has values that no column can hold: {error}; save others") from error
    return keys, columns, left_out


def load_npy(path: Path) -> NDArray[Any]:
    """Map an .npy file to memory.

    Raises:
        SourceError: it is not an .npy, or holds pickles.
    """
    if _read_magic(path).startswith(NPZ):
        raise SourceError(f"{to_text(path)!r} is an .npz by its contents; rename it to .npz")
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # a damaged header makes numpy raise almost anything
        raise SourceError(
            f"{to_text(path)!r} cannot be read as .npy without pickles: {error}; save a plain array"
        ) from error
    return array


def _read_magic(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(len(NPY))
    except OSError as error:
        raise SourceError(f"{to_text(path)!r} cannot be opened: {error.strerror or error}") from error


def load_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Load all arrays of an .npz; `SourceError` where it is none, or holds pickles."""
    if _read_magic(path).startswith(NPY):
        raise SourceError(f"{to_text(path)!r} is an .npy by its contents; rename it to .npy")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # a damaged file makes zip and numpy raise almost anything
        raise SourceError(
            f"{to_text(path)!r} cannot be read as .npz without pickles: {error}; save plain arrays"
        ) from error


def _find_images(path: Path, arrays: dict[str, NDArray[Any]]) -> str:
    """Find the array of images: bytes before other numbers, then by its name, or because there is no other."""
    stacks = [name for name, array in arrays.items() if _could_be_images(array)]
    for chosen in ([name for name in stacks if arrays[name].dtype == np.uint8], stacks):
        known = [name for name in IMAGE_NAMES if name in chosen]
        if known:
            return known[0]
        if len(chosen) == 1:
            return chosen[0]
    held = ", ".join(f"{name} ({array.dtype} {list(array.shape)})" for name, array in arrays.items())
    raise SourceError(
        f"{to_text(path)!r} has no array 'images' of [N, H, W, C], [N, C, H, W] or [N, H, W]; it has {held or 'none'}"
    )


def _could_be_images(array: NDArray[Any]) -> bool:
    if array.dtype.kind not in "uif":
        return False
    return array.ndim == 3 or (array.ndim == 4 and bool({array.shape[1], array.shape[3]} & {1, 3, 4}))

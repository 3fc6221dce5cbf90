"""Files of latents: .npy, .npz and .safetensors, of one or of many."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nda_index.errors import ConfigError, MissingDependencyError, SourceError
from nda_index.images import Latent
from nda_index.images.forms import as_array
from nda_index.images.values import UnfitValues
from nda_index.sources.arrays import load_arrays, load_npy, split_columns
from nda_index.sources.base import Failure, OpenSource, RawImage, to_text

LATENT_ENDINGS = frozenset([".npy", ".npz", ".safetensors"])
NAMES = ("latents", "latent", "z", "x", "data")  # of several arrays, the first of these
PICTURE_NAMES = ("images", "image", "pictures", "picture")

Arrays = Mapping[str, Any]  # arrays, or what has their dtype and shape, by name


def read_latent_file(path: Path, picture: Any = None) -> Latent:
    """Read a file of one latent, and a picture that it holds beside it.

    Args:
        path: of an .npy of [C, H, W] or [1, C, H, W]; or of an .npz or .safetensors with one such array, or with one
            that is named `latents`, `latent`, `z`, `x` or `data`.
        picture: what holds the picture, where the file does not.

    Raises:
        UnfitValues: it holds no latent, or several.
        SourceError: it cannot be read.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "a.npz")
        >>> np.savez(path, latent=np.zeros((4, 8, 8), np.float16))
        >>> read_latent_file(path).values.shape
        (4, 8, 8)
    """
    if path.suffix.lower() == ".npy":
        return Latent(load_npy(path), picture)
    arrays = load_arrays(path) if path.suffix.lower() == ".npz" else _load_tensors(path)
    name = _find_name(arrays, _could_be_one)
    if name is None:
        raise UnfitValues(f"holds no array of floats [C, H, W], or several: {_list_arrays(arrays)}; name one 'latent'")
    beside = next((arrays[known] for known in PICTURE_NAMES if known in arrays and known != name), None)
    if beside is not None and beside.ndim == 4 and len(beside) == 1:
        beside = beside[0]
    return Latent(arrays[name], picture if beside is None else beside)


def open_latent_file(path: Path) -> OpenSource:
    """Open a file of many latents; an .npy and a .safetensors are read as they are needed, an .npz is loaded.

    Raises:
        SourceError: it cannot be read, or has no latents.
        ConfigError: an .npy holds another array.
        MissingDependencyError: the package safetensors is not installed.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "set.npz")
        >>> np.savez(path, latents=np.zeros((2, 4, 8, 8), np.float16), year=np.array([1999, 2001]))
        >>> [raw.metadata for raw in open_latent_file(path).read()]
        [{'year': 1999}, {'year': 2001}]
    """
    ending = path.suffix.lower()
    if ending == ".safetensors":
        return _open_safetensors(path)
    if ending == ".npy":
        array = load_npy(path)
        if not _could_be_many(array):
            raise ConfigError(
                f"{to_text(path)!r} holds {array.dtype} {list(array.shape)}; latents are floats [N, C, H, W]"
            )
        return OpenSource("npy", len(array), pa.schema([]), lambda: _number(array, None, None, None))
    arrays = load_arrays(path)
    name = _find_name(arrays, _could_be_many)
    if name is None:
        raise SourceError(f"{to_text(path)!r} has no array 'latents' [N, C, H, W]; it has {_list_arrays(arrays)}")
    stack = arrays[name]
    beside = _find_beside(arrays, len(stack), name)
    keys, columns, left_out = split_columns(path, arrays, len(stack), {name, beside})
    pictures = None if beside is None else arrays[beside]
    return OpenSource(
        "npz", len(stack), columns.schema, lambda: _number(stack, pictures, keys, columns), left_out=left_out,
        shown=beside is not None,
    )  # fmt: skip


def _open_safetensors(path: Path) -> OpenSource:
    """Open a file with one stack of latents, or with a latent in each tensor."""
    file = _open_tensors(path)
    shapes = {name: _Described(file.get_slice(name)) for name in file.keys()}  # noqa: SIM118  # it is no dictionary
    name = _find_name(shapes, _could_be_many)
    if name is not None:
        beside = _find_beside(shapes, len(shapes[name]), name)
        rest = [one for one in shapes if one not in (name, beside)]
        left_out = [Failure(one, f"is not the latents, which are {name!r}") for one in rest]
        stack, pictures = file.get_slice(name), None if beside is None else file.get_slice(beside)

        def read() -> Iterator[RawImage]:
            for number in range(len(shapes[name])):
                picture = None if pictures is None else as_array(pictures[number : number + 1])[0]
                yield RawImage(f"{number:08d}", Latent(as_array(stack[number : number + 1])[0], picture), {})

        return OpenSource(
            "safetensors", len(shapes[name]), pa.schema([]), read, left_out=left_out, shown=beside is not None
        )
    own = [one for one, kind in shapes.items() if _could_be_one(kind)]
    if not own:
        raise SourceError(f"{to_text(path)!r} holds no latents; it has {_list_arrays(shapes)}")
    left_out = [Failure(one, "is no tensor of floats [C, H, W]") for one in shapes if one not in own]

    def read_each() -> Iterator[RawImage]:
        return (RawImage(one, Latent(as_array(file.get_tensor(one))), {}) for one in own)

    return OpenSource("safetensors", len(own), pa.schema([]), read_each, left_out=left_out)


class _Described:
    """The type and shape of a tensor that is not read."""

    def __init__(self, part: Any) -> None:
        self.shape = tuple(part.get_shape())
        self.ndim = len(self.shape)
        self.dtype = np.dtype(np.float16 if part.get_dtype() in ("F16", "BF16", "F32", "F64") else np.uint8)

    def __len__(self) -> int:
        return int(self.shape[0])


def _number(array: NDArray[Any], pictures: Any, keys: Any, columns: pa.Table | None) -> Iterator[RawImage]:
    for number, values in enumerate(array):
        key = f"{number:08d}" if keys is None else str(keys[number])
        row = {} if columns is None else {name: columns[name][number].as_py() for name in columns.column_names}
        yield RawImage(key, Latent(values, None if pictures is None else pictures[number]), row)


def _find_name(arrays: Arrays, fits: Callable[[Any], bool]) -> str | None:
    """Find the array of latents: by its name, or because there is no other that could be."""
    fitting = [name for name, array in arrays.items() if fits(array)]
    known = [name for name in NAMES if name in fitting]
    return known[0] if known else fitting[0] if len(fitting) == 1 else None


def _find_beside(arrays: Arrays, count: int, but: str) -> str | None:
    """Find the array of the latents' pictures: bytes, by its name."""
    return next(
        (
            name
            for name in PICTURE_NAMES
            if name != but and name in arrays and arrays[name].dtype == np.uint8 and arrays[name].ndim in (3, 4)
            and len(arrays[name]) == count
        ),
        None,
    )  # fmt: skip


def _could_be_one(array: Any) -> bool:
    return bool(array.dtype.kind == "f" and (array.ndim == 3 or (array.ndim == 4 and array.shape[0] == 1)))


def _could_be_many(array: Any) -> bool:
    return bool(array.dtype.kind == "f" and array.ndim == 4 and 0 not in array.shape)


def _list_arrays(arrays: Arrays) -> str:
    return ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items()) or "none"


def _load_tensors(path: Path) -> dict[str, NDArray[Any]]:
    file = _open_tensors(path)
    return {name: as_array(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118


def _open_tensors(path: Path) -> Any:
    try:
        from safetensors import safe_open
    except ImportError as error:
        raise MissingDependencyError(
            f"{to_text(path)!r} needs the package safetensors; `pip install 'nda-index[latents]'`"
        ) from error
    try:
        return safe_open(path, framework="pt")  # torch has bfloat16, numpy has not
    except Exception as error:  # its own type, and whatever torch raises
        raise SourceError(f"{to_text(path)!r} cannot be read as .safetensors: {error}; save it again") from error

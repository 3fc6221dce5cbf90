"""Sources of latents: an array, a file of many, tables, or a folder with a file for each picture."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from nda_index.errors import ConfigError, ImageDecodeError, MissingDependencyError, SourceError
from nda_index.images import PICTURE_ENDINGS, Latent, describe_input, encode_small, fit_latent, read_upright, shows_same
from nda_index.images.forms import as_array, is_tensor
from nda_index.images.values import UnfitValues
from nda_index.sources.base import Failure, OpenSource, RawImage, Unreadable, to_text
from nda_index.sources.datasets import open_generator, open_images, open_table_dataset
from nda_index.sources.folders import explain_other, list_files, name_below
from nda_index.sources.latent_files import LATENT_ENDINGS, open_latent_file, read_latent_file
from nda_index.sources.metadata import clean_text
from nda_index.sources.parquet import find_latent_column

KINDS = (
    "an array or tensor [N, C, H, W]; a list, dataset or generator of [C, H, W]; an .npy, .npz or .safetensors; "
    "Parquet files with a column of latents; or a folder of these, one .npy, .npz or .safetensors for each picture"
)
SHOWN = 256  # pixels of the longer side of the picture that is kept beside a latent


def open_latents(
    source: Any, open_tables: Callable[[list[Path]], OpenSource], shape: tuple[int, int, int] | None = None
) -> OpenSource:
    """Open a source of latents; all have the shape of the first that can be read, or are failures.

    Args:
        source: as `KINDS` says.
        open_tables: opens Parquet files.
        shape: (C, H, W) that they must have, where an index is there already.

    Raises:
        SourceError: there is nothing there, no latent in it, or it cannot be read.
        ConfigError: it is no source of latents.

    Example:
        >>> open_latents(np.zeros((5, 4, 8, 8), np.float16), lambda paths: None).latents
        (4, 8, 8)
    """
    opened = _open(source, open_tables)
    first = _find_first(opened, describe_input(source))
    channels, height, width = np.shape(first.values)
    return replace(opened, latents=shape or (channels, height, width), shown=opened.shown or first.picture is not None)


def read_latent(thing: Any, shape: tuple[int, ...]) -> Latent:
    """Read the latent of a question to an index of latents [C, H, W].

    Args:
        thing: array or tensor of floats [C, H, W] or [1, C, H, W]; the path of an .npy, .npz or .safetensors with one;
            or a `Latent` of these.
        shape: (C, H, W) of the index.

    Returns:
        The latent, float16 [C, H, W], and its picture: of a `Latent`, or one that its file holds.

    Raises:
        ImageDecodeError: it is a picture, or floats of another shape or beyond float16; it says what would do.
        MissingDependencyError: the package safetensors is not installed.

    Example:
        >>> read_latent(np.zeros((4, 8, 8)), (4, 8, 8)).values.dtype
        dtype('float16')
    """
    latent = thing if isinstance(thing, Latent) else Latent(thing)
    held = latent.values
    wanted = f"the index holds latents {list(shape)}: give floats of this shape, encoded and scaled as they were"
    try:
        if isinstance(held, str | PathLike):
            path = Path(held)
            if path.suffix.lower() not in LATENT_ENDINGS:
                raise UnfitValues("is no .npy, .npz or .safetensors")
            if not path.is_file():
                raise ImageDecodeError(f"there is no file at {describe_input(held)}; check the path")
            latent = read_latent_file(path, latent.picture)
        elif isinstance(held, bytes | bytearray | memoryview | Image.Image | dict) or hasattr(held, "read"):
            raise UnfitValues("is a picture or a file, and no latent")
        return Latent(fit_latent(latent.values, shape), latent.picture)
    except (UnfitValues, SourceError) as error:
        raise ImageDecodeError(f"{describe_input(held)} {error}; {wanted}") from error


def read_small(raw: RawImage, shape: tuple[int, int, int]) -> tuple[Any, bytes | None, str | None] | str:
    """Read a latent [C, H, W] of a source, a small file of the picture beside it, and why that is left out, if it is.

    Returns:
        The three, or the reason why the latent cannot be read.
    """
    if isinstance(raw.data, Unreadable):
        return raw.data.reason
    latent = raw.data if isinstance(raw.data, Latent) else Latent(raw.data)
    try:
        if isinstance(latent.values, str | PathLike):
            latent = read_latent_file(Path(latent.values), latent.picture)
        values = fit_latent(latent.values, shape)
    except UnfitValues as error:
        return clean_text(f"it {error}")
    except Exception as error:  # a damaged file makes its reader raise almost anything
        return clean_text(f"it cannot be read: {type(error).__name__}: {error}")
    if latent.picture is None:
        return values, None, None
    try:
        picture = read_upright(latent.picture, None).image
    except Exception as error:  # it is for display alone
        return values, None, clean_text(f"is shown without its picture, which cannot be read: {error}")
    if not shows_same(picture, shape):
        size = f"{picture.width} x {picture.height}"
        return values, None, f"is shown without its picture of {size} pixels, which is not of the latent's proportions"
    return values, encode_small(picture, SHOWN), None


def _open(source: Any, open_tables: Callable[[list[Path]], OpenSource]) -> OpenSource:
    if isinstance(source, np.ndarray) or is_tensor(source):
        array = as_array(source)
        _check_stack(array, "the array")
        return OpenSource("array", len(array), pa.schema([]), lambda: _number(array))
    if isinstance(source, str | PathLike):
        return _open_path(Path(source), open_tables)
    if isinstance(source, list | tuple) and source and all(isinstance(part, str | PathLike) for part in source):
        paths = [Path(part) for part in source]
        if {path.suffix.lower() for path in paths} == {".parquet"}:
            return open_tables(paths)
        raise ConfigError(f"the source is a list of {len(paths)} files, which are not all Parquet; it must be {KINDS}")
    if hasattr(source, "with_format") and hasattr(source, "column_names") and hasattr(source, "__len__"):
        return open_table_dataset(source, latents=True)
    if hasattr(source, "__len__") and hasattr(source, "__getitem__") and not isinstance(source, dict | bytes):
        return open_images(source)
    if not isinstance(source, dict | bytes) and (callable(source) or hasattr(source, "__iter__")):
        return open_generator(source, latents=True)
    raise ConfigError(f"the source is of type {type(source).__name__}; of latents it must be {KINDS}")


def _open_path(path: Path, open_tables: Callable[[list[Path]], OpenSource]) -> OpenSource:
    if path.is_dir():
        return open_latent_folder(path, open_tables)
    if not path.exists():
        files = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]
        if files and {file.suffix.lower() for file in files} == {".parquet"}:
            return open_tables(files)
        raise SourceError(f"there is nothing at {to_text(path)!r}; a source of latents must be {KINDS}")
    if path.suffix.lower() == ".parquet":
        return open_tables([path])
    if path.suffix.lower() in LATENT_ENDINGS:
        return replace(open_latent_file(path), files=(path,))
    raise SourceError(f"the source {to_text(path)!r} is not of a known kind; of latents it must be {KINDS}")


def open_latent_folder(folder: Path, open_tables: Callable[[list[Path]], OpenSource]) -> OpenSource:
    """Open a folder with a file for each latent, in the order of their paths, which are the keys; or of Parquet files.

    A picture of the same name is shown with its latent.

    Raises:
        SourceError: it holds files of latents and Parquet files with latents.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> np.save(folder / "a.npy", np.zeros((4, 8, 8), np.float16))
        >>> opened = open_latent_folder(folder, lambda paths: None)
        >>> [raw.key for raw in opened.read()], opened.shown
        (['a.npy'], False)
    """
    listing = list_files(folder)
    left_out = list(listing.left_out)
    files = [path for path in listing.files if path.suffix.lower() in LATENT_ENDINGS]
    tables = [path for path in listing.files if path.suffix.lower() == ".parquet" and find_latent_column(path)]
    if files and tables:
        raise SourceError(
            f"the folder {to_text(folder)!r} holds {len(files):,} files of latents and {len(tables):,} Parquet files "
            f"with latents; give one kind, or move the others elsewhere"
        )
    pictures = {path.with_suffix(""): path for path in listing.files if path.suffix.lower() in PICTURE_ENDINGS}
    used = {path.with_suffix("") for path in files}
    taken = {*files, *tables, *(path for stem, path in pictures.items() if stem in used)}
    for path in listing.files:
        if path not in taken:
            left_out.append(Failure(name_below(folder, path), _explain(path)))
    left_out.sort(key=lambda one: one.key)
    if tables:
        opened = open_tables(tables)
        return replace(opened, left_out=[*left_out, *opened.left_out])

    def read() -> Iterator[RawImage]:
        for path in files:
            yield RawImage(name_below(folder, path), Latent(path, pictures.get(path.with_suffix(""))), {})

    shown = any(stem in pictures for stem in used)
    return OpenSource("folder", len(files), pa.schema([]), read, left_out=left_out, shown=shown)


def _explain(path: Path) -> str:
    ending = path.suffix.lower()
    if ending in PICTURE_ENDINGS:
        return "is a picture without a latent of its name"
    return "is a table without a column of latents" if ending == ".parquet" else explain_other(ending)


def _check_stack(array: Any, name: str) -> None:
    if array.dtype.kind != "f" or array.ndim != 4 or 0 in array.shape[1:]:
        raise ConfigError(
            f"{name} is {array.dtype} {list(array.shape)}; latents are floats [N, C, H, W], and pictures are indexed "
            f"without latents"
        )


def _number(array: Any) -> Iterator[RawImage]:
    for number, values in enumerate(array):
        yield RawImage(f"{number:08d}", Latent(values), {})


def _find_first(opened: OpenSource, name: str) -> Latent:
    """Find the first latent that can be read."""
    first = ""
    for raw in opened.read():
        latent = raw.data if isinstance(raw.data, Latent) else Latent(raw.data)
        try:
            if isinstance(raw.data, Unreadable):
                raise UnfitValues(raw.data.reason)
            if isinstance(latent.values, str | PathLike):
                latent = read_latent_file(Path(latent.values), latent.picture)
            return Latent(fit_latent(latent.values), latent.picture)
        except MissingDependencyError:
            raise
        except Exception as error:  # as in `read_small`
            first = first or f"; the first, {raw.key}, {clean_text(str(error))}"
    raise SourceError(f"the source {name} holds no latent{first}; it must be {KINDS}")

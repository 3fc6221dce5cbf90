"""Open a source of any kind and decode its images, in order and in batches."""

from __future__ import annotations

import glob
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from os import PathLike, fspath
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
from PIL import Image

from nda_index.errors import ConfigError, ImageDecodeError, SourceError
from nda_index.images import (
    PICTURE_ENDINGS,
    Pixels,
    ValueRange,
    describe_input,
    explain_ending,
    fit_pixels,
    parse_value_range,
    read_upright,
)
from nda_index.images.forms import as_array, is_tensor
from nda_index.paths import is_address
from nda_index.sources.arrays import open_array, open_npy, open_npz
from nda_index.sources.base import (
    CHUNK,
    Absent,
    Describe,
    Failure,
    ImageBatch,
    OpenSource,
    RawImage,
    Source,
    Unreadable,
    to_text,
)
from nda_index.sources.datasets import open_generator, open_images, open_table_dataset
from nda_index.sources.folders import open_files, open_folder
from nda_index.sources.latents import open_latents, read_small
from nda_index.sources.metadata import clean_text, make_table, select_columns
from nda_index.sources.parquet import open_parquet
from nda_index.sources.splits import choose_split
from nda_index.sources.webdataset import open_webdataset

WORKERS = 2  # decoding threads; Pillow releases the interpreter lock
DESCRIBED = 4  # images that a thread takes at a time where each is described, which takes long
AHEAD = 4 * WORKERS  # chunks that wait for the caller at most: enough to keep the threads busy, little enough to hold
SHOWN = 3  # of what is left out, in a message
KINDS = (
    "a folder of images, .parquet or .tar files; such file(s), an .npz or .npy; or, in Python, an array [N, H, W, C], "
    "a list of images, a dataset, or a generator of (key, image)"
)


class _Decoded(NamedTuple):
    """Pixels of an image, what is kept of the picture, and what of it is left out and why, if anything is."""

    pixels: Pixels
    picture: Any
    left_out: str | None


_Result: TypeAlias = "_Decoded | Absent | str"  # a string: why an image cannot be read


def open_source(
    source: Source,
    *,
    columns: Sequence[str] | None = None,
    image_column: str | None = None,
    split: str | None = None,
    value_range: str | ValueRange | None = None,
    latents: bool | tuple[int, int, int] = False,
) -> OpenSource:
    """Open a source: count its images and find its metadata columns, without decoding any image.

    Args:
        source: a folder, a path or several or a glob of Parquet files, .tar shards or image files, an .npz or .npy; or
            images of Python: docs/sources.md. Shards are read once to count them; an .npz is loaded into memory.
        columns: metadata columns to keep; all by default. Each makes the index larger by its values.
        image_column: column of Parquet files that holds the images, or the latents; found by default.
        split: of a folder or glob of Parquet files, as "train" or "train+test"; needed where there are several.
        value_range: what is black and what is white in floats, as "0..1"; without it they are refused.
        latents: it holds latents: docs/latents.md; or (C, H, W) that they must have.

    Returns:
        The source, for `read_batches`. Its order is the same every time.

    Raises:
        SourceError: there is nothing there, no image in it, or it cannot be read.
        ConfigError: a column that is not there; several splits; an array of another type or shape; a thing of Python
            that is no source.

    Example:
        >>> open_source(np.zeros((5, 8, 8, 3), np.uint8)).count
        5
    """
    levels = parse_value_range(value_range)
    if latents:
        opened = open_latents(
            source,
            lambda paths: open_parquet(choose_split(paths, split, describe_input(source)), image_column, latents=True),
            latents if isinstance(latents, tuple) else None,
        )
    else:
        opened = _open(source, levels, image_column, split)
    if opened.kind != "parquet" and (image_column is not None or split is not None):
        option = "image_column" if image_column is not None else "split"
        raise ConfigError(f"{option} is given, but the source {describe_input(source)} is not Parquet; leave it out")
    if opened.count == 0:
        others = f" (it holds {_list_some(opened.left_out)})" if opened.left_out else ""
        what = describe_input(source).removeprefix("the ")
        raise SourceError(f"the source, {what}, holds no image{others}; it must be {KINDS}, with 1 image or more")
    return replace(_keep_columns(opened, columns), value_range=levels)


def _keep_columns(opened: OpenSource, columns: Sequence[str] | None) -> OpenSource:
    """Give the metadata columns that are wanted the names that an index has for them, and say what changes."""
    stored = select_columns(opened.schema, columns, opened.dropped)
    schema = pa.schema([opened.schema.field(name).with_name(own) for name, own in stored.items()])
    notes = [f"the column {name!r} is kept as {own!r}" for name, own in stored.items() if own != name]
    notes += [f"the column {name!r} {why}" for name, why in opened.dropped.items() if columns is None]

    def read() -> Iterator[RawImage]:
        for raw in opened.read():
            row = {own: raw.metadata[name] for name, own in stored.items() if name in raw.metadata}
            yield replace(raw, metadata=row)

    return replace(opened, schema=schema, read=read, notes=(*opened.notes, *notes))


def select_positions(source: OpenSource, positions: range) -> OpenSource:
    """Select the images of a source at neighbouring positions. Those before them are still read, but not decoded.

    Args:
        source: from `open_source`.
        positions: a range of step 1 within the source.

    Example:
        >>> select_positions(open_source(np.zeros((5, 8, 8, 3), np.uint8)), range(3, 5)).count
        2
    """

    def read() -> Iterator[RawImage]:
        return islice(source.read(), positions.start, positions.stop)

    left_out = source.left_out if positions.start == 0 else ()
    return replace(source, count=len(positions), read=read, left_out=left_out)


def read_batches(
    source: OpenSource,
    image_size: tuple[int, int],
    channels: int,
    batch_size: int = 1024,
    start: int = 0,
    describe: Describe | None = None,
) -> Generator[ImageBatch, None, None]:
    """Decode a source's images in order, on several threads, a bounded number ahead of the caller.

    Args:
        source: from `open_source`.
        image_size: (height, width) that images are resized and cropped to.
        channels: 3 or 1.
        batch_size: images in a batch at most; all of a batch are in memory at once.
        start: number of images at the beginning that are left out.
        describe: is called with each picture at its own size; what it returns is in a batch's pictures.

    Returns:
        Batches. An image that cannot be read is in a batch's failures and not in its images; reading goes on.

    Raises:
        SourceError: the source cannot be read to its end.

    Example:
        >>> source = open_source(np.zeros((5, 9, 9, 3), np.uint8))
        >>> [len(batch.images) for batch in read_batches(source, (8, 8), 3, batch_size=4)]
        [4, 1]
    """

    shape = source.latents

    def decode(chunk: list[RawImage]) -> list[_Result]:
        if shape is not None:
            return [one if isinstance(one := read_small(raw, shape), str) else _Decoded(*one) for raw in chunk]
        return [_decode_or_explain(raw, source.value_range, image_size, channels, describe) for raw in chunk]

    described = source.shown or describe is not None
    with ThreadPoolExecutor(WORKERS) as pool:
        ahead: deque[tuple[list[RawImage], Future[list[_Result]]]] = deque()
        pending: list[tuple[RawImage, _Result]] = []
        for chunk in _chunks(islice(source.read(), start, None), CHUNK if describe is None else DESCRIBED):
            ahead.append((chunk, pool.submit(decode, chunk)))
            if len(ahead) > AHEAD:
                raws, future = ahead.popleft()
                pending += zip(raws, future.result(), strict=True)
            while len(pending) >= batch_size:
                yield _make_batch(pending[:batch_size], source, (channels, *image_size), described)
                pending = pending[batch_size:]
        for raws, future in ahead:
            pending += zip(raws, future.result(), strict=True)
    for first in range(0, len(pending), batch_size):
        yield _make_batch(pending[first : first + batch_size], source, (channels, *image_size), described)


def _open(source: Any, levels: ValueRange | None, image_column: str | None, split: str | None) -> OpenSource:
    """Open what is a source by its type."""
    if isinstance(source, str | PathLike) or (
        isinstance(source, list | tuple) and all(isinstance(part, str | PathLike) for part in source)
    ):
        return _open_paths(source, levels, image_column, split)
    if isinstance(source, np.ndarray):
        return open_array(source, levels)
    if is_tensor(source):
        return open_array(as_array(source), levels, channels_first=True)
    if isinstance(source, dict):
        first = next(iter(source), "train")
        raise ConfigError(
            f"the source is a dictionary of {', '.join(map(str, source))}; give one, as source[{first!r}]"
        )
    if isinstance(source, Image.Image | bytes | bytearray | memoryview):
        raise ConfigError(
            f"the source is {_describe_one(source)}; give a list of images, a path as text, or an array [N, H, W, C]"
        )
    if hasattr(source, "__arrow_c_stream__") and not hasattr(source, "with_format"):  # of pandas, polars, pyarrow
        raise ConfigError(
            f"the source is a table in memory ({type(source).__name__}), which is not read; write it to a .parquet "
            f"file, or give a list of (key, image, metadata)"
        )
    if hasattr(source, "dataset") and hasattr(source, "batch_size"):
        raise ConfigError("the source gives batches, as a DataLoader; give its dataset, source.dataset")
    counted = hasattr(source, "__len__")
    if counted and hasattr(source, "with_format") and hasattr(source, "column_names"):
        return open_table_dataset(source, levels)
    iterates = any(kind.__name__ == "IterableDataset" for kind in type(source).__mro__)
    if counted and hasattr(source, "__getitem__") and not iterates:
        return open_images(source, levels)
    if callable(source) or hasattr(source, "__iter__"):
        return open_generator(source, levels)
    raise ConfigError(f"the source is of type {type(source).__name__}; it must be {KINDS}")


def _open_paths(
    source: str | PathLike[str] | Sequence[str | PathLike[str]],
    levels: ValueRange | None,
    image_column: str | None,
    split: str | None,
) -> OpenSource:
    together = describe_input(source) if isinstance(source, str | PathLike) else None

    def open_tables(paths: list[Path]) -> OpenSource:
        return open_parquet(choose_split(paths, split, together), image_column)

    if isinstance(source, str | PathLike) and fspath(source) and Path(source).is_dir():
        return open_folder(Path(source), open_tables)
    paths = _list_paths(source)
    if not paths:
        raise SourceError(_explain_nothing(source))
    for path in paths:
        if path.is_dir():
            raise SourceError(f"{to_text(path)!r} is a folder in a list of files; give one folder, or files alone")
        if not path.is_file():
            raise SourceError(f"there is no file at {to_text(path)!r}; check the path")
    endings = {path.suffix.lower() for path in paths}
    if endings == {".parquet"}:
        return open_tables(paths)
    if endings == {".tar"}:
        return replace(open_webdataset(paths), files=tuple(paths))
    if endings <= PICTURE_ENDINGS:
        return open_files(paths)
    if len(paths) == 1 and endings <= {".npz", ".npy"}:
        opened = (open_npz if endings == {".npz"} else open_npy)(paths[0], levels)
        return replace(opened, files=tuple(paths))
    raise SourceError(_explain_kind(source, paths, endings))


def _describe_one(source: Any) -> str:
    return "one picture" if isinstance(source, Image.Image) else f"{len(source)} bytes"


def _explain_nothing(source: str | PathLike[str] | Sequence[Any]) -> str:
    """Say why no file is found."""
    if not isinstance(source, str | PathLike):
        return f"the list is empty; the source must be {KINDS}, with 1 image or more"
    name = to_text(fspath(source))
    if not name:
        return f"the source is '', which is no path; it must be {KINDS}"
    if is_address(source):
        return f"the source {name!r} is an address, which is not read; download it and give the files"
    if glob.has_magic(name):
        return f"no file fits the pattern {name!r}; check the folder and the ending"
    return f"there is nothing at {name!r}; check the path. The source must be {KINDS}"


def _explain_kind(source: str | PathLike[str] | Sequence[Any], paths: Sequence[Path], endings: set[str]) -> str:
    """Say why files are no source."""
    if len(paths) == 1:
        reason = explain_ending(paths[0].suffix.lower())
        if not reason.startswith("is not"):
            return f"the source {to_text(paths[0])!r} {reason}"
    what = describe_input(source) if isinstance(source, str | PathLike) else f"the list of {len(paths)} files"
    kinds = ", ".join(sorted(ending or "no ending" for ending in endings))
    return f"{what} is not of one kind that is read ({kinds}); the source must be {KINDS}"


def _list_paths(source: str | PathLike[str] | Sequence[str | PathLike[str]]) -> list[Path]:
    if not isinstance(source, str | PathLike):
        return [Path(part) for part in source]
    if fspath(source) and Path(source).exists():
        return [Path(source)]
    return [Path(name) for name in sorted(glob.glob(fspath(source), recursive=True))]


def _decode_or_explain(
    raw: RawImage,
    levels: ValueRange | None,
    image_size: tuple[int, int],
    channels: int,
    describe: Describe | None,
) -> _Result:
    """Decode an image, or give the reason why it cannot be read: nothing that is wrong with one may end a build."""
    if raw.data is None:
        return "the source holds no bytes for it"
    if isinstance(raw.data, Absent):
        return raw.data
    if isinstance(raw.data, Unreadable):
        return raw.data.reason
    try:
        upright = read_upright(raw.data, levels)
        pixels = fit_pixels(upright.image, image_size, channels)
        left_out = _tell_frames(upright.frames) if upright.frames > 1 else None
        if describe is None:
            return _Decoded(pixels, None, left_out)
        path = raw.data if isinstance(raw.data, Path) else None
        return _Decoded(pixels, describe(upright.image.convert("RGB"), path), left_out)
    except ImageDecodeError as error:
        return clean_text(str(error))
    except Exception as error:  # of a picture that is odd in a way that nobody has met yet
        return clean_text(f"it cannot be indexed: {type(error).__name__}: {error}")


def _make_batch(
    pairs: list[tuple[RawImage, _Result]], source: OpenSource, shape: tuple[int, int, int], described: bool
) -> ImageBatch:
    good = [(raw, result) for raw, result in pairs if isinstance(result, _Decoded)]
    metadata, problems = make_table([raw.metadata for raw, _ in good], source.schema)
    failures = [Failure(to_text(raw.key), clean_text(result)) for raw, result in pairs if isinstance(result, str)]
    failures += [Failure(to_text(good[place][0].key), why) for place, why in problems.items()]
    good = [pair for place, pair in enumerate(good) if place not in problems]
    images: Pixels = np.empty((len(good), *shape), np.float16 if source.latents else np.uint8)
    for target, (_, decoded) in zip(images, good, strict=True):
        target[:] = decoded.pixels
    return ImageBatch(
        images,
        [to_text(raw.key) for raw, _ in good],
        metadata,
        failures,
        pictures=[decoded.picture for _, decoded in good] if described else [],
        left_out=[Failure(to_text(raw.key), each.left_out) for raw, each in good if each.left_out],
        absent=[Failure(to_text(raw.key), result.reason) for raw, result in pairs if isinstance(result, Absent)],
    )


def _tell_frames(frames: int) -> str:
    return f"is indexed by the first of its {frames} frames; save the others as files of their own to index them too"


def _list_some(left_out: Sequence[Failure]) -> str:
    some = ", ".join(f"{one.key}, which {one.reason}" for one in left_out[:SHOWN])
    return some if len(left_out) <= SHOWN else f"{some} and {len(left_out) - SHOWN:,} more"


def _chunks(raws: Iterator[RawImage], size: int) -> Iterator[list[RawImage]]:
    while chunk := list(islice(raws, size)):
        yield chunk

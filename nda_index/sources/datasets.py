"""Images from Python: lists, datasets of torch and of Hugging Face, and generators of (key, image)."""

from __future__ import annotations

import io
import os
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
from PIL import Image

from nda_index.errors import ImageDecodeError, NdaIndexError, SourceError
from nda_index.images import Latent, ValueRange, arrange_axes, read_upright
from nda_index.images.forms import as_array, is_tensor, unwrap
from nda_index.images.values import UnfitValues
from nda_index.sources.base import CHUNK, OpenSource, RawImage, Unreadable, to_text
from nda_index.sources.parquet import IMAGE_COLUMNS, KEY_COLUMNS, Part, choose_columns, open_tables
from nda_index.sources.samples import choose_type, plain_value

LABEL = "label"  # column of the second part of a sample (image, label)
PEEKED = 16  # samples of a dataset that say which metadata there are
_PLAIN = (bool, int, float, str)
_FITTING: dict[str, set[type]] = {"bool": {bool}, "int64": {int}, "double": {float}}  # by Arrow's name of a type


class _Place(NamedTuple):
    """Where an image lies in a temporary file."""

    start: int
    size: int
    is_array: bool


def open_images(items: Any, value_range: ValueRange | None = None) -> OpenSource:
    """Open a list of images, or a dataset with a length and numbered samples. Keys are positions, unless samples say.

    Args:
        items: a sequence, or what has `__len__` and `__getitem__` as datasets of torch. Its samples are images; or
            (image, label), (key, image) or (key, image, metadata); or dictionaries with an image.
        value_range: what is black and what is white in floats.

    Example:
        >>> opened = open_images([(Image.new("L", (4, 4)), 7), (Image.new("L", (5, 5)), 8)])
        >>> [(image.key, image.metadata) for image in opened.read()]
        [('00000000', {'label': 7}), ('00000001', {'label': 8})]
    """
    count = len(items)

    def sample(number: int) -> RawImage:
        try:
            return read_sample(items[number], number)
        except Exception as error:  # code of whoever wrote the dataset
            return RawImage(f"{number:08d}", Unreadable(_tell(f"sample {number} of the source", error)), {})

    _, schema = _learn_types(sample(number) for number in range(min(count, PEEKED)))

    def read() -> Iterator[RawImage]:
        for number in range(count):
            yield _fit_row(sample(number), schema)

    kind = "images" if isinstance(items, list | tuple) else "dataset"
    return OpenSource(kind, count, schema, read, value_range=value_range)


def open_table_dataset(dataset: Any, value_range: ValueRange | None = None, latents: bool = False) -> OpenSource:
    """Open a dataset of Hugging Face; its images are decoded here, as those of Parquet files are.

    Args:
        dataset: with a length, from the package datasets.
        value_range: what is black and what is white in floats.
        latents: it holds latents, and images beside them.

    Raises:
        SourceError: no column of it holds images, or latents.
    """
    tables = dataset.with_format("arrow")
    first = next(iter(tables.iter(batch_size=1)), None)
    if first is None:
        return OpenSource("dataset", 0, pa.schema([]), lambda: iter(()))

    def read_files(columns: list[str]) -> Iterator[tuple[str, Iterator[Part]]]:
        batches = (
            batch
            for table in tables.iter(batch_size=CHUNK)
            for batch in table.select(columns).combine_chunks().to_batches()
        )
        yield "", batches

    image, latent = choose_columns(first.schema, None, Path("the dataset"), latents)
    opened = open_tables("dataset", image, len(dataset), first.schema, read_files, latent)
    return replace(opened, read=lambda: map(_follow_path, opened.read()), value_range=value_range)


def _follow_path(raw: RawImage) -> RawImage:
    """Read the file that a dataset of local files names, where it holds no bytes of it."""
    return replace(raw, data=Path(raw.key)) if raw.data is None and Path(raw.key).is_absolute() else raw


def open_generator(
    source: Iterable[Any] | Callable[[], Iterable[Any]], value_range: ValueRange | None = None, latents: bool = False
) -> OpenSource:
    """Open images that come one after the other.

    A function that returns an iterator is called twice: to count, and to read. What can be read once only, such as a
    generator, is first written to a temporary file, without loss and upright.

    Args:
        source: gives samples as for `open_images`.
        value_range: what is black and what is white in floats.
        latents: samples hold latents, and no images.

    Raises:
        SourceError: it raises an error itself.

    Example:
        >>> opened = open_generator((f"key {i}", np.zeros((4, 4), np.uint8)) for i in range(3))
        >>> opened.count, [image.key for image in opened.read()]
        (3, ['key 0', 'key 1', 'key 2'])
    """
    if callable(source):
        start = source
        return _open_restartable(lambda: _samples(start()), value_range)
    if iter(source) is not source:  # it can be iterated again
        again = source
        return _open_restartable(lambda: _samples(again), value_range)
    kept, file = _keep(_samples(source), value_range, latents)

    def read() -> Iterator[RawImage]:
        return _read_kept(kept, file)

    weakref.finalize(read, file.close)
    return _open_restartable(read, value_range)


def read_sample(item: Any, number: int) -> RawImage:
    """Read one sample of Python: its key, what holds its image, and its metadata.

    Example:
        >>> read_sample(("a", b"...", {"year": 1999}), 0)
        RawImage(key='a', data=b'...', metadata={'year': 1999})
    """
    key, metadata = f"{number:08d}", dict[str, Any]()
    if isinstance(item, tuple | list) and item:
        if len(item) > 1 and isinstance(item[0], str):
            key, image, *rest = item
            metadata = dict(rest[0]) if rest and isinstance(rest[0], dict) else {}
        else:
            image, *rest = item
            metadata = {LABEL: _as_plain(rest[0])} if rest else {}
    elif isinstance(item, dict) and not {"bytes", "path"} >= set(item):
        name = next((known for known in (*IMAGE_COLUMNS, "pixel_values", "images") if known in item), None)
        if name is None:
            raise UnfitValues(f"it has no image under {', '.join(IMAGE_COLUMNS)}; it has {', '.join(map(str, item))}")
        image = item[name]
        key = next((item[known] for known in KEY_COLUMNS if isinstance(item.get(known), str)), key)
        metadata = {other: _as_plain(value) for other, value in item.items() if other not in (name, "key")}
    else:
        image = item
        key = str(item) if isinstance(item, str | PathLike) else key
    row = {str(name): plain_value(value) for name, value in metadata.items() if isinstance(value, _PLAIN)}
    return RawImage(to_text(key), image, row)


def _open_restartable(read: Callable[[], Iterator[RawImage]], value_range: ValueRange | None) -> OpenSource:
    count, schema = _learn_types(read())
    return OpenSource(
        "dataset", count, schema, lambda: (_fit_row(raw, schema) for raw in read()), value_range=value_range
    )


def _samples(items: Iterable[Any]) -> Iterator[RawImage]:
    """Read samples one after the other; an error of the iterator ends them, one of a sample is its own."""
    iterator = iter(items)
    number = 0
    while True:
        try:
            item = next(iterator)
        except StopIteration:
            return
        except NdaIndexError:
            raise
        except Exception as error:  # code of whoever wrote the generator
            raise SourceError(_tell(f"the source raised an error after {number} images", error)) from error
        try:
            yield read_sample(item, number)
        except UnfitValues as error:
            yield RawImage(f"{number:08d}", Unreadable(f"sample {number} of the source: {error}"), {})
        number += 1


def _keep(
    samples: Iterable[RawImage], value_range: ValueRange | None, latents: bool
) -> tuple[list[RawImage], BinaryIO]:
    """Write samples that can be read once only to a temporary file; they then name their places in it."""
    file: BinaryIO = tempfile.TemporaryFile(prefix="nda-index-")  # noqa: SIM115  # it is deleted with the last of them
    kept = []
    try:
        for raw in samples:
            data = _as_kept(raw.data, value_range, latents)
            if isinstance(data, bytes | np.ndarray):
                start = file.tell()
                file.write(data) if isinstance(data, bytes) else np.save(file, data, allow_pickle=False)
                data = _Place(start, file.tell() - start, isinstance(data, np.ndarray))
            kept.append(RawImage(raw.key, data, raw.metadata))
        file.flush()
    except BaseException:
        file.close()
        raise
    return kept, file


def _as_kept(data: Any, value_range: ValueRange | None, latents: bool) -> Any:
    """Return an image as what can be written: bytes, or an array with its channels last; others as they are."""
    try:
        if latents and isinstance(data, Latent) and data.picture is not None:
            return Unreadable("it comes with a picture; give a list, or a function that returns the generator")
        if latents:
            return data if isinstance(data, Unreadable) else as_array(data.values if isinstance(data, Latent) else data)
        data = unwrap(data)
        if isinstance(data, Image.Image):
            return np.asarray(read_upright(data, value_range).image)
        if data is None or isinstance(data, bytes | str | PathLike | Unreadable):
            return data
        return arrange_axes(as_array(data), 3, is_tensor(data))
    except (UnfitValues, ImageDecodeError) as error:
        return Unreadable(f"it {error}" if isinstance(error, UnfitValues) else str(error))


def _read_kept(kept: Iterable[RawImage], file: BinaryIO) -> Iterator[RawImage]:
    for raw in kept:
        data = raw.data
        if isinstance(data, _Place):
            held = os.pread(file.fileno(), data.size, data.start)
            data = np.load(io.BytesIO(held), allow_pickle=False) if data.is_array else held
        yield RawImage(raw.key, data, raw.metadata)


def _learn_types(samples: Iterable[RawImage]) -> tuple[int, pa.Schema]:
    """Count samples, and find their metadata columns."""
    types: dict[str, set[type]] = {}
    count = 0
    for raw in samples:
        count += 1
        for name, value in raw.metadata.items():
            types.setdefault(name, set()).add(type(value))
    return count, pa.schema([(name, choose_type(kinds)) for name, kinds in types.items()])


def _fit_row(raw: RawImage, schema: pa.Schema) -> RawImage:
    """Make a sample's metadata fit their columns; one whose values do not is unreadable, with the reason."""
    row: dict[str, Any] = {}
    for field in schema:
        value = raw.metadata.get(field.name)
        if value is None:
            continue
        if pa.types.is_string(field.type):
            row[field.name] = str(value)
        elif choose_type({type(value), *_FITTING[str(field.type)]}) == field.type:
            row[field.name] = value
        else:
            reason = f"its {field.name} is {value!r}; those of the first {PEEKED} samples are of type {field.type}"
            return RawImage(raw.key, Unreadable(reason), {})
    return RawImage(raw.key, raw.data, row)


def _as_plain(value: Any) -> Any:
    """Return a number of numpy or torch as one of Python; other values as they are."""
    if not isinstance(value, _PLAIN) and hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        return value.item()
    return value


def _tell(what: str, error: Exception) -> str:
    first = (str(error).splitlines() or [""])[0]
    return f"{what}: {type(error).__name__}: {first}"

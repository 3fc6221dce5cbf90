"""WebDataset shards: .tar files whose members with the same name, up to its first dot, belong to one image."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from nda_index.errors import SourceError
from nda_index.sources.base import IMAGE_ENDINGS, OpenSource, RawImage


def open_webdataset(paths: list[Path]) -> OpenSource:
    """Open WebDataset shards. This reads all of them once, to count images and to learn the metadata columns.

    A sample's .json (its plain values), .cls (a number) and .txt are metadata; a sample without an image is left out.

    Args:
        paths: of the shards, one or more, in the order in which they are read.

    Raises:
        SourceError: a shard is not a .tar file, or is cut short.

    Example:
        >>> import io, tempfile
        >>> path = Path(tempfile.mkdtemp(), "shard.tar")
        >>> with tarfile.open(path, "w") as archive:
        ...     for name, data in (("a.png", b"..."), ("a.cls", b"7")):
        ...         member = tarfile.TarInfo(name)
        ...         member.size = len(data)
        ...         archive.addfile(member, io.BytesIO(data))
        >>> [(image.key, image.metadata) for image in open_webdataset([path]).read()]
        [('a', {'cls': 7})]
    """
    count, schema = _scan_shards(paths)
    texts = {field.name for field in schema if pa.types.is_string(field.type)}

    def read() -> Iterator[RawImage]:
        for path in paths:
            for key, members in _read_samples(path, with_images=True):
                data = next((data for ending, data in members.items() if ending in IMAGE_ENDINGS), None)
                if data is not None:
                    metadata = read_metadata(members)
                    row = {name: str(value) if name in texts else value for name, value in metadata.items()}
                    yield RawImage(key, data, row)

    return OpenSource("webdataset", count, schema, read)


def split_name(name: str) -> tuple[str, str]:
    """Split a member's name into the key of its sample and its ending, in small letters.

    Example:
        >>> split_name("train/007.seg.PNG")
        ('train/007', '.seg.png')
    """
    folder, _, file_name = name.rpartition("/")
    stem, _, ending = file_name.partition(".")
    return f"{folder}/{stem}" if folder else stem, f".{ending.lower()}"


def read_metadata(members: dict[str, bytes]) -> dict[str, Any]:
    """Read the metadata of a sample, given its members' contents by ending.

    Example:
        >>> read_metadata({".json": b'{"year": 1999}', ".cls": b"7", ".txt": b"a cat"})
        {'year': 1999, 'cls': 7, 'txt': 'a cat'}
    """
    row: dict[str, Any] = {}
    if ".json" in members:
        try:
            values = json.loads(members[".json"])
        except ValueError:
            values = {}
        if isinstance(values, dict):
            row |= {name: value for name, value in values.items() if isinstance(value, bool | int | float | str)}
    if ".cls" in members:
        text = members[".cls"].decode(errors="replace").strip()
        row["cls"] = int(text) if text.lstrip("-").isdigit() else None
    if ".txt" in members:
        row["txt"] = members[".txt"].decode(errors="replace")
    return {name: value for name, value in row.items() if value is not None}


def _scan_shards(paths: list[Path]) -> tuple[int, pa.Schema]:
    """Count the images, and find the metadata columns and their types."""
    values: dict[str, set[type]] = {}
    count = 0
    for path in paths:
        for _, members in _read_samples(path, with_images=False):
            count += any(ending in IMAGE_ENDINGS for ending in members)
            for name, value in read_metadata(members).items():
                values.setdefault(name, set()).add(type(value))
    return count, pa.schema([(name, _choose_type(types)) for name, types in values.items()])


def _read_samples(path: Path, with_images: bool) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Group neighbouring members of one key: the key, and their contents by ending."""
    key, members = None, dict[str, bytes]()
    for name, data in _read_members(path, with_images):
        current, ending = split_name(name)
        if current != key:
            if key is not None:
                yield key, members
            key, members = current, {}
        members[ending] = data
    if key is not None:
        yield key, members


def _read_members(path: Path, with_images: bool) -> Iterator[tuple[str, bytes]]:
    """Read the files of a shard: their names and contents, which are empty for images that are not wanted."""
    if path.stat().st_size % tarfile.BLOCKSIZE:  # tarfile takes a header that is cut short for the end
        raise SourceError(f"{str(path)!r} is not a whole number of blocks; check that the shard is complete")
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                if not member.isfile() or PurePosixPath(member.name).name.startswith("."):
                    continue
                file = archive.extractfile(member)
                skip = not with_images and split_name(member.name)[1] in IMAGE_ENDINGS
                yield member.name, b"" if skip or file is None else file.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise SourceError(
            f"{str(path)!r} cannot be read to its end: {error}; check that the shard is complete"
        ) from error


def _choose_type(types: set[type]) -> pa.DataType:
    """Choose the Arrow type that holds a column's values; values of several kinds become text."""
    if types == {bool}:
        return pa.bool_()
    if types == {int}:
        return pa.int64()
    return pa.float64() if types <= {int, float} else pa.string()

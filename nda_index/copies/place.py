"""A place of a copy: a folder, or a prefix of an object store (S3, GCS, Azure), through pyarrow."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow.fs import FileSelector, FileSystem, FileType, LocalFileSystem

from nda_index.errors import ConfigError, StorageError
from nda_index.paths import as_path, is_address
from nda_index.store.files import sync, write_atomically, writing
from nda_index.store.hashes import hash_content

CHUNK = 1 << 20  # bytes that travel at once

Counted = Callable[[int], None]  # is told how many bytes have travelled


class GoneError(Exception):
    """A file is not there."""


@dataclass(frozen=True)
class Place:
    """Where a copy lies.

    Attributes:
        shown: its address for people, without keys and options.
        system: from pyarrow.
        root: the copy's folder or prefix in it.
    """

    shown: str
    system: Any
    root: str

    def below(self, name: str) -> Place:
        """Return the place of a shard."""
        return replace(self, shown=f"{self.shown}/{name}", root=f"{self.root}/{name}")


def open_place(url: str | PathLike[str]) -> Place:
    """Find out where a copy lies; nothing is read or written.

    Args:
        url: a path on this machine, or an address such as s3://BUCKET/PATH, gs://, abfss:// and file://, with the
            options that pyarrow knows, as ?region= and &endpoint_override=.

    Raises:
        ConfigError: it is none of these.

    Example:
        >>> open_place("s3://key:secret@photos/copies/a.nda?region=eu-central-1").shown
        's3://photos/copies/a.nda'
    """
    if not (isinstance(url, str) and is_address(url)):
        path = as_path(url, "the address of a copy").absolute()
        return Place(str(path), LocalFileSystem(), str(path))
    shown = re.sub(r"^([^/]*://)[^/]*@", r"\1", url).partition("?")[0].rstrip("/")
    try:
        system, root = FileSystem.from_uri(url)
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"the address of a copy is {shown!r}, which cannot be opened: {_first_line(error)}; give a folder, "
            f"file://, s3://BUCKET/PATH, gs://BUCKET/PATH or abfss://"
        ) from error
    if not root.strip("/"):
        raise ConfigError(f"the address of a copy is {shown!r}, which names no folder; give one, as {shown}/photos.nda")
    return Place(shown, system, root.rstrip("/"))


def read(place: Place, name: str) -> bytes | None:
    """Read a small file; None where there is none.

    Raises:
        StorageError: the place cannot be reached.
    """
    with _reaching(place, "read"):
        try:
            with place.system.open_input_stream(f"{place.root}/{name}", compression=None) as stream:
                return bytes(stream.read())
        except (FileNotFoundError, NotADirectoryError):
            return None


def list_sizes(place: Place) -> dict[str, int]:
    """List all files by relative path, with their sizes in bytes; none where there is nothing.

    Raises:
        StorageError: the place cannot be reached.
    """
    with _reaching(place, "read"):
        found = place.system.get_file_info(FileSelector(place.root, allow_not_found=True, recursive=True))
    return {info.path[len(place.root) + 1 :]: info.size for info in found if info.type == FileType.File}


def fetch(place: Place, name: str, target: Path, counted: Counted) -> str:
    """Fetch a file, through to the disk, and return its sha256.

    Raises:
        GoneError: there is none.
        StorageError: the place cannot be reached, or the disk is full.
    """
    digest = hashlib.sha256()
    with _reaching(place, "read"):
        try:
            stream = place.system.open_input_stream(f"{place.root}/{name}", compression=None)
        except FileNotFoundError as error:
            raise GoneError(name) from error
    with stream, writing(target), target.open("wb") as file:
        while chunk := _next_chunk(place, stream):
            digest.update(chunk)
            file.write(chunk)
            counted(len(chunk))
    with writing(target):
        sync(target)
    return digest.hexdigest()


def send(place: Place, source: Path, name: str, counted: Counted) -> None:
    """Write a file there. In an object store it appears when it is whole.

    Raises:
        StorageError: the place cannot be reached or written.
    """
    path = f"{place.root}/{name}"
    with source.open("rb") as file, _reaching(place, "written"):
        _make_folder(place, path)
        with place.system.open_output_stream(path, compression=None) as stream:
            while chunk := file.read(CHUNK):
                stream.write(chunk)
                counted(len(chunk))
        if isinstance(place.system, LocalFileSystem):
            sync(Path(path))


def put(place: Place, name: str, data: bytes) -> None:
    """Write a small file there, which is whole or as it was at any moment.

    Raises:
        StorageError: the place cannot be reached or written.
    """
    path = f"{place.root}/{name}"
    with _reaching(place, "written"):
        _make_folder(place, path)
        if isinstance(place.system, LocalFileSystem):
            write_atomically(Path(path), data)
            return
        with place.system.open_output_stream(path, compression=None) as stream:
            stream.write(data)


def delete(place: Place, names: Iterable[str]) -> None:
    """Delete files, and in a folder the folders that are empty then.

    Raises:
        StorageError: the place cannot be reached or written.
    """
    for name in names:
        with _reaching(place, "written"):
            try:
                place.system.delete_file(f"{place.root}/{name}")
            except FileNotFoundError:
                continue
        if isinstance(place.system, LocalFileSystem):
            _drop_empty(Path(place.root), Path(place.root) / name)


def has_sha256(place: Place, name: str, expected: str) -> bool:
    """Tell whether a file in a folder has this hash; files of object stores are whole if their size is right."""
    return not isinstance(place.system, LocalFileSystem) or hash_content(Path(place.root) / name) == expected


def _make_folder(place: Place, path: str) -> None:
    if isinstance(place.system, LocalFileSystem):
        Path(path).parent.mkdir(parents=True, exist_ok=True)


def _drop_empty(root: Path, path: Path) -> None:
    for folder in path.parents:
        if folder == root or any(folder.iterdir()):
            return
        folder.rmdir()


def _next_chunk(place: Place, stream: Any) -> bytes:
    with _reaching(place, "read"):
        return bytes(stream.read(CHUNK))


@contextmanager
def _reaching(place: Place, what: str) -> Iterator[None]:
    """Turn the errors of a store into `StorageError`."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise StorageError(
            f"{place.shown!r} cannot be {what}: {_first_line(error)}; check the address, the network and the rights "
            f"that this machine has there"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]

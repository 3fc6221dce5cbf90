"""Pictures in an archive from a stranger, .tar or .zip: copied out one by one, within bounds, under names of ours."""

from __future__ import annotations

import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from nda_index.serve.jobs.folder import picture_path
from nda_index.serve.refusal import Refusal
from nda_index.serve.settings import ServeSettings

AT_ONCE = 4 << 20  # bytes of a name, or of the names of a zip file, at most: archives may claim any number
COPIED = 1 << 18  # bytes that are copied at a time
NAME = 300  # characters of a picture's name that are kept
ENTRIES = 4  # times the pictures of a job: entries of an archive at most, with its folders and links

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # of packing that are read

DAMAGED = (
    tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, ValueError, OverflowError, NotImplementedError,
    RuntimeError,
)  # fmt: skip


class Entry(NamedTuple):
    """A file in an archive: its name, and what reads it."""

    name: str
    source: IO[bytes]


class Pictures:
    """Pictures that a job receives, written to its folder one after the other.

    Attributes:
        names: of each picture its name, and why it is not there; empty where it is.
    """

    def __init__(self, folder: Path, settings: ServeSettings) -> None:
        """Begin with none."""
        self.names: list[tuple[str, str]] = []
        self._folder = folder
        self._settings = settings
        self._bytes = 0
        self._file: IO[bytes] | None = None
        self._size = 0

    def open(self, name: str) -> None:
        """Begin a picture.

        Raises:
            Refusal: it is one too many.
        """
        if len(self.names) >= self._settings.job_pictures:
            raise Refusal(
                413, "pictures", f"the job has more than {self._settings.job_pictures:,} pictures; send it in parts"
            )
        self.names.append((name[:NAME] or f"picture {len(self.names) + 1}", ""))
        self._file, self._size = picture_path(self._folder, len(self.names) - 1).open("wb"), 0

    def write(self, data: bytes) -> None:
        """Add some bytes to the picture that was begun; one that becomes too large is given up, and says so.

        Raises:
            Refusal: the job has become too large.
        """
        if self._file is None:
            return
        self._size, self._bytes = self._size + len(data), self._bytes + len(data)
        if self._bytes > self._settings.job_bytes:
            raise refuse_large_job(self._settings)
        if self._size > self._settings.upload_bytes:
            self.give_up(f"the picture's file is too large; send at most {self._settings.upload_bytes:,} bytes")
        else:
            self._file.write(data)

    def give_up(self, reason: str) -> None:
        """Erase the picture that was begun, and keep the reason in its place."""
        self.close()
        picture_path(self._folder, len(self.names) - 1).unlink(missing_ok=True)
        self.names[-1] = self.names[-1][0], reason

    def close(self) -> None:
        """End the picture that was begun."""
        if self._file is not None:
            self._file.close()
        self._file = None


def refuse_large_job(settings: ServeSettings) -> Refusal:
    """Return the refusal of a job that is too large."""
    return Refusal(413, "bytes", f"the job is too large; send at most {settings.job_bytes:,} bytes, or several jobs")


def unpack(archive: Path, pictures: Pictures, settings: ServeSettings) -> None:
    """Copy the files of an archive, in its order. Folders, links and hidden files are no pictures.

    Args:
        archive: a .tar, not compressed, or a .zip.
        pictures: takes them.
        settings: bounds.

    Raises:
        Refusal: it is not an archive, damaged, or too large.
    """
    try:
        with _opened(archive, settings) as entries:
            for entry in entries:
                pictures.open(entry.name)
                try:
                    while data := entry.source.read(COPIED):
                        pictures.write(data)
                        if pictures.names[-1][1]:  # it is given up
                            break
                except DAMAGED as error:
                    if isinstance(entry.source, tarfile.ExFileObject):  # what follows cannot be found
                        raise
                    pictures.give_up(f"the picture cannot be read from the archive: {error}; send it again")
                finally:
                    pictures.close()
    except DAMAGED as error:
        raise Refusal(
            400, "archive", f"the archive cannot be read: {error}; send a .tar, not compressed, or a .zip of pictures"
        ) from error


@contextmanager
def _opened(archive: Path, settings: ServeSettings) -> Iterator[Iterator[Entry]]:
    with archive.open("rb") as file:
        is_zip = file.read(4) == b"PK\x03\x04"
        file.seek(0)
        bounded: Any = _Bounded(file)
        if is_zip:
            with zipfile.ZipFile(bounded) as opened:
                yield _zip_entries(opened, settings)
        else:
            with tarfile.open(fileobj=bounded, mode="r:") as opened_tar:
                yield _tar_entries(opened_tar, settings)


def _tar_entries(archive: tarfile.TarFile, settings: ServeSettings) -> Iterator[Entry]:
    for number, member in enumerate(archive):
        _check_entries(number, settings)
        source = archive.extractfile(member) if member.isreg() and _is_shown(member.name) else None
        if source is not None:
            yield Entry(member.name, source)


def _zip_entries(archive: zipfile.ZipFile, settings: ServeSettings) -> Iterator[Entry]:
    for number, info in enumerate(archive.infolist()):
        _check_entries(number, settings)
        if not info.is_dir() and _is_shown(info.filename):
            with _open_entry(archive, info) as source:
                yield Entry(info.filename, source)


def _open_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> IO[bytes]:
    try:
        if info.compress_type not in METHODS:
            raise ValueError(f"it is packed by method {info.compress_type}, which is not read")
        return archive.open(info)
    except DAMAGED as error:  # encrypted perhaps: said where it is read
        return _Unreadable(error)  # type: ignore[return-value]


def _check_entries(number: int, settings: ServeSettings) -> None:
    if number >= ENTRIES * settings.job_pictures:
        raise Refusal(
            413, "pictures", f"the archive has more than {ENTRIES * settings.job_pictures:,} entries; send it in parts"
        )


def _is_shown(name: str) -> bool:
    """Whether a file is one that its owner sees: systems add hidden ones to archives, as .DS_Store and ._a.png."""
    return not name.rpartition("/")[2].startswith(".")


class _Unreadable:
    """A file in an archive that cannot be opened."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __enter__(self) -> _Unreadable:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def read(self, size: int) -> bytes:
        raise ValueError(str(self._error))


class _Bounded:
    """A file of which nobody reads more than `AT_ONCE`: an archive may claim that a name has any number of bytes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell
        self.seekable = file.seekable

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(AT_ONCE + 1 if size < 0 else min(size, AT_ONCE + 1))
        if len(data) > AT_ONCE:
            raise ValueError(f"a name in it, or all names together, have more than {AT_ONCE:,} bytes")
        return data

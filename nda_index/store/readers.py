"""Who reads an index, and which state of it: a file is erased once no reader has a state open that needs it.

A reader has a file of its own in `readers/`, locked (`flock`) as long as it reads. The lock ends with its process,
however it ends. The file says who reads, since when, and the hash of the manifest that was opened. Readers that cannot
write to the folder share the lock of a file that the writer makes for each manifest.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from nda_index.store.files import writing
from nda_index.store.folder import MANIFEST, READERS, READERS_LOCK

PROGRAM = "nda-index"
_LOCK = ".lock"
_SHARED = "shared-"  # begins the names of the files that readers share
_DIGITS = 16  # of a hash, in such a name


@dataclass(frozen=True)
class Reader:
    """Somebody who has an index open.

    Attributes:
        process: its id; 0 where the reader could not write it down.
        host: of the process.
        since: when it opened the index, as "2026-01-31T09:00:00Z".
        index_hash: of what it opened; empty while it opens, or where it could not write it down.
        command: what the process runs, as "nda-index serve" or "notebook.py"; empty where that is not known.
    """

    process: int = 0
    host: str = ""
    since: str = ""
    index_hash: str = ""
    command: str = ""

    def __str__(self) -> str:
        if not self.process:
            return "a process that may not write to the folder, or of an older nda_index"
        command = f" ({self.command})" if self.command else ""
        return f"process {self.process}{command} on {self.host} since {self.since}"


class ReadLease:
    """While it is held, no file of what was opened is erased.

    On a disk where neither a file nor a lock can be made, there is none.
    """

    def __init__(self, folder: Path) -> None:
        """Take a lease of whatever the folder holds; `cover` then says what was opened."""
        self._descriptor: int | None = None
        self._own: Path | None = None
        self._hash = ""
        if not (folder / MANIFEST).exists():
            return
        try:
            self._own, self._descriptor = _make_own(folder / READERS, _myself(""))
        except OSError:
            with suppress(OSError):
                self._hash, self._descriptor = _share(folder)

    def cover(self, index_hash: str) -> bool:
        """Keep the files of one manifest only.

        Returns:
            Whether they are kept; if not, the index was changed meanwhile: take another lease and open it again.
        """
        if self._descriptor is None:
            return True
        if self._own is None:
            return self._hash in ("", index_hash)
        with suppress(OSError):  # a full disk: the lease keeps all files
            _describe(self._descriptor, _myself(index_hash))
        return True

    def release(self) -> None:
        """Give the lease back; more than once does no harm."""
        if self._descriptor is not None:
            if self._own is not None:
                with suppress(OSError):
                    self._own.unlink()
            os.close(self._descriptor)
            self._descriptor = None

    def __del__(self) -> None:
        self.release()


def list_readers(folder: Path) -> list[Reader]:
    """List who has an index open, but for readers on disks that cannot be written or locked."""
    found = [reader for _, reader in _scan(folder) if reader is not None]
    with suppress(OSError), _opened(folder / READERS_LOCK) as descriptor:
        if not _lock(descriptor, fcntl.LOCK_EX):
            found.append(Reader())
    return sorted(found, key=lambda reader: (reader.since, reader.process))


def forget_gone(folder: Path, index_hash: str) -> None:
    """Delete what readers left that are gone; the caller holds the write lock, `index_hash` is the index's."""
    for path, reader in _scan(folder):
        if reader is None and path.name != _shared_name(index_hash):
            with suppress(OSError):
                path.unlink()


def prepare_lease(folder: Path, index_hash: str) -> None:
    """Make the file that readers share who cannot write; a writer calls this before it writes a manifest.

    Raises:
        StorageError: the disk is full or cannot be written.
    """
    with writing(folder):
        (folder / READERS).mkdir(exist_ok=True)
        path = folder / READERS / _shared_name(index_hash)
        path.write_text(json.dumps(asdict(Reader(index_hash=index_hash))))


def _myself(index_hash: str) -> Reader:
    since = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Reader(os.getpid(), socket.gethostname(), since, index_hash, _command())


def _command() -> str:
    program = Path(sys.argv[0]).name[:40] if sys.argv and sys.argv[0] else ""
    return " ".join([program, *sys.argv[1:2]]) if program == PROGRAM else program


def _make_own(folder: Path, reader: Reader) -> tuple[Path, int]:
    """Make and lock a reader's own file, under its name only when it is locked."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{reader.process}-{secrets.token_hex(8)}{_LOCK}"
    part = path.with_suffix(".part")
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        _describe(descriptor, reader)
        os.rename(part, path)
    except OSError:
        os.close(descriptor)
        part.unlink(missing_ok=True)
        raise
    return path, descriptor


def _share(folder: Path) -> tuple[str, int]:
    """Lock the shared file of the manifest that is there, or the one of all manifests in an older index."""
    while True:
        index_hash = _hash_of(folder)
        path = folder / READERS / _shared_name(index_hash)
        if not path.exists():
            index_hash, path = "", folder / READERS_LOCK
        descriptor = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            if index_hash in ("", _hash_of(folder)):  # else a writer may have erased files before the lock was there
                return index_hash, descriptor
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _scan(folder: Path) -> Iterator[tuple[Path, Reader | None]]:
    """Yield the files of readers, and whose each is; None where nobody holds it."""
    for path in sorted((folder / READERS).glob(f"*{_LOCK}")):
        try:
            with _opened(path) as descriptor:
                free = _lock(descriptor, fcntl.LOCK_EX if path.name.startswith(_SHARED) else fcntl.LOCK_SH)
                yield path, None if free else _read(descriptor)
        except FileNotFoundError:  # it has just gone
            continue


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """Yield a descriptor of a file, for writing where that is allowed: NFS wants it for an exclusive lock."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        raise
    except OSError:
        descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _describe(descriptor: int, reader: Reader) -> None:
    data = json.dumps(asdict(reader)).encode()
    os.pwrite(descriptor, data, 0)
    os.ftruncate(descriptor, len(data))


def _read(descriptor: int) -> Reader:
    try:
        return Reader(**json.loads(os.pread(descriptor, 4096, 0)))
    except (ValueError, TypeError):  # half written, or of a newer version
        return Reader()


def _hash_of(folder: Path) -> str:
    return hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()


def _shared_name(index_hash: str) -> str:
    return f"{_SHARED}{index_hash[:_DIGITS]}{_LOCK}"

"""Who may touch an index's files: one writer at a time, and no file is erased while a reader may need it.

The locks are the operating system's (`flock`): they end with their process, however it ends.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nda_index.errors import LockedError
from nda_index.store.files import writing
from nda_index.store.folder import MANIFEST, READERS_LOCK, WRITER_LOCK

POLL = 0.1  # seconds between looks at a lock that another process holds


@contextmanager
def write_lock(folder: Path, wait: float = 0.0) -> Iterator[None]:
    """Be the only writer of an index.

    Args:
        folder: of the index.
        wait: seconds to wait for another writer to end.

    Raises:
        LockedError: another writer is at work; the message says which.
        StorageError: the folder cannot be written.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with write_lock(folder), write_lock(folder):
        ...     pass
        Traceback (most recent call last):
        nda_index.errors.LockedError: ...
    """
    with writing(folder):
        descriptor = os.open(folder / WRITER_LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            _lock(descriptor, time.monotonic() + wait)
        except BlockingIOError as error:
            who = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another process"
            raise LockedError(
                f"the index {str(folder)!r} is being written by {who}; an index has one writer at a time, wait for it"
            ) from error
        with writing(folder):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, deadline: float) -> None:
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(POLL)


class ReadLease:
    """While it is held, no file of the index is erased."""

    def __init__(self, folder: Path) -> None:
        """Take the lease of an index; on a disk that cannot be written no file can be erased."""
        self._descriptor: int | None = None
        if not (folder / MANIFEST).exists():
            return
        try:
            self._descriptor = os.open(folder / READERS_LOCK, os.O_RDONLY | os.O_CREAT, 0o666)
            fcntl.flock(self._descriptor, fcntl.LOCK_SH)
        except OSError:
            self.release()

    def release(self) -> None:
        """Give the lease back; more than once does no harm."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __del__(self) -> None:
        self.release()


@contextmanager
def without_readers(folder: Path) -> Iterator[bool]:
    """Keep new readers waiting and yield True, or yield False where there are readers."""
    with writing(folder):
        descriptor = os.open(folder / READERS_LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)

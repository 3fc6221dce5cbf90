"""Who may write an index: one process at a time.

The lock is the operating system's (`flock`): it ends with its process, however it ends. Its file says who writes, since
when, and how far that has come.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path

from nda_index.errors import LockedError
from nda_index.progress import Progress
from nda_index.store.files import writing
from nda_index.store.folder import WRITER_LOCK

POLL = 0.1  # seconds between looks at a lock that another process holds
MOMENTS = 0.5  # seconds that one holds it who only looks, or only erases old files
NOTED = 1.0  # seconds between two notes of how far a writer has come


@contextmanager
def write_lock(folder: Path, doing: str = "an edit", wait: float = MOMENTS) -> Iterator[Progress]:
    """Be the only writer of an index; yield a function that notes how far it has come, for others to read.

    Args:
        folder: of the index.
        doing: what is done, for others to read.
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
            raise LockedError(
                f"the index {str(folder)!r} is being written by {_read(descriptor)}; an index has one writer at a "
                f"time, wait for it"
            ) from error
        since = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        who = f"process {os.getpid()} on {socket.gethostname()} ({doing}, since {since}"
        with writing(folder):
            _write(descriptor, f"{who})")
        yield _make_note(descriptor, who)
    finally:
        os.close(descriptor)


def find_writer(folder: Path) -> str:
    """Return who writes to an index, and how far it has come; empty where nobody does, or that cannot be told.

    It reads as "process 12 on host (a build, since 2026-01-31T09:00:00Z, encode p5r1: 100 of 3,000)".
    """
    try:
        descriptor = os.open(folder / WRITER_LOCK, os.O_RDONLY)
    except OSError:
        return ""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read(descriptor)
    except OSError:
        return ""
    finally:
        os.close(descriptor)
    return ""


def _make_note(descriptor: int, who: str) -> Progress:
    noted = [-NOTED]

    def note(stage: str, done: int, total: int) -> None:
        if time.monotonic() - noted[0] >= NOTED:
            noted[0] = time.monotonic()
            with suppress(OSError):  # a full disk: what is noted is old, no more
                _write(descriptor, f"{who}, {stage}: {done:,} of {total:,})")

    return note


def _write(descriptor: int, text: str) -> None:
    data = text.encode()
    os.pwrite(descriptor, data, 0)
    os.ftruncate(descriptor, len(data))


def _read(descriptor: int) -> str:
    return os.pread(descriptor, 400, 0).decode(errors="replace").strip() or "another process"


def _lock(descriptor: int, deadline: float) -> None:
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(POLL)

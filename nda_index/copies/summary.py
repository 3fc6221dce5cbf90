"""What a push or a pull did, and how its files travel: several at once, with the progress told by one thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from threading import Lock

from nda_index.copies.place import Counted
from nda_index.progress import Progress

THREADS = 8  # files that travel at once
TOLD = 0.5  # seconds between two reports of progress


@dataclass(frozen=True)
class CopySummary:
    """What a push or a pull did.

    Attributes:
        files: how many travelled.
        bytes: how many these have.
        seconds: that it took.
        deleted: files of earlier states that were deleted where the copy lies.
        waiting: files of earlier states that are there still, because readers are open.
        readers: who these are.
        foreign: files where the copy lies that are no part of the index; they were left alone.
        index_hash: of the state that is there now.
    """

    files: int
    bytes: int
    seconds: float
    deleted: int
    waiting: int = 0
    readers: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    index_hash: str = ""


@dataclass(frozen=True)
class Part:
    """What became of one folder: the index itself, or a shard; the fields are those of `CopySummary`."""

    sha256: str
    files: int
    bytes: int
    deleted: int
    foreign: tuple[str, ...]


def travel(
    stage: str, names: Sequence[str], total: int, move: Callable[[str, Counted], None], report: Progress
) -> None:
    """Move files, several at once; the first error ends it.

    Args:
        stage: for the progress.
        names: of the files.
        total: bytes of all of them.
        move: moves one, and counts its bytes.
        report: is called by this thread with (stage, bytes done, bytes in all).
    """
    done, lock = [0], Lock()

    def counted(size: int) -> None:
        with lock:
            done[0] += size

    pool = ThreadPoolExecutor(THREADS, stage)
    try:
        pending = {pool.submit(move, name, counted) for name in names}
        while pending:
            finished, pending = wait(pending, timeout=TOLD, return_when=FIRST_EXCEPTION)
            for future in finished:
                future.result()
            report(stage, min(done[0], total), total)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)

"""The open index that answers questions, and the one that replaces it when the index on disk has changed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nda_index.errors import ConfigError, LockedError, StorageError
from nda_index.index import Index
from nda_index.indexing.edits import erase_old
from nda_index.serve.collection import Stamp, stamp, state
from nda_index.serve.metrics import Metrics
from nda_index.serve.refusal import REOPEN
from nda_index.store.conditions import ColumnKind, column_kinds

LOG = logging.getLogger(__name__)


@dataclass(eq=False)
class Snapshot:
    """An open index, which is closed once another has replaced it and its last user is done.

    Attributes:
        index: the index.
        collection: from `state`.
        columns: kind of each column that a condition may name.
    """

    index: Index
    collection: str
    columns: dict[str, ColumnKind]
    users: int = 0
    retired: bool = False

    @contextmanager
    def hold(self) -> Iterator[Index]:
        """Keep the index open until the block ends."""
        self.users += 1
        try:
            yield self.index
        finally:
            self.users -= 1
            self._close_unused()

    def retire(self) -> None:
        """Close the index when its last user is done."""
        self.retired = True
        self._close_unused()

    def _close_unused(self) -> None:
        if self.retired and self.users == 0:
            self.index.close()


class Reloader:
    """Follows an index on disk that may change. Call its methods on the event loop only.

    Attributes:
        current: the snapshot that answers new questions.
    """

    def __init__(self, index: Index, reopen: Callable[[Path], Index], metrics: Metrics) -> None:
        """Start with an open index, or with the one on disk if that has changed since."""
        self._reopen = reopen
        self._metrics = metrics
        self._stamp = stamp(index.path)
        self._failed: Stamp | None = None  # of an index that did not open, so that it is logged once
        self._may_have_old = True  # files that `compact` left for their readers
        self._thread = ThreadPoolExecutor(1, "open")
        self._tried = time.monotonic()  # when the index was opened last, or could not be
        self.current = _first_snapshot(index, reopen)

    async def follow(
        self, prepare: Callable[[Snapshot], Awaitable[None]], forget: Callable[[str], Awaitable[None]]
    ) -> None:
        """Open the index again if it has changed or lost a shard; earlier questions are answered by the old one.

        A failure is logged once and tried again at the next call.

        Args:
            prepare: is called with the new snapshot before it becomes the current one; if it raises, the old one stays.
            forget: is called with the collection on disk before it is opened: what is not of it must go.
        """
        loop, path = asyncio.get_running_loop(), self.current.index.path
        now = await loop.run_in_executor(self._thread, stamp, path)
        lost = self.current.index.unreachable > 0 and time.monotonic() - self._tried >= REOPEN
        if now == self._stamp and not lost:
            return
        self._tried = time.monotonic()
        try:
            index_hash, collection = await loop.run_in_executor(self._thread, state, path)
            await forget(collection)
            if lost or index_hash != self.current.index.manifest.index_hash:
                await self._replace(
                    await loop.run_in_executor(self._thread, _open_snapshot, path, self._reopen), prepare
                )
            self._stamp = now  # taken before opening: later changes open the index again
        except Exception:  # whatever it is, the index that is open goes on answering
            if now != self._failed:
                LOG.exception("the index cannot be opened again; it is tried until it can")
                self._metrics.reloads.labels("failed").inc()
            self._failed = now

    async def erase_old(self) -> None:
        """Erase the files of earlier states that nobody reads any more, so that what is removed leaves the disk."""
        if self._may_have_old:
            index = self.current.index
            folders = [index.path / name for name in index.manifest.shards or [""]]
            loop = asyncio.get_running_loop()
            self._may_have_old = await loop.run_in_executor(self._thread, _leave_old, folders)

    def close(self) -> None:
        """Close the index when its last user is done."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        self.current.retire()

    async def _replace(self, fresh: Snapshot, prepare: Callable[[Snapshot], Awaitable[None]]) -> None:
        """Make a snapshot the current one, or close it if it cannot be prepared."""
        try:
            await prepare(fresh)
        except Exception:
            fresh.retire()
            raise
        old, self.current = self.current, fresh
        old.retire()
        self._may_have_old = True
        self._metrics.reloads.labels("done").inc()
        LOG.info("serving %s images, index %s", len(fresh.index), fresh.index.manifest.index_hash[:12])


def _leave_old(folders: Sequence[Path]) -> bool:
    """Erase old files where nobody reads them; return whether to try again."""
    try:
        return any([erase_old(folder)[0] for folder in folders])
    except LockedError:
        return True
    except StorageError:  # this process may only read: whoever compacts erases them
        return False


def _first_snapshot(index: Index, reopen: Callable[[Path], Index]) -> Snapshot:
    index_hash, collection = state(index.path)
    if index_hash == index.manifest.index_hash:
        return _snapshot(index, collection)
    index.close()
    return _open_snapshot(index.path, reopen)


def _snapshot(index: Index, collection: str) -> Snapshot:
    """Make a snapshot of an index that can be served.

    Raises:
        ConfigError: it holds latents.
    """
    if index.latents:
        raise ConfigError(
            f"the index {str(index.path)!r} holds latents, and the service takes and shows pictures; ask it with "
            f"`nda-index query` or `Index.attribute`"
        )
    return Snapshot(index, collection, column_kinds(index.metadata_schema()))


def _open_snapshot(folder: Path, reopen: Callable[[Path], Index]) -> Snapshot:
    while True:
        index = reopen(folder)
        try:
            index_hash, collection = state(folder)
            if index_hash == index.manifest.index_hash:
                return _snapshot(index, collection)
        except Exception:
            index.close()
            raise
        index.close()  # the index has changed between the two reads: index and collection must be of one moment

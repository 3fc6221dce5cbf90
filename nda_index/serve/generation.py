"""The open index that is asked, and the one that takes its place when the index on disk has changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nda_index.index import Index
from nda_index.serve.describe import columns_of
from nda_index.serve.metrics import Metrics
from nda_index.serve.reload import Stamp, open_state, stamp, state

LOG = logging.getLogger(__name__)


@dataclass(eq=False)
class Generation:
    """An open index, from when it was opened until another took its place and its last user left.

    Attributes:
        index: the index.
        collection: from `nda_index.serve.reload.state`.
        columns: kind of each column that a condition may name.
    """

    index: Index
    collection: str
    columns: dict[str, str]
    users: int = 0
    retired: bool = False

    @contextmanager
    def used(self) -> Iterator[Index]:
        """The index stays open meanwhile."""
        self.users += 1
        try:
            yield self.index
        finally:
            self.users -= 1
            self._close_unused()

    def retire(self) -> None:
        """Close the index when its last user leaves."""
        self.retired = True
        self._close_unused()

    def _close_unused(self) -> None:
        if self.retired and self.users == 0:
            self.index.close()


class Generations:
    """The generation that is asked, of an index on disk that may change. Its methods are called on the event loop only.

    Attributes:
        current: is asked.
    """

    def __init__(self, index: Index, reopen: Callable[[Path], Index], metrics: Metrics) -> None:
        """The first is an open index, or what is on disk now where that is another one already."""
        self._reopen = reopen
        self._metrics = metrics
        self._stamp = stamp(index.path)
        self._failed: Stamp | None = None  # of what could not be opened, so that it is told once
        self._thread = ThreadPoolExecutor(1, "open")
        self.current = _generation(index, reopen)

    async def follow(self, prepare: Callable[[Generation], Awaitable[None]]) -> None:
        """Open the index again if it has changed; questions that were asked before are answered by the old one.

        What fails is tried again at the next look, and told once.

        Args:
            prepare: is given the new generation before it becomes the current one; where it raises, the old one stays.
        """
        loop, path = asyncio.get_running_loop(), self.current.index.path
        now = await loop.run_in_executor(self._thread, stamp, path)
        if now == self._stamp:
            return
        try:
            await self._replace(await loop.run_in_executor(self._thread, _opened, path, self._reopen), prepare)
            self._stamp = now  # from before it was opened: what has changed since is opened again
        except Exception:  # whatever it is, the index that is open goes on answering
            if now != self._failed:
                LOG.exception("the index cannot be opened again; it is tried until it can")
                self._metrics.reloads.labels("failed").inc()
            self._failed = now

    def close(self) -> None:
        """Close the index when its last user leaves."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        self.current.retire()

    async def _replace(self, fresh: Generation, prepare: Callable[[Generation], Awaitable[None]]) -> None:
        """Ask another generation from now on; it is closed where it fails."""
        try:
            await prepare(fresh)
        except Exception:
            fresh.retire()
            raise
        old, self.current = self.current, fresh
        old.retire()
        self._metrics.reloads.labels("done").inc()
        LOG.info("serving %s images, index %s", len(fresh.index), fresh.index.manifest.index_hash[:12])


def _opened(folder: Path, reopen: Callable[[Path], Index]) -> Generation:
    index, collection = open_state(folder, reopen)
    try:
        return Generation(index, collection, columns_of(index))
    except Exception:
        index.close()
        raise


def _generation(index: Index, reopen: Callable[[Path], Index]) -> Generation:
    """The generation of an open index; of what is on disk now where that is another one already."""
    index_hash, collection = state(index.path)
    if index_hash == index.manifest.index_hash:
        return Generation(index, collection, columns_of(index))
    index.close()
    return _opened(index.path, reopen)

"""A service from its start to its end: it warms up, answers, follows the index on disk, and closes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nda_index.serve.forms import Submission
from nda_index.serve.jobs.worker import Worker
from nda_index.serve.reload import Snapshot
from nda_index.serve.service import Service

LOG = logging.getLogger(__name__)


@asynccontextmanager
async def run(service: Service) -> AsyncIterator[None]:
    """Answer questions until the block ends, then close the service."""
    parts = (service.engine.run(), _warm_up_and_follow(service), _follow_tokens(service), Worker(service).run())
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        yield
    finally:
        service.ready = False
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        service.close()


async def _warm_up_and_follow(service: Service) -> None:
    start = time.monotonic()
    LOG.info("warming up: the first question is asked, and code compiled", extra={"facts": {"event": "warming_up"}})
    while not service.ready:
        try:
            await _warm_up(service, service.reloader.current)
            service.ready = True
            _announce(service, time.monotonic() - start)
        except Exception:  # whatever it is, clients are told to try again, and the next attempt may succeed
            LOG.exception("the index does not answer")
            await _look_again(service)  # it may have been repaired
    while True:
        await _look_again(service)


def _announce(service: Service, seconds: float) -> None:
    index = service.reloader.current.index
    facts = {"event": "ready", "address": service.address, "images": len(index), "seconds": round(seconds, 3)}
    facts["index_hash"] = index.manifest.index_hash
    LOG.info("Serving %s at %s", index.path, service.address, extra={"facts": facts})


async def _follow_tokens(service: Service) -> None:
    """Take over what changes in the token file, however long the index takes to open meanwhile."""
    while True:
        await asyncio.sleep(service.settings.reload_seconds)
        try:
            await asyncio.to_thread(service.keyring.follow)  # the disk may be slow
        except Exception:  # whatever it is, the tokens that are known stay
            LOG.exception("the tokens cannot be read again")


async def _look_again(service: Service) -> None:
    """Wait, then open the index again if it has changed."""

    async def prepare(fresh: Snapshot) -> None:
        if fresh.collection == service.reloader.current.collection:
            await _warm_up(service, fresh)  # behind the queued questions; the old index is as good until then
        await forget(fresh.collection)

    async def forget(collection: str) -> None:  # at once: removed images must disappear
        await service.run_in_files(service.results.bind_to, collection)

    await asyncio.sleep(service.settings.reload_seconds)
    await service.look_at_disk()
    try:
        await service.reloader.follow(prepare, forget)
        await service.reloader.erase_old()
    except Exception:
        LOG.exception("the index on disk cannot be read")


async def _warm_up(service: Service, snapshot: Snapshot) -> None:
    """Compile loops and read pages before the first client comes: answer a question about the first image."""
    index = snapshot.index
    if len(index) == 0:
        return
    query = await service.decode(index, Submission(None, int(index.image_ids[0]), {"top": 1}))
    await service.engine.answer(f"warm-up {index.manifest.index_hash}", query, snapshot, float("inf"))

"""Work off the event loop: bounded pools of threads, and work that ends when its client hangs up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from starlette.requests import Request

from nda_index.serve.refusal import Refusal, refuse_for_now

THREADS = 2  # one slow request must not hold up all others of its kind; more would take cores from the engine
Result = TypeVar("Result")


class Abandoned(Exception):
    """Nobody waits for this work any more."""


class BoundedPool:
    """A few threads for requests of one kind, and a bound on how many requests may be in flight.

    Call its methods on the event loop only.
    """

    def __init__(self, kind: str, limit: int) -> None:
        """Start an empty pool.

        Args:
            kind: what the requests are for, as a refusal names it.
            limit: requests in flight at most, running or queued; more are refused.
        """
        self._kind = kind
        self._limit = limit
        self._in_flight = 0
        self._threads = ThreadPoolExecutor(THREADS, kind)

    def __len__(self) -> int:
        return self._in_flight

    async def run(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """Do some work on one of the threads.

        Raises:
            Refusal: the pool is full.
        """
        if self._in_flight >= self._limit:
            raise refuse_for_now(
                429, "busy", f"{self._in_flight} requests for {self._kind} are in flight already; try again later", 1
            )
        self._in_flight += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)
        finally:
            self._in_flight -= 1

    def close(self) -> None:
        """End the threads after their current work."""
        self._threads.shutdown(wait=True, cancel_futures=True)


async def run_until_disconnect(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Return the result of some work; cancel it when the client of the request hangs up.

    Raises:
        Refusal: the client has hung up.
    """
    task = asyncio.ensure_future(work)
    disconnect = asyncio.ensure_future(_wait_for_disconnect(request))
    try:
        await asyncio.wait({task, disconnect}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Refusal(499, "gone", "the client has hung up")
        return task.result()
    finally:
        for part in (task, disconnect):
            part.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await part


async def _wait_for_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass

"""Threads for requests of one kind, so that no other kind waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from nda_index.serve.refusal import later

THREADS = 2
Result = TypeVar("Result")


class Lane:
    """A few threads, and a bound of the requests that they work on or that wait for them.

    Its methods are called on the event loop only.
    """

    def __init__(self, what: str, most: int) -> None:
        """An empty lane.

        Args:
            what: is asked for here, as a refusal names it.
            most: requests in the house; more are refused.
        """
        self._what = what
        self._most = most
        self._house = 0
        self._pool = ThreadPoolExecutor(THREADS, what)

    def __len__(self) -> int:
        return self._house

    async def run(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """Do some work on one of the threads.

        Raises:
            Refusal: the lane is full.
        """
        if self._house >= self._most:
            raise later(
                429, "busy", f"{self._house} requests for {self._what} are worked on already; ask again later", 1
            )
        self._house += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)
        finally:
            self._house -= 1

    def close(self) -> None:
        """End the threads after what they are at."""
        self._pool.shutdown(wait=True, cancel_futures=True)

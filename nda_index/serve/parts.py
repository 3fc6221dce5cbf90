"""Parts of stored answers, and images of the index: read by threads of their own, so that questions need not wait."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

from starlette.requests import Request

from nda_index.answer.attribution import Attribution
from nda_index.errors import VersionError
from nda_index.index import Index
from nda_index.serve.metrics import Metrics
from nda_index.serve.pictures import read_pixels, render_pixels
from nda_index.serve.pool import Abandoned, BoundedPool, run_until_disconnect
from nda_index.serve.refusal import Refusal, refuse_for_now
from nda_index.serve.reload import Reloader
from nda_index.serve.results import Results
from nda_index.serve.settings import ServeSettings

Result = TypeVar("Result")


class Parts:
    """Reads parts of stored answers and images of the index. Call its methods on the event loop only.

    Attributes:
        reads: threads that read images and answers.
        links: threads that compute links. These take seconds each, and reads must not wait for them.
    """

    def __init__(self, results: Results, reloader: Reloader, settings: ServeSettings, metrics: Metrics) -> None:
        """Start the threads."""
        self._results = results
        self._reloader = reloader
        self._deadline = settings.deadline
        self._metrics = metrics
        self.reads = BoundedPool("images and answers", settings.reads)
        self.links = BoundedPool("links", settings.links)

    async def make(
        self,
        request: Request,
        identity: str,
        work: Callable[[Attribution, Callable[[], None]], Result],
        pool: BoundedPool,
    ) -> Result:
        """Make something of a stored answer, off the event loop.

        Args:
            request: the work ends when its client hangs up.
            identity: name of the answer.
            work: is called with the answer and a check. It calls the check often; the check raises to end the work.
            pool: threads that do it.

        Returns:
            What `work` returns.

        Raises:
            Refusal: there is no such answer, the pool is full, or the deadline has passed.
            NdaIndexError: from the work.
        """
        ended = threading.Event()

        def check() -> None:
            if ended.is_set():
                raise Abandoned

        def load_and_work() -> Result:  # in one piece, so that a queued request holds no answer in memory
            return work(self._load(identity), check)

        try:
            return await run_until_disconnect(request, asyncio.wait_for(pool.run(load_and_work), self._deadline))
        except asyncio.TimeoutError:
            raise refuse_for_now(
                503,
                "deadline",
                f"this part of the answer was not made within {self._deadline:g} s; try again later, or one scale only",
                1,
            ) from None
        finally:
            ended.set()

    async def image(self, image_id: int, side: int | None) -> bytes:
        """Return an image of the index as PNG, resized to the shorter side `side` if that is given.

        Raises:
            Refusal: there is no such image, or too many are being read.
        """
        with self._reloader.current.hold() as index:
            return await self.reads.run(self._render_image, index, image_id, side)

    def close(self) -> None:
        """End the threads after their current work."""
        self.reads.close()
        self.links.close()

    def _load(self, identity: str) -> Attribution:
        try:
            answer = self._results.get(identity)
        except VersionError as error:
            raise Refusal(404, "result", str(error)) from error
        if answer is None:
            raise Refusal(
                404, "result", f"there is no answer {identity}; it may have been deleted, send the question again"
            )
        return answer

    def _render_image(self, index: Index, image_id: int, side: int | None) -> bytes:
        return self._metrics.time_render(render_pixels, read_pixels(index, image_id), side)

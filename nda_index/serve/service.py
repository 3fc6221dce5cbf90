"""The service behind the routes: takes questions in, keeps their answers and reads them again."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from starlette.requests import Request

from nda_index.answer.attribution import Attribution
from nda_index.errors import StorageError, VersionError
from nda_index.index import Index
from nda_index.question import Query
from nda_index.serve.describe import index_values
from nda_index.serve.engine import Abandoned, Engine
from nda_index.serve.filters import checked_condition
from nda_index.serve.forms import Asked, read_question
from nda_index.serve.generation import Generation, Generations
from nda_index.serve.metrics import Metrics
from nda_index.serve.pictures import image_pixels, pixels_png
from nda_index.serve.pool import Lane
from nda_index.serve.refusal import Refusal, later
from nda_index.serve.results import Results, result_id
from nda_index.serve.settings import CONDITION_CHARACTERS, LINKS, READERS, ServeSettings
from nda_index.serve.uploads import opened_picture

LOG = logging.getLogger(__name__)
Result = TypeVar("Result")


class Service:
    """One index, served.

    Attributes:
        settings: as it was started with.
        metrics: what it counts.
        ready: whether the warm-up query was answered.
        reads: where images and answers are read.
        links: where links are computed.
    """

    def __init__(self, index: Index, settings: ServeSettings, reopen: Callable[[Path], Index]) -> None:
        """Made by `create_app`; `running` starts it."""
        self.settings = settings
        self.metrics = Metrics()
        self.ready = False
        self.results = Results(settings.results, settings.results_bytes)
        self._generations = Generations(index, reopen, self.metrics)
        self.results.belong_to(self._current.collection)
        self._engine = Engine(settings, self.metrics)
        self._decoder = ThreadPoolExecutor(1, "decode")  # one at a time: a picture takes much memory while decoded
        self._files = ThreadPoolExecutor(2, "files")
        self.reads = Lane("images and answers", READERS)  # of what is there already: questions must not wait for it
        self.links = Lane("links", LINKS)  # take seconds each: images and answers must not wait for them
        self._house = 0
        self.metrics.watch("nda_index_queue_length", "Questions in the house.", lambda: self._house)
        self.metrics.watch(
            "nda_index_line_length", "Questions that are asked or wait for it.", lambda: len(self._engine)
        )
        self.metrics.watch("nda_index_readers", "Requests for images and answers.", lambda: len(self.reads))
        self.metrics.watch("nda_index_links", "Requests for links.", lambda: len(self.links))
        self.metrics.watch("nda_index_results_bytes", "Answers on disk.", lambda: self.results.bytes)
        self.metrics.watch("nda_index_images", "Images of the index.", lambda: len(self._current.index))
        self.metrics.watch("nda_index_ready", "1 after the warm-up query.", lambda: self.ready)

    @property
    def _current(self) -> Generation:
        return self._generations.current

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Answer questions meanwhile."""
        tasks = [asyncio.create_task(part) for part in (self._engine.run(), self._start())]
        try:
            yield
        finally:
            self.ready = False
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._engine.close()
            for pool in (self._decoder, self._files):
                pool.shutdown(wait=True, cancel_futures=True)
            for lane in (self.reads, self.links):
                lane.close()
            self._generations.close()

    async def attribute(self, request: Request) -> tuple[str, Attribution]:
        """Answer the question of a request: the answer's name and the answer.

        Raises:
            Refusal, NdaIndexError: it is not answered.
        """
        self.check_ready()
        with self._admitted():
            deadline = time.monotonic() + self.settings.deadline
            try:
                asked = await asyncio.wait_for(read_question(request, self.settings), self.settings.deadline)
            except asyncio.TimeoutError:
                raise Refusal(
                    408, "slow", f"the upload took longer than {self.settings.deadline:g} s; send it faster"
                ) from None
            return await _unless_gone(request, self._answer(asked, deadline))

    async def of_result(
        self, request: Request, identity: str, work: Callable[[Attribution, Callable[[], None]], Result], lane: Lane
    ) -> Result:
        """What some work makes of a stored answer, off the event loop.

        Args:
            request: that asks for it; the work ends when its client hangs up.
            identity: name of the answer.
            work: is given the answer and a function to call again and again, which raises when the work is to end.
            lane: where it is done.

        Raises:
            Refusal: there is no such answer, the lane is full, or the deadline passed.
            NdaIndexError: from the work.
        """
        ended = threading.Event()

        def check() -> None:
            if ended.is_set():
                raise Abandoned

        def whole() -> Result:  # in one piece, so that who waits holds no answer in memory
            return work(self._stored(identity), check)

        try:
            return await _unless_gone(request, asyncio.wait_for(lane.run(whole), self.settings.deadline))
        except asyncio.TimeoutError:
            raise later(
                503,
                "deadline",
                f"this part of the answer was not made within {self.settings.deadline:g} s; "
                "ask again later, or for one scale",
                1,
            ) from None
        finally:
            ended.set()

    async def image(self, image_id: int, side: int | None) -> bytes:
        """An image of the index as PNG, its shorter side resized where `side` says so.

        Raises:
            Refusal: there is none, or too many are being read.
        """
        self.check_ready()
        with self._current.used() as index:
            return await self.reads.run(self._image_png, index, image_id, side)

    def describe(self) -> dict[str, Any]:
        """What `GET /v1/index` answers."""
        return index_values(self._current.index, self._current.columns, self.settings)

    async def in_files(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """Do something with files or pictures, off the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._files, work, *arguments)

    def _stored(self, identity: str) -> Attribution:
        try:
            answer = self.results.get(identity)
        except VersionError as error:
            raise Refusal(404, "result", str(error)) from error
        if answer is None:
            raise Refusal(404, "result", f"there is no answer {identity}; it may have been dropped, ask again")
        return answer

    def _image_png(self, index: Index, image_id: int, side: int | None) -> bytes:
        return self.metrics.rendered(pixels_png, image_pixels(index, image_id), side)

    def check_ready(self) -> None:
        """Raise `Refusal` before the warm-up query was answered."""
        if not self.ready:
            raise later(503, "not_ready", "the index is being warmed up; ask again in a moment", 1)

    @contextmanager
    def _admitted(self) -> Iterator[None]:
        if self._house >= self.settings.queue:
            self.metrics.ended.labels("refused").inc()
            raise later(
                429, "busy", f"{self._house} questions are waiting already; ask again later", self._engine.patience
            )
        self._house += 1
        try:
            yield
        finally:
            self._house -= 1

    async def _answer(self, asked: Asked, deadline: float) -> tuple[str, Attribution]:
        generation = self._current
        with generation.used() as index:
            if asked.options["where"] is not None:
                asked.options["where"] = _condition(asked.options["where"], generation.columns)
            try:
                query, identity, known = await asyncio.wait_for(
                    self._looked_up(index, asked), max(0.0, deadline - time.monotonic())
                )
            except asyncio.TimeoutError:
                raise self._engine.out_of_time() from None
            except asyncio.CancelledError:
                self.metrics.ended.labels("cancelled").inc()
                raise
            self.metrics.stored.labels("miss" if known is None else "hit").inc()
            if known is not None:
                return identity, known
            answer = await self._engine.ask(identity, query, generation, deadline)
            try:
                await self.in_files(self.results.put, identity, answer, generation.collection)
            except StorageError as error:  # the answer is there all the same
                LOG.error("an answer cannot be stored: %s", error)
            return identity, answer

    async def _looked_up(self, index: Index, asked: Asked) -> tuple[Query, str, Attribution | None]:
        """The query, its answer's name, and the answer if there is one already."""
        query = await self._decoded(index, asked)
        identity = result_id(query, index.manifest.index_hash)
        return query, identity, await self._known(identity)

    async def _known(self, identity: str) -> Attribution | None:
        try:
            return await self.in_files(self.results.get, identity)
        except VersionError:
            return None

    async def _start(self) -> None:
        """Warm up, then follow the index."""
        while not self.ready:
            try:
                await self._warm_up(self._current)
                self.ready = True
            except Exception:  # whatever it is, who asks is told to ask again, and the next attempt may go well
                LOG.exception("the index does not answer")
                await self._look_again()  # it may have been mended
        while True:
            await self._look_again()

    async def _look_again(self) -> None:
        await asyncio.sleep(self.settings.reload_seconds)
        try:
            await self._generations.follow(self._prepare)
        except Exception:
            LOG.exception("the index on disk cannot be looked at")

    async def _prepare(self, fresh: Generation) -> None:
        """Make another generation ready to be asked."""
        if fresh.collection == self._current.collection:
            await self._warm_up(fresh)  # behind the questions that wait; the old index is as good until then
        await self.in_files(self.results.belong_to, fresh.collection)  # at once: images must not be shown any more

    async def _warm_up(self, generation: Generation) -> None:
        """Ask about the first image, as whoever comes first would: loops are compiled, pages read."""
        index = generation.index
        if len(index) == 0:
            return
        asked = Asked(None, int(index.image_ids[0]), {"top": 1})
        query = await self._decoded(index, asked)
        await self._engine.ask(f"warm-up {index.manifest.index_hash}", query, generation, float("inf"))

    async def _decoded(self, index: Index, asked: Asked) -> Query:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._decoder, _query, index, asked, self.settings.pixels)


def _condition(text: str, columns: Mapping[str, str]) -> str:
    """A condition for the index; an answer tells it, so it must be one that can be sent again."""
    condition = checked_condition(text, columns)
    if len(condition) > CONDITION_CHARACTERS:
        raise Refusal(
            400,
            "where",
            f"where has {len(condition)} characters when written in full, as (`column` = 1); "
            f"at most {CONDITION_CHARACTERS} are read, send a shorter one",
        )
    return condition


def _query(index: Index, asked: Asked, pixels: int) -> Query:
    options = asked.options
    if asked.image_id is None:
        return index.query(opened_picture(asked.upload or b"", pixels), **options)
    return index.query(image_pixels(index, asked.image_id), **options)


async def _unless_gone(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """The result of some work, which is cancelled when the client hangs up."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnection(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Refusal(499, "gone", "the client has hung up")
        return task.result()
    finally:
        for part in (task, gone):
            part.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await part


async def _disconnection(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass

"""One thread that asks the index: questions wait in a line and are asked in batches."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace

from nda_index.answer.attribution import Attribution
from nda_index.index import Index
from nda_index.question import Query
from nda_index.serve.generation import Generation
from nda_index.serve.metrics import Metrics
from nda_index.serve.refusal import Refusal, later
from nda_index.serve.settings import ServeSettings
from nda_index.threads import limit_threads


class Abandoned(Exception):
    """Nobody waits for this question any more."""


@dataclass(eq=False)
class _Job:
    """A question in the line, and how many wait for its answer."""

    query: Query
    generation: Generation
    answer: asyncio.Future[Attribution]
    waiters: int = 0

    def check(self, stage: str, done: int, total: int) -> None:
        """The index's progress report: the place to end a question that nobody waits for."""
        if self.waiters == 0:
            raise Abandoned


class Engine:
    """The line and the thread. Its methods are called on the event loop only."""

    def __init__(self, settings: ServeSettings, metrics: Metrics) -> None:
        """A stopped engine."""
        self._settings = settings
        self._metrics = metrics
        self._jobs: dict[str, _Job] = {}
        self._line: deque[_Job] = deque()
        self._work = asyncio.Event()
        self._pace = 1.0  # seconds a question, lately
        self.thread = ThreadPoolExecutor(1, "engine", limit_threads, (settings.threads,))

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def patience(self) -> float:
        """Seconds after which the line will have moved on."""
        return self._pace * len(self._jobs)

    async def ask(self, identity: str, query: Query, generation: Generation, deadline: float) -> Attribution:
        """The answer to a query; who asks what is being asked already shares its answer.

        Args:
            identity: the answer's name.
            query: what is asked.
            generation: of the index that is asked.
            deadline: of `time.monotonic`.

        Raises:
            Refusal: the deadline passed.
            NdaIndexError: as `Index.attribute`.
        """
        job = self._jobs.get(identity)
        if job is None:
            job = _Job(query, generation, asyncio.get_running_loop().create_future())
            self._jobs[identity] = job
            self._line.append(job)
            self._work.set()
        job.waiters += 1
        try:
            with generation.used():
                return await asyncio.wait_for(asyncio.shield(job.answer), max(0.0, deadline - time.monotonic()))
        except asyncio.TimeoutError:
            raise self.out_of_time() from None
        except asyncio.CancelledError:
            self._metrics.ended.labels("cancelled").inc()
            raise
        finally:
            job.waiters -= 1
            if job.waiters == 0 and self._jobs.get(identity) is job:
                del self._jobs[identity]  # who asks now starts anew
                with suppress(ValueError):  # it is being asked already, and ends at its next report
                    self._line.remove(job)  # a picture that nobody waits for must not stay in memory
                job.answer.cancel()

    def out_of_time(self) -> Refusal:
        """What a question is told, and counted as, that was not answered within the deadline."""
        self._metrics.ended.labels("deadline").inc()
        return later(
            503,
            "deadline",
            f"the question was not answered within {self._settings.deadline:g} s; ask again later, or for less",
            self.patience,
        )

    async def run(self) -> None:
        """Ask the index, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self._work.wait()
            batch = self._next_batch()
            if not batch:
                self._work.clear()
                continue
            self._metrics.batches.observe(len(batch))
            start = time.monotonic()
            with batch[0].generation.used() as index:
                await loop.run_in_executor(self.thread, self._answer_batch, index, batch, loop)
            self._pace += 0.2 * ((time.monotonic() - start) / len(batch) - self._pace)

    def close(self) -> None:
        """End the thread after the batch that it is at."""
        for job in self._jobs.values():
            job.waiters = 0
        self.thread.shutdown(wait=True, cancel_futures=True)

    def _next_batch(self) -> list[_Job]:
        """The first questions of the line that are for the same index."""
        batch: list[_Job] = []
        while self._line and len(batch) < self._settings.batch:
            if batch and self._line[0].generation is not batch[0].generation:
                break
            batch.append(self._line.popleft())
        return batch

    def _answer_batch(self, index: Index, batch: list[_Job], loop: asyncio.AbstractEventLoop) -> None:
        """On the engine's thread."""
        try:
            outcomes = index.attribute_batch([replace(job.query, progress=job.check) for job in batch])
            for job, outcome in zip(batch, outcomes, strict=True):
                loop.call_soon_threadsafe(self._deliver, job, outcome)
        except BaseException as error:  # what a single query cannot be blamed for; those that are answered stay so
            for job in batch:
                loop.call_soon_threadsafe(self._deliver, job, _told(error))

    def _deliver(self, job: _Job, outcome: Attribution | Exception) -> None:
        if isinstance(outcome, Attribution):
            for stage, seconds in outcome.seconds.items():
                self._metrics.stages.labels(stage).observe(seconds)
        if job.answer.done():  # nobody waits, or it is answered already
            return
        if isinstance(outcome, Attribution):
            job.answer.set_result(outcome)
        else:
            job.answer.set_exception(outcome)


def _told(error: BaseException) -> Exception:
    """An error as those who wait are told it: one that would end the event loop, as a panic in Rust, is wrapped."""
    if isinstance(error, Exception):
        return error
    told = RuntimeError(f"the index ended with {type(error).__name__}: {error}")
    told.__cause__ = error
    return told

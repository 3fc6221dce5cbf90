"""One thread that computes answers: questions queue, and the index answers them in batches. Jobs get its gaps."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace

from nda_index.answer.attribution import Attribution
from nda_index.index import Index
from nda_index.question import Query
from nda_index.serve.metrics import Metrics
from nda_index.serve.pool import Abandoned
from nda_index.serve.refusal import Refusal, refuse_for_now
from nda_index.serve.reload import Snapshot
from nda_index.serve.settings import ServeSettings
from nda_index.threads import limit_threads

FIRST_PACE = 1.0  # seconds a question before any was timed: the order of magnitude on a few cores
PAUSE_LOOK = 0.02  # seconds between looks of a picture of a job at whether it may go on, or nobody wants it any more
PACE_WEIGHT = 0.2  # of the newest batch in the moving average of seconds a question: about the last five batches count


@dataclass(eq=False)
class _Job:
    """A question in the queue, and the number of clients that wait for its answer."""

    query: Query
    snapshot: Snapshot
    answer: asyncio.Future[Attribution]
    waiters: int = 0

    def check(self, stage: str, done: int, total: int) -> None:
        """Take the index's progress report: the place to end a question that nobody waits for."""
        if self.waiters == 0:
            raise Abandoned


class Engine:
    """The queue and its thread, and another for pictures of jobs. Call its methods on the event loop only."""

    def __init__(self, settings: ServeSettings, metrics: Metrics) -> None:
        """Make a stopped engine."""
        self._settings = settings
        self._metrics = metrics
        self._jobs: dict[str, _Job] = {}
        self._queue: deque[_Job] = deque()
        self._work = asyncio.Event()
        self._pace = FIRST_PACE
        self._thread = ThreadPoolExecutor(1, "engine", limit_threads, (settings.threads,))
        self._gaps = ThreadPoolExecutor(1, "gaps", limit_threads, (settings.threads,))
        self._idle = threading.Event()  # no question is answered or waits
        self._idle.set()

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def retry_after(self) -> float:
        """Seconds until all questions of now will have been answered."""
        return self._pace * len(self._jobs)

    async def answer(self, identity: str, query: Query, snapshot: Snapshot, deadline: float) -> Attribution:
        """Return the answer to a query; identical questions share one answer.

        Args:
            identity: the answer's name.
            query: the query.
            snapshot: the index that answers.
            deadline: in seconds of `time.monotonic`.

        Raises:
            Refusal: the deadline has passed.
            NdaIndexError: as `Index.attribute`.
        """
        job = self._jobs.get(identity)
        if job is None:
            job = _Job(query, snapshot, asyncio.get_running_loop().create_future())
            self._jobs[identity] = job
            self._queue.append(job)
            self._idle.clear()
            self._work.set()
        job.waiters += 1
        try:
            with snapshot.hold():
                return await asyncio.wait_for(asyncio.shield(job.answer), max(0.0, deadline - time.monotonic()))
        except asyncio.TimeoutError:
            raise self.time_out() from None
        except asyncio.CancelledError:
            self._metrics.ended.labels("cancelled").inc()
            raise
        finally:
            job.waiters -= 1
            if job.waiters == 0 and self._jobs.get(identity) is job:
                del self._jobs[identity]  # the next identical question gets a new job
                with suppress(ValueError):  # it has begun already, and ends at its next report
                    self._queue.remove(job)  # a picture that nobody waits for must not stay in memory
                job.answer.cancel()

    async def until_idle(self) -> None:
        """Return when no question is answered or waits."""
        while not self._idle.is_set():
            await asyncio.sleep(PAUSE_LOOK)

    async def answer_in_gaps(self, query: Query, snapshot: Snapshot, is_wanted: Callable[[], bool]) -> Attribution:
        """Return the answer to a query of a job, which is computed while no question waits.

        As soon as one comes, the computation pauses at its next report and keeps what it has. Where one question may
        fill the memory of a GPU, it does not pause: it takes the thread of the questions, which wait for it.

        Args:
            query: the query.
            snapshot: the index that answers.
            is_wanted: whether the job goes on; it is asked at each report.

        Raises:
            Abandoned: another index has replaced this one, or the job does not go on.
            NdaIndexError: as `Index.attribute`.
        """
        ended = threading.Event()

        def is_over() -> bool:
            return ended.is_set() or snapshot.retired or not is_wanted()

        def check(stage: str, done: int, total: int) -> None:
            while snapshot.index.concurrent and not is_over() and not self._idle.wait(PAUSE_LOOK):
                pass
            if is_over():
                raise Abandoned

        def compute(index: Index) -> Attribution | Exception:
            try:
                (outcome,) = index.attribute_batch([replace(query, progress=check)])
            except BaseException as error:
                return _as_exception(error)
            return outcome

        with snapshot.hold() as index:
            thread = self._gaps if index.concurrent else self._thread
            work = asyncio.get_running_loop().run_in_executor(thread, compute, index)
            try:
                outcome = await asyncio.shield(work)
            except asyncio.CancelledError:
                ended.set()
                await asyncio.wait([work])  # the index must stay open until then
                raise
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def time_out(self) -> Refusal:
        """Count a question that was not answered within the deadline, and return its refusal."""
        self._metrics.ended.labels("deadline").inc()
        return refuse_for_now(
            503,
            "deadline",
            f"the question was not answered within {self._settings.deadline:g} s; "
            "try again later, or with fewer timesteps, draws or candidates",
            self.retry_after,
        )

    async def run(self) -> None:
        """Answer questions until cancelled."""
        while True:
            await self._work.wait()
            await self._answer_next()

    def close(self) -> None:
        """End the thread after its current batch, whose questions end at their next report."""
        for job in self._jobs.values():
            job.waiters = 0
        for thread in (self._thread, self._gaps):
            thread.shutdown(wait=True, cancel_futures=True)

    async def _answer_next(self) -> None:
        """Answer the next batch. Its own function, so that nothing keeps an index that is replaced in memory."""
        batch, loop = self._next_batch(), asyncio.get_running_loop()
        if not batch:
            self._work.clear()
            self._idle.set()
            return
        self._metrics.batches.observe(len(batch))
        start = time.monotonic()
        with batch[0].snapshot.hold() as index:
            await loop.run_in_executor(self._thread, self._answer_batch, index, batch, loop)
        self._pace += PACE_WEIGHT * ((time.monotonic() - start) / len(batch) - self._pace)

    def _next_batch(self) -> list[_Job]:
        """Take the first questions of the queue that are for the same snapshot."""
        batch: list[_Job] = []
        while self._queue and len(batch) < self._settings.batch:
            if batch and self._queue[0].snapshot is not batch[0].snapshot:
                break
            batch.append(self._queue.popleft())
        return batch

    def _answer_batch(self, index: Index, batch: list[_Job], loop: asyncio.AbstractEventLoop) -> None:
        """Answer a batch, on the engine's thread."""
        try:
            outcomes = index.attribute_batch([replace(job.query, progress=job.check) for job in batch])
            for job, outcome in zip(batch, outcomes, strict=True):
                loop.call_soon_threadsafe(self._deliver, job, outcome)
        except BaseException as error:  # no single query is to blame; those that are answered already stay so
            for job in batch:
                loop.call_soon_threadsafe(self._deliver, job, _as_exception(error))

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


def _as_exception(error: BaseException) -> Exception:
    """Wrap an error that would end the event loop, as a panic in Rust; return any other as it is."""
    if isinstance(error, Exception):
        return error
    wrapped = RuntimeError(f"the index ended with {type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped

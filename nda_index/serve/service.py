"""Takes questions in, within bounds, and answers them from disk or from the index."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from starlette.requests import Request

from nda_index.answer.attribution import Attribution
from nda_index.errors import NdaIndexError, QueryError, StorageError, VersionError
from nda_index.index import Index
from nda_index.question import Query
from nda_index.serve.bodies import IndexDescription, describe_index
from nda_index.serve.collection import present_images
from nda_index.serve.engine import Engine
from nda_index.serve.forms import Submission, read_submission
from nda_index.serve.jobs.folder import Job
from nda_index.serve.jobs.queue import JobQueue
from nda_index.serve.keyring import Keyring
from nda_index.serve.logs import REQUEST_ID
from nda_index.serve.metrics import Metrics
from nda_index.serve.parts import Parts
from nda_index.serve.pictures import read_pixels
from nda_index.serve.pool import run_until_disconnect
from nda_index.serve.quotas import Quotas
from nda_index.serve.refusal import Refusal, refuse_for_now
from nda_index.serve.reload import Reloader, Snapshot
from nda_index.serve.results import Results, hide_paths, result_id
from nda_index.serve.settings import CONDITION_CHARACTERS, ServeSettings
from nda_index.serve.uploads import open_picture
from nda_index.store.audit import check_writable, write_event
from nda_index.store.conditions import parse_condition

LOG = logging.getLogger(__name__)
LOOKED = 60.0  # seconds after a look at /readyz, for which something is taken to look regularly
UNSTORED = "cannot be stored; the operator finds the reason in the log"
DRAIN_LOOK = 0.05  # seconds between looks at whether the last question has ended
Result = TypeVar("Result")


class Service:
    """One index, served; `nda_index.serve.lifecycle.run` runs it.

    Attributes:
        settings: its settings.
        metrics: its counters.
        ready: whether the warm-up query was answered.
        address: where it listens, for the log; its process sets it.
        results: the stored answers.
        reloader: the open index.
        engine: computes answers.
        jobs: many pictures each, which `nda_index.serve.jobs.worker` answers in the engine's gaps.
        keyring: the tokens that are accepted.
        quotas: counts of questions by token.
        ending: whether it was told to end.
        draining: whether it takes no more questions.
        parts: reads parts of stored answers, and images.
    """

    def __init__(self, index: Index, settings: ServeSettings, reopen: Callable[[Path], Index]) -> None:
        """Prepare a service; `create_app` calls this."""
        self.settings = settings
        self.metrics = Metrics()
        self.ready = False
        self.address = ""
        self.ending = False
        self.draining = False
        self._looked = -LOOKED  # when /readyz was asked for
        self._unwritable = False  # whether answers, the audit log or jobs could not be written
        self.results = Results(settings.results, settings.results_bytes, partial(present_images, index.path))
        self.reloader = Reloader(index, reopen, self.metrics)
        self.results.bind_to(self.reloader.current.collection)
        self.engine = Engine(settings, self.metrics)
        self.keyring = Keyring(settings.tokens, settings.reread_tokens)
        self.quotas = Quotas(self.keyring)
        self.jobs = JobQueue(settings.results, settings)
        self.parts = Parts(self.results, self.reloader, settings, self.metrics)
        self._decoder = ThreadPoolExecutor(1, "decode")  # one at a time: decoding a picture takes much memory
        self._files = ThreadPoolExecutor(2, "files")
        self._in_flight = 0
        self._working = False
        watch = self.metrics.watch
        watch("nda_index_queue_length", "Questions in flight.", lambda: self._in_flight)
        watch("nda_index_line_length", "Questions that the engine answers or has queued.", lambda: len(self.engine))
        watch("nda_index_readers", "Requests for images and answers in flight.", lambda: len(self.parts.reads))
        watch("nda_index_links", "Requests for links in flight.", lambda: len(self.parts.links))
        watch("nda_index_results_bytes", "Bytes of the stored answers.", lambda: self.results.bytes)
        watch("nda_index_images", "Images of the index.", lambda: len(self.reloader.current.index))
        watch("nda_index_images_missing", "Images of a lost shard.", lambda: self.reloader.current.index.unreachable)
        for state in ("queued", "running"):
            watch(f"nda_index_jobs_{state}", f"Jobs that are {state}.", partial(self._count_jobs, state))
        watch("nda_index_ready", "1 if /readyz says that questions are answered and stored, else 0.", self._is_healthy)

    async def attribute(self, request: Request) -> tuple[str, Attribution]:
        """Answer the question of a request: return the answer's name and the answer.

        Raises:
            Refusal, NdaIndexError: the question is not answered.
        """
        self.check_ready()
        if self.draining:
            raise _refuse_to_begin()
        with self._admit():
            deadline = time.monotonic() + self.settings.deadline
            try:
                submission = await asyncio.wait_for(read_submission(request, self.settings), self.settings.deadline)
            except asyncio.TimeoutError:
                raise Refusal(
                    408, "slow", f"the upload took longer than {self.settings.deadline:g} s; send it faster"
                ) from None
            facts = {
                "who": request.state.owner or "anyone",
                "request_id": REQUEST_ID.get(),
                **_name_picture(submission),
            }
            try:
                identity, answer = await run_until_disconnect(request, self._answer(submission, deadline))
            except (Refusal, NdaIndexError) as error:
                facts |= {"index_hash": self.reloader.current.index.manifest.index_hash}
                await self.audit(**facts, outcome=getattr(error, "code", type(error).__name__))
                raise
            await self.audit(**facts, index_hash=answer.index_hash, outcome="answered", answer=identity)
            return identity, answer

    async def take_job(self, request: Request) -> Job:
        """Take in the job of a request.

        Raises:
            Refusal, NdaIndexError: it is not taken.
        """
        self.check_ready()
        if self.draining:
            raise _refuse_to_begin()

        def check(options: dict[str, Any]) -> Mapping[str, Any]:
            return _check_condition(Submission(None, None, options), self.reloader.current.columns).options

        try:
            return await self.jobs.take(request, check)
        except StorageError as error:
            self.note_unwritable(error)
            raise refuse_for_now(503, "storage", f"the job {UNSTORED}", 10) from error

    async def answer_in_gaps(
        self, submission: Submission, snapshot: Snapshot, is_wanted: Callable[[], bool]
    ) -> Attribution:
        """Answer a picture of a job, from disk or while no question waits; the answer is not stored.

        Raises:
            Abandoned: the index was replaced meanwhile, or the job does not go on.
            Refusal, NdaIndexError: it has no answer.
        """
        with snapshot.hold() as index:
            query, _, stored = await self._look_up(index, submission)
            return stored or await self.engine.answer_in_gaps(query, snapshot, is_wanted)

    @contextmanager
    def working(self) -> Iterator[None]:
        """Let `drain` wait until the block ends."""
        self._working = True
        try:
            yield
        finally:
            self._working = False

    def describe(self) -> IndexDescription:
        """Return what `GET /v1/index` answers."""
        current = self.reloader.current
        return describe_index(current.index, current.columns, self.settings)

    def check_ready(self) -> None:
        """Raise `Refusal` until the warm-up query was answered."""
        if not self.ready:
            raise refuse_for_now(503, "not_ready", "the index is being warmed up; try again in a moment", 1)

    def check_healthy(self) -> None:
        """Raise `Refusal` where a proxy should send questions elsewhere, though this service would answer them."""
        self.check_ready()
        if self.ending:
            raise _refuse_to_begin()
        if self._unwritable:
            raise refuse_for_now(503, "storage", f"what is to be kept {UNSTORED}", 10)

    def probe(self) -> None:
        """Answer /readyz, as `check_healthy`, and note that something asks for it."""
        self._looked = time.monotonic()
        self.check_healthy()

    async def drain(self, seconds: float) -> None:
        """Turn unready, and return when the questions in flight have ended, after some seconds at most.

        A proxy sends questions here until its next look at /readyz, so they are taken until then. A job ends after its
        current picture; it goes on when a service runs again.
        """
        self.ending = True
        LOG.info("told to end: questions in flight are answered", extra={"facts": {"event": "draining"}})
        now = time.monotonic()
        end = now + seconds
        if now - self._looked < LOOKED:
            await asyncio.sleep(min(self.settings.linger, seconds))
        self.draining = True
        while (self._in_flight or self._working) and time.monotonic() < end:
            await asyncio.sleep(DRAIN_LOOK)

    async def look_at_disk(self) -> None:
        """Find out whether a disk that refused to store an answer takes it again."""
        if self._unwritable:
            try:
                await self.run_in_files(self.results.check_writable)
                await self.run_in_files(check_writable, self.settings.audit)
                self._unwritable = False
            except StorageError:  # it was logged
                pass

    async def decode(self, index: Index, submission: Submission) -> Query:
        """Decode the picture of a question, off the event loop.

        Raises:
            Refusal, NdaIndexError: the picture cannot be read, or an option breaks a rule.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._decoder, _make_query, index, submission, self.settings.pixels)

    async def run_in_files(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """Work with stored answers, off the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._files, work, *arguments)

    def close(self) -> None:
        """End the threads and close the index."""
        self.engine.close()
        for executor in (self._decoder, self._files):
            executor.shutdown(wait=True, cancel_futures=True)
        self.jobs.close()
        self.parts.close()
        self.reloader.close()

    def note_unwritable(self, error: StorageError) -> None:
        """Be unready until the disk takes again what is to be kept."""
        if not self._unwritable:
            LOG.error("what is to be kept cannot be stored: %s", error)
        self._unwritable = True

    async def audit(self, **facts: Any) -> None:
        """Note a question in the audit log."""
        try:
            await self.run_in_files(partial(write_event, self.settings.audit, "question", **facts))
        except StorageError as error:  # the client gets the answer all the same
            self._unwritable = True
            LOG.error("the audit log cannot be written: %s", error)

    def _count_jobs(self, state: str) -> int:
        return sum(job.state == state for job in self.jobs.unfinished())

    def _is_healthy(self) -> bool:
        try:
            self.check_healthy()
        except Refusal:
            return False
        return True

    @contextmanager
    def _admit(self) -> Iterator[None]:
        if self._in_flight >= self.settings.queue:
            self.metrics.ended.labels("refused").inc()
            raise refuse_for_now(
                429, "busy", f"{self._in_flight} questions are in flight already; try again later",
                self.engine.retry_after,
            )  # fmt: skip
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1

    async def _answer(self, submission: Submission, deadline: float) -> tuple[str, Attribution]:
        snapshot = self.reloader.current
        with snapshot.hold() as index:
            submission = _check_condition(submission, snapshot.columns)
            try:
                query, identity, stored = await asyncio.wait_for(
                    self._look_up(index, submission), max(0.0, deadline - time.monotonic())
                )
            except asyncio.TimeoutError:
                raise self.engine.time_out() from None
            except asyncio.CancelledError:
                self.metrics.ended.labels("cancelled").inc()
                raise
            self.metrics.lookups.labels("miss" if stored is None else "hit").inc()
            if stored is not None:
                return identity, stored
            answer = hide_paths(await self.engine.answer(identity, query, snapshot, deadline))
            if answer.missing:  # whoever asks again gets the whole answer, once there is one
                identity = secrets.token_hex(16)
            try:
                await self.run_in_files(self.results.put, identity, answer, snapshot.collection)
            except StorageError as error:  # the client gets the answer all the same
                self._unwritable = True
                LOG.error("an answer cannot be stored: %s", error)
            return identity, answer

    async def _look_up(self, index: Index, submission: Submission) -> tuple[Query, str, Attribution | None]:
        """Return the query, its answer's name, and the stored answer if there is one."""
        query = await self.decode(index, submission)
        identity = result_id(query, index.manifest.index_hash)
        try:
            return query, identity, await self.run_in_files(self.results.get, identity)
        except VersionError:
            return query, identity, None


def _name_picture(submission: Submission) -> dict[str, Any]:
    """Name a picture for the audit log: by its hash, or by its id where it is one of the index."""
    if submission.image_id is not None:
        return {"image_id": submission.image_id}
    return {"picture": hashlib.sha256(submission.upload or b"").hexdigest()}


def _refuse_to_begin() -> Refusal:
    return refuse_for_now(503, "draining", "the service is about to end; send the question again, to another", 1)


def _check_condition(submission: Submission, columns: Mapping[str, str]) -> Submission:
    """Return the question with its condition as the index takes it; an answer shows it, and it can be sent again."""
    where = submission.options["where"]
    if where is None:
        return submission
    try:
        condition = parse_condition(where, columns).text
    except QueryError as error:
        raise Refusal(400, "where", str(error)) from error
    if len(condition) > CONDITION_CHARACTERS:
        raise Refusal(
            400,
            "where",
            f"where has {len(condition)} characters when written in full, as (`column` = 1); "
            f"at most {CONDITION_CHARACTERS} are read, send a shorter one",
        )
    return replace(submission, options={**submission.options, "where": condition})


def _make_query(index: Index, submission: Submission, pixels: int) -> Query:
    if submission.image_id is not None:
        return index.query(read_pixels(index, submission.image_id), **submission.options)
    return index.query(open_picture(submission.upload or b"", pixels), **submission.options)

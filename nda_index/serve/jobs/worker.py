"""Works off jobs, one picture after the other, while no question waits."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Sequence
from functools import partial

from nda_index.answer.rows import Row, rows_of, rows_of_error
from nda_index.errors import NdaIndexError, StorageError
from nda_index.serve.forms import Submission
from nda_index.serve.jobs import folder as on_disk
from nda_index.serve.jobs.folder import Job, JobGone
from nda_index.serve.pool import Abandoned
from nda_index.serve.refusal import Refusal, refusal_of
from nda_index.serve.reload import Snapshot
from nda_index.serve.service import Service

FAILURES = 5  # pictures in a row at which the service itself fails, after which a job ends
SWEEP = 600.0  # seconds between two looks for jobs that were kept long enough
BROKEN = "the service failed at this picture; its operator finds the reason in the log"
PARTIAL = "a machine that holds a part of the collection was lost, and this picture was not compared with all of it; \
ask about it again later"  # a row has no place for what is missing
LOG = logging.getLogger(__name__)


class Worker:
    """Works on the jobs of a service. One process does, where several share the folder."""

    def __init__(self, service: Service) -> None:
        """Prepare; `run` does the work."""
        self._service = service
        self._jobs = service.jobs
        self._turns: dict[str, int] = {}  # of owners: when each had a picture answered last, by count
        self._last: dict[str, float] = {}  # by job: when its last result came; its first picture began
        self._broken: dict[str, int] = {}  # by job: pictures in a row at which the service failed
        self._swept = -SWEEP

    async def run(self) -> None:
        """Work until the service ends, or this is cancelled."""
        try:
            while not self._service.ending:
                try:
                    worked = await self._work()
                except StorageError as error:
                    self._service.note_unwritable(error)
                    worked = False
                except Exception:  # whatever it is, the next look may go better
                    LOG.exception("jobs cannot be worked on")
                    worked = False
                if not worked:
                    await asyncio.sleep(self._service.settings.reload_seconds)
        finally:
            self._jobs.leave()

    async def _work(self) -> bool:
        """Answer the next picture; return whether there was one."""
        if not self._service.ready or not await self._jobs.run(self._jobs.is_working):
            return False
        if time.monotonic() - self._swept > SWEEP:
            self._swept = time.monotonic()
            await self._jobs.run(self._jobs.sweep)
        job = self._choose(await self._jobs.run(self._jobs.unfinished))
        collection = self._service.reloader.current.collection
        if job is None or not await self._jobs.run(self._service.results.is_bound_to, collection):
            return False  # there is none, or the index that is open may still show removed images
        try:
            with self._service.working():
                await self._go_on(job)
        except (JobGone, Abandoned):  # it was cancelled, or the index has changed: the next look shows which
            pass
        return True

    def _choose(self, jobs: Sequence[Job]) -> Job | None:
        """Return the job whose picture is next: owners take turns, and each one's jobs come in their order."""
        first: dict[str, Job] = {}
        keyring, quotas = self._service.keyring, self._service.quotas
        for job in jobs:
            if keyring.accepts(job.owner):
                first.setdefault(job.owner, job)
        ready = [job for owner, job in first.items() if quotas.seconds_to_next(owner) == 0]
        return min(ready, key=lambda job: self._turns.get(job.owner, -1), default=None)

    async def _go_on(self, job: Job) -> None:
        """Answer the next picture of a job."""
        path, number = self._jobs.path(job.id), job.done
        self._turns[job.owner] = 1 + max(self._turns.values(), default=0)
        if number >= job.total:  # a process was killed before it could say so
            await self._jobs.run(on_disk.finish, path, "done")
            return
        if job.state == "queued":
            await self._jobs.run(on_disk.begin, path)
            self._last[job.id] = time.monotonic()
        snapshot = self._service.reloader.current
        rows, outcome = await self._answer(job, number, snapshot)
        now = time.monotonic()
        seconds = now - self._last[job.id] if job.id in self._last else None
        is_current = partial(self._service.results.is_bound_to, snapshot.collection)
        index_hash = snapshot.index.manifest.index_hash
        job = await self._jobs.run(on_disk.append, path, number, rows, index_hash, seconds, is_current)
        self._last[job.id] = now
        self._service.metrics.job_pictures.labels("answered" if outcome == "answered" else "failed").inc()
        broken = self._broken[job.id] = self._broken.get(job.id, 0) + 1 if outcome == "internal" else 0
        if broken >= FAILURES or job.done == job.total:
            failed = broken >= FAILURES and job.done < job.total
            reason = f"the service failed at {broken} pictures in a row; send the others again" if failed else ""
            await self._jobs.run(on_disk.finish, path, "failed" if failed else "done", reason)
            del self._broken[job.id], self._last[job.id]

    async def _answer(self, job: Job, number: int, snapshot: Snapshot) -> tuple[list[Row], str]:
        """Return the lines of a picture, and what became of it."""
        path = self._jobs.path(job.id)
        name, reason, data = await self._jobs.run(on_disk.read_picture, path, number)
        if reason:
            return rows_of_error(name, reason), "bytes"
        await self._service.engine.until_idle()
        if self._service.quotas.seconds_to_next(job.owner) > 0:
            raise Abandoned
        self._service.quotas.take(job.owner)
        try:
            question = Submission(data, None, job.options)
            answer = await self._service.answer_in_gaps(question, snapshot, path.exists)
            rows = rows_of_error(name, PARTIAL) if answer.missing else rows_of(name, answer)
            outcome = "shard" if answer.missing else "answered"
        except (Refusal, NdaIndexError) as error:
            refusal = error if isinstance(error, Refusal) else refusal_of(error)
            if refusal is None:
                LOG.error("picture %d of job %s: %s: %s", number + 1, job.id, type(error).__name__, error)
            rows, outcome = rows_of_error(name, refusal or BROKEN), refusal.code if refusal else "internal"
        except Abandoned:
            raise
        except Exception:
            LOG.exception("picture %d of job %s", number + 1, job.id)
            rows, outcome = rows_of_error(name, BROKEN), "internal"
        await self._service.audit(
            who=job.who, request_id=job.request_id, picture=hashlib.sha256(data).hexdigest(), job=job.id,
            index_hash=snapshot.index.manifest.index_hash, outcome=outcome,
        )  # fmt: skip
        return rows, outcome

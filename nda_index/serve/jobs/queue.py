"""The jobs of a service: taken in, listed, erased. All that is known of them lies on disk, for every process."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import re
import secrets
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from starlette.requests import Request

from nda_index.serve.forms import read_job_options
from nda_index.serve.jobs import folder as on_disk
from nda_index.serve.jobs.folder import ENDED, Job
from nda_index.serve.jobs.intake import receive
from nda_index.serve.logs import REQUEST_ID
from nda_index.serve.refusal import Refusal, refuse_for_now
from nda_index.serve.settings import ServeSettings
from nda_index.store.files import writing

JOBS = "jobs"  # the folder in that of the stored answers
KEPT_SECONDS = 7 * 86_400.0  # since its last change, after which a job is erased
KEPT_JOBS = 200  # that have ended; above it the oldest are erased
THREADS = 2  # one upload that is unpacked must not hold up all others
LOG = logging.getLogger(__name__)
Result = TypeVar("Result")

_ID = re.compile("[0-9a-f]{32}")
_WORKER = "worker.lock"


class JobQueue:
    """A folder of jobs. Call its coroutines on the event loop, and the rest by `run`."""

    def __init__(self, results: Path, settings: ServeSettings) -> None:
        """Open the folder in that of the stored answers, or make it.

        Raises:
            StorageError: it cannot be written.
        """
        self.folder = results / JOBS
        self._settings = settings
        self._threads = ThreadPoolExecutor(THREADS, "jobs")
        self._incoming = 0
        self._role: int | None = None
        with writing(self.folder):
            self.folder.mkdir(exist_ok=True, mode=0o700)

    async def run(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """Do what waits for the disk, off the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    async def take(self, request: Request, check: Callable[[dict[str, Any]], Mapping[str, Any]]) -> Job:
        """Take in the job that a request brings.

        Args:
            request: from `nda_index.serve.guard`, which knows whose it is.
            check: returns the options as the index takes them, or raises `Refusal`.

        Raises:
            Refusal: there are too many jobs, or the body is none.
            StorageError: the disk is full or cannot be written.
        """
        waiting = len(await self.run(self.unfinished)) + self._incoming
        if waiting >= self._settings.jobs:
            waits = f"{waiting} jobs wait or come in already; try again when one has ended, or cancel one"
            refusal = refuse_for_now(429, "jobs", waits, 60)
            raise refusal if self._settings.jobs else Refusal(404, "jobs", "this service takes no jobs; send questions")
        self._incoming += 1
        try:
            with on_disk.incoming(self.folder) as folder:
                with writing(folder):
                    received = await receive(request, folder, self._settings, self.run)
                job = Job(
                    id=secrets.token_hex(16),
                    owner=request.state.token,
                    who=request.state.owner or "anyone",
                    request_id=REQUEST_ID.get(),
                    created=time.time(),
                    options=check(read_job_options(received.options, self._settings)),
                    total=len(received.names),
                )
                await self.run(on_disk.accept, folder, job, received.names)
                return job
        finally:
            self._incoming -= 1

    def unfinished(self) -> list[Job]:
        """Return the jobs that wait or are worked on, oldest first."""
        return [job for job in self._all() if job.state not in ENDED]

    def of(self, owner: str) -> list[Job]:
        """Return the jobs of the token with this hash, newest first."""
        return [job for job in reversed(self._all()) if job.owner == owner]

    def find(self, owner: str, identity: str) -> Job:
        """Return a job of the token with this hash.

        Raises:
            Refusal: there is none; whether somebody else has one of this name is not told.
        """
        job = on_disk.read_job(self.path(identity))
        if job is None or job.owner != owner:
            raise Refusal(404, "job", f"there is no job {identity}; it may have been cancelled, or erased after a week")
        return job

    def path(self, identity: str) -> Path:
        """Return the folder of a job."""
        if not _ID.fullmatch(identity):
            raise ValueError(f"{identity!r} is not the name of a job")
        return self.folder / identity

    def is_working(self) -> bool:
        """Whether this process works on the jobs: it does unless another one that shares the folder does."""
        if self._role is None:
            with writing(self.folder):
                descriptor = os.open(self.folder / _WORKER, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return False
            self._role = descriptor
            on_disk.drop_leftovers(self.folder)
            for job in self.unfinished():
                on_disk.resume(self.path(job.id))
        return True

    def leave(self) -> None:
        """Let another process work on the jobs."""
        if self._role is not None:
            os.close(self._role)
            self._role = None

    def sweep(self) -> None:
        """Erase jobs that were kept long enough, or are too many."""
        jobs = self._all()
        old = [job for job in jobs if time.time() - on_disk.changed(self.path(job.id)) > KEPT_SECONDS]
        ended = [job for job in jobs if job.state in ENDED and job not in old]
        for job in [*old, *ended[: max(0, len(ended) - KEPT_JOBS)]]:
            on_disk.erase(self.path(job.id))

    def close(self) -> None:
        """End the threads after their current work."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self.leave()

    def _all(self) -> list[Job]:
        """Return all jobs, oldest first."""
        with suppress(FileNotFoundError):
            jobs = [on_disk.read_job(path) for path in self.folder.iterdir() if _ID.fullmatch(path.name)]
            return sorted((job for job in jobs if job is not None), key=lambda job: (job.created, job.id))
        return []


def forget_removed(results: Path, present: on_disk.Present) -> None:
    """Take out of all jobs' results what names images that the index holds no more; arguments as `folder` has them."""
    jobs = results / JOBS
    if jobs.is_dir():
        on_disk.drop_leftovers(jobs)
        for path in jobs.iterdir():
            if _ID.fullmatch(path.name):
                on_disk.forget_removed(path, present)

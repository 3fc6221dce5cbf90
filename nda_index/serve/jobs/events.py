"""A job as it goes on: server-sent events, the present state first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from nda_index.serve.bodies import JobBody, describe_job, json_text
from nda_index.serve.jobs.folder import ENDED, Job

MEDIA_TYPE = "text/event-stream"
RETRY = 2000  # milliseconds after which a client that was cut off comes back
QUIET = 15.0  # seconds without news after which a line is sent, so that no proxy takes the connection for dead


async def follow(
    job: Job, read: Callable[[], Awaitable[Job | None]], seconds: float, is_over: Callable[[], bool], root: str
) -> AsyncIterator[str]:
    """Yield an event `progress` whenever a job has changed, and `end` at its end, or when it was cancelled.

    Args:
        job: as it is.
        read: returns it as it is later; None where it was erased.
        seconds: between two looks.
        is_over: whether the service is about to end, or the client may ask no more; it comes back to the next one.
        root: path of the service.
    """
    yield f"retry: {RETRY}\n\n"
    known, quiet = "", 0.0
    now: Job | None = job
    while not is_over():
        body = describe_job(now or job, root)
        if now is None:
            body = body.model_copy(update={"state": "cancelled", "seconds_left": None})
        text = json_text(body)
        if text != known:
            known, quiet = text, 0.0
            yield _event(body, text)
        elif quiet > QUIET:
            quiet = 0.0
            yield ": the job goes on\n\n"
        if now is None or now.state in ENDED:
            return
        await asyncio.sleep(seconds)
        quiet += seconds
        job, now = now, await read()


def _event(body: JobBody, text: str) -> str:
    kind = "progress" if body.state in ("queued", "running") else "end"
    return f"id: {body.done}\nevent: {kind}\ndata: {text}\n\n"

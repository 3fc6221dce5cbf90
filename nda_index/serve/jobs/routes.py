"""The routes of jobs. A token sees its own jobs only."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Path, Query, Request, Response
from fastapi.responses import StreamingResponse

from nda_index.answer.rows import table_bytes
from nda_index.serve import openapi
from nda_index.serve.bodies import Body, JobBody, JobList, describe_job, json_text
from nda_index.serve.jobs import events
from nda_index.serve.jobs import folder as on_disk
from nda_index.serve.jobs.folder import Job
from nda_index.serve.refusal import refuse_for_now
from nda_index.serve.results import ID
from nda_index.serve.service import Service

WATCHERS = 64  # clients that watch jobs; more are refused, and may ask from time to time
MEDIA_TYPES = {
    "ndjson": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}
UNSTORED = {"Cache-Control": "no-store"}

Identity = Annotated[str, Path(pattern=f"^{ID}$", description="Name of a job.")]
Form = Annotated[
    Literal["ndjson", "csv", "parquet"] | None,
    Query(description="By default what Accept asks for, or else ndjson: a picture a line."),
]


def add_job_routes(app: FastAPI, service: Service) -> None:
    """Add the routes of jobs to the application of a service."""
    jobs, root = service.jobs, service.settings.root_path

    def own(request: Request, identity: str) -> Job:
        return jobs.find(request.state.token, identity)

    @app.post("/v1/jobs", response_model=JobBody, status_code=202, openapi_extra=openapi.JOB)
    async def submit(request: Request) -> Response:
        """Take in many pictures: files of a form, or a .tar or .zip whose options are in the address.

        They are answered one after the other, whenever no question waits. A picture that has no answer has a line with
        the reason, and the job goes on.
        """
        job = await service.take_job(request)
        return _answer(describe_job(job, root), 202, {"Location": f"{root}/v1/jobs/{job.id}"})

    @app.get("/v1/jobs", response_model=JobList)
    async def list_jobs(request: Request) -> Response:
        """List one's jobs, newest first."""
        found = await jobs.run(jobs.of, request.state.token)
        return _answer(JobList(jobs=[describe_job(job, root) for job in found]))

    @app.get("/v1/jobs/{identity}", response_model=JobBody)
    async def job(request: Request, identity: Identity) -> Response:
        """Say how far a job has come."""
        return _answer(describe_job(await jobs.run(own, request, identity), root))

    @app.delete("/v1/jobs/{identity}", status_code=204, response_class=Response)
    async def cancel(request: Request, identity: Identity) -> Response:
        """End a job, and erase its pictures and its results."""
        found = await jobs.run(own, request, identity)
        await jobs.run(on_disk.erase, jobs.path(found.id))
        return Response(status_code=204)

    _add_event_route(app, service)
    _add_result_route(app, service)


def _add_event_route(app: FastAPI, service: Service) -> None:
    jobs, watchers = service.jobs, list[str]()
    described: Any = {200: {"content": {events.MEDIA_TYPE: {}}}}

    @app.get("/v1/jobs/{identity}/events", response_class=Response, responses=described)
    async def watch(request: Request, identity: Identity) -> Response:
        """Send an event `progress` with the job whenever it has come on, and `end` at its end.

        The present state comes first, also for a client that comes back with `Last-Event-ID`.
        """
        job = await jobs.run(jobs.find, request.state.token, identity)
        if request.state.method == "HEAD":
            return Response(media_type=events.MEDIA_TYPE, headers=UNSTORED)
        if len(watchers) >= WATCHERS:
            raise refuse_for_now(429, "busy", f"{len(watchers)} clients watch jobs already; ask for the job instead", 5)

        async def send() -> Any:
            watchers.append(identity)
            try:
                read = partial(jobs.run, on_disk.read_job, jobs.path(identity))
                seconds, root = service.settings.reload_seconds, service.settings.root_path

                def is_over() -> bool:
                    return service.ending or not service.keyring.accepts(request.state.token)

                async for text in events.follow(job, read, seconds, is_over, root):
                    yield text
            finally:
                watchers.remove(identity)

        headers = {**UNSTORED, "X-Accel-Buffering": "no"}  # nginx would hold events back
        return StreamingResponse(send(), media_type=events.MEDIA_TYPE, headers=headers)


def _add_result_route(app: FastAPI, service: Service) -> None:
    jobs, kinds = service.jobs, {form: kind.partition(";")[0] for form, kind in MEDIA_TYPES.items()}
    described: Any = {200: {"content": {kind: {} for kind in kinds.values()}}}

    @app.get("/v1/jobs/{identity}/results", response_class=Response, responses=described)
    async def results(request: Request, identity: Identity, format: Form = None) -> Response:
        """Return a job's results, as far as it has come.

        Each line of `ndjson` is a picture: `picture`, its number from 0; `question`, its name; `index_hash`; and
        `rows`, one for each strong region, or the best image, or the reason why there is no answer. `csv` and `parquet`
        are the table of these rows.
        """
        job = await jobs.run(jobs.find, request.state.token, identity)
        accepted = request.headers.get("accept", "")
        form: str = format or next((name for name, kind in kinds.items() if kind in accepted), "ndjson")
        headers = {**UNSTORED, "Content-Disposition": f'attachment; filename="nda-index-{identity[:8]}.{form}"'}
        path = jobs.path(identity)
        if form == "ndjson":
            return StreamingResponse(on_disk.read_results(path), media_type=MEDIA_TYPES[form], headers=headers)
        facts = {"job": job.id, "index_hash": job.index_hash, "options": job.options}

        def make() -> bytes:
            return service.metrics.time_render(table_bytes, on_disk.read_rows(path), form, facts)

        return Response(await service.parts.reads.run(make), media_type=MEDIA_TYPES[form], headers=headers)


def _answer(body: Body, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(json_text(body), status, {**UNSTORED, **(headers or {})}, "application/json")

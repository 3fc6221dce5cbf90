"""The routes of the service."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from nda_index.answer import arrow as archive
from nda_index.answer.attribution import Attribution
from nda_index.answer.report import FORMS, strict_json
from nda_index.errors import NdaIndexError
from nda_index.index import Index, open_index
from nda_index.serve import schema
from nda_index.serve.describe import links_values, result_values
from nda_index.serve.guard import FAILURE, Guard
from nda_index.serve.pictures import map_png, pixels_png
from nda_index.serve.refusal import Refusal, refusal_of
from nda_index.serve.results import ID
from nda_index.serve.service import LOG, Service
from nda_index.serve.settings import PNG_SIDES, ServeSettings
from nda_index.version import __version__

STATIC = FilePath(__file__).parent / "static"
MEDIA_TYPES = {
    "arrow": archive.MEDIA_TYPE,
    "html": "text/html; charset=utf-8",
    "json": "application/json",
    "parquet": "application/vnd.apache.parquet",
    "png": "image/png",
}

Check = Callable[[], None]
Identity = Annotated[str, Path(pattern=f"^{ID}$", description="Name of an answer.")]
Rank = Annotated[int, Path(ge=1, le=1_000_000, description="Of the image in the answer, from 1.")]
Side = Annotated[int | None, Query(ge=PNG_SIDES[0], le=PNG_SIDES[1], description="Shorter side in pixels.")]
ScaleName = Annotated[str | None, Query(max_length=40, description="Name of a scale; by default all together.")]


def create_app(index: Index, settings: ServeSettings, reopen: Callable[[FilePath], Index] = open_index) -> FastAPI:
    """The service as an ASGI application.

    Args:
        index: what is asked; the application closes it in the end.
        settings: bounds, tokens and the folder of the answers.
        reopen: opens the index again when it has changed.

    Raises:
        StorageError: the folder of the answers cannot be written.

    Example:
        >>> import numpy as np, tempfile, nda_index as nda
        >>> from pathlib import Path
        >>> images = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), np.uint8)
        >>> folder = Path(tempfile.mkdtemp())
        >>> index = nda.build_index(images, folder / "noise.nda", image_size=16, scales=[nda.Scale(5)])
        >>> create_app(index, ServeSettings(folder / "results")).title
        'nda-index'
    """
    service = Service(index, settings, reopen)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            yield

    app = FastAPI(
        title="nda-index",
        version=__version__,
        summary="Which training images a picture is made of.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        responses=schema.REFUSALS,
    )
    app.add_middleware(Guard, settings=settings, metrics=service.metrics)
    _add_errors(app)
    _add_operation(app, service)
    _add_answers(app, service)
    _add_pictures(app, service)
    if STATIC.is_dir():
        app.mount("/static", _Revalidated(directory=STATIC), "static")

        @app.get("/", include_in_schema=False)
        async def page() -> FileResponse:
            return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})

    return app


class _Revalidated(StaticFiles):
    """Files of which a browser asks each time whether they have changed: it must not mix modules of two versions."""

    def file_response(self, *arguments: Any, **options: Any) -> Response:
        response = super().file_response(*arguments, **options)
        response.headers["Cache-Control"] = "no-cache"
        return response


def _add_operation(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", response_model=schema.Health)
    async def healthz() -> Response:
        """Whether the process runs."""
        return JSONResponse({"status": "ok"})

    @app.get("/readyz", response_model=schema.Health)
    async def readyz() -> Response:
        """Whether questions are answered."""
        service.check_ready()
        return JSONResponse({"status": "ready"})

    @app.get("/metrics", response_class=Response, responses=schema.content("text/plain"))
    async def metrics() -> Response:
        """Counters for Prometheus."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/v1/index", response_model=schema.IndexDescription)
    async def index() -> Response:
        """What is asked, and the bounds of a question."""
        service.check_ready()
        return JSONResponse(service.describe())


def _add_answers(app: FastAPI, service: Service) -> None:
    @app.post("/v1/attribute", response_model=schema.Result, openapi_extra=schema.QUESTION)
    async def attribute(request: Request) -> Response:
        """Which images a picture is made of.

        With `Accept: application/vnd.apache.arrow.stream` the whole answer comes as `nda_index.read_answer` reads it.
        """
        identity, answer = await service.attribute(request)
        rendered = service.metrics.rendered
        headers = {"Location": f"/v1/results/{identity}", "Cache-Control": "no-store"}
        if archive.MEDIA_TYPE in request.headers.get("accept", ""):
            data = await service.in_files(rendered, archive.answer_bytes, answer)
            return Response(data, media_type=archive.MEDIA_TYPE, headers=headers)
        text = await service.in_files(rendered, _result_json, answer, identity)
        return Response(text, media_type="application/json", headers=headers)

    @app.get(
        "/v1/results/{identity}",
        response_model=schema.Result | schema.SavedAnswer,
        responses=schema.content(*MEDIA_TYPES.values()),
    )
    async def result(
        request: Request,
        identity: Identity,
        format: Annotated[Literal["arrow", "html", "json", "parquet", "png"] | None, Query()] = None,
    ) -> Response:
        """An answer again, or as a file."""

        def work(answer: Attribution, check: Check) -> Response:
            if format is None:
                return _cached(request, service.metrics.rendered(_result_json, answer, identity).encode())
            name = f'attachment; filename="nda-index-{identity[:8]}.{format}"'
            data = service.metrics.rendered(FORMS[format], answer)
            return _cached(request, data, MEDIA_TYPES[format], {"Content-Disposition": name})

        return await service.of_result(request, identity, work, service.reads)

    @app.get("/v1/results/{identity}/links/{rank}", response_model=schema.Links)
    async def links(request: Request, identity: Identity, rank: Rank, scale: ScaleName = None) -> Response:
        """Which part of an image explains which part of the picture: pairs of cells."""

        def work(answer: Attribution, check: Check) -> Response:
            _check(answer, rank, scale)
            values = links_values(answer.links(rank - 1, scale, check), float(answer.scores[rank - 1]))
            return _cached(request, service.metrics.rendered(_compact_json, values).encode())

        return await service.of_result(request, identity, work, service.links)


def _add_pictures(app: FastAPI, service: Service) -> None:
    png: Any = {"response_class": Response, "responses": schema.content("image/png")}

    @app.get("/v1/results/{identity}/query.png", **png)
    async def query(request: Request, identity: Identity, size: Side = None) -> Response:
        """The picture as it was compared."""

        def work(answer: Attribution, check: Check) -> Response:
            return _cached(request, service.metrics.rendered(pixels_png, answer.query, size), "image/png")

        return await service.of_result(request, identity, work, service.reads)

    @app.get("/v1/results/{identity}/maps/{rank}/{which}.png", **png)
    async def heat_map(
        request: Request,
        identity: Identity,
        rank: Rank,
        which: Literal["query", "train"],
        scale: ScaleName = None,
        size: Side = None,
    ) -> Response:
        """Where on the picture, or on the training image, an image's score comes from: a transparent layer."""

        def work(answer: Attribution, check: Check) -> Response:
            _check(answer, rank, scale)
            data = service.metrics.rendered(map_png, answer, rank - 1, which, scale, size)
            return _cached(request, data, "image/png")

        return await service.of_result(request, identity, work, service.reads)

    @app.get("/v1/images/{image_id}", **png)
    async def image(request: Request, image_id: Annotated[int, Path(ge=0, lt=1 << 62)], size: Side = None) -> Response:
        """An image of the index, as it was indexed."""
        return _cached(request, await service.image(image_id, size), "image/png")


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(Refusal)
    async def refused(request: Request, refusal: Refusal) -> Response:
        return refusal.response()

    @app.exception_handler(NdaIndexError)
    async def unanswered(request: Request, error: NdaIndexError) -> Response:
        refusal = refusal_of(error)
        if refusal is not None:
            return refusal.response()
        LOG.error("%s: %s", type(error).__name__, error)
        return FAILURE.response()

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        name, value = first["loc"][-1], str(first.get("input"))[:60]
        status = 404 if first["loc"][0] == "path" else 400
        return Refusal(status, "parameter", f"{name} is {value!r}: {first['msg']}").response()

    @app.exception_handler(HTTPException)
    async def failed(request: Request, error: HTTPException) -> Response:
        message = f"{request.method} {request.url.path[:100]} is not served: {error.detail}; see /openapi.json"
        return Refusal(error.status_code, "request", message, dict(error.headers or {})).response()


def _check(answer: Attribution, rank: int, scale: str | None) -> None:
    """Raise `Refusal` where an answer has no such rank or scale."""
    if rank > len(answer):
        raise Refusal(404, "rank", f"rank is {rank}; this answer has ranks 1 to {len(answer)}")
    names = [known.name for known in answer.scales]
    if scale is not None and scale not in names:
        raise Refusal(404, "scale", f"scale is {scale!r}; this answer has {', '.join(names)}")


def _cached(
    request: Request, data: bytes, media_type: str = "application/json", headers: dict[str, str] | None = None
) -> Response:
    """A response that a browser may keep, and asks about before it shows it again: images can be removed."""
    tag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    headers = {**(headers or {}), "ETag": tag, "Cache-Control": "private, no-cache"}
    wanted = request.headers.get("if-none-match", "")
    if tag in (part.strip().removeprefix("W/") for part in wanted.split(",")):
        return Response(status_code=304, headers=headers)
    return Response(data, media_type=media_type, headers=headers)


def _result_json(answer: Attribution, identity: str) -> str:
    return _compact_json(result_values(answer, identity))


def _compact_json(values: dict[str, Any]) -> str:
    return strict_json(values, indent=None)

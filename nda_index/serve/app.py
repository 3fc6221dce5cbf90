"""The routes of the service."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.staticfiles import StaticFiles

from nda_index.answer.arrow import MEDIA_TYPE, answer_bytes
from nda_index.answer.attribution import Attribution
from nda_index.answer.forms import FORMS
from nda_index.errors import NdaIndexError
from nda_index.index import Index, open_index
from nda_index.serve import bodies, lifecycle, openapi
from nda_index.serve.guard import FAILURE, Guard
from nda_index.serve.jobs.routes import add_job_routes
from nda_index.serve.pictures import render_map, render_pixels
from nda_index.serve.refusal import Refusal, refusal_of
from nda_index.serve.results import ID
from nda_index.serve.service import LOG, Service
from nda_index.serve.settings import PNG_SIDES, ServeSettings
from nda_index.serve.texts import read_texts
from nda_index.version import __version__

STATIC = FilePath(__file__).parent / "static"
MEDIA_TYPES = {
    "arrow": MEDIA_TYPE,
    "html": "text/html; charset=utf-8",
    "json": "application/json",
    "parquet": "application/vnd.apache.parquet",
    "png": "image/png",
}

COMPRESSED = 1_000  # bytes of a response above which it is compressed
GZIP_LEVEL = 5  # of 9: higher ones take much longer for little

Check = Callable[[], None]
Identity = Annotated[str, Path(pattern=f"^{ID}$", description="Name of an answer.")]
Rank = Annotated[int, Path(ge=1, le=1_000_000, description="Of the image in the answer, from 1.")]
Side = Annotated[int | None, Query(ge=PNG_SIDES[0], le=PNG_SIDES[1], description="Shorter side in pixels.")]
ScaleName = Annotated[str | None, Query(max_length=40, description="Name of a scale; by default all together.")]


def create_app(index: Index, settings: ServeSettings, reopen: Callable[[FilePath], Index] = open_index) -> FastAPI:
    """Return the service as an ASGI application.

    Args:
        index: an open index; the application closes it when it ends.
        settings: bounds, tokens and the folder of the stored answers.
        reopen: opens the index again when it has changed.

    Raises:
        ConfigError: the translation of the page's texts cannot be read, or lacks some.
        StorageError: the folder of the stored answers cannot be written.

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
        async with lifecycle.run(service):
            yield

    app = FastAPI(
        title="nda-index",
        version=__version__,
        summary="Which training images a picture is made of.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        responses=openapi.REFUSALS,
    )
    app.state.service = service
    app.add_middleware(GZipMiddleware, minimum_size=COMPRESSED, compresslevel=GZIP_LEVEL)
    app.add_middleware(
        Guard, settings=settings, metrics=service.metrics, keyring=service.keyring, quotas=service.quotas
    )
    _add_error_handlers(app)
    _add_operation_routes(app, service)
    _add_answer_routes(app, service)
    _add_picture_routes(app, service)
    add_job_routes(app, service)
    if STATIC.is_dir():
        if settings.texts is not None:
            _add_texts(app, read_texts(settings.texts))
        app.mount("/static", _Revalidated(directory=STATIC), "static")

        @app.get("/", include_in_schema=False)
        async def page() -> FileResponse:
            return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})

    return app


def _add_texts(app: FastAPI, texts: str) -> None:
    """Serve a translation in place of the page's own texts."""

    @app.get("/static/texts.js", include_in_schema=False)
    async def translation(request: Request) -> Response:
        return _cacheable(request, texts.encode(), "text/javascript")


class _Revalidated(StaticFiles):
    """Static files that a browser checks for changes each time: it must not mix modules of two versions."""

    def file_response(self, *arguments: Any, **options: Any) -> Response:
        response = super().file_response(*arguments, **options)
        response.headers["Cache-Control"] = "no-cache"
        return response


def _add_operation_routes(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", response_model=bodies.Health)
    async def healthz() -> Response:
        """Answer as long as the process runs."""
        return _json_response(bodies.Health(status="ok"))

    @app.get("/readyz", response_model=bodies.Health)
    async def readyz() -> Response:
        """Answer as soon as questions are answered."""
        service.probe()
        return _json_response(bodies.Health(status="ready"))

    @app.get("/metrics", response_class=Response, responses=openapi.describe_content("text/plain"))
    async def metrics() -> Response:
        """Return counters for Prometheus."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/v1/index", response_model=bodies.IndexDescription)
    async def index(request: Request) -> Response:
        """Describe the index, and the bounds of a question."""
        service.check_ready()
        return _cacheable(request, bodies.json_text(service.describe()).encode())


def _add_answer_routes(app: FastAPI, service: Service) -> None:
    root = service.settings.root_path

    @app.post("/v1/attribute", response_model=bodies.Result, openapi_extra=openapi.QUESTION)
    async def attribute(request: Request) -> Response:
        """Find which images a picture is made of.

        With `Accept: application/vnd.apache.arrow.stream` the whole answer comes as `nda_index.read_answer` reads it.
        """
        identity, answer = await service.attribute(request)
        time_render = service.metrics.time_render
        headers = {"Location": f"{root}/v1/results/{identity}", "Cache-Control": "no-store"}
        if MEDIA_TYPE in request.headers.get("accept", ""):
            data = await service.run_in_files(time_render, answer_bytes, answer)
            return Response(data, media_type=MEDIA_TYPE, headers=headers)
        text = await service.run_in_files(time_render, _result_text, answer, identity, root)
        return Response(text, media_type="application/json", headers=headers)

    @app.get(
        "/v1/results/{identity}",
        response_model=bodies.Result | bodies.SavedAnswer,
        responses=openapi.describe_content(*MEDIA_TYPES.values()),
    )
    async def result(
        request: Request,
        identity: Identity,
        format: Annotated[Literal["arrow", "html", "json", "parquet", "png"] | None, Query()] = None,
    ) -> Response:
        """Return a stored answer, as JSON or as a file."""

        def work(answer: Attribution, check: Check) -> Response:
            if format is None:
                return _cacheable(request, service.metrics.time_render(_result_text, answer, identity, root).encode())
            name = f'attachment; filename="nda-index-{identity[:8]}.{format}"'
            data = service.metrics.time_render(FORMS[format], answer)
            return _cacheable(request, data, MEDIA_TYPES[format], {"Content-Disposition": name})

        return await service.parts.make(request, identity, work, service.parts.reads)

    @app.get("/v1/results/{identity}/links/{rank}", response_model=bodies.Links)
    async def links(request: Request, identity: Identity, rank: Rank, scale: ScaleName = None) -> Response:
        """Return which part of an image explains which part of the picture: pairs of cells."""

        def work(answer: Attribution, check: Check) -> Response:
            _check_part(answer, rank, scale)
            links = bodies.describe_links(answer.links(rank - 1, scale, check), float(answer.scores[rank - 1]))
            return _cacheable(request, service.metrics.time_render(bodies.json_text, links).encode())

        return await service.parts.make(request, identity, work, service.parts.links)


def _add_picture_routes(app: FastAPI, service: Service) -> None:
    png: Any = {"response_class": Response, "responses": openapi.describe_content("image/png")}

    @app.get("/v1/results/{identity}/query.png", **png)
    async def query(request: Request, identity: Identity, size: Side = None) -> Response:
        """Return the picture as it was compared."""

        def work(answer: Attribution, check: Check) -> Response:
            return _cacheable(request, service.metrics.time_render(render_pixels, answer.query, size), "image/png")

        return await service.parts.make(request, identity, work, service.parts.reads)

    @app.get("/v1/results/{identity}/maps/{rank}/{which}.png", **png)
    async def heat_map(
        request: Request,
        identity: Identity,
        rank: Rank,
        which: Literal["query", "train"],
        scale: ScaleName = None,
        size: Side = None,
    ) -> Response:
        """Return where on the picture, or on the training image, an image's score comes from: a transparent layer."""

        def work(answer: Attribution, check: Check) -> Response:
            _check_part(answer, rank, scale)
            data = service.metrics.time_render(render_map, answer, rank - 1, which, scale, size)
            return _cacheable(request, data, "image/png")

        return await service.parts.make(request, identity, work, service.parts.reads)

    jpeg: Any = {"response_class": Response, "responses": openapi.describe_content("image/jpeg")}

    @app.get("/v1/results/{identity}/picture.jpg", **jpeg)
    async def picture(request: Request, identity: Identity) -> Response:
        """Return the picture at its own aspect, where regions of it were looked for."""

        def work(answer: Attribution, check: Check) -> Response:
            return _cacheable(request, _known_part(answer.picture, "picture"), "image/jpeg")

        return await service.parts.make(request, identity, work, service.parts.reads)

    @app.get("/v1/results/{identity}/crops/{rank}.jpg", **jpeg)
    async def crop(request: Request, identity: Identity, rank: Rank) -> Response:
        """Return what a leading region shows of its indexed picture; the first has rank 1."""

        def work(answer: Attribution, check: Check) -> Response:
            data = answer.crops[rank - 1] if rank <= len(answer.crops) else b""
            return _cacheable(request, _known_part(data, f"crop {rank}"), "image/jpeg")

        return await service.parts.make(request, identity, work, service.parts.reads)

    @app.get("/v1/images/{image_id}", **png)
    async def image(request: Request, image_id: Annotated[int, Path(ge=0, lt=1 << 62)], size: Side = None) -> Response:
        """Return an image of the index, as it was indexed."""
        service.check_ready()
        return _cacheable(request, await service.parts.image(image_id, size), "image/png")


def _known_part(data: bytes, name: str) -> bytes:
    """Return a part of an answer, or refuse where the answer has none."""
    if not data:
        raise Refusal(404, "part", f"the answer has no {name}: regions were not looked for, or fewer were found")
    return data


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(Refusal)
    async def send_refusal(request: Request, refusal: Refusal) -> Response:
        return refusal.response()

    @app.exception_handler(NdaIndexError)
    async def send_index_error(request: Request, error: NdaIndexError) -> Response:
        refusal = refusal_of(error)
        if refusal is not None:
            return refusal.response()
        LOG.error("%s: %s", type(error).__name__, error)
        return FAILURE.response()

    @app.exception_handler(RequestValidationError)
    async def send_parameter_error(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        name, value = first["loc"][-1], str(first.get("input"))[:60]
        status = 404 if first["loc"][0] == "path" else 400
        return Refusal(status, "parameter", f"{name} is {value!r}: {first['msg']}").response()

    @app.exception_handler(HTTPException)
    async def send_http_error(request: Request, error: HTTPException) -> Response:
        headers = dict(error.headers or {})
        if error.status_code == 405:
            methods = {*headers.get("Allow", "GET").replace(" ", "").split(","), "OPTIONS"}
            headers["Allow"] = ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))
            if request.method == "OPTIONS":
                return Response(status_code=204, headers=headers)
        message = f"{request.method} {request.url.path[:100]} is not served: {error.detail}; see /openapi.json"
        return Refusal(error.status_code, "request", message, headers).response()


def _check_part(answer: Attribution, rank: int, scale: str | None) -> None:
    """Raise `Refusal` if an answer has no such rank or scale."""
    if rank > len(answer):
        raise Refusal(404, "rank", f"rank is {rank}; this answer has ranks 1 to {len(answer)}")
    names = [known.name for known in answer.scales]
    if scale is not None and scale not in names:
        raise Refusal(404, "scale", f"scale is {scale!r}; this answer has {', '.join(names)}")


def _cacheable(
    request: Request, data: bytes, media_type: str = "application/json", headers: dict[str, str] | None = None
) -> Response:
    """Return a response that a browser may keep but must check before it shows it again: images can be removed.

    The tag is a weak one, as the same content may be sent compressed.
    """
    tag = f'W/"{hashlib.sha256(data).hexdigest()[:32]}"'
    headers = {**(headers or {}), "ETag": tag, "Cache-Control": "private, no-cache"}
    wanted = request.headers.get("if-none-match", "")
    if tag.removeprefix("W/") in (part.strip().removeprefix("W/") for part in wanted.split(",")):
        return Response(status_code=304, headers=headers)
    return Response(data, media_type=media_type, headers=headers)


def _json_response(body: bodies.Body) -> Response:
    return Response(bodies.json_text(body), media_type="application/json")


def _result_text(answer: Attribution, identity: str, root: str) -> str:
    return bodies.json_text(bodies.describe_result(answer, identity, root))

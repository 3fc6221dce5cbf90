"""The bodies of responses: models, and functions that build them from an index, an answer or its links.

The routes send `json_text` of a model, and the OpenAPI description is made of the same models.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from nda_index.answer.attribution import Attribution
from nda_index.answer.forms import strict_json
from nda_index.exact.links import GRID
from nda_index.index import Index
from nda_index.recipe import RECIPES
from nda_index.serve.forms import Options
from nda_index.serve.jobs.folder import Job
from nda_index.serve.settings import FORMATS, ServeSettings
from nda_index.store.conditions import ColumnKind
from nda_index.version import __version__

EXAMPLES = 6  # images that the page offers as queries; index.html has as many places
WEAKEST_LINK = 1e-3  # of the image's score; fainter links cannot be seen on the page, and most links are fainter


class Body(BaseModel):
    """A JSON object with these fields and no others."""

    model_config = ConfigDict(extra="forbid")


class ErrorDetail(Body):
    """Why a request was refused."""

    code: str
    message: str
    request_id: str


class ErrorBody(Body):
    """What every refusal holds."""

    error: ErrorDetail


class Health(Body):
    """State of the process."""

    status: Literal["ok", "ready"]


class ScaleDescription(Body):
    """A scale of the index."""

    name: str
    patch: int
    downscale: int
    weight: float
    window: int


class Column(Body):
    """A metadata column."""

    name: str
    type: ColumnKind


class Limits(Body):
    """Bounds of a question."""

    bytes: int
    pixels: int
    top: int
    candidates: int
    formats: list[str]


class RecipeDescription(Body):
    """A recipe that has a name: its terms, and what it compares, for a person."""

    name: str
    terms: str
    title: str
    summary: str


class JobLimits(Body):
    """Bounds of a job; without jobs the service takes none."""

    jobs: int
    pictures: int
    bytes: int


class IndexDescription(Body):
    """The index and the bounds of a question."""

    version: str
    index_hash: str
    images: int
    shape: list[int]
    scales: list[ScaleDescription]
    columns: list[Column]
    null_pictures: int
    recipes: list[RecipeDescription]
    defaults: Options
    limits: Limits
    job_limits: JobLimits
    examples: list[int]
    filters: bool


class VerdictBody(Body):
    """How strong a match is, compared with the matches of unrelated pictures."""

    strong: bool
    text: str
    percentile: float


class SavedMatch(Body):
    """An image of an answer. Metadata columns are further fields, unless a field has their name."""

    model_config = ConfigDict(extra="allow")

    rank: int
    image_id: int
    key: str
    score: float
    score_error: float | None
    share: float
    group: int
    group_share: float
    evidence: float | None
    percentile: float | None


class Match(SavedMatch):
    """An image of an answer that the service has stored, with the addresses of its parts."""

    url: str
    verdict: VerdictBody | None
    metadata: dict[str, Any]
    query_map: str
    train_map: str
    links: str


class QueryPicture(Body):
    """The picture as it was compared."""

    url: str
    width: int
    height: int


class ColoursBody(Body):
    """How the colours of a region differ from those of the indexed picture's."""

    brightness: float
    contrast: float
    warmth: float
    saturation: list[float]


class RegionBody(Body):
    """A region of the picture that a region of an indexed one explains, each in pixels of its own picture."""

    image_id: int
    key: str
    path: str | None
    box: list[int]
    source_box: list[int]
    size: list[int]
    mirrored: bool
    zoom: float
    turn: float
    correlation: float
    evidence: float
    percentile: float | None
    null_pictures: int
    colours: ColoursBody | None
    strong: bool
    what: str


class Answer(Body):
    """What every answer holds, apart from its images."""

    version: str
    index_hash: str
    settings: dict[str, Any]
    scored: int
    collection: int
    missing: int
    mass_covered: float | None
    mass_error: float | None
    null_pictures: int
    picture_size: list[int] | None
    regions: list[RegionBody]
    seconds: dict[str, float]


class SavedAnswer(Answer):
    """An answer as a JSON file, as `Attribution.save` writes it."""

    images: list[SavedMatch]


class Result(Answer):
    """An answer that the service has stored."""

    id: str
    query: QueryPicture
    scales: list[str]
    images: list[Match]


class Links(Body):
    """Pairs of cells: of the picture, of the image, and the score that the one gets from the other."""

    grid: list[int]
    pairs: list[list[int | float]]


class JobBody(Body):
    """A job: many pictures, answered one after the other."""

    id: str
    state: Literal["queued", "running", "done", "cancelled", "failed"]
    created: float
    total: int
    done: int
    strong: int
    failures: int
    seconds_left: float | None
    index_hash: str
    reason: str
    options: dict[str, Any]
    results: str
    events: str


class JobList(Body):
    """The jobs of a token, newest first."""

    jobs: list[JobBody]


def json_text(body: Body) -> str:
    """Return a body as JSON in one line, which any parser reads: NaN, as metadata may hold, becomes null."""
    return strict_json(body.model_dump(), indent=None)


def describe_index(index: Index, columns: Mapping[str, ColumnKind], settings: ServeSettings) -> IndexDescription:
    """Return what `GET /v1/index` answers.

    Args:
        index: the index.
        columns: kind of each column, from `nda_index.store.conditions.column_kinds`.
        settings: bounds of a question.
    """
    ids = index.image_ids
    examples = ids[np.unique(np.linspace(0, len(ids) - 1, EXAMPLES).round().astype(int))] if len(ids) else ids
    return IndexDescription(
        version=__version__,
        index_hash=index.manifest.index_hash,
        images=len(index),
        shape=list(index.shape),
        scales=[
            ScaleDescription(
                name=scale.name,
                patch=scale.patch,
                downscale=scale.downscale,
                weight=scale.weight,
                window=scale.patch,
            )
            for scale in index.scales
        ],
        columns=[Column(name=name, type=kind) for name, kind in columns.items()],
        null_pictures=index.null_pictures,
        recipes=[
            RecipeDescription(name=name, terms=str(recipe), title=recipe.title, summary=recipe.summary)
            for name, recipe in RECIPES.items()
        ],
        defaults=Options(),
        limits=Limits(
            bytes=settings.upload_bytes,
            pixels=settings.pixels,
            top=min(settings.top, len(index)),
            candidates=len(index),
            formats=list(FORMATS),
        ),
        job_limits=JobLimits(jobs=settings.jobs, pictures=settings.job_pictures, bytes=settings.job_bytes),
        examples=examples.tolist(),
        filters=any(kind != "other" for kind in columns.values()),
    )


def describe_result(answer: Attribution, identity: str, root: str = "") -> Result:
    """Return what `POST /v1/attribute` and `GET /v1/results/{id}` answer.

    Args:
        answer: the answer.
        identity: its name.
        root: path of the service, which addresses begin with.
    """
    place = f"{root}/v1/results/{identity}"
    values = answer.to_dict()
    metadata = answer.metadata.to_pylist() or [{}] * len(answer)
    for rank, image in enumerate(values["images"]):
        maps = f"{place}/maps/{rank + 1}"
        image |= {
            "url": f"{root}/v1/images/{image['image_id']}",
            "verdict": _describe_verdict(answer, rank),
            "metadata": metadata[rank],
            "query_map": f"{maps}/query.png",
            "train_map": f"{maps}/train.png",
            "links": f"{place}/links/{rank + 1}",
        }
    height, width = answer.query.shape[:2]
    query = QueryPicture(url=f"{place}/query.png", width=width, height=height)
    scales = [scale.name for scale in answer.scales]
    return Result.model_validate({"id": identity, "query": query, "scales": scales, **values})


def describe_job(job: Job, root: str = "") -> JobBody:
    """Return what `GET /v1/jobs/{id}` answers; `root` is the path of the service, which addresses begin with."""
    place = f"{root}/v1/jobs/{job.id}"
    known = {name: value for name, value in vars(job).items() if name in JobBody.model_fields}
    return JobBody(**known, seconds_left=job.seconds_left, results=f"{place}/results", events=f"{place}/events")


def describe_links(links: NDArray[np.float64], score: float) -> Links:
    """Return what `GET /v1/results/{id}/links/{rank}` answers.

    Args:
        links: float64 [cells of the picture, cells of the image], the score that the one gets from the other.
        score: of the image; links below `WEAKEST_LINK` of it are left out.
    """
    here, there = np.nonzero(links >= WEAKEST_LINK * score)
    weights = links[here, there]
    order = np.argsort(-weights, kind="stable")
    pairs = zip(here[order].tolist(), there[order].tolist(), weights[order].tolist(), strict=True)
    return Links(grid=[GRID, GRID], pairs=[list(pair) for pair in pairs])


def _describe_verdict(answer: Attribution, rank: int) -> VerdictBody | None:
    if np.isnan(answer.percentiles[rank]):
        return None
    verdict = answer.verdict(rank)
    return VerdictBody(strong=verdict.strong, text=str(verdict), percentile=verdict.percentile)

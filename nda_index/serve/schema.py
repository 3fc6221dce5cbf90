"""The bodies of requests and responses, for the OpenAPI description."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from nda_index.serve.forms import FormQuestion, JsonQuestion


class ErrorDetail(BaseModel):
    """Why a request was refused."""

    code: str
    message: str


class ErrorBody(BaseModel):
    """What every refusal holds."""

    error: ErrorDetail


class Health(BaseModel):
    """State of the process."""

    status: Literal["ok", "ready"]


class ScaleDescription(BaseModel):
    """A scale of the index."""

    name: str
    patch: int
    downscale: int
    weight: float
    window: int


class Column(BaseModel):
    """A metadata column."""

    name: str
    type: Literal["string", "number", "boolean", "date", "timestamp", "other"]


class Limits(BaseModel):
    """Bounds of a question."""

    bytes: int
    pixels: int
    top: int
    candidates: int
    formats: list[str]


class IndexDescription(BaseModel):
    """The index and the bounds of a question."""

    version: str
    index_hash: str
    images: int
    shape: list[int]
    scales: list[ScaleDescription]
    columns: list[Column]
    null_pictures: int
    defaults: dict[str, Any]
    limits: Limits
    examples: list[int]
    filters: bool


class VerdictBody(BaseModel):
    """How strong a match is beside those of unrelated pictures."""

    strong: bool
    text: str
    percentile: float


class SavedMatch(BaseModel):
    """An image of an answer; metadata columns stand beside these too, where their names are free."""

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
    """An image of an answer that the service has, with the addresses of its parts."""

    url: str
    verdict: VerdictBody | None
    metadata: dict[str, Any]
    query_map: str
    train_map: str
    links: str


class QueryPicture(BaseModel):
    """The picture as it was compared."""

    url: str
    width: int
    height: int


class Answer(BaseModel):
    """What every answer has beside its images."""

    version: str
    index_hash: str
    settings: dict[str, Any]
    scored: int
    collection: int
    missing: int
    mass_covered: float | None
    mass_error: float | None
    null_pictures: int
    seconds: dict[str, float]


class SavedAnswer(Answer):
    """An answer as a JSON file, as `Attribution.save` writes it."""

    images: list[SavedMatch]


class Result(Answer):
    """An answer that the service has."""

    id: str
    query: QueryPicture
    scales: list[str]
    images: list[Match]


class Links(BaseModel):
    """Pairs of cells: of the picture, of the image, and the score that the one gets from the other."""

    grid: list[int]
    pairs: list[list[float]]


REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": description}
    for status, description in {
        400: "An option breaks a rule.",
        401: "A bearer token is needed.",
        403: "The request comes from another site or asks for another host.",
        404: "There is no such thing.",
        408: "The upload took too long.",
        413: "The picture is too large.",
        415: "It is no picture.",
        422: "The question cannot be answered as asked.",
        429: "Too many questions wait; ask again after the seconds of Retry-After.",
        503: "Not ready, or not answered in time; ask again after the seconds of Retry-After.",
    }.items()
}


def content(*media_types: str) -> dict[int | str, dict[str, Any]]:
    """A successful response of one of these types, and one for a client that has it already."""
    types: dict[str, Any] = {name.partition(";")[0]: {} for name in media_types}
    return {200: {"content": types}, 304: {"description": "Not changed.", "content": {}}}


def _body(model: type[BaseModel]) -> dict[str, Any]:
    values = model.model_json_schema(ref_template="#/components/schemas/{model}")
    return {"schema": values}


QUESTION: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"multipart/form-data": _body(FormQuestion), "application/json": _body(JsonQuestion)},
    }
}

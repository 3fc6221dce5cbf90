"""What the OpenAPI description says beside the routes: refusals, media types, and the bodies of a question."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from nda_index.serve.bodies import ErrorBody
from nda_index.serve.forms import FormJob, FormQuestion, JsonQuestion, Options

REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": description}
    for status, description in {
        400: "An option breaks a rule.",
        401: "A bearer token is needed.",
        403: "The request comes from another site or names another host.",
        404: "Not found.",
        408: "The upload took too long.",
        413: "The picture is too large.",
        415: "The file is not a picture that can be read.",
        422: "The question cannot be answered with these options.",
        429: "Too many requests are in flight; try again after the seconds of Retry-After.",
        503: "Not ready, or not answered in time; try again after the seconds of Retry-After.",
    }.items()
}


def describe_content(*media_types: str) -> dict[int | str, dict[str, Any]]:
    """Describe a successful response of one of these types, and the one for a client that has it already."""
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

_ARCHIVE: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
JOB: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": _body(FormJob),
            "application/x-tar": _ARCHIVE,
            "application/zip": _ARCHIVE,
        },
    },
    "parameters": [
        {
            "name": name,
            "in": "query",
            "required": False,
            "schema": {"type": "string"},
            "description": "As the field of a form; for an archive, which has no fields.",
        }
        for name in Options.model_fields
        if name != "region"
    ],
}

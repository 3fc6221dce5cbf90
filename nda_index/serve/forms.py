"""A question as a client sends it: a multipart form or JSON, with the options of `Index.attribute`."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from nda_index.diffusion import NoiseSetting
from nda_index.errors import ConfigError
from nda_index.question import Mode, Question, as_question
from nda_index.serve.refusal import Refusal
from nda_index.serve.settings import (
    CONDITION_CHARACTERS,
    DRAWS,
    PER_IMAGE_TOPK,
    RECIPE_CHARACTERS,
    TEMPERS,
    TEXT_BYTES,
    TIMESTEPS,
    WEIGHTS,
    ServeSettings,
)

IMAGE = re.compile(r'"image"\s*:\s*"')

Timestep = Annotated[int, Field(ge=0, le=999)]
Edge = Annotated[int, Field(ge=0, lt=1 << 20)]  # of a region, in pixels


class Options(BaseModel):
    """The options of `Index.attribute`, with the bounds of a service."""

    model_config = ConfigDict(extra="forbid")

    timestep: Annotated[list[Timestep], Field(min_length=1, max_length=TIMESTEPS)] | None = None
    top: Annotated[int, Field(ge=1)] = 10
    recipe: Annotated[str, Field(max_length=RECIPE_CHARACTERS)] | None = None
    noise: NoiseSetting = Question.noise
    seed: Annotated[int, Field(ge=0, lt=1 << 31)] = Question.seed
    draws: Annotated[int, Field(ge=1, le=DRAWS)] = Question.draws
    temper: Annotated[float, Field(ge=TEMPERS[0], le=TEMPERS[1], allow_inf_nan=False)] = Question.temper
    mode: Mode = Question.mode
    candidates: Annotated[int, Field(ge=1)] | None = Question.candidates
    per_image_topk: Annotated[int, Field(ge=1, le=PER_IMAGE_TOPK)] | None = Question.per_image_topk
    mirror: bool = Question.mirror
    where: Annotated[str, Field(max_length=CONDITION_CHARACTERS)] | None = Question.where
    region: Annotated[list[Edge], Field(min_length=4, max_length=4)] | None = None

    @field_validator("region", mode="before")
    @classmethod
    def _split_region(cls, value: Any) -> Any:
        """Take four numbers, or these in one text: "0,20,300,400"."""
        return value.split(",", 4) if isinstance(value, str) else value

    @field_validator("timestep", mode="before")
    @classmethod
    def _split_timesteps(cls, value: Any) -> Any:
        """Take one timestep, several, or several in one text: "100,200"."""
        if value is None:
            return None
        values = value[: TIMESTEPS + 1] if isinstance(value, list) else [value]  # enough to be refused
        parts = [part.split(",", TIMESTEPS) if isinstance(part, str) else [part] for part in values]
        return [one for part in parts for one in part][: TIMESTEPS + 1]

    @model_validator(mode="after")
    def _check_cost(self) -> Options:
        try:
            question = as_question(**self.model_dump(include=Options.model_fields.keys() - {"top"}))
        except ConfigError as error:
            raise ValueError(str(error)) from error
        if question.passes > DRAWS:
            raise ValueError(f"timesteps, or terms, times draws is {question.passes}; it must be at most {DRAWS}")
        for term in question.recipe.terms if question.recipe else ():
            for name, value, (low, high) in (("temper", term.temper, TEMPERS), ("weight", term.scale.weight, WEIGHTS)):
                if not low <= value <= high:
                    raise ValueError(f"recipe has the {name} {value:g} in {term}; it must be from {low:g} to {high:g}")
        return self


class JsonQuestion(Options):
    """A question in JSON: a picture's file in base64, or the id of an image of the index."""

    image: str | None = Field(None, json_schema_extra={"contentEncoding": "base64"})
    image_id: Annotated[int, Field(ge=0, lt=1 << 62)] | None = None


class FormQuestion(Options):
    """A question as a form: a picture's file, or the id of an image of the index."""

    image: Annotated[str, Field(json_schema_extra={"format": "binary"})] | None = None
    image_id: Annotated[int, Field(ge=0, lt=1 << 62)] | None = None


class FormJob(Options):
    """Many pictures as a form: their files, and the options of all questions about them."""

    image: Annotated[list[Annotated[str, Field(json_schema_extra={"format": "binary"})]], Field(min_length=1)]


@dataclass(frozen=True)
class Submission:
    """A question as it was sent: a picture's file or the id of an image, and arguments of `Index.query`."""

    upload: bytes | None
    image_id: int | None
    options: Mapping[str, Any]


async def read_submission(request: Request, settings: ServeSettings) -> Submission:
    """Read the question in a request's body.

    Raises:
        Refusal: the body is not a question, or an option breaks a rule.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        body = await request.body()
        if len(body) > TEXT_BYTES:  # a picture: parsing it takes milliseconds for which other requests need not wait
            return _validate(await asyncio.to_thread(_parse_json, body), settings)
        return _validate(_parse_json(body), settings)
    if kind == "multipart/form-data":
        try:
            async with request.form(max_files=1, max_fields=64, max_part_size=TEXT_BYTES) as form:
                return _validate(await _parse_form(form), settings)
        except HTTPException as error:
            raise Refusal(400, "form", f"the form cannot be read: {error.detail}; send multipart/form-data") from error
    raise Refusal(415, "type", f"the body is {kind[:100]!r}; send multipart/form-data or application/json")


def collect_option(values: dict[str, Any], name: str, text: str) -> None:
    """Add a field of a form, or of an address, to options; an empty one counts as left out.

    Raises:
        Refusal: it is given twice.
    """
    if name == "timestep" and text:
        values.setdefault(name, []).append(text)
    elif name in values:
        raise Refusal(400, "form", f"{name[:40]!r} is given twice; give it once")
    elif text:
        values[name] = text


def read_job_options(values: Mapping[str, Any], settings: ServeSettings) -> dict[str, Any]:
    """Read the options of a job: those of a question, but for what is about one picture.

    `top` is 1 by default: results name the best image, and every further one costs its maps.

    Returns:
        Arguments of `Index.query`.

    Raises:
        Refusal: an option breaks a rule.
    """
    for name in ("region", "image_id"):
        if name in values:
            raise Refusal(400, "option", f"{name} is about one picture, and a job has many; leave it out")
    return _validate_options({"top": 1, **values}, Options, settings).model_dump(exclude={"region"})


def _parse_json(body: bytes) -> dict[str, Any]:
    try:
        text = body.decode("utf-8-sig")
        if (
            len(text) - _count_image_characters(text) > TEXT_BYTES
        ):  # before parsing, since values take 20 times the memory of their text
            raise Refusal(
                400, "json", f"the body has more than {TEXT_BYTES:,} characters besides image; send options only"
            )
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, "json", "the body is not JSON; send an object with image or image_id") from error
    if not isinstance(values, dict):
        raise Refusal(400, "json", f"the body is a JSON {type(values).__name__}; send an object")
    if isinstance(values.get("image"), str):
        try:
            values["image"] = base64.b64decode(values["image"], validate=True)
        except (binascii.Error, ValueError) as error:
            raise Refusal(400, "base64", "image is not base64; send a picture's file in standard base64") from error
    elif values.get("image") is not None:
        raise Refusal(400, "option", "image is not a text; send a picture's file in standard base64")
    return values


def _count_image_characters(text: str) -> int:
    """Return the length of the text after the first name "image", or 0 if there is none."""
    if len(text) <= TEXT_BYTES:
        return 0
    place = IMAGE.search(text)
    return 0 if place is None else json.JSONDecoder().raw_decode(text, place.end() - 1)[1] - place.end()


async def _parse_form(form: FormData) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name in form:
        parts = form.getlist(name)
        if name == "image":
            if len(parts) > 1 or not isinstance(parts[0], UploadFile):
                raise Refusal(400, "form", "image is not a single file; send it as one part with a file name")
            values[name] = await parts[0].read()
        elif any(isinstance(part, UploadFile) for part in parts):
            raise Refusal(400, "form", f"{name[:40]!r} is a file; only image may be one")
        elif name == "timestep":
            values[name] = parts
        elif len(parts) > 1:
            raise Refusal(400, "form", f"{name[:40]!r} is given {len(parts)} times; give it once")
        elif parts[0] != "":  # an empty field of a form counts as left out
            values[name] = parts[0]
    return values


def _validate(values: dict[str, Any], settings: ServeSettings) -> Submission:
    upload = values.pop("image", None)
    model = _validate_options({"image_id": None, **values}, JsonQuestion, settings)
    if (upload is None) == (model.image_id is None):
        raise Refusal(400, "option", "the question needs exactly one of image and image_id; send one of the two")
    if upload is not None and len(upload) > settings.upload_bytes:
        raise refuse_large_body(settings)
    return Submission(upload, model.image_id, model.model_dump(exclude={"image", "image_id"}))


AnyOptions = TypeVar("AnyOptions", bound=Options)


def _validate_options(values: Mapping[str, Any], kind: type[AnyOptions], settings: ServeSettings) -> AnyOptions:
    unknown = next((name for name in values if name not in kind.model_fields), None)
    if unknown is not None:
        raise Refusal(
            400,
            "option",
            f"{unknown[:40]} is {str(values[unknown])[:60]!r}, but there is no such option; "
            f"the options are {', '.join(kind.model_fields)}",
        )
    try:
        model = kind.model_validate(values)
    except ValidationError as error:
        raise Refusal(400, "option", "; ".join(map(_describe_error, error.errors()[:3]))) from None
    if model.top > settings.top:
        raise Refusal(400, "option", f"top is {model.top}; it must be at most {settings.top}")
    return model


def refuse_large_body(settings: ServeSettings) -> Refusal:
    """Return the refusal of a body that is too large."""
    return Refusal(413, "bytes", f"the picture's file is too large; send at most {settings.upload_bytes:,} bytes")


def _describe_error(error: Any) -> str:
    name = ".".join(str(part)[:40] for part in error["loc"])
    rule = error["msg"].removeprefix("Value error, ")
    return f"{name} is {str(error['input'])[:60]!r}: {rule}" if name else rule

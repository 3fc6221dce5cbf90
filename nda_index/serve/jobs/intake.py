"""Many pictures as a client sends them: a multipart form, or an archive, written to disk as it comes in."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from nda_index.serve.forms import collect_option
from nda_index.serve.jobs.archives import Pictures, unpack
from nda_index.serve.refusal import Refusal
from nda_index.serve.settings import TEXT_BYTES, ServeSettings

ARCHIVES = ("application/x-tar", "application/zip", "application/x-zip-compressed", "application/octet-stream")
FIELDS = 64  # of a form, besides its pictures
HEADER_BYTES = 4096  # of one header of a part of a form

Run = Callable[..., Awaitable[Any]]  # runs a function off the event loop


@dataclass(frozen=True)
class Received:
    """What a client has sent: the names of the pictures as `Pictures` has them, and options as text."""

    names: list[tuple[str, str]]
    options: Mapping[str, Any]


async def receive(request: Request, folder: Path, settings: ServeSettings, run: Run) -> Received:
    """Write the pictures in a request's body to the folder of a job.

    Args:
        request: a form with files named "image" and fields, or an archive with the options in the address.
        folder: from `nda_index.serve.jobs.folder.incoming`.
        settings: bounds.
        run: does what waits for the disk.

    Raises:
        Refusal: the body is neither, is damaged or too large, has no picture, or nothing came for `deadline` seconds.
    """
    kind = request.headers.get("content-type", "")
    options: dict[str, Any] = {}
    for name, value in request.query_params.multi_items():
        collect_option(options, name, value)
    pictures = Pictures(folder, settings)
    try:
        if kind.partition(";")[0].strip().lower() == "multipart/form-data":
            await _receive_form(request, _Form(kind, pictures, options), settings, run)
        elif kind.partition(";")[0].strip().lower() in ARCHIVES:
            await _receive_archive(request, folder / "archive", pictures, settings, run)
        else:
            raise Refusal(
                415,
                "type",
                f"the body is {kind[:100]!r}; send multipart/form-data, or one of {', '.join(ARCHIVES[:2])}",
            )
    finally:
        pictures.close()
    if not pictures.names:
        raise Refusal(400, "pictures", "there is no picture in the job; send files named image, or an archive of them")
    return Received(pictures.names, options)


async def _receive_archive(request: Request, path: Path, pictures: Pictures, settings: ServeSettings, run: Run) -> None:
    with path.open("wb") as file:
        await _each_part(request, file.write, settings, run)
    await run(unpack, path, pictures, settings)
    path.unlink()


async def _receive_form(request: Request, form: _Form, settings: ServeSettings, run: Run) -> None:
    await _each_part(request, form.write, settings, run)
    await run(form.end)


async def _each_part(request: Request, take: Callable[[bytes], Any], settings: ServeSettings, run: Run) -> None:
    """Take the parts of a body as they come."""
    stream = request.stream()

    async def receive_next() -> bytes | None:
        return await anext(stream, None)

    try:
        while (part := await asyncio.wait_for(receive_next(), settings.deadline)) is not None:
            await run(take, part)
    except asyncio.TimeoutError:
        raise Refusal(408, "slow", f"nothing came for {settings.deadline:g} s; send the job again, faster") from None
    except ClientDisconnect:
        raise Refusal(499, "gone", "the client has hung up") from None


@dataclass
class _Form:
    """A form while it comes in: python_multipart calls back for each piece."""

    kind: str
    pictures: Pictures
    options: dict[str, Any]
    _field_bytes: int = 0
    _fields: int = 0
    _header: bytearray = field(default_factory=bytearray)
    _value: bytearray = field(default_factory=bytearray)
    _headers: dict[str, str] = field(default_factory=dict)
    _name: str = ""
    _is_file: bool = False

    def __post_init__(self) -> None:
        callbacks: Any = {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: _extend(self._header, data[start:end]),
            "on_header_value": lambda data, start, end: _extend(self._value, data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._take,
            "on_part_end": self._end_part,
            "on_end": self._end,
        }
        self._ended = False
        try:
            self._parser = MultipartParser(parse_options_header(self.kind)[1].get(b"boundary", b""), callbacks)
        except (FormParserError, ValueError) as error:
            raise Refusal(
                400, "form", f"the form's boundary cannot be used: {error}; send multipart/form-data"
            ) from None

    def write(self, data: bytes) -> None:
        """Take the next piece of the body.

        Raises:
            Refusal: it is not a form, or breaks a rule.
        """
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise Refusal(400, "form", f"the form cannot be read: {error}; send multipart/form-data") from error

    def end(self) -> None:
        """Raise `Refusal` where the form was cut off."""
        if not self._ended:
            raise Refusal(400, "form", "the form ends too early; send it again, whole")

    def _begin(self) -> None:
        self._headers, self._value = {}, bytearray()

    def _end_header(self) -> None:
        self._headers[self._header.decode("latin-1").lower()] = self._value.decode("latin-1")
        self._header, self._value = bytearray(), bytearray()

    def _end_headers(self) -> None:
        options = parse_options_header(self._headers.get("content-disposition", ""))[1]
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        self._is_file = b"filename" in options
        if not self._is_file:
            self._fields += 1
            if self._fields > FIELDS:
                raise Refusal(400, "form", f"the form has more than {FIELDS} fields; send options and pictures only")
        elif self._name == "image":
            self.pictures.open(options[b"filename"].decode("utf-8", "replace"))
        else:
            raise Refusal(400, "form", f"{self._name[:40]!r} is a file; only image may be one, as often as you like")

    def _take(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self.pictures.write(data[start:end])
            return
        self._field_bytes += end - start
        if self._field_bytes > TEXT_BYTES:
            raise Refusal(400, "form", f"the form's fields have more than {TEXT_BYTES:,} bytes; send options only")
        self._value += data[start:end]

    def _end_part(self) -> None:
        if self._is_file:
            self.pictures.close()
        else:
            collect_option(self.options, self._name, self._value.decode("utf-8", "replace"))

    def _end(self) -> None:
        self._ended = True


def _extend(header: bytearray, data: bytes) -> None:
    header += data
    if len(header) > HEADER_BYTES:
        raise Refusal(400, "form", f"a header of the form has more than {HEADER_BYTES:,} bytes; send shorter names")

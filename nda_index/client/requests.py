"""What a client sends, made of a caller's arguments: options as fields, pictures as files, many as an archive."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nda_index.answer.arrow import MEDIA_TYPE
from nda_index.errors import ConfigError, ImageDecodeError
from nda_index.images import describe_input, open_upright
from nda_index.question import Options, as_question

if TYPE_CHECKING:
    from typing_extensions import Unpack

SENT = (b"\x89PNG", b"\xff\xd8", b"RIFF", b"GIF8", b"BM")  # how files begin that every service takes


def make_request(
    image: Any, timestep: int | Sequence[int] | None, top: int, **options: Unpack[Options]
) -> dict[str, Any]:
    """Return arguments of an httpx request."""
    return {
        "data": _make_fields(timestep, top, **options),
        "files": {"image": ("picture", read_file(image))},
        "headers": {"Accept": MEDIA_TYPE},
    }


def _make_fields(timestep: int | Sequence[int] | None, top: int, **options: Unpack[Options]) -> dict[str, Any]:
    """Return the options of a question as fields of a form."""
    question = as_question(timestep, **options)
    if question.where == "":  # an empty field of a form counts as left out
        raise ConfigError("where is empty; give a condition, as \"license = 'CC0'\", or None")
    fields: dict[str, Any] = {name: str(value) for name, value in options.items() if value is not None}
    fields |= {"top": str(top), "timestep": [str(value) for value in question.timesteps]}
    if question.region is not None:
        fields["region"] = ",".join(map(str, question.region))
    if question.recipe is not None:  # its terms, since a name may mean other terms there
        fields["recipe"] = str(question.recipe)
    return fields


def make_job_request(timestep: int | Sequence[int] | None, top: int, **options: Unpack[Options]) -> dict[str, Any]:
    """Return arguments of an httpx request that sends an archive."""
    return {"params": _make_fields(timestep, top, **options), "headers": {"Content-Type": "application/x-tar"}}


def pack(images: Iterable[Any] | Mapping[str, Any]) -> Iterator[bytes]:
    """Yield the parts of a .tar of pictures; memory holds one of them."""
    named: Iterable[tuple[str, Any]]
    if isinstance(images, Mapping):
        named = images.items()
    else:
        named = ((str(image if isinstance(image, str | PathLike) else i), image) for i, image in enumerate(images))
    for name, image in named:
        data = read_file(image)
        folder, slash, file = name.rpartition("/")
        entry = tarfile.TarInfo(folder + slash + (file.lstrip(".") or "picture"))  # a service leaves hidden files out
        entry.size = len(data)
        yield entry.tobuf(tarfile.PAX_FORMAT) + data + bytes(-len(data) % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


def read_event(line: str) -> dict[str, Any] | None:
    """Return the job of a line of server-sent events; None for lines that hold none."""
    return dict(json.loads(line.removeprefix("data:"))) if line.startswith("data:") else None


def read_file(image: Any) -> bytes:
    """Return a picture as the bytes of an image file; files that services take are sent unchanged."""
    try:
        if isinstance(image, bytes | bytearray | memoryview | str | PathLike):
            data = Path(image).read_bytes() if isinstance(image, str | PathLike) else bytes(image)
            if data.startswith(SENT):
                return data
            with suppress(ImageDecodeError):  # what cannot be read here is refused there
                return _as_png(image)
            return data
        return _as_png(image)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ImageDecodeError(f"{describe_input(image)} cannot be sent: {reason}; check the path") from error


def _as_png(image: Any) -> bytes:
    buffer = io.BytesIO()
    open_upright(image).save(buffer, "PNG")
    return buffer.getvalue()


def check_name(identity: str) -> str:
    if not identity.isalnum():
        raise ConfigError(f"{identity!r} is not the name of an answer or a job; give its hexadecimal id")
    return identity

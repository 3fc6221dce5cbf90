"""A client of the service: the same answers as `Index.attribute`, over HTTP. Needs httpx.

    client = Client("http://127.0.0.1:8000")
    answer = client.attribute("picture.png", timestep=100, top=10)
    answer.save("report.html")

`AsyncClient` has the same methods as coroutines.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nda_index.answer.arrow import MEDIA_TYPE
from nda_index.answer.attribution import Attribution, read_answer
from nda_index.errors import (
    ConfigError,
    ImageDecodeError,
    MissingDependencyError,
    NdaIndexError,
    QueryError,
    ServiceError,
)
from nda_index.images import describe_input, open_upright
from nda_index.question import Options, as_question

try:
    import httpx
except ImportError as error:
    raise MissingDependencyError("httpx is not installed; run: pip install 'nda-index[client]'") from error

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["AsyncClient", "Client"]

TIMEOUT = 300.0  # seconds for an answer: several times the service's usual deadline, which the operator may raise

_SENT = (b"\x89PNG", b"\xff\xd8", b"RIFF", b"GIF8", b"BM")  # how files begin that every service takes

_ERRORS: dict[int, type[NdaIndexError]] = {
    400: ConfigError,
    413: ImageDecodeError,
    415: ImageDecodeError,
    422: QueryError,
}


class Client:
    """A served index.

    Args:
        url: address of the service, as "http://127.0.0.1:8000".
        token: bearer token, if the service needs one.
        timeout: seconds to wait for an answer.
        transport: how httpx reaches the service, if not over the network; for tests.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        timeout: float = TIMEOUT,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        url, headers = _check_url(url), _headers(token)
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout, transport=transport)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def attribute(
        self, image: Any, timestep: int | Sequence[int] | None = None, top: int = 10, **options: Unpack[Options]
    ) -> Attribution:
        """Find which training images a picture is made of; arguments and answer as `Index.attribute`.

        The file of a path is read here, not by the service.

        Raises:
            ConfigError, QueryError, ImageDecodeError: as `Index.attribute`, or it exceeds the service's bounds.
            ServiceError: the service refuses or cannot be reached; `retry_after` says when to try again.
        """
        request = _make_request(image, timestep, top, **options)
        return read_answer(self._send("POST", "/v1/attribute", **request).content)

    def result(self, identity: str) -> Attribution:
        """Return an answer that the service has stored, by its name.

        Raises:
            ServiceError: there is no such answer, or the service cannot be reached.
        """
        return read_answer(
            self._send("GET", f"/v1/results/{_check_name(identity)}", params={"format": "arrow"}).content
        )

    def index(self) -> dict[str, Any]:
        """Describe the index that is served, and the bounds of a question.

        Raises:
            ServiceError: the service refuses or cannot be reached.
        """
        return dict(self._send("GET", "/v1/index").json())

    def _send(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            return _check_response(self._http.request(method, path, **request))
        except httpx.HTTPError as error:
            raise _unreachable(self._http.base_url, error) from error


class AsyncClient:
    """A served index, for coroutines; arguments as `Client`."""

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        timeout: float = TIMEOUT,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        url, headers = _check_url(url), _headers(token)
        self._http = httpx.AsyncClient(base_url=url, headers=headers, timeout=timeout, transport=transport)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def attribute(
        self, image: Any, timestep: int | Sequence[int] | None = None, top: int = 10, **options: Unpack[Options]
    ) -> Attribution:
        """As `Client.attribute`."""
        request = _make_request(image, timestep, top, **options)
        return read_answer((await self._send("POST", "/v1/attribute", **request)).content)

    async def result(self, identity: str) -> Attribution:
        """As `Client.result`."""
        response = await self._send("GET", f"/v1/results/{_check_name(identity)}", params={"format": "arrow"})
        return read_answer(response.content)

    async def index(self) -> dict[str, Any]:
        """As `Client.index`."""
        return dict((await self._send("GET", "/v1/index")).json())

    async def _send(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            return _check_response(await self._http.request(method, path, **request))
        except httpx.HTTPError as error:
            raise _unreachable(self._http.base_url, error) from error


def _headers(token: str | None) -> dict[str, str]:
    """Return what sends a token; spaces and line ends that came with it from a file are no part of it."""
    token = (token or "").strip()
    if not all(33 <= ord(sign) < 127 for sign in token):  # it is not shown: whoever reads the message may not have it
        raise ConfigError("token has signs that no token has; give it as `nda-index token` printed it")
    return {"Authorization": f"Bearer {token}"} if token else {}


def _check_url(url: str) -> str:
    if not isinstance(url, str) or not url.startswith(("http://", "https://")):
        raise ConfigError(f"url is {url!r}; it must be the address of a service, as 'http://127.0.0.1:8000'")
    return url


def _make_request(
    image: Any, timestep: int | Sequence[int] | None, top: int, **options: Unpack[Options]
) -> dict[str, Any]:
    """Return arguments of an httpx request."""
    question = as_question(timestep, **options)
    if question.where == "":  # an empty field of a form counts as left out
        raise ConfigError("where is empty; give a condition, as \"license = 'CC0'\", or None")
    fields: dict[str, Any] = {name: str(value) for name, value in options.items() if value is not None}
    fields |= {"top": str(top), "timestep": [str(value) for value in question.timesteps]}
    if question.region is not None:
        fields["region"] = ",".join(map(str, question.region))
    if question.recipe is not None:  # its terms, since a name may mean other terms there
        fields["recipe"] = str(question.recipe)
    return {
        "data": fields,
        "files": {"image": ("picture", _read_file(image))},
        "headers": {"Accept": MEDIA_TYPE},
    }


def _read_file(image: Any) -> bytes:
    """Return a picture as the bytes of an image file; files that services take are sent unchanged."""
    try:
        if isinstance(image, bytes | bytearray | memoryview | str | PathLike):
            data = Path(image).read_bytes() if isinstance(image, str | PathLike) else bytes(image)
            if data.startswith(_SENT):
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


def _check_name(identity: str) -> str:
    if not identity.isalnum():
        raise ConfigError(f"{identity!r} is not the name of an answer; give the hexadecimal id of a result")
    return identity


def _check_response(response: httpx.Response) -> httpx.Response:
    """Return a successful response; raise the error of any other."""
    if response.is_success:
        return response
    try:
        message = str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        message = f"the service answered with status {response.status_code} and no reason; look into its log"
    kind = _ERRORS.get(response.status_code)
    if kind is not None:
        raise kind(message)
    after = response.headers.get("retry-after", "")
    raise ServiceError(message, response.status_code, int(after) if after.isdecimal() else None)


def _unreachable(url: httpx.URL, error: httpx.HTTPError) -> ServiceError:
    reason = re.sub(r"^\[Errno -?\d+\] ", "", str(error)) or type(error).__name__
    return ServiceError(f"the service at {url} cannot be reached: {reason}; check the address, and that it runs")

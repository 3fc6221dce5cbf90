"""A client of the service: the same answers as `Index.attribute`, over HTTP. Needs httpx.

    client = Client("http://127.0.0.1:8000")
    answer = client.attribute("picture.png", timestep=100, top=10)
    answer.save("report.html")

    job = client.submit(Path("pictures").iterdir())  # many, answered while nobody waits
    client.wait(job)
    table = client.results(job)

`AsyncClient` has the same methods as coroutines.
"""

from __future__ import annotations

import io
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from nda_index.answer.attribution import Attribution, read_answer
from nda_index.client.requests import check_name, make_job_request, make_request, pack, read_event
from nda_index.errors import (
    ConfigError,
    ImageDecodeError,
    MissingDependencyError,
    NdaIndexError,
    QueryError,
    ServiceError,
)
from nda_index.question import Options

try:
    import httpx
except ImportError as error:
    raise MissingDependencyError("httpx is not installed; run: pip install 'nda-index[client]'") from error

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["AsyncClient", "Client"]

ENDED = ("done", "failed", "cancelled")  # states of a job after which nothing changes
TIMEOUT = 300.0  # seconds for an answer: several times the service's usual deadline, which the operator may raise

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
        request = make_request(image, timestep, top, **options)
        return read_answer(self._send("POST", "/v1/attribute", **request).content)

    def result(self, identity: str) -> Attribution:
        """Return an answer that the service has stored, by its name.

        Raises:
            ServiceError: there is no such answer, or the service cannot be reached.
        """
        return read_answer(self._send("GET", f"/v1/results/{check_name(identity)}", params={"format": "arrow"}).content)

    def index(self) -> dict[str, Any]:
        """Describe the index that is served, and the bounds of a question.

        Raises:
            ServiceError: the service refuses or cannot be reached.
        """
        return dict(self._send("GET", "/v1/index").json())

    def submit(
        self,
        images: Iterable[Any] | Mapping[str, Any],
        timestep: int | Sequence[int] | None = None,
        top: int = 1,
        **options: Unpack[Options],
    ) -> str:
        """Send many pictures as a job; the service answers them one after the other, while nobody waits.

        Args:
            images: pictures, each as for `attribute`, or a dictionary of them by name. Otherwise paths are named by
                themselves and other pictures by their number. Each is read when it is sent.
            timestep, top, options: as for `attribute`; results name the best image, so `top` is 1.

        Returns:
            The job's name.

        Raises:
            ConfigError: an option breaks a rule, or the job is too large.
            ImageDecodeError: a picture cannot be read here.
            ServiceError: the service refuses or cannot be reached; `retry_after` says when to try again.
        """
        parts = pack(images)
        return str(
            self._send("POST", "/v1/jobs", content=parts, **make_job_request(timestep, top, **options)).json()["id"]
        )

    def jobs(self) -> list[dict[str, Any]]:
        """Return one's jobs, newest first, each as `watch` yields it."""
        return list(self._send("GET", "/v1/jobs").json()["jobs"])

    def watch(self, job: str) -> Iterator[dict[str, Any]]:
        """Yield how far a job has come, whenever it has come on, until its end.

        Args:
            job: its name, from `submit`.

        Returns:
            `state` ("queued", "running", "done", "cancelled" or "failed"), `done` of `total` pictures, `strong` and
            `failures` of them, `seconds_left`, and what else docs/serving.md names.

        Raises:
            ServiceError: there is no such job, or the service ends. A job goes on when the service runs again: call
                this again.
        """
        with self._http.stream("GET", f"/v1/jobs/{check_name(job)}/events") as response:
            if not response.is_success:
                response.read()
                _check_response(response)
            for now in filter(None, map(read_event, response.iter_lines())):
                yield now
                if now["state"] in ENDED:
                    return
        raise _interrupted(job)

    def wait(self, job: str) -> dict[str, Any]:
        """Return a job when it has ended; errors as `watch`."""
        *_, last = self.watch(job)
        return last

    def results(self, job: str) -> pa.Table:
        """Return the results of a job as far as it has come, with the columns of `nda-index query --table`.

        Raises:
            ServiceError: there is no such job, or the service cannot be reached.
        """
        return _read_table(self._send("GET", f"/v1/jobs/{check_name(job)}/results", params={"format": "parquet"}))

    def cancel(self, job: str) -> None:
        """End a job, and erase its pictures and its results; errors as `results`."""
        self._send("DELETE", f"/v1/jobs/{check_name(job)}")

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
        request = make_request(image, timestep, top, **options)
        return read_answer((await self._send("POST", "/v1/attribute", **request)).content)

    async def result(self, identity: str) -> Attribution:
        """As `Client.result`."""
        response = await self._send("GET", f"/v1/results/{check_name(identity)}", params={"format": "arrow"})
        return read_answer(response.content)

    async def index(self) -> dict[str, Any]:
        """As `Client.index`."""
        return dict((await self._send("GET", "/v1/index")).json())

    async def submit(
        self,
        images: Iterable[Any] | Mapping[str, Any],
        timestep: int | Sequence[int] | None = None,
        top: int = 1,
        **options: Unpack[Options],
    ) -> str:
        """As `Client.submit`."""

        async def parts() -> AsyncIterator[bytes]:
            for part in pack(images):
                yield part

        request = make_job_request(timestep, top, **options)
        return str((await self._send("POST", "/v1/jobs", content=parts(), **request)).json()["id"])

    async def jobs(self) -> list[dict[str, Any]]:
        """As `Client.jobs`."""
        return list((await self._send("GET", "/v1/jobs")).json()["jobs"])

    async def watch(self, job: str) -> AsyncIterator[dict[str, Any]]:
        """As `Client.watch`."""
        async with self._http.stream("GET", f"/v1/jobs/{check_name(job)}/events") as response:
            if not response.is_success:
                await response.aread()
                _check_response(response)
            async for line in response.aiter_lines():
                if (now := read_event(line)) is not None:
                    yield now
                    if now["state"] in ENDED:
                        return
        raise _interrupted(job)

    async def wait(self, job: str) -> dict[str, Any]:
        """As `Client.wait`."""
        return [now async for now in self.watch(job)][-1]

    async def results(self, job: str) -> pa.Table:
        """As `Client.results`."""
        path = f"/v1/jobs/{check_name(job)}/results"
        return _read_table(await self._send("GET", path, params={"format": "parquet"}))

    async def cancel(self, job: str) -> None:
        """As `Client.cancel`."""
        await self._send("DELETE", f"/v1/jobs/{check_name(job)}")

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


def _interrupted(job: str) -> ServiceError:
    return ServiceError(f"the service ended before job {job} did; watch it again when the service runs")


def _read_table(response: httpx.Response) -> pa.Table:
    return pq.read_table(io.BytesIO(response.content))


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

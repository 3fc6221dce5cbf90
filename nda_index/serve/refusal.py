"""Why a request is not answered: an HTTP status, a code for programs and one sentence for people."""

from __future__ import annotations

from starlette.responses import JSONResponse

from nda_index.errors import ConfigError, ImageDecodeError, NdaIndexError, QueryError, ShardLostError
from nda_index.serve.logs import REQUEST_ID

REOPEN = 60.0  # seconds until a shard that was lost is opened again


class Refusal(Exception):
    """A request ends with this status."""

    def __init__(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = headers or {}

    def response(self) -> JSONResponse:
        """Return the response that is sent."""
        content = {"error": {"code": self.code, "message": str(self), "request_id": REQUEST_ID.get()}}
        return JSONResponse(content, self.status, {"Cache-Control": "no-store", **self.headers})


def refuse_for_now(status: int, code: str, message: str, seconds: float) -> Refusal:
    """Return a refusal whose `Retry-After` tells the client to try again after some seconds, at least one."""
    return Refusal(status, code, message, {"Retry-After": str(max(1, round(seconds)))})


def refusal_of(error: NdaIndexError) -> Refusal | None:
    """Return the refusal for an error of the index that the request caused, or that time mends; else None."""
    if isinstance(error, ShardLostError):
        lost = "a machine that holds a part of the collection was lost; try again later, it is being opened again"
        return refuse_for_now(503, "shard", lost, REOPEN)
    for kind, status, code in (
        (ImageDecodeError, 415, "image"),
        (QueryError, 422, "question"),
        (ConfigError, 400, "option"),
    ):
        if isinstance(error, kind):
            return Refusal(status, code, str(error))
    return None

"""Checks of every request before it reaches the application, and headers of every response before it leaves."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nda_index.serve.forms import refuse_large_body
from nda_index.serve.jobs.archives import refuse_large_job
from nda_index.serve.keyring import Keyring
from nda_index.serve.logs import REQUEST_ID, REQUESTS, choose_request_id
from nda_index.serve.metrics import Metrics
from nda_index.serve.quotas import Quotas
from nda_index.serve.refusal import Refusal
from nda_index.serve.settings import TEXT_BYTES, ServeSettings

CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
PROTECTED = ("/v1", "/metrics")  # paths that need a token
LOOKS = ("/healthz", "/readyz", "/metrics")  # of proxies and Prometheus, every few seconds
QUESTIONS, JOBS = "/v1/attribute", "/v1/jobs"
HEADERS_BYTES = 1024  # of each picture in a form
DRAINED = 11  # times a picture's file: the rest of a refused body is read up to this, then the client is cut off
LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})
FAILURE = Refusal(500, "internal", "the service failed; its operator finds the reason in the log")
LOG = logging.getLogger(__name__)


class Guard:
    """Checks hosts, origins, tokens and the size of bodies; adds security headers; counts requests."""

    def __init__(
        self, app: ASGIApp, settings: ServeSettings, metrics: Metrics, keyring: Keyring, quotas: Quotas
    ) -> None:
        """Wrap an application."""
        self._app = app
        self._settings = settings
        self._metrics = metrics
        self._keyring = keyring
        self._quotas = quotas
        self._seen: dict[str, int] = {}  # by path of LOOKS: the last status

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request, serve it and count it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.monotonic()
        request_id = choose_request_id(Headers(scope=scope).get("x-request-id", ""))
        REQUEST_ID.set(request_id)  # of this request's task
        method, scope = scope["method"], _routed(scope, self._settings.root_path)
        status = 0
        body = _Body(receive, scope, self._settings)
        started = False

        async def send_guarded(message: Message) -> None:
            nonlocal started, status
            if message["type"] == "http.response.body" and method == "HEAD":
                if message.get("more_body"):
                    return
                message = {"type": "http.response.body"}
            if message["type"] == "http.response.start":
                started, status = True, message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                for name, value in HEADERS.items():
                    headers[name] = value
                if body.endless:  # hang up on a client that sends more than anybody reads
                    headers["Connection"] = "close"
                route = _route(scope)
                self._metrics.requests.labels(route, str(message["status"])).inc()
                self._metrics.seconds.labels(route).observe(time.monotonic() - start)
            await send(message)

        try:
            if scope["path"] == self._settings.root_path:  # the page's own addresses are below it
                await RedirectResponse(f"{scope['path']}/", 308)(scope, receive, send_guarded)
                return
            self._check(scope)
            await self._app(scope, body.receive, send_guarded)
        except Refusal as refusal:
            await refusal.response()(scope, receive, send_guarded)
        except Exception:
            LOG.exception("%s %r failed", scope["method"], scope["path"][:100])
            if started:
                raise  # the server cuts the connection, so that no client takes half a response for a whole one
            await FAILURE.response()(scope, receive, send_guarded)
        finally:
            facts = {"method": method, "route": _route(scope), "status": status, "owner": scope["state"]["owner"]}
            level = logging.INFO if self._is_news(scope, status) else logging.DEBUG
            REQUESTS.log(level, "request", extra={"facts": {**facts, "seconds": round(time.monotonic() - start, 4)}})

    def _is_news(self, scope: Scope, status: int) -> bool:
        """Tell whether a request belongs into the log: one that looks at the service does when it sees a change."""
        path = scope["path"].removeprefix(self._settings.root_path)
        if path not in LOOKS:
            return True
        before, self._seen[path] = self._seen.get(path), status
        return status != before

    def _check(self, scope: Scope) -> None:
        """Raise `Refusal` where a request is not served, and note whose token it brings, where one is needed."""
        headers = Headers(scope=scope)
        path = scope["path"].removeprefix(self._settings.root_path)
        host = headers.get("host", "")
        if self._settings.hosts is not None and _without_port(host) not in self._settings.hosts:
            raise Refusal(
                403,
                "host",
                f"the host {host[:100]!r} is not served here; use {', '.join(sorted(self._settings.hosts))}",
            )
        origin = headers.get("origin")
        link = scope["method"] == "GET" and headers.get("sec-fetch-mode") == "navigate"  # a person has followed it
        foreign = headers.get("sec-fetch-site") == "cross-site" and not link
        if foreign or (origin and _host_of(origin) != host):
            raise Refusal(403, "origin", "the request comes from another site; open the page of this service itself")
        if self._keyring.closed and _under(path, PROTECTED):
            sent = headers.get("authorization", "")
            digest = self._keyring.find(sent)
            if digest is None:
                problem = "the bearer token is not known" if sent else "there is no bearer token"
                raise Refusal(
                    401,
                    "token",
                    f"{problem}; send the token, not its hash, in the header Authorization: Bearer TOKEN",
                    {"WWW-Authenticate": "Bearer"},
                )
            scope["state"] |= {"owner": self._quotas.owner(digest), "token": digest}
            if (scope["method"], path) == ("POST", QUESTIONS):
                self._quotas.take(digest)
        limit, refuse = _body_bound(scope, self._settings)
        if (_length(scope) or 0) > limit:
            raise refuse(self._settings)


def _body_bound(scope: Scope, settings: ServeSettings) -> tuple[int, Callable[[ServeSettings], Refusal]]:
    """Return how many bytes a request's body may have, and what makes the refusal of a larger one."""
    if (scope["method"], scope["path"].removeprefix(settings.root_path)) == ("POST", JOBS):
        return settings.job_bytes + TEXT_BYTES + HEADERS_BYTES * settings.job_pictures, refuse_large_job
    return settings.upload_bytes * 4 // 3 + TEXT_BYTES, refuse_large_body  # base64 takes a third more


class _Body:
    """The body of a request while it comes in."""

    def __init__(self, receive: Receive, scope: Scope, settings: ServeSettings) -> None:
        self._receive = receive
        self._length = _length(scope)
        self._limit, self._refuse = _body_bound(scope, settings)
        self._settings = settings
        self._received = 0
        self._whole = self._length == 0

    @property
    def endless(self) -> bool:
        """Whether too much is still to come to read it and use the connection again."""
        return not self._whole and (self._length is None or self._length > DRAINED * self._settings.upload_bytes)

    async def receive(self) -> Message:
        """Return the next part; raise `Refusal` when the body turns out too large."""
        message = await self._receive()
        self._received += len(message.get("body", b""))
        self._whole = self._whole or not message.get("more_body", False)
        if self._received > self._limit:
            raise self._refuse(self._settings)
        return message


def _routed(scope: Scope, root: str) -> Scope:
    """Return the request as it is routed: HEAD as GET, its path below the root path, also if a proxy has cut that."""
    inside = scope["path"] == root or scope["path"].startswith(f"{root}/")
    method = "GET" if scope["method"] == "HEAD" else scope["method"]
    return {
        **scope,
        "method": method,
        "state": {**scope.get("state", {}), "owner": "", "token": "", "method": scope["method"]},
        "root_path": root,
        "path": scope["path"] if inside else root + scope["path"],
    }


def _route(scope: Scope) -> str:
    return str(getattr(scope.get("route"), "path", "other"))


def _length(scope: Scope) -> int | None:
    """Return the length of a request's body by its headers; None if they do not tell."""
    headers = Headers(scope=scope)
    if "transfer-encoding" in headers:
        return None
    length = headers.get("content-length", "0")
    return int(length[:20]) if length.isdecimal() else None


def _under(path: str, places: Sequence[str]) -> bool:
    return any(path == place or path.startswith(place + "/") for place in places)


def _host_of(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:  # not a URL
        return None


def _without_port(host: str) -> str:
    return host.rpartition(":")[0] if host.rpartition("]")[2].count(":") else host

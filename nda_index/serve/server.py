"""The process that serves: where it listens, and for which clients."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import signal
import socket
import time
from types import FrameType

import uvicorn
from fastapi import FastAPI

from nda_index.errors import ConfigError

CONNECTIONS = (
    1000  # open at once, above which uvicorn answers 503: far more than --queue, and below usual limits of files
)


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches a host's address.

    Example:
        >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
        (True, True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_bind(host: str, has_tokens: bool, without_tokens: bool) -> None:
    """Refuse to serve the whole network without tokens.

    Raises:
        ConfigError: other machines reach the host, there are no tokens, and `without_tokens` does not allow that.
    """
    if not is_loopback(host) and not has_tokens and not without_tokens:
        raise ConfigError(
            f"host is {host!r}, which others can reach, and there are no tokens; give a token file "
            f"(`nda-index token` makes one), or --without-tokens to let everyone send questions"
        )


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0 takes a free one.

    Raises:
        ConfigError: the address is in use or belongs to another machine.
    """
    if not 0 <= port < 1 << 16:
        raise ConfigError(f"port is {port}; it must be from 0 to 65535")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=CONNECTIONS)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(f"port {port} of {host} is in use; choose another --port, or 0 for a free one") from error
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise ConfigError(f"cannot listen on {host}:{port}: {reason}; choose another host or port") from error


def make_config(app: FastAPI, grace: float) -> uvicorn.Config:
    """Return how uvicorn serves an application.

    Args:
        app: from `create_app`.
        grace: seconds that requests in flight have when the process is told to end; more delays a restart.
    """
    return uvicorn.Config(
        app,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=round(grace),
        proxy_headers=False,  # a client could claim another address
        server_header=False,  # it would tell an attacker what to try
        access_log=False,  # requests are counted; clients' addresses are nobody's business
        log_config=None,  # what configure_logs says holds for uvicorn too
        log_level="info",
    )


class DrainingServer(uvicorn.Server):
    """A server that first turns unready and answers its questions when it is told to end (SIGTERM)."""

    _ending: asyncio.Task[None] | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain; a second signal, or another one, ends at once."""
        if sig == signal.SIGTERM and self._ending is None and self.started:
            asyncio.get_running_loop().call_soon_threadsafe(self._begin, sig, frame)
        else:
            super().handle_exit(sig, frame)

    def _begin(self, sig: int, frame: FrameType | None) -> None:
        self._ending = asyncio.ensure_future(self._drain(sig, frame))

    async def _drain(self, sig: int, frame: FrameType | None) -> None:
        app = self.config.app
        assert isinstance(app, FastAPI)
        allowed, start = self.config.timeout_graceful_shutdown or 0, time.monotonic()
        await app.state.service.drain(allowed)
        self.config.timeout_graceful_shutdown = max(1, round(allowed - (time.monotonic() - start)))  # for what is left
        super().handle_exit(sig, frame)


def run(app: FastAPI, listening: socket.socket, grace: float) -> None:
    """Serve until the process is told to end; arguments as `make_config`."""
    DrainingServer(make_config(app, grace)).run([listening])

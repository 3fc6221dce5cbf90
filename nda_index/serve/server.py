"""The process that serves: where it listens, and for which clients."""

from __future__ import annotations

import ipaddress
import logging
import socket

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
        raise ConfigError(f"cannot listen on {host}:{port}: {error}; choose another host or port") from error


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
        log_level="info",
    )


def run(app: FastAPI, listening: socket.socket, grace: float) -> None:
    """Serve until the process is told to end; arguments as `make_config`."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s:     %(message)s")
    logging.getLogger("nda_index").setLevel(logging.INFO)
    uvicorn.Server(make_config(app, grace)).run([listening])

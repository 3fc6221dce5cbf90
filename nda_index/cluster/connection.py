"""The Ray cluster: the module, which is optional, and the connection."""

from __future__ import annotations

import socket
from typing import Any
from urllib.parse import urlsplit

from nda_index.errors import ConfigError, MissingDependencyError

PATIENCE = 10.0  # seconds for which the machine of an address may be silent; Ray itself tries for minutes


def load_ray() -> Any:
    """Return the ray module.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise MissingDependencyError("Ray is not installed; run: pip install 'nda-index[ray]'") from error
    return ray


def connect(address: str | None) -> Any:
    """Join the Ray cluster at an address ("auto": the one of this machine; None: one that is started here).

    Raises:
        ConfigError: there is none, or nobody answers there within `PATIENCE` seconds.
    """
    ray = load_ray()
    if not ray.is_initialized():
        try:
            if address is not None and ":" in address:
                _knock(address)
            ray.init(address, log_to_driver=False, configure_logging=False, include_dashboard=False)
        except (OSError, ValueError) as error:
            raise ConfigError(f"there is no Ray cluster at {address!r}: {error}; start one with `ray start`") from error
    return ray


def _knock(address: str) -> None:
    """Raise `OSError` or `ValueError` unless something listens at HOST:PORT or ray://HOST:PORT."""
    parts = urlsplit(address if "://" in address else f"//{address}")
    socket.create_connection((parts.hostname or "", parts.port or 0), PATIENCE).close()

"""The Ray cluster: the module, which is optional, and the connection."""

from __future__ import annotations

from typing import Any

from nda_index.errors import ConfigError, MissingDependencyError


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
        ConfigError: there is none.
    """
    ray = load_ray()
    if not ray.is_initialized():
        try:
            ray.init(address, log_to_driver=False, configure_logging=False, include_dashboard=False)
        except (ConnectionError, ValueError) as error:
            raise ConfigError(f"there is no Ray cluster at {address!r}: {error}; start one with `ray start`") from error
    return ray

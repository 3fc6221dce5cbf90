"""Paths as people give them: what is no path, and what is an address on the web."""

from __future__ import annotations

import re
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from nda_index.errors import ConfigError

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # one slash: `Path` takes the second away; C:/ is no address


def is_address(thing: Any) -> bool:
    """Tell whether a path is an address as https://... or s3://..., which nothing here reads or writes.

    Example:
        >>> is_address("https://example.org/a.png"), is_address(Path("s3://bucket/a")), is_address("C:/a.png")
        (True, True, False)
    """
    return isinstance(thing, str | PathLike) and _ADDRESS.match(str(fspath(thing))) is not None


def as_path(thing: str | PathLike[str], what: str) -> Path:
    """Take a path as users give it.

    Args:
        thing: the path.
        what: it is, for messages, as "the index".

    Raises:
        ConfigError: it is no path, is empty, or is an address.

    Example:
        >>> as_path("photos.nda", "the index")
        PosixPath('photos.nda')
    """
    if not isinstance(thing, str | PathLike) or not isinstance(fspath(thing), str):
        raise ConfigError(f"{what} is {thing!r}; it must be a path as text, such as 'photos.nda', or a Path")
    if not fspath(thing):
        raise ConfigError(f"{what} is '', which is no path; give one, such as 'photos.nda'")
    if is_address(thing):
        raise ConfigError(f"{what} is {fspath(thing)!r}, an address; give a path on this machine")
    return Path(thing)

"""Hashes of an index's files: a file that was changed, cut short or exchanged is not the one that was written."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

from nda_index.store.folder import list_files

ENDS = 1 << 16


def hash_files(
    folder: Path, known: Mapping[str, dict[str, Any]] | None = None, but: Container[str] = ()
) -> dict[str, dict[str, Any]]:
    """Hash every file in the folder `but` some, by relative path: its size and hashes.

    Files are never changed, so those that are `known` are not read again.
    """
    known = known or {}
    return {name: known.get(name) or hash_file(folder, name) for name in list_files(folder) if name not in but}


def hash_file(folder: Path, name: str) -> dict[str, Any]:
    """Return the size and the hashes of one file."""
    path = folder / name
    return {"size": path.stat().st_size, "sha256": hash_content(path), "ends": hash_ends(path)}


def is_intact(folder: Path, name: str, expected: dict[str, Any]) -> bool:
    """Tell whether a file is as it was when it was hashed."""
    return size_problem(folder, name, expected) is None and hash_content(folder / name) == expected["sha256"]


def size_problem(folder: Path, name: str, expected: dict[str, Any]) -> str | None:
    """Say what is wrong with a file's size, None if nothing is."""
    path = folder / name
    if not path.is_file():
        return f"{name} is missing"
    size = path.stat().st_size
    if size != expected["size"]:
        return f"{name} has {size} bytes, not {expected['size']}"
    return None


def hash_content(path: Path) -> str:
    """Return the sha256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for chunk in iter(lambda: file.read(1 << 20), b""):
            digest.update(chunk)
    return digest.hexdigest()


def hash_ends(path: Path) -> str:
    """Return the sha256 of a file's first and last 64 KiB: quick, and enough to know a large file by."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        digest.update(file.read(ENDS))
        file.seek(max(ENDS, path.stat().st_size - ENDS))
        digest.update(file.read(ENDS))
    return digest.hexdigest()

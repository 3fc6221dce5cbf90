"""The audit log of an index: who asked and who removed, when, and of which state; hashes, and never a picture."""

from __future__ import annotations

import getpass
import json
import os
import socket
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from nda_index.store.files import writing
from nda_index.store.folder import whole_index

VARIABLE = "NDA_INDEX_AUDIT"  # another file, or "off"


def audit_path(index: Path) -> Path | None:
    """Return the file of an index's audit log; None where it is switched off.

    Args:
        index: folder of an index, or of one of its shards.

    Example:
        >>> audit_path(Path("/data/photos.nda/shards/00003"))
        PosixPath('/data/photos.nda.audit.jsonl')
    """
    named = os.environ.get(VARIABLE, "")
    if named == "off":
        return None
    whole = whole_index(index)
    return Path(named) if named else whole.with_name(f"{whole.name}.audit.jsonl")


def write_event(path: Path | None, event: str, **facts: Any) -> None:
    """Add a line to an audit log; without a path do nothing.

    Args:
        path: from `audit_path`.
        event: what has happened, such as "question".
        facts: JSON values that say more of it.

    Raises:
        StorageError: the disk is full or cannot be written.
    """
    if path is not None:
        time = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        _append(path, (json.dumps({"time": time, "event": event, **facts}) + "\n").encode())


def check_writable(path: Path | None) -> None:
    """Raise `StorageError` where an audit log cannot be written."""
    if path is not None:
        _append(path, b"")


def whoami() -> str:
    """Return who runs this process, as "user on host"."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user has no name
        user = f"user {os.getuid()}"
    return f"{user} on {socket.gethostname()}"


def _append(path: Path, line: bytes) -> None:
    with writing(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, line)  # in one piece: several processes may write
        finally:
            os.close(descriptor)

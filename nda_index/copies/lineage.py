"""Manifests of copies: what may be a file of an index, and whether one state follows another."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from nda_index.copies.place import Place, list_sizes, read
from nda_index.errors import CorruptIndexError, MismatchError, NotAnIndexError
from nda_index.store.folder import MANIFEST, PULLING, PUSHING, is_content
from nda_index.store.manifest import check_version, parse_manifest

NAMED = 5  # foreign files that a message names
_SHARD = re.compile(r"shards/[0-9A-Za-z_-]+")


@dataclass(frozen=True)
class StateFile:
    """A manifest as it lies in a folder or a store.

    Attributes:
        data: its bytes.
        values: what they say.
    """

    data: bytes
    values: dict[str, Any]

    @property
    def sha256(self) -> str:
        """Hash of the manifest: it names the whole content of the folder."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def files(self) -> dict[str, dict[str, Any]]:
        """Size and hashes of all files, by relative path."""
        return dict(self.values["files"])

    @property
    def shards(self) -> list[str]:
        """Folders of the shards."""
        return list(self.values["shards"])


def read_state(data: bytes, where: str) -> StateFile:
    """Read a manifest's bytes, and refuse what names other files than those of an index.

    Args:
        data: of the manifest.
        where: it lies, for messages.

    Raises:
        CorruptIndexError: a byte was changed, or a name leads out of the folder.
        VersionError: a newer nda_index wrote it.
    """
    values = parse_manifest(data)
    if values is None:
        raise CorruptIndexError(f"{MANIFEST} at {where!r} was changed; restore that index from a copy, or push again")
    check_version(Path(where), values)
    state = StateFile(data, values)
    strange = [name for name in state.files if not _is_inside(name)]
    strange += [name for name in state.shards if not _SHARD.fullmatch(name)]
    if strange:
        raise CorruptIndexError(
            f"{MANIFEST} at {where!r} names {strange[0]!r}, which cannot be a file of an index; do not use that copy"
        )
    return state


def look_there(place: Place) -> StateFile | None:
    """Read the manifest at a place; None where there is none.

    Raises:
        StorageError, CorruptIndexError, VersionError: it cannot be read, or used.
    """
    data = read(place, MANIFEST)
    return None if data is None else read_state(data, place.shown)


def refuse_nothing(place: Place) -> NotAnIndexError:
    """Return the error of a place that has no manifest: it says what is there."""
    if read(place, PUSHING) is not None:
        return NotAnIndexError(
            f"there is no whole index at {place.shown!r} yet: it is being pushed, or its push was interrupted; wait, "
            f"or run the same `nda-index push` again"
        )
    names = sorted(list_sizes(place))
    if not names:
        return NotAnIndexError(f"there is nothing at {place.shown!r}; put an index there with `nda-index push`")
    return NotAnIndexError(
        f"{place.shown!r} is not an index but has other things ({name_some(names)}); give the address of a copy that "
        f"`nda-index push` wrote, or of an index"
    )


def check_follows(new: StateFile, old: StateFile, where: str) -> None:
    """Raise `MismatchError` where a state cannot take the place of another one.

    Args:
        new: the state that is to be put there.
        old: the state that is there.
        where: it is, for messages.
    """
    before, after = old.files, new.files
    clash = next((name for name, entry in before.items() if after.get(name, entry)["sha256"] != entry["sha256"]), None)
    if clash is not None:
        raise MismatchError(
            f"at {where!r} lies another index, or this one as it went on after the backup that it was restored from: "
            f"it has another {clash}; a copy takes later states of one index, put this one to a place of its own"
        )
    if _age(new) < _age(old):
        raise MismatchError(
            f"at {where!r} lies a later state of the index, and this one may have images that were removed there; an "
            f"earlier state does not replace it, put it to a place of its own"
        )


def name_some(names: Iterable[str]) -> str:
    """Name the first of some files, and say how many more there are.

    Example:
        >>> name_some(["a", "b"]), name_some("abcdefgh")
        ('a, b', 'a, b, c, d, e and 3 more')
    """
    every = list(names)
    more = f" and {len(every) - NAMED:,} more" if len(every) > NAMED else ""
    return ", ".join(every[:NAMED]) + more


def _age(state: StateFile) -> tuple[int, int, int]:
    """Return what only grows while an index is edited: the number of its table, the table's version, and removals."""
    table, counts = state.values["table"], state.values["counts"]
    number = str(table.get("name", "")).partition("-")[2]
    return int(number or 0), int(table.get("version", 0)), int(counts.get("removed", 0))


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    plain = path.as_posix() == name and not path.is_absolute() and ".." not in path.parts and "\\" not in name
    return plain and is_content(name) and path.parts[:1] not in ((), (PULLING,))

"""What a pull writes down in the copy that it makes: from where, which states it may be in, and which files are old."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from nda_index.store.files import is_left_over, write_atomically
from nda_index.store.folder import MANIFEST, PULLED, PULLING


@dataclass(frozen=True)
class Pulled:
    """What `pulled.json` says.

    Attributes:
        source: the address that was pulled from, without secrets.
        states: hashes of the manifests that a copy has which nobody has edited: before and after the pull.
        obsolete: files of earlier states, which readers may still have open.
        fetching: files that the pull fetches; those that are there may be of a pull that was interrupted.
    """

    source: str
    states: tuple[str, ...] = ()
    obsolete: tuple[str, ...] = ()
    fetching: tuple[str, ...] = ()


def read_pulled(folder: Path) -> Pulled | None:
    """Read what the last pull wrote down; None in a folder that is no copy."""
    try:
        values = json.loads((folder / PULLED).read_bytes())
        lists = {name: tuple(map(str, values[name])) for name in ("states", "obsolete", "fetching")}
        return Pulled(str(values["source"]), **lists)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def write_pulled(folder: Path, pulled: Pulled) -> None:
    """Write down what a pull does; the caller holds the write lock.

    Raises:
        StorageError: the disk is full or cannot be written.
    """
    write_atomically(folder / PULLED, json.dumps(asdict(pulled), indent=1).encode())


def is_fetched(name: str, pulled: Pulled) -> bool:
    """Tell whether a file of a copy, which its manifest does not name, was left by a pull.

    Example:
        >>> pulled = Pulled("s3://company/x.nda", fetching=("removed-2.arrow",))
        >>> [is_fetched(name, pulled) for name in ("removed-2.arrow", "pulling/0f3c", "notes.txt")]
        [True, True, False]
    """
    return name in pulled.fetching or name.startswith(f"{PULLING}/") or is_left_over(name, PULLED, MANIFEST)


def pulled_obsolete(folder: Path) -> tuple[str, ...]:
    """Return the files of a copy's earlier states; none in a folder that is no copy."""
    pulled = read_pulled(folder)
    return () if pulled is None else pulled.obsolete

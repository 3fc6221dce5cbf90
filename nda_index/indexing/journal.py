"""How far a build has come: `building.json`, from which an interrupted one goes on."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any

from nda_index.coarse.storage import is_segment
from nda_index.errors import ConfigError
from nda_index.paths import as_path
from nda_index.store.corpus import is_table_file
from nda_index.store.files import write_atomically, writing
from nda_index.store.folder import BUILDING, MANIFEST, sweep
from nda_index.store.hashes import hash_files, is_intact


@dataclass(frozen=True)
class Journal:
    """What a build has finished.

    Attributes:
        settings: its request, as JSON values; another build cannot go on from there.
        files: finished files with their size and sha256, as in a manifest.
        table: of the images read so far, as in a manifest; empty before the first.
        images: number of images in the table.
        position: number of images of the source that were read, failures included.
        failures: (key, reason) of each image that could not be read.
        left_out: (key, reason) of parts of images that were left out, such as later frames.
        complete: whether the source was read to its end.
    """

    settings: dict[str, Any]
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    table: dict[str, Any] = field(default_factory=dict)
    images: int = 0
    position: int = 0
    failures: list[list[str]] = field(default_factory=list)
    left_out: list[list[str]] = field(default_factory=list)
    complete: bool = False


def check_output(path: str | PathLike[str], source: Any) -> Path:
    """Return the folder that a build is to write, before anything is written there.

    Args:
        path: of the folder.
        source: of the build; the folder must be another.

    Raises:
        ConfigError: it is no folder, or holds something else than a build that was interrupted.
    """
    folder = as_path(path, "the output folder")
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"the output folder {str(folder)!r} is a file; choose another")
    if isinstance(source, str | PathLike) and source and folder.exists() and folder.resolve() == Path(source).resolve():
        raise ConfigError(f"the output folder {str(folder)!r} is the source too; choose another for the index")
    if folder.exists() and _interrupted(folder) is None:
        _check_empty(folder)
    return folder


def begin(folder: Path, settings: dict[str, Any], resume: bool) -> tuple[Journal, bool]:
    """Make a folder ready for a build; the lock on it is held.

    Args:
        folder: empty but for locks, or with an interrupted build.
        settings: of this build.
        resume: go on with an interrupted build, rather than starting over.

    Returns:
        The journal, and whether an interrupted build was cleared away.

    Raises:
        ConfigError: the folder holds something else, or the interrupted build had other settings.
        StorageError: the folder cannot be written.
    """
    settings = json.loads(json.dumps(settings))
    interrupted = _interrupted(folder)
    if interrupted is not None and resume:
        return _intact_part(folder, interrupted, settings), False
    if interrupted is None:
        _check_empty(folder)
    else:
        sweep(folder, keep=())
    return record(folder, Journal(settings)), interrupted is not None


def record(folder: Path, journal: Journal) -> Journal:
    """Note that every file now in the folder is finished, and write the journal."""
    journal = replace(journal, files=hash_files(folder, journal.files))
    write_atomically(folder / BUILDING, json.dumps(asdict(journal)).encode())
    return journal


def read_journal(folder: Path) -> Journal:
    """Read the journal of a build that goes on."""
    return Journal(**json.loads((folder / BUILDING).read_bytes()))


def _interrupted(folder: Path) -> Journal | None:
    if (folder / MANIFEST).exists() or not (folder / BUILDING).exists():
        return None
    try:
        return read_journal(folder)
    except (ValueError, TypeError):
        return Journal({})  # of another version: nothing of it can be used


def _intact_part(folder: Path, journal: Journal, settings: dict[str, Any]) -> Journal:
    differing = sorted(name for name in settings if journal.settings.get(name) != settings[name])
    if differing:
        raise ConfigError(
            f"the build in {str(folder)!r} was begun with other settings ({', '.join(differing)}); resume it with the "
            f"same, start over without resume, or choose another folder"
        )
    damaged = {name for name, expected in journal.files.items() if not is_intact(folder, name, expected)}
    if any(is_table_file(name) for name in damaged):
        sweep(folder, keep=())
        return record(folder, Journal(settings))
    retrained = {name.rpartition("/")[0] for name in damaged if not is_segment(name)}
    files = {
        name: entry
        for name, entry in journal.files.items()
        if name not in damaged and name.rpartition("/")[0] not in retrained - {""}
    }
    sweep(folder, keep=files)
    return record(folder, replace(journal, files=files))


def is_unimportant(name: str) -> bool:
    """Tell whether a file says nothing of what a folder is for: a lock, or a journal half written."""
    return name.endswith(".lock") or (name.startswith(f".{BUILDING}.") and name.endswith(".part"))


def _check_empty(folder: Path) -> None:
    with writing(folder):
        strange = [path for path in folder.iterdir() if not is_unimportant(path.name)]
    if (folder / MANIFEST).exists():
        raise ConfigError(
            f"the output folder {str(folder)!r} is an index already; add to it with `nda-index add`, choose another "
            f"folder, or delete it first"
        )
    if strange:
        raise ConfigError(
            f"the output folder {str(folder)!r} holds other files ({strange[0].name!r}); choose a folder that is new "
            f"or empty"
        )

"""Pushing an index: what a place lacks is written there, the manifest last; then what it names no more is deleted.

A pull that reads the earlier manifest meanwhile finds files gone, sees that the manifest has changed, and starts anew.
While a push goes on, `pushing.json` names what it writes, so that a push that was interrupted leaves nothing for good.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from contextlib import ExitStack
from os import PathLike
from pathlib import Path

from nda_index.copies.lineage import StateFile, check_follows, look_there, name_some, read_state, refuse_nothing
from nda_index.copies.place import Counted, Place, delete, has_sha256, list_sizes, open_place, put, read, send
from nda_index.copies.summary import CopySummary, Part, travel
from nda_index.errors import ConfigError, CorruptIndexError, LockedError
from nda_index.paths import as_path
from nda_index.progress import Progress, quiet
from nda_index.store.files import is_left_over
from nda_index.store.folder import MANIFEST, PUSHING, READERS, SHARDS, WRITER_LOCK, is_content
from nda_index.store.hashes import is_intact
from nda_index.store.manifest import join_hashes, lease_manifest


def push_index(path: str | PathLike[str], url: str | PathLike[str], *, progress: Progress | None = None) -> CopySummary:
    """Bring a copy of an index in an object store, or in another folder, up to date.

    Only files that the copy lacks travel. Edits of the index may go on meanwhile: the state that it has at the
    beginning is pushed. Push from one machine only, the one where the index is edited.

    Args:
        path: of the index.
        url: of the copy: s3://BUCKET/PATH, gs://, abfss://, file:// or a folder; see `open_place`.
        progress: is called with ("push", bytes done, bytes in all).

    Returns:
        How many files travelled, how many were deleted there, and which there are no part of an index.

    Raises:
        NotAnIndexError: there is no index at `path`, or there are other things at `url`.
        MismatchError: another index, or a later state of it, lies at `url`.
        CorruptIndexError, VersionError: the index, or the copy, is damaged or of a newer nda_index.
        ConfigError: `url` is no address, or a folder that is read as an index: pull into that.
        LockedError: another push to the same place came in between.
        StorageError: the place cannot be reached or written.

    Example:
        >>> import tempfile, numpy as np, nda_index as nda
        >>> images = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), np.uint8)
        >>> here, there = tempfile.mkdtemp() + "/x.nda", tempfile.mkdtemp() + "/copy"
        >>> nda.build_index(images, here, image_size=16, scales=[nda.Scale(5)], null=0).close()
        >>> nda.push_index(here, there).deleted
        0
        >>> nda.push_index(here, there).files
        0
    """
    folder, place, start = as_path(path, "the index"), open_place(url), time.monotonic()
    report = progress or quiet
    with ExitStack() as leases:
        whole = _lease(folder, leases)
        _look(place, whole)  # before a shard is written there
        shards = [(name, _lease(folder / name, leases)) for name in whole.shards]
        parts = [_push(folder / name, place.below(name), state, report, name) for name, state in shards]
        parts.append(_push(folder, place, whole, report))
    return CopySummary(
        files=sum(part.files for part in parts),
        bytes=sum(part.bytes for part in parts),
        seconds=round(time.monotonic() - start, 3),
        deleted=sum(part.deleted for part in parts),
        foreign=tuple(name for part in parts for name in part.foreign),
        index_hash=join_hashes(parts[-1].sha256, (part.sha256 for part in parts[:-1])),
    )


def _lease(folder: Path, leases: ExitStack) -> StateFile:
    lease, data = lease_manifest(folder)
    leases.callback(lease.release)
    return read_state(data, str(folder))


def _push(folder: Path, place: Place, new: StateFile, report: Progress, shard: str = "") -> Part:
    """Push one folder; files of shards are those of other calls."""
    old, there, begun = _look(place, new)
    known = {} if old is None else {**dict.fromkeys(old.values["obsolete"], ""), **_hashes(old)}
    parts = [name for name in there if is_left_over(name, MANIFEST, PUSHING)]  # of a push to a folder
    ours = {**known, **begun, **dict.fromkeys(parts, "")}  # what pushes have written here
    missing = [name for name in new.files if not _is_there(place, name, new, there, old, begun)]
    foreign = tuple(
        f"{shard}/{name}".lstrip("/") for name in sorted(there) if is_content(name) and name not in {*ours, *new.files}
    )
    stale = [name for name in ours if name in there and name not in new.files]
    size = sum(int(new.files[name]["size"]) for name in missing)
    if old is None or old.data != new.data or missing or stale or PUSHING in there:
        token = secrets.token_hex(8)
        put(place, PUSHING, json.dumps({"token": token, "files": {**ours, **_hashes(new)}}).encode())
        travel("push", missing, size, _sender(folder, place, new), report)
        _check_alone(place, old, token, missing)
        put(place, MANIFEST, new.data)
        delete(place, [*stale, PUSHING])
    return Part(new.sha256, len(missing), size, len(stale), foreign)


def _sender(folder: Path, place: Place, state: StateFile) -> Callable[[str, Counted], None]:
    def move(name: str, counted: Counted) -> None:
        if not is_intact(folder, name, state.files[name]):
            raise CorruptIndexError(
                f"the index {str(folder)!r} is damaged: {name} was changed, and is not pushed; restore the index, or "
                f"pull it from a copy into another folder"
            )
        send(place, folder / name, name, counted)

    return move


def _read_journal(place: Place) -> dict[str, str]:
    """Return what pushes that did not end may have written: hashes by name."""
    try:
        return {str(name): str(sha256) for name, sha256 in json.loads(read(place, PUSHING) or b"")["files"].items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}


def _look(place: Place, new: StateFile) -> tuple[StateFile | None, dict[str, int], dict[str, str]]:
    """Return what is there: the state, the sizes of files, and what pushes that did not end may have written."""
    old, there, begun = look_there(place), list_sizes(place), _read_journal(place)
    others = [name for name in there if not (name.startswith(f"{SHARDS}/") or is_left_over(name, PUSHING))]
    if old is None and PUSHING not in there and others:
        raise refuse_nothing(place)
    if any(name == WRITER_LOCK or name.startswith(f"{READERS}/") for name in there):
        raise ConfigError(
            f"{place.shown!r} is a folder that is opened as an index, whose readers a push would not wait for; update "
            f"it with `nda-index pull`, which does"
        )
    if old is not None:
        check_follows(new, old, place.shown)
    return old, there, begun


def _is_there(
    place: Place,
    name: str,
    new: StateFile,
    there: dict[str, int],
    old: StateFile | None,
    begun: dict[str, str],
) -> bool:
    entry = new.files[name]
    if there.get(name) != entry["size"]:
        return False
    if old is not None and name in old.files:
        return True  # of the same hash, or the state would not follow
    return begun.get(name) == entry["sha256"] and has_sha256(place, name, entry["sha256"])


def _check_alone(place: Place, old: StateFile | None, token: str, sent: list[str]) -> None:
    """Raise `LockedError` where another push came in between, and take back what the other one does not name."""
    journal, now = read(place, PUSHING), look_there(place)
    same = (now and now.data) == (old and old.data)
    if same and journal is not None and f'"{token}"'.encode() in journal:
        return
    named = {} if now is None else now.files
    taken_back = [name for name in sent if name not in named and name not in _read_journal(place)]
    delete(place, taken_back)
    raise LockedError(
        f"another push to {place.shown!r} came in between, and this one gave up ({name_some(taken_back) or 'nothing'} "
        f"taken back); push from one machine, one at a time"
    )


def _hashes(state: StateFile) -> dict[str, str]:
    return {name: str(entry["sha256"]) for name, entry in state.files.items()}

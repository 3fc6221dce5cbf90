"""Pulling a copy of an index: files that the folder lacks are fetched, the manifest last.

The folder is a whole index at any moment, the old one or the new one. Services that have it open go over to the new one
by themselves, and files of the old one are erased as `compact` does it: when nobody has them open.
"""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from os import PathLike
from pathlib import Path

from nda_index.copies.lineage import StateFile, check_follows, look_there, name_some, read_state, refuse_nothing
from nda_index.copies.place import Counted, GoneError, Place, fetch, open_place
from nda_index.copies.summary import CopySummary, Part, travel
from nda_index.errors import ConfigError, CorruptIndexError, NotAnIndexError, StorageError
from nda_index.indexing.compaction import erase_in_time
from nda_index.indexing.edits import erase_unread, list_old
from nda_index.paths import as_path
from nda_index.progress import Progress, quiet
from nda_index.store.audit import audit_path, whoami, write_event
from nda_index.store.files import is_left_over, sync, write_atomically, writing
from nda_index.store.folder import BUILDING, MANIFEST, PULLED, PULLING, WRITER_LOCK, list_files
from nda_index.store.hashes import hash_ends, is_intact, size_problem
from nda_index.store.locks import write_lock
from nda_index.store.manifest import join_hashes, manifest_bytes, read_manifest
from nda_index.store.pulled import Pulled, read_pulled, write_pulled
from nda_index.store.readers import prepare_lease

TRIES = 5  # of a copy that changes meanwhile
FETCHES = 2  # of a file that is damaged on the way


class MovedError(Exception):
    """The copy has another state than the one that is being pulled."""


def pull_index(
    url: str | PathLike[str], path: str | PathLike[str], *, wait: float = 0.0, progress: Progress | None = None
) -> CopySummary:
    """Make a folder a copy of an index, or bring such a copy up to date.

    Only files that the folder lacks travel, and each is checked against its hash. It may be interrupted at any moment,
    and called again. A copy is not edited: where somebody did, it is refused.

    Args:
        url: of the index: where `push_index` put it, or a folder with an index.
        path: folder of the copy.
        wait: seconds to wait for those who have the earlier state open. Services leave it within seconds.
        progress: is called with ("pull", bytes done, bytes in all).

    Returns:
        How many files travelled, how many are old, and who reads those.

    Raises:
        NotAnIndexError: there is no index at `url`, or there are other things at `path`.
        MismatchError: another index, or a later state of it, lies at `path`.
        CorruptIndexError, VersionError: the index at `url` is damaged or half there, or of a newer nda_index.
        ConfigError: `url` is no address, or what is at `path` was not pulled, or was edited since.
        LockedError: another process writes to `path`.
        StorageError: the place cannot be reached, or the disk is full.

    Example:
        >>> import tempfile, numpy as np, nda_index as nda
        >>> images = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), np.uint8)
        >>> here, copy = tempfile.mkdtemp() + "/x.nda", tempfile.mkdtemp() + "/copy.nda"
        >>> nda.build_index(images, here, image_size=16, scales=[nda.Scale(5)], null=0).close()
        >>> _ = nda.pull_index(here, copy)
        >>> _ = nda.remove_images(here, image_ids=[7])
        >>> nda.pull_index(here, copy).files
        1
        >>> len(nda.open_index(copy))
        19
    """
    folder, place, start = as_path(path, "the copy"), open_place(url), time.monotonic()
    report = progress or quiet
    before = (folder / MANIFEST).read_bytes() if (folder / MANIFEST).is_file() else b""
    for _ in range(TRIES):
        try:
            parts = _pull_all(place, folder, report)
            break
        except MovedError:
            continue
    else:
        raise StorageError(
            f"the index at {place.shown!r} changed {TRIES} times while it was pulled; pull it again later"
        )
    folders = [folder / name for name in read_manifest(folder, check_files=False).shards] + [folder]
    left = [erase_in_time(each, wait, report) for each in folders]
    waiting, readers = sum(len(names) for names, _ in left), tuple(str(one) for _, some in left for one in some)
    index_hash = join_hashes(parts[-1].sha256, (part.sha256 for part in parts[:-1]))
    if before != (folder / MANIFEST).read_bytes() or any(part.files for part in parts):
        facts = {"who": whoami(), "index_hash": index_hash, "source": place.shown}
        write_event(audit_path(folder), "pull", **facts, waiting=waiting)
    return CopySummary(
        files=sum(part.files for part in parts),
        bytes=sum(part.bytes for part in parts),
        seconds=round(time.monotonic() - start, 3),
        deleted=sum(part.deleted for part in parts) - waiting,
        waiting=waiting,
        readers=tuple(dict.fromkeys(readers)),
        foreign=tuple(name for part in parts for name in part.foreign),
        index_hash=index_hash,
    )


def _pull_all(place: Place, folder: Path, report: Progress) -> list[Part]:
    """Pull the shards, if there are any, and then the index that names them."""
    whole = _look(place)
    _check_folder(folder, whole)  # before anything is written there
    with writing(folder):
        folder.mkdir(exist_ok=True)
    with write_lock(folder, "a pull"):
        _begin(place, folder, whole)
        parts = [_pull_shard(place.below(name), folder, name, report) for name in whole.shards]
        return [*parts, _pull(place, folder, whole, report)]


def _pull_shard(place: Place, whole: Path, name: str, report: Progress) -> Part:
    state, folder = _look(place), whole / name
    _check_folder(folder, state)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with write_lock(folder, "a pull"):
        _begin(place, folder, state)
        part = _pull(place, folder, state, report)
    return replace(part, foreign=tuple(f"{name}/{file}" for file in part.foreign))


def _look(place: Place) -> StateFile:
    state = look_there(place)
    if state is None:
        raise refuse_nothing(place)
    return state


def _local(folder: Path) -> StateFile | None:
    return read_state(manifest_bytes(folder), str(folder)) if (folder / MANIFEST).is_file() else None


def _check_folder(folder: Path, new: StateFile) -> None:
    """Refuse a folder that this state cannot be put into."""
    old, pulled = _local(folder), read_pulled(folder)
    if old is None:
        names = {path.name for path in folder.glob("*")} - {WRITER_LOCK}
        others = sorted(name for name in names if not is_left_over(name, PULLED))
        if folder.exists() and not folder.is_dir():
            others = ["a file"]
        if others and pulled is None:
            what = "an index that is being built" if BUILDING in others else f"other things ({name_some(others)})"
            raise NotAnIndexError(f"at {str(folder)!r} is {what}, and no copy of an index; pull into a new folder")
        return
    if old.data == new.data:
        return
    check_follows(new, old, str(folder))
    if pulled is None or old.sha256 not in pulled.states:
        what = "was never pulled" if pulled is None else "was edited since it was pulled"
        raise ConfigError(
            f"the index {str(folder)!r} {what}, and a pull would undo its edits; edit the index that is pushed, and "
            f"pull into a new folder"
        )


def _begin(place: Place, folder: Path, new: StateFile) -> None:
    """Check the folder again, under its lock, and write down what is to be done."""
    _check_folder(folder, new)
    with writing(folder):
        for path in [path for path in folder.glob(".*.part") if is_left_over(path.name, PULLED, MANIFEST)]:
            path.unlink()
    old, before = _local(folder), read_pulled(folder) or Pulled(place.shown)
    earlier = [] if old is None else [*old.files, *old.values["obsolete"]]
    names = dict.fromkeys([*earlier, *before.obsolete, *before.fetching])
    obsolete = tuple(name for name in names if name not in new.files and (folder / name).exists())
    states = tuple(dict.fromkeys([*([] if old is None else [old.sha256]), new.sha256]))
    pulled = Pulled(place.shown, states, obsolete, tuple(sorted(new.files)))
    if pulled != before:
        write_pulled(folder, pulled)


def _pull(place: Place, folder: Path, new: StateFile, report: Progress) -> Part:
    """Fetch what is missing, put the manifest, and erase what nobody needs; the caller holds the lock."""
    old = _local(folder)
    missing = [name for name in new.files if not _is_here(folder, name, new, old)]
    size = sum(int(new.files[name]["size"]) for name in missing)
    _drop(folder / PULLING)
    if missing:
        with writing(folder):
            (folder / PULLING).mkdir()
        try:
            travel("pull", missing, size, _fetcher(place, folder, new), report)
        finally:
            _drop(folder / PULLING)
        with writing(folder):
            for parent in sorted({parent for name in missing for parent in (folder / name).parents}, reverse=True):
                if parent.is_relative_to(folder):
                    sync(parent)
    if old is None or old.data != new.data:
        prepare_lease(folder, new.sha256)
        write_atomically(folder / MANIFEST, new.data)
    manifest = read_manifest(folder)
    stale = list_old(folder, manifest)
    foreign = tuple(name for name in list_files(folder) if name not in {*new.files, *stale})
    erase_unread(folder, manifest)
    return Part(new.sha256, len(missing), size, len(stale), foreign)


def _is_here(folder: Path, name: str, new: StateFile, old: StateFile | None) -> bool:
    """Tell whether a file need not be fetched: one of the old state is hashed at its ends, any other to its end."""
    entry = new.files[name]
    if old is not None and name in old.files:
        return size_problem(folder, name, entry) is None and hash_ends(folder / name) == entry.get("ends")
    return (folder / name).is_file() and is_intact(folder, name, entry)


def _fetcher(place: Place, folder: Path, state: StateFile) -> Callable[[str, Counted], None]:
    def move(name: str, counted: Counted) -> None:
        entry, part = state.files[name], folder / PULLING / secrets.token_hex(8)
        problem = f"there is no {name}"
        for _ in range(FETCHES):
            try:
                digest = fetch(place, name, part, counted)
            except GoneError:
                break
            if digest == entry["sha256"]:
                with writing(folder / name):
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    part.replace(folder / name)
                return
            problem = f"{name} is not the file that {MANIFEST} there names"
        now = look_there(place)
        if now is None or now.data != state.data:
            raise MovedError
        raise CorruptIndexError(
            f"the index at {place.shown!r} is damaged: {problem}; the copy {str(folder)!r} stays as it was. Delete the "
            f"file there and push again"
        )

    return move


def _drop(path: Path) -> None:
    if path.exists():
        with writing(path):
            shutil.rmtree(path)

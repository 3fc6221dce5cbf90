"""Changing an index: images are added and removed, and what was removed is erased.

Nothing that a manifest names is changed. An edit writes new files, and one rename of the manifest makes it visible:
readers that are open go on with what they opened, new ones see all of the edit, and an edit that was interrupted leaves
the index as it was. Files are deleted by `erase_old` alone, and only those that no reader needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nda_index.coarse.storage import segment_names
from nda_index.errors import ConfigError
from nda_index.paths import as_path
from nda_index.scales import Scale
from nda_index.store.corpus import Corpus
from nda_index.store.folder import PULLED, list_files, sweep
from nda_index.store.hashes import hash_files
from nda_index.store.locks import write_lock
from nda_index.store.manifest import Manifest, commit, read_manifest
from nda_index.store.pulled import pulled_obsolete, read_pulled
from nda_index.store.readers import Reader, forget_gone, list_readers
from nda_index.store.tombstones import read_removed


@dataclass(frozen=True)
class EditSummary:
    """What an edit did.

    Attributes:
        images: number of images in the index now.
        changed: number of images that were added, removed or erased.
        failures: images that could not be read.
        waiting: files that hold erased images still, because readers are open.
        readers: who these are: process, host, and since when it reads.
        notes: what was changed or left out of a source's columns.
        left_out: what else of a source is not in the index.
        missing: key and reason of the first of what could not be read or was left out.
    """

    images: int
    changed: int
    failures: int = 0
    waiting: int = 0
    readers: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    left_out: int = 0
    missing: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class OpenedIndex:
    """An index that is being edited: its folder, manifest and images, and the ids of removed images, ascending."""

    folder: Path
    manifest: Manifest
    corpus: Corpus
    removed: NDArray[np.int64]

    @property
    def scales(self) -> tuple[Scale, ...]:
        """Scales of the index."""
        return self.manifest.config.scales


@contextmanager
def open_for_edit(path: str | PathLike[str], doing: str = "an edit") -> Iterator[OpenedIndex]:
    """Open an index for its only writer, and clear away what an interrupted writer left.

    Args:
        path: of the index.
        doing: what is done, for others to read.

    Raises:
        ConfigError: the index is in shards, or a copy that was pulled.
        LockedError: another process writes to it.
        NotAnIndexError, VersionError, CorruptIndexError: as `open_index`.
    """
    folder = as_path(path, "the index")
    manifest = read_manifest(folder)  # raises where there is no index, before a lock is put there
    check_not_sharded(folder, manifest)
    with write_lock(folder, doing):
        manifest = read_manifest(folder)
        _check_no_copy(folder)
        sweep(folder, {*manifest.files, *list_old(folder, manifest)})
        corpus = Corpus(folder, manifest.config.shape, manifest.table)
        yield OpenedIndex(folder, manifest, corpus, read_removed(folder, manifest))


def _check_no_copy(folder: Path) -> None:
    if (pulled := read_pulled(folder)) is not None:
        raise ConfigError(
            f"the index {str(folder)!r} is a copy of {pulled.source!r}, and could not be pulled any more if it were "
            f"edited; edit the index that is pushed there, or delete {PULLED} here to make this an index of its own"
        )


def check_not_sharded(folder: Path, manifest: Manifest) -> None:
    """Raise `ConfigError` where an index is in shards: its images are changed there."""
    if manifest.shards:
        raise ConfigError(
            f"the index {str(folder)!r} is in shards, each an index of its own; change one of them, such as "
            f"{str(folder / manifest.shards[-1])!r}"
        )


def commit_edit(opened: OpenedIndex, manifest: Manifest, old: Sequence[str] = ()) -> None:
    """Make an edit visible, and delete old files unless somebody reads them.

    Args:
        opened: the index before the edit.
        manifest: after it; `files` and `obsolete` are filled in.
        old: files that are no part of it any more.
    """
    obsolete = [*list_old(opened.folder, opened.manifest), *old]
    known = opened.manifest.files
    files = hash_files(opened.folder, known, but=obsolete)
    committed = commit(opened.folder, replace(manifest, files=files, obsolete=obsolete, index_hash=""), synced=known)
    erase_unread(opened.folder, committed)


def list_old(folder: Path, manifest: Manifest) -> list[str]:
    """List the files that are no part of an index any more, but were, and are there still."""
    names = [*manifest.obsolete, *pulled_obsolete(folder)]
    return [name for name in dict.fromkeys(names) if name not in manifest.files and (folder / name).exists()]


def erase_old(path: str | PathLike[str]) -> tuple[list[str], list[Reader]]:
    """Erase the files that are no part of an index any more, unless somebody has it open as it was with them.

    Any process may call this, any number of times: the manifest stays as it is.

    Returns:
        The files that are left, and the readers that they wait for.

    Raises:
        LockedError, StorageError: another process writes to the index, or files cannot be deleted.
        NotAnIndexError, VersionError, CorruptIndexError: as `open_index`.
    """
    folder = as_path(path, "the index")
    if not list_old(folder, read_manifest(folder, check_files=False)):
        return [], []
    with write_lock(folder, "erasing old files"):
        return erase_unread(folder, read_manifest(folder, check_files=False))


def erase_unread(folder: Path, manifest: Manifest) -> tuple[list[str], list[Reader]]:
    """Erase old files as `erase_old` does; the caller holds the write lock."""
    old = list_old(folder, manifest)
    earlier = [reader for reader in list_readers(folder) if reader.index_hash != manifest.index_hash]
    if old and earlier:
        return old, earlier
    if old:
        sweep(folder, {*list_files(folder)}.difference(old))
    forget_gone(folder, manifest.index_hash)
    return [], []


def next_segment(opened: OpenedIndex, scale: Scale) -> int:
    """Return the number of the next segment of a scale, which no file has had."""
    names = [*segment_names([*opened.manifest.files, *opened.manifest.obsolete], scale)]
    return 1 + max((int(name[len("lists-") : -len(".arrow")]) for name in names), default=-1)

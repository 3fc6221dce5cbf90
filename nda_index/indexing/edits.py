"""Changing an index: images are added and removed, and what was removed is erased.

Nothing that a manifest names is changed. An edit writes new files, and one rename of the manifest makes it visible:
readers that are open go on with what they opened, new ones see all of the edit, and an edit that was interrupted leaves
the index as it was. `compact` alone deletes files, and only those that no reader needs.
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
from nda_index.scales import Scale
from nda_index.store.corpus import Corpus
from nda_index.store.folder import sweep
from nda_index.store.hashes import hash_files
from nda_index.store.locks import without_readers, write_lock
from nda_index.store.manifest import Manifest, commit, read_manifest
from nda_index.store.tombstones import read_removed


@dataclass(frozen=True)
class EditSummary:
    """What an edit did.

    Attributes:
        images: number of images in the index now.
        changed: number of images that were added, removed or erased.
        failures: images that could not be read.
        waiting: files that hold erased images still, because readers are open.
        notes: what was changed or left out of a source's columns.
        left_out: what else of a source is not in the index.
        missing: key and reason of the first of what could not be read or was left out.
    """

    images: int
    changed: int
    failures: int = 0
    waiting: int = 0
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
def open_for_edit(path: str | PathLike[str]) -> Iterator[OpenedIndex]:
    """Open an index for its only writer, and clear away what an interrupted writer left.

    Raises:
        ConfigError: the index is in shards.
        LockedError: another process writes to it.
        NotAnIndexError, VersionError, CorruptIndexError: as `open_index`.
    """
    folder = Path(path)
    manifest = read_manifest(folder)  # raises where there is no index, before a lock is put there
    check_not_sharded(folder, manifest)
    with write_lock(folder):
        manifest = read_manifest(folder)
        sweep(folder, {*manifest.files, *manifest.obsolete})
        corpus = Corpus(folder, manifest.config.shape, manifest.table)
        yield OpenedIndex(folder, manifest, corpus, read_removed(folder, manifest))


def check_not_sharded(folder: Path, manifest: Manifest) -> None:
    """Raise `ConfigError` where an index is in shards: its images are changed there."""
    if manifest.shards:
        raise ConfigError(
            f"the index {str(folder)!r} is in shards, each an index of its own; change one of them, such as "
            f"{str(folder / manifest.shards[-1])!r}"
        )


def commit_edit(opened: OpenedIndex, manifest: Manifest, old: Sequence[str] = ()) -> int:
    """Make an edit visible, and delete old files unless there are readers.

    Args:
        opened: the index before the edit.
        manifest: after it; `files` and `obsolete` are filled in.
        old: files that are no part of it any more.

    Returns:
        The number of files that wait for readers.
    """
    obsolete = [*opened.manifest.obsolete, *old]
    known = opened.manifest.files
    files = hash_files(opened.folder, known, but=obsolete)
    committed = commit(opened.folder, replace(manifest, files=files, obsolete=obsolete, index_hash=""), synced=known)
    if not obsolete:
        return 0
    with without_readers(opened.folder) as alone:
        if not alone:
            return len(obsolete)
        sweep(opened.folder, committed.files)
        commit(opened.folder, replace(committed, obsolete=[], index_hash=""), synced=committed.files)
    return 0


def next_segment(opened: OpenedIndex, scale: Scale) -> int:
    """Return the number of the next segment of a scale, which no file has had."""
    names = [*segment_names([*opened.manifest.files, *opened.manifest.obsolete], scale)]
    return 1 + max((int(name[len("lists-") : -len(".arrow")]) for name in names), default=-1)

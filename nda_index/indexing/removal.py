"""Removing images from an index: they are named in a file of tombstones, and their bytes wait for `compact`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence, Sized
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nda_index.errors import ConfigError, QueryError
from nda_index.indexing.edits import EditSummary, OpenedIndex, check_not_sharded, commit_edit, open_for_edit
from nda_index.paths import as_path
from nda_index.store.audit import audit_path, check_writable, whoami, write_event
from nda_index.store.corpus import Corpus
from nda_index.store.manifest import read_manifest
from nda_index.store.names import check_hashes, check_ids, check_keys, missing_key
from nda_index.store.tombstones import FEATURE, read_removed, write_removed


@dataclass(frozen=True)
class RemovalSummary(EditSummary):
    """What was removed, or would be.

    Attributes:
        image_ids: of the images, ascending.
        keys: of the same images.
        found: how many images each given key has.
        found_pixels: how many images have the pixels of each given hash.
        dry_run: nothing was removed.
    """

    image_ids: tuple[int, ...] = field(default=(), repr=False)
    keys: tuple[str, ...] = field(default=(), repr=False)
    found: dict[str, int] = field(default_factory=dict)
    found_pixels: dict[str, int] = field(default_factory=dict)
    dry_run: bool = False


@dataclass(frozen=True)
class _Wanted:
    """What says which images to remove, checked, but for ids."""

    image_ids: Sequence[int] | NDArray[np.int64]
    keys: list[str]
    hashes: list[str]
    where: str | None


def remove_images(
    path: str | PathLike[str],
    *,
    image_ids: Sequence[int] | NDArray[np.int64] = (),
    keys: Sequence[str] = (),
    pixel_hashes: Sequence[str] = (),
    where: str | None = None,
    dry_run: bool = False,
) -> RemovalSummary:
    """Remove images: whoever opens the index from now on never gets them, and they take part in no softmax.

    Their pixels stay in the files until `compact` is called.

    Args:
        path: of the index.
        image_ids, keys: of the images. A key that several images have removes them all.
        pixel_hashes: sha256 of their pixels as they were indexed, in hexadecimal, as the audit log names what was
            removed: so it is removed again from an older copy. A hash that no image has is passed over, and counted in
            the result, as that copy need not have them all.
        where: condition on the metadata columns, as for `Index.attribute`.
        dry_run: find the images and remove none.

    Returns:
        How many were removed, and which.

    Raises:
        QueryError: an id or a key is not there, `where` is not a condition or finds nothing, nor do the hashes, or
            nothing would be left.
        ConfigError: nothing is said of what to remove; ids are no whole numbers; keys are one text; a hash is none.
        LockedError, StorageError, NotAnIndexError, VersionError, CorruptIndexError: as `add_images`.

    Example:
        >>> import tempfile, numpy as np, nda_index as nda
        >>> images = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), np.uint8)
        >>> path = tempfile.mkdtemp() + "/x.nda"
        >>> index = nda.build_index(images, path, image_size=16, scales=[nda.Scale(5)], null=0)
        >>> nda.remove_images(path, image_ids=[7], dry_run=True).keys
        ('00000007',)
        >>> nda.remove_images(path, image_ids=[7]).images
        19
        >>> 7 in nda.open_index(path).attribute(images[7], timestep=50, top=19).image_ids
        False
    """
    wanted = _Wanted(image_ids, check_keys(keys), check_hashes(pixel_hashes), where)
    if isinstance(image_ids, Sized) and not (len(image_ids) or wanted.keys or wanted.hashes or where is not None):
        raise ConfigError("neither image_ids nor keys, pixel_hashes or where is given; say which images to remove")
    if dry_run:
        return _choose(_look_at(as_path(path, "the index")), wanted, dry_run=True)
    with open_for_edit(path) as opened:
        summary = _choose(opened, wanted, dry_run=False)
        chosen = np.array(summary.image_ids)
        audit, hashes = audit_path(opened.folder), opened.corpus.hashes(chosen)
        check_writable(audit)  # before anything is removed
        removed = np.union1d(opened.removed, chosen)
        manifest = replace(
            opened.manifest,
            removed=write_removed(opened.folder, removed),
            features=sorted({*opened.manifest.features, FEATURE}),
            counts={**opened.manifest.counts, "removed": len(removed)},
        )
        commit_edit(opened, manifest, [opened.manifest.removed] if opened.manifest.removed else [])
        facts = {"who": whoami(), "index_hash": opened.manifest.index_hash, "images": summary.changed}
        write_event(audit, "removal", **facts, pictures=hashes)
        return summary


def _look_at(folder: Path) -> OpenedIndex:
    """Open an index without becoming its writer."""
    manifest = read_manifest(folder)
    check_not_sharded(folder, manifest)
    corpus = Corpus(folder, manifest.config.shape, manifest.table)
    return OpenedIndex(folder, manifest, corpus, read_removed(folder, manifest))


def _choose(opened: OpenedIndex, wanted: _Wanted, dry_run: bool) -> RemovalSummary:
    """Find the images that are to be removed."""
    present = np.ones(opened.corpus.count, np.bool_)
    present[opened.removed] = False
    chosen, found = np.unique(check_ids("image_ids", wanted.image_ids, present)), dict[str, int]()
    found_pixels = dict.fromkeys(wanted.hashes, 0)
    if wanted.keys:
        by_key = opened.corpus.with_keys(wanted.keys)
        by_key = by_key[present[by_key]]
        names = opened.corpus.rows(by_key)[0]
        if (error := missing_key(wanted.keys, set(names))) is not None:
            raise error
        found |= Counter(names)
        chosen = np.union1d(chosen, by_key)
    if wanted.hashes:
        by_pixels = opened.corpus.with_hashes(wanted.hashes)
        by_pixels = by_pixels[present[by_pixels]]
        found_pixels |= Counter(opened.corpus.hashes(by_pixels))
        if len(by_pixels) == 0:
            raise QueryError(
                f"pixel_hashes has {wanted.hashes[0]}, and no image of the index has these pixels; the audit log names "
                f"them in lines `removal` (those of its questions are of files)"
            )
        chosen = np.union1d(chosen, by_pixels)
    if wanted.where is not None:
        where = wanted.where
        fulfilling = opened.corpus.matching(where)
        fulfilling = fulfilling[present[fulfilling]]
        if len(fulfilling) == 0:
            raise QueryError(f"where is {where!r}, which no image fulfils; nothing is removed, relax the condition")
        chosen = np.union1d(chosen, fulfilling)
    left = int(present.sum()) - len(chosen)
    if left == 0:
        raise QueryError(f"all {len(chosen)} images would be removed; delete the folder {str(opened.folder)!r} instead")
    return RemovalSummary(
        left + len(chosen) * dry_run,
        len(chosen),
        image_ids=tuple(chosen.tolist()),
        keys=opened.corpus.rows(chosen)[0],
        found=found,
        found_pixels=found_pixels,
        dry_run=dry_run,
    )

"""Removing images from an index: they are named in a file of tombstones, and their bytes wait for `compact`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from os import PathLike

import numpy as np
from numpy.typing import NDArray

from nda_index.errors import ConfigError, QueryError
from nda_index.indexing.edits import EditSummary, commit_edit, open_for_edit
from nda_index.store.corpus import Corpus
from nda_index.store.tombstones import FEATURE, write_removed


def remove_images(
    path: str | PathLike[str],
    *,
    image_ids: Sequence[int] | NDArray[np.int64] = (),
    keys: Sequence[str] = (),
    where: str | None = None,
) -> EditSummary:
    """Remove images: whoever opens the index from now on never gets them, and they take part in no softmax.

    Their pixels stay in the files until `compact` is called.

    Args:
        path: of the index.
        image_ids, keys: of the images. A key that several images have removes them all.
        where: SQL condition on the metadata columns.

    Returns:
        How many were removed.

    Raises:
        QueryError: an id or a key is not there, `where` is not a condition, or nothing would be left.
        ConfigError: nothing is said of what to remove.
        LockedError, StorageError, NotAnIndexError, VersionError, CorruptIndexError: as `add_images`.

    Example:
        >>> import tempfile, numpy as np, nda_index as nda
        >>> images = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), np.uint8)
        >>> path = tempfile.mkdtemp() + "/x.nda"
        >>> index = nda.build_index(images, path, image_size=16, scales=[nda.Scale(5)], null=0)
        >>> nda.remove_images(path, image_ids=[7]).images
        19
        >>> 7 in nda.open_index(path).attribute(images[7], timestep=50, top=19).image_ids
        False
    """
    if len(image_ids) == 0 and len(keys) == 0 and where is None:
        raise ConfigError("neither image_ids nor keys nor where is given; say which images to remove")
    with open_for_edit(path) as opened:
        chosen = np.unique(np.asarray(image_ids, np.int64))
        known = np.setdiff1d(np.arange(opened.corpus.count), opened.removed, assume_unique=True)
        unknown = np.setdiff1d(chosen, known)
        if len(unknown):
            raise QueryError(f"image_ids has {unknown[0]}, which the index does not hold; give ids of its images")
        if len(keys):
            chosen = np.union1d(chosen, _find_keys(opened.corpus, keys, known))
        if where is not None:
            chosen = np.union1d(chosen, np.intersect1d(opened.corpus.matching(where), known))
        if len(chosen) == len(known):
            raise QueryError(f"all {len(known)} images would be removed; delete the folder {str(path)!r} instead")
        if len(chosen) == 0:
            return EditSummary(len(known), 0)
        audit, hashes = audit_path(opened.folder), opened.corpus.hashes(chosen)
        check_writable(audit)  # before anything is removed
        removed = np.union1d(opened.removed, chosen)
        taken = [*opened.manifest.files, *opened.manifest.obsolete]
        manifest = replace(
            opened.manifest,
            removed=write_removed(opened.folder, removed, taken),
            features=sorted({*opened.manifest.features, FEATURE}),
            counts={**opened.manifest.counts, "removed": len(removed)},
        )
        commit_edit(opened, manifest, [opened.manifest.removed] if opened.manifest.removed else [])
        facts = {"who": whoami(), "index_hash": opened.manifest.index_hash, "images": len(chosen)}
        write_event(audit, "removal", **facts, pictures=hashes)
        return EditSummary(opened.corpus.count - len(removed), len(chosen))


def _find_keys(corpus: Corpus, keys: Sequence[str], known: NDArray[np.int64]) -> NDArray[np.int64]:
    found = np.intersect1d(corpus.with_keys(keys), known)
    missing = set(keys) - set(corpus.rows(found)[0])
    if missing:
        raise QueryError(f"keys has {min(missing)!r}, which no image of the index has; give keys as answers show them")
    return found

"""What an index on disk holds, as a service must know it: when images are removed, what shows them must go."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nda_index.store.corpus import Corpus
from nda_index.store.folder import MANIFEST
from nda_index.store.manifest import merge_manifests, read_manifest
from nda_index.store.tombstones import read_removed

Stamp = tuple[tuple[int, int, int], ...]


def stamp(folder: Path) -> Stamp:
    """Return a value that changes whenever a new manifest is committed, in the folder or in one of its shards.

    It reads no file, only their inode, time and size, so it is cheap enough to call every second.
    """
    paths = [folder / MANIFEST, *sorted(folder.glob(f"shards/*/{MANIFEST}"))]
    statuses = (path.stat() for path in paths if path.exists())
    return tuple((status.st_ino, status.st_mtime_ns, status.st_size) for status in statuses)


def state(folder: Path) -> tuple[str, str]:
    """Return the hash of the index on disk, and its collection.

    The collection is a text that changes when images are removed, but not when images are added.

    Raises:
        NdaIndexError: as `open_index`.
    """
    manifest = read_manifest(folder)
    parts = [read_manifest(folder / name) for name in manifest.shards]
    whole = merge_manifests(folder, parts) if parts else manifest
    facts = [
        (part.config.to_json(), part.table.get("name"), part.files.get(part.removed, {}).get("sha256"))
        for part in (parts or [manifest])
    ]
    return whole.index_hash, hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def present_images(folder: Path, keys: Sequence[str]) -> dict[str, list[int]]:
    """Return which images of the index on disk have some keys; a key that none has is left out.

    Raises:
        NdaIndexError: as `open_index`.
    """
    whole = read_manifest(folder)
    found: dict[str, list[int]] = {}
    start = 0
    for part in [folder / name for name in whole.shards] or [folder]:
        manifest = read_manifest(part)
        corpus = Corpus(part, manifest.config.shape, manifest.table)
        image_ids = np.setdiff1d(corpus.with_keys(keys), read_removed(part, manifest)) if keys else np.empty(0, int)
        for key, image_id in zip(corpus.rows(image_ids)[0], image_ids.tolist(), strict=True):
            found.setdefault(key, []).append(start + image_id)
        start += corpus.count
    return found

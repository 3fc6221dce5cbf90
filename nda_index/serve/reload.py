"""Whether the index on disk is another one than the one that is open, and whether images have gone since."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from nda_index.index import Index
from nda_index.store.folder import MANIFEST
from nda_index.store.manifest import merge_manifests, read_manifest

Stamp = tuple[tuple[int, int, int], ...]


def stamp(folder: Path) -> Stamp:
    """Changes whenever a new manifest is committed, in the folder or in one of its shards; cheap to ask for."""
    paths = [folder / MANIFEST, *sorted(folder.glob(f"shards/*/{MANIFEST}"))]
    found = (path.stat() for path in paths if path.exists())
    return tuple((status.st_ino, status.st_mtime_ns, status.st_size) for status in found)


def state(folder: Path) -> tuple[str, str]:
    """What is on disk: the index hash, and a text that changes when images are removed, not when some are added.

    Raises:
        NdaIndexError: as `open_index`.
    """
    manifest = read_manifest(folder)
    parts = [read_manifest(folder / name) for name in manifest.shards]
    whole = merge_manifests(folder, parts) if parts else manifest
    facts = [
        (part.config, part.table.get("name"), part.files.get(part.removed, {}).get("sha256"))
        for part in (parts or [manifest])
    ]
    return whole.index_hash, hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def open_state(folder: Path, reopen: Callable[[Path], Index]) -> tuple[Index, str]:
    """The index on disk and the collection that it belongs to, of one moment.

    Raises:
        NdaIndexError: as `reopen`.
    """
    while True:
        index = reopen(folder)
        index_hash, collection = state(folder)
        if index_hash == index.manifest.index_hash:
            return index, collection
        index.close()  # it has changed in between

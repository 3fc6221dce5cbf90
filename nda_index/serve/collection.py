"""What an index on disk holds, as a service must know it: when images are removed, what shows them must go."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from nda_index.store.folder import MANIFEST
from nda_index.store.manifest import merge_manifests, read_manifest

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

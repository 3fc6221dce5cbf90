"""Whether the index on disk is another one than the one that is open, and whether images have gone since."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from nda_index.manifest import MANIFEST, read_manifest

Stamp = tuple[tuple[int, int, int], ...]


def stamp(folder: Path) -> Stamp:
    """Changes whenever a new manifest is committed, in the folder or in one of its shards; cheap to ask for."""
    paths = [folder / MANIFEST, *sorted(folder.glob(f"shards/*/{MANIFEST}"))]
    found = (path.stat() for path in paths if path.exists())
    return tuple((status.st_ino, status.st_mtime_ns, status.st_size) for status in found)


def collection(folder: Path) -> str:
    """Changes when images are removed or compacted away, not when some are added.

    Raises:
        NdaIndexError: as `read_manifest`.
    """
    manifest = read_manifest(folder)
    parts = [manifest, *(read_manifest(folder / name) for name in manifest.shards)]
    facts = [
        (part.config, part.table.get("name"), part.files.get(part.removed, {}).get("sha256"), part.shards)
        for part in parts
    ]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

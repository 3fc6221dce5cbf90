"""An index's folder: the names of its files, what lies there, and what is left over."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path

from nda_index.store.files import writing

MANIFEST = "manifest.json"
BUILDING = "building.json"  # is there while a build goes on, or was interrupted
SHARDS = "shards"  # folder of the indexes that a collection is divided into
READERS = "readers"  # folder of a file for each reader
WRITER_LOCK, READERS_LOCK = "writer.lock", "readers.lock"  # the latter: of readers of version 0.1.0
PULLED = "pulled.json"  # of a copy: what `pull` brought here, and from where
PULLING = "pulling"  # folder of the files that a pull fetches
PUSHING = "pushing.json"  # in an object store: what a push writes there
_LANCE_HINT = "latest_version_hint.json"  # a shortcut that Lance makes again

_NO_CONTENT = (MANIFEST, BUILDING, PULLED, PUSHING, WRITER_LOCK, READERS_LOCK, _LANCE_HINT)


def sweep(folder: Path, keep: Container[str]) -> None:
    """Delete every file that is not to be kept, and empty folders; those of shards and readers are left alone.

    Args:
        folder: of an index. The caller holds its write lock.
        keep: names of files, as `list_files` gives them.

    Raises:
        StorageError: a file cannot be deleted.
    """
    stray = [name for name in list_files(folder) if name not in keep]
    with writing(folder):
        for name in stray:
            (folder / name).unlink(missing_ok=True)
        inside = [path for path in folder.rglob("*") if path.relative_to(folder).parts[0] not in (SHARDS, READERS)]
        for path in inside:
            if path.name == _LANCE_HINT:
                path.unlink()
        for path in sorted(inside, reverse=True):  # the deepest first
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()


def whole_index(folder: Path) -> Path:
    """Return the absolute folder of the index that a folder is, or is a shard of.

    Example:
        >>> whole_index(Path("/a.nda/shards/00003")), whole_index(Path("/a.nda"))
        (PosixPath('/a.nda'), PosixPath('/a.nda'))
    """
    folder = folder.resolve()
    return folder.parents[1] if folder.parent.name == SHARDS else folder


def list_files(folder: Path) -> list[str]:
    """List the files that make up an index, by relative path with "/": no locks, no manifest, no shards."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    return sorted(filter(is_content, names))


def is_content(name: str) -> bool:
    """Tell whether a file in an index's folder is not a lock, a manifest or a shard's, by its relative path.

    Example:
        >>> is_content("scales/p7r1/lists-00000.arrow"), is_content("writer.lock"), is_content("readers/1.lock")
        (True, False, False)
    """
    return name.rpartition("/")[2] not in _NO_CONTENT and not name.startswith((f"{SHARDS}/", f"{READERS}/"))

"""The manifest of an index: what is in the folder, with the hash of every file. It is written last, by rename.

Files are never changed once a manifest names them. Whoever changes an index writes new ones, and a new manifest makes
them visible at once; files that no manifest names were left by an interrupted writer, and `sweep` deletes them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nda_index.errors import CorruptIndexError, NotAnIndexError, VersionError
from nda_index.progress import Progress
from nda_index.store.files import sync, write_atomically, writing

FORMAT_VERSION = 1
FEATURES = ("removed", "shards")  # features of the format that this version of nda_index knows, beyond version 1

MANIFEST = "manifest.json"
BUILDING = "building.json"  # stands in the folder while a build goes on
SHARDS = "shards"  # folder of the indexes that a collection is divided into
WRITER_LOCK, READERS_LOCK = "writer.lock", "readers.lock"
_LANCE_HINT = "latest_version_hint.json"  # a shortcut that Lance makes again
_NO_CONTENT = (MANIFEST, BUILDING, WRITER_LOCK, READERS_LOCK, _LANCE_HINT)
ENDS = 1 << 16
_SELF_HASH = "manifest_sha256"


@dataclass(frozen=True)
class Manifest:
    """What `manifest.json` says.

    Attributes:
        config: the settings of the build, as JSON values.
        counts: numbers of images, failures and patches.
        files: for every other file of the folder, by relative path with "/": its "size" in bytes, its "sha256", and
            "ends": the sha256 of its first and its last 64 KiB, checked whenever the index is opened.
        table: "name" and "version" of the Lance table of images.
        removed: file of the ids of removed images; empty if there is none.
        shards: folders of the indexes that the collection is divided into; none if it is not.
        obsolete: files that are no part of the index any more, but were when readers opened it that may still go on.
        features: names of format features that a reader must know.
        tuning: what `nda_index.tune` measured and chose; empty until then.
        version: version of nda_index that wrote it.
        format_version: version of the format on disk.
        index_hash: sha256 of the manifest file; empty until it is written. It names the index's whole content.
    """

    config: dict[str, Any]
    counts: dict[str, Any]
    files: dict[str, dict[str, Any]]
    table: dict[str, Any]
    removed: str = ""
    shards: list[str] = field(default_factory=list)
    obsolete: list[str] = field(default_factory=list)
    features: list[str] = field(default_factory=list)
    tuning: dict[str, Any] = field(default_factory=dict)
    version: str = ""
    format_version: int = FORMAT_VERSION
    index_hash: str = ""


def commit(folder: Path, manifest: Manifest, synced: Container[str] = ()) -> Manifest:
    """Write the manifest, which makes the folder an index; `index_hash` is filled in.

    Args:
        folder: of the index.
        manifest: what is in it.
        synced: names of files that are on disk for certain, such as those of the manifest before.

    Raises:
        StorageError: the disk is full or cannot be written.
    """
    data = _serialised({key: value for key, value in asdict(manifest).items() if key != "index_hash"})
    with writing(folder):
        for name in manifest.files:
            if name not in synced:
                sync(folder / name)
    write_atomically(folder / MANIFEST, data)
    (folder / BUILDING).unlink(missing_ok=True)
    return read_manifest(folder)


def sweep(folder: Path, keep: Container[str]) -> None:
    """Delete every file that is not to be kept, and empty folders. Only for who holds the write lock.

    Raises:
        StorageError: a file cannot be deleted.
    """
    stray = [name for name in _file_names(folder) if name not in keep]
    with writing(folder):
        for name in stray:
            (folder / name).unlink(missing_ok=True)
        for path in folder.rglob(_LANCE_HINT):
            path.unlink()
        for path in sorted(folder.rglob("*"), reverse=True):  # the deepest first
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()


def read_manifest(folder: Path) -> Manifest:
    """Read a folder's manifest, and check that its files are there, with their sizes and ends.

    Raises:
        NotAnIndexError: there is none; the message says whether a build was interrupted.
        VersionError: it was written by a newer nda_index.
        CorruptIndexError: it was changed, or a file is missing or has another size.
    """
    data = _manifest_bytes(folder)
    values = _parsed(data)
    if values is None:
        raise CorruptIndexError(f"{folder / MANIFEST} was changed after the build; restore the index from a copy")
    _check_version(folder, values)
    values.pop(_SELF_HASH)
    manifest = Manifest(**values, index_hash=hashlib.sha256(data).hexdigest())
    for name, expected in manifest.files.items():
        problem = _size_problem(folder, name, expected)
        if problem is None and _sha256_of_ends(folder / name) != expected.get("ends"):
            problem = f"{name} is not the file of the build"
        if problem:
            raise CorruptIndexError(f"the index {str(folder)!r} is damaged: {problem}; restore it, or build it again")
    return manifest


def hash_files(
    folder: Path, known: Mapping[str, dict[str, Any]] | None = None, but: Container[str] = ()
) -> dict[str, dict[str, Any]]:
    """Size and hashes of every file in the folder `but` some, by relative path, the manifest itself left out.

    Files are never changed, so those that are `known` are not read again.
    """
    known = known or {}
    return {name: known.get(name) or hash_file(folder, name) for name in _file_names(folder) if name not in but}


def hash_file(folder: Path, name: str) -> dict[str, Any]:
    """Size and hashes of one file."""
    path = folder / name
    return {"size": path.stat().st_size, "sha256": _sha256(path), "ends": _sha256_of_ends(path)}


def is_intact(folder: Path, name: str, expected: dict[str, Any]) -> bool:
    """Whether a file is as it was when it was hashed."""
    return _size_problem(folder, name, expected) is None and _sha256(folder / name) == expected["sha256"]


def verify(folder: Path, progress: Progress | None = None) -> list[str]:
    """Hash every file again and compare, those of shards too.

    Args:
        folder: an index.
        progress: is called with ("verify", bytes done, bytes in all).

    Returns:
        One line for each file that is changed, missing, truncated or does not belong there; none if all is well.

    Raises:
        NotAnIndexError, VersionError: as `read_manifest`. A damaged manifest is the one line of the result.
    """
    values = _parsed(_manifest_bytes(folder))
    if values is None:
        return [f"{MANIFEST} was changed after the build; the other files cannot be checked without it"]
    _check_version(folder, values)
    manifest_files, problems = values["files"], []
    total = sum(int(entry["size"]) for entry in manifest_files.values())
    done = 0
    for name, expected in sorted(manifest_files.items()):
        problem = _size_problem(folder, name, expected)
        if problem is None and _sha256(folder / name) != expected["sha256"]:
            problem = f"{name} was changed: its sha256 is not the one of the build"
        if problem:
            problems.append(problem)
        done += int(expected["size"])
        if progress:
            progress("verify", done, total)
    for shard in values["shards"]:
        problems += [f"{shard}: {problem}" for problem in verify(folder / shard, progress)]
    for name in _file_names(folder):
        if name in values["obsolete"]:
            problems.append(
                f"{name} holds what was compacted away; close the readers and run `nda-index compact` again"
            )
        elif name not in manifest_files:
            problems.append(f"{name} does not belong to the index; the next add, remove or compact deletes it")
    return problems


def _manifest_bytes(folder: Path) -> bytes:
    if not folder.exists():
        raise NotAnIndexError(f"there is no index at {str(folder)!r}; build one with `nda-index build SOURCE {folder}`")
    try:
        return (folder / MANIFEST).read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        if (folder / BUILDING).exists():
            raise NotAnIndexError(
                f"{str(folder)!r} is no index yet: its build was interrupted; run the same build again with --resume"
            ) from error
        raise NotAnIndexError(
            f"{str(folder)!r} is no index: it has no {MANIFEST}; give the folder that `nda-index build` wrote"
        ) from error
    except OSError as error:
        raise NotAnIndexError(f"{folder / MANIFEST} cannot be read: {error.strerror}; check its permissions") from error


def _parsed(data: bytes) -> dict[str, Any] | None:
    """The values of a manifest, or None where a byte of it is not as it was written."""
    try:
        values = json.loads(data)
    except ValueError:
        return None
    if not isinstance(values, dict) or _SELF_HASH not in values:
        return None
    return values if _serialised({key: value for key, value in values.items() if key != _SELF_HASH}) == data else None


def _check_version(folder: Path, values: dict[str, Any]) -> None:
    version, unknown = values["format_version"], sorted(set(values["features"]) - set(FEATURES))
    if version > FORMAT_VERSION or unknown:
        what = f"format version {version}" if version > FORMAT_VERSION else f"the features {', '.join(unknown)}"
        raise VersionError(
            f"the index {str(folder)!r} has {what}, this nda_index reads up to format version {FORMAT_VERSION}; "
            f"upgrade nda_index (the index was written by version {values['version']})"
        )


def _serialised(values: dict[str, Any]) -> bytes:
    """The one form in which these values are written, so that any changed byte shows, with its own hash inside."""
    body = json.dumps(values, sort_keys=True)
    digest = hashlib.sha256(body.encode()).hexdigest()
    return (json.dumps({**values, _SELF_HASH: digest}, sort_keys=True, indent=1) + "\n").encode()


def _size_problem(folder: Path, name: str, expected: dict[str, Any]) -> str | None:
    path = folder / name
    if not path.is_file():
        return f"{name} is missing"
    size = path.stat().st_size
    if size != expected["size"]:
        return f"{name} has {size} bytes, not {expected['size']}"
    return None


def _file_names(folder: Path) -> list[str]:
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    return sorted(
        name for name in names if name.rpartition("/")[2] not in _NO_CONTENT and not name.startswith(f"{SHARDS}/")
    )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for chunk in iter(lambda: file.read(1 << 20), b""):
            digest.update(chunk)
    return digest.hexdigest()


def _sha256_of_ends(path: Path) -> str:
    """Of a file's first and last bytes: of all of a small file, and enough to know a large one, in no time."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        digest.update(file.read(ENDS))
        file.seek(max(ENDS, path.stat().st_size - ENDS))
        digest.update(file.read(ENDS))
    return digest.hexdigest()

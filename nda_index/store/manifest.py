"""The manifest of an index: what is in the folder, with the hash of every file. It is written last, by rename.

Files are never changed once a manifest names them. Whoever changes an index writes new ones, and a new manifest makes
them visible at once; files that no manifest names were left by an interrupted writer, and `sweep` deletes them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from nda_index.errors import CorruptIndexError, MismatchError, NotAnIndexError, VersionError, find_remedy
from nda_index.paths import is_address
from nda_index.store.config import IndexConfig
from nda_index.store.files import sync, write_atomically, writing
from nda_index.store.folder import BUILDING, MANIFEST, PULLED
from nda_index.store.hashes import hash_ends, size_problem
from nda_index.store.locks import find_writer
from nda_index.store.readers import ReadLease, prepare_lease

FORMAT_VERSION = 1
FEATURES = ("removed", "shards", "evidence", "pictures", "latents")  # of the format, that are known beyond version 1

COUNTS = ("images", "removed", "failures", "left_out")  # the last is not in manifests of version 0.1.0
_SELF_HASH = "manifest_sha256"


@dataclass(frozen=True)
class Manifest:
    """What `manifest.json` says.

    Attributes:
        config: the settings of the build.
        counts: numbers of images, removed ones among them, failures, and what else of the sources was left out.
        files: for every other file of the folder, by relative path with "/": its "size" in bytes, its "sha256", and
            "ends": the sha256 of its first and its last 64 KiB, checked whenever the index is opened.
        table: "name" and "version" of the Lance table of images.
        removed: file of the ids of removed images; empty if there is none.
        shards: folders of the indexes that the collection is divided into; none if it is not.
        obsolete: files that are no part of the index any more, but were when readers opened it that may still go on.
        features: names of format features that a reader must know.
        tuning: what `nda_index.evaluate.tuning` measured and chose; empty until then.
        version: version of nda_index that wrote it.
        format_version: version of the format on disk.
        index_hash: sha256 of the manifest file; empty until it is written. It names the index's whole content.
    """

    config: IndexConfig
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
    values = {**asdict(manifest), "config": manifest.config.to_json()}
    del values["index_hash"]
    data = _serialise(values)
    with writing(folder):
        for name in manifest.files:
            if name not in synced:
                sync(folder / name)
    prepare_lease(folder, hashlib.sha256(data).hexdigest())
    write_atomically(folder / MANIFEST, data)
    (folder / BUILDING).unlink(missing_ok=True)
    return read_manifest(folder)


def read_manifest(folder: Path, *, check_files: bool = True) -> Manifest:
    """Read a folder's manifest, and check that its files are there, with their sizes and ends.

    Raises:
        NotAnIndexError: there is none; the message says whether a build was interrupted.
        VersionError: it was written by a newer nda_index.
        CorruptIndexError: it was changed, or a file is missing or has another size.
    """
    data = manifest_bytes(folder)
    values = parse_manifest(data)
    if values is None:
        raise CorruptIndexError(f"{folder / MANIFEST} was changed after the build; restore the index from a copy")
    check_version(folder, values)
    values.pop(_SELF_HASH)
    config = IndexConfig.from_json(values.pop("config"))
    manifest = Manifest(config, **values, index_hash=hashlib.sha256(data).hexdigest())
    for name, expected in manifest.files.items() if check_files else ():
        try:
            problem = size_problem(folder, name, expected)
            if problem is None and hash_ends(folder / name) != expected.get("ends"):
                problem = f"{name} is not the file of the build"
        except OSError as error:
            remedy = find_remedy(error, "restore it, or build it again")
            raise CorruptIndexError(
                f"the index {str(folder)!r} cannot be read: {name}: {error.strerror}; {remedy}"
            ) from error
        if problem:
            raise CorruptIndexError(f"the index {str(folder)!r} is damaged: {problem}; restore it, or build it again")
    return manifest


def merge_manifests(folder: Path, parts: Sequence[Manifest]) -> Manifest:
    """Read the manifest of an index in shards, with the counts and hashes of the shards as they are now.

    Args:
        folder: of the whole index.
        parts: the shards' manifests, in its order.

    Raises:
        MismatchError: the shards do not have the same cells.
        NotAnIndexError, VersionError, CorruptIndexError: as `read_manifest`.
    """
    manifest = read_manifest(folder)
    for part, name in zip(parts, manifest.shards, strict=True):
        for file, expected in manifest.files.items():
            if file.startswith("scales/") and part.files.get(file, {}).get("sha256") != expected["sha256"]:
                raise MismatchError(
                    f"{name} of the index {str(folder)!r} has another {file} than the index; it was built with other "
                    f"cells, build it again with those of the index"
                )
    counts = {name: sum(part.counts.get(name, 0) for part in parts) for name in COUNTS}
    index_hash = join_hashes(manifest.index_hash, (part.index_hash for part in parts))
    return replace(manifest, counts=counts, index_hash=index_hash)


def join_hashes(whole: str, parts: Iterable[str]) -> str:
    """Return the index hash of an index, of its own manifest's and those of its shards; there may be none."""
    hashes = [whole, *parts]
    return whole if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def manifest_bytes(folder: Path) -> bytes:
    """Read the manifest's file, or raise `NotAnIndexError`."""
    if is_address(folder):
        raise NotAnIndexError(f"{str(folder)!r} is an address; an index is a folder on this machine")
    if not folder.exists():
        raise NotAnIndexError(f"there is no index at {str(folder)!r}; build one with `nda-index build SOURCE {folder}`")
    try:
        return (folder / MANIFEST).read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        writer = find_writer(folder)
        if (folder / MANIFEST).exists():  # the build has just ended
            return manifest_bytes(folder)
        if writer:
            raise NotAnIndexError(
                f"{str(folder)!r} is not an index yet: it is being built by {writer}; wait for it"
            ) from error
        if (folder / BUILDING).exists():
            raise NotAnIndexError(
                f"{str(folder)!r} is not an index yet: its build was interrupted; run the same build with --resume"
            ) from error
        if (folder / PULLED).exists():
            raise NotAnIndexError(
                f"{str(folder)!r} is not an index yet: its pull was interrupted; run the same `nda-index pull` again"
            ) from error
        what = "a folder of other things" if folder.is_dir() else "a file"
        raise NotAnIndexError(
            f"{str(folder)!r} is not an index but {what}; give the folder that `nda-index build` wrote"
        ) from error
    except OSError as error:
        raise NotAnIndexError(f"{folder / MANIFEST} cannot be read: {error.strerror}; check its permissions") from error


def lease_manifest(folder: Path) -> tuple[ReadLease, bytes]:
    """Read the manifest's file, and keep what it names from being erased until the lease is released.

    Raises:
        NotAnIndexError: there is none.
    """
    while True:
        lease = ReadLease(folder)
        data = manifest_bytes(folder)
        if lease.cover(hashlib.sha256(data).hexdigest()):
            return lease, data
        lease.release()


def parse_manifest(data: bytes) -> dict[str, Any] | None:
    """Return the values of a manifest, or None where a byte of it is not as it was written."""
    try:
        values = json.loads(data)
    except ValueError:
        return None
    if not isinstance(values, dict) or _SELF_HASH not in values:
        return None
    return values if _serialise({key: value for key, value in values.items() if key != _SELF_HASH}) == data else None


def check_version(folder: Path, values: dict[str, Any]) -> None:
    """Raise `VersionError` where a newer nda_index wrote the index."""
    version, unknown = values["format_version"], sorted(set(values["features"]) - set(FEATURES))
    if version > FORMAT_VERSION or unknown:
        what = f"format version {version}" if version > FORMAT_VERSION else f"the features {', '.join(unknown)}"
        raise VersionError(
            f"the index {str(folder)!r} has {what}, this nda_index reads up to format version {FORMAT_VERSION}; "
            f"upgrade nda_index (the index was written by version {values['version']})"
        )


def _serialise(values: dict[str, Any]) -> bytes:
    """Write values in the one form that they have on disk, with their own hash inside: any changed byte shows."""
    body = json.dumps(values, sort_keys=True)
    digest = hashlib.sha256(body.encode()).hexdigest()
    return (json.dumps({**values, _SELF_HASH: digest}, sort_keys=True, indent=1) + "\n").encode()

"""Checking a whole index: every file is hashed again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from nda_index.errors import FOREIGN, PULL_INTERRUPTED, WAITING, NdaIndexError
from nda_index.progress import Progress, quiet
from nda_index.store.folder import MANIFEST, list_files, whole_index
from nda_index.store.hashes import hash_content, size_problem
from nda_index.store.locks import find_writer
from nda_index.store.manifest import check_version, lease_manifest, parse_manifest
from nda_index.store.pulled import is_fetched, read_pulled
from nda_index.store.readers import list_readers

Kind = Literal["damage", "waiting", "foreign", "pulling", "writing"]


@dataclass(frozen=True)
class Finding:
    """What `verify` found of one file.

    Attributes:
        kind: "damage": it is changed, missing or truncated; "waiting": the index does not need it any more, and it is
            erased when the readers that may need it are done; "foreign": it does not belong there; "pulling": a pull
            that was interrupted has fetched it, and the next one goes on with it; "writing": an edit or a pull that
            goes on is writing it.
        file: its path in the index.
        text: one sentence.
    """

    kind: Kind
    file: str
    text: str

    def __str__(self) -> str:
        return self.text


def verify(folder: Path, progress: Progress | None = None) -> list[Finding]:
    """Hash every file again and compare, those of shards too. Edits may go on meanwhile.

    Args:
        folder: an index.
        progress: is called with ("verify", bytes done, bytes in all).

    Returns:
        A finding for each file that is not as the manifest says; none if all is well.

    Raises:
        NotAnIndexError, VersionError: as `read_manifest`. A damaged manifest is the one finding of the result.
    """
    lease, data = lease_manifest(folder)  # what the manifest names is not erased meanwhile
    try:
        values = parse_manifest(data)
        if values is None:
            text = f"{MANIFEST} was changed after the build; the other files cannot be checked without it"
            return [Finding("damage", MANIFEST, text)]
        check_version(folder, values)
        index_hash = hashlib.sha256(data).hexdigest()
        findings = [*_find_others(folder, values, index_hash)]
        findings += _find_damage(folder, values["files"], progress or quiet)
    finally:
        lease.release()
    for shard in values["shards"]:
        findings += [
            replace(finding, file=f"{shard}/{finding.file}", text=f"{shard}: {finding}")
            for finding in verify(folder / shard, progress)
        ]
    return findings


def judge_findings(findings: Sequence[Finding]) -> int:
    """Return the exit code for what `verify` found: that of the worst finding."""
    codes = {"damage": NdaIndexError.exit_code, "waiting": WAITING, "foreign": FOREIGN, "pulling": PULL_INTERRUPTED}
    kinds = {finding.kind for finding in findings}
    return next((code for kind, code in codes.items() if kind in kinds), 0)


def _find_damage(folder: Path, files: dict[str, dict[str, Any]], report: Progress) -> Iterator[Finding]:
    total, done = sum(int(entry["size"]) for entry in files.values()), 0
    for name, expected in sorted(files.items()):
        problem = size_problem(folder, name, expected)
        if problem is None and hash_content(folder / name) != expected["sha256"]:
            problem = f"{name} was changed: its sha256 is not the one of the build"
        if problem:
            yield Finding("damage", name, problem)
        done += int(expected["size"])
        report("verify", done, total)


def _find_others(folder: Path, values: dict[str, Any], index_hash: str) -> Iterator[Finding]:
    """Find what the index does not need."""
    others = [name for name in list_files(folder) if name not in values["files"]]
    if not others:
        return
    writer, pulled = find_writer(folder), read_pulled(folder)
    obsolete = {*values["obsolete"], *(pulled.obsolete if pulled else ())}
    earlier = [str(reader) for reader in list_readers(folder) if reader.index_hash != index_hash]
    who = f"it waits for {', '.join(earlier)}" if earlier else "`nda-index compact` erases it"
    for name in others:
        if name in obsolete:
            yield Finding("waiting", name, f"{name} is no part of the index any more; {who}")
        elif writer:
            yield Finding("writing", name, f"{name} is being written by {writer}")
        elif pulled and is_fetched(name, pulled):
            source = (read_pulled(whole_index(folder)) or pulled).source
            text = f"{name} is of a pull that was interrupted; pull again from {source!r}, or delete the file"
            yield Finding("pulling", name, text)
        else:
            remedy = "delete it; pulls leave it alone" if pulled else "the next add, remove or compact deletes it"
            yield Finding("foreign", name, f"{name} does not belong to the index; {remedy}")

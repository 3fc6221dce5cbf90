"""Checking a whole index: every file is hashed again."""

from __future__ import annotations

from pathlib import Path

from nda_index.progress import Progress
from nda_index.store.folder import MANIFEST, list_files
from nda_index.store.hashes import hash_content, size_problem
from nda_index.store.manifest import check_version, manifest_bytes, parse_manifest


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
    values = parse_manifest(manifest_bytes(folder))
    if values is None:
        return [f"{MANIFEST} was changed after the build; the other files cannot be checked without it"]
    check_version(folder, values)
    manifest_files, problems = values["files"], []
    total = sum(int(entry["size"]) for entry in manifest_files.values())
    done = 0
    for name, expected in sorted(manifest_files.items()):
        problem = size_problem(folder, name, expected)
        if problem is None and hash_content(folder / name) != expected["sha256"]:
            problem = f"{name} was changed: its sha256 is not the one of the build"
        if problem:
            problems.append(problem)
        done += int(expected["size"])
        if progress:
            progress("verify", done, total)
    for shard in values["shards"]:
        problems += [f"{shard}: {problem}" for problem in verify(folder / shard, progress)]
    for name in list_files(folder):
        if name in values["obsolete"]:
            problems.append(
                f"{name} holds what was compacted away; close the readers and run `nda-index compact` again"
            )
        elif name not in manifest_files:
            problems.append(f"{name} does not belong to the index; the next add, remove or compact deletes it")
    return problems

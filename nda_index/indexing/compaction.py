"""Compacting an index: the bytes of removed images are erased, and small segments merged."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nda_index.coarse.cells import Segment
from nda_index.coarse.storage import is_segment, read_cells, segment_name, segment_names, write_segment
from nda_index.errors import LockedError
from nda_index.indexing import plan
from nda_index.indexing.edits import EditSummary, OpenedIndex, commit_edit, erase_old, next_segment, open_for_edit
from nda_index.indexing.ingest import TABLE
from nda_index.pictures import catalogue
from nda_index.progress import Progress, quiet
from nda_index.scales import Scale
from nda_index.store.audit import audit_path, whoami, write_event
from nda_index.store.corpus import Corpus, append_images, is_table_file
from nda_index.store.manifest import Manifest, read_manifest
from nda_index.store.readers import Reader
from nda_index.store.tombstones import FEATURE

POLL = 0.2  # seconds between looks at who reads


def compact(path: str | PathLike[str], *, wait: float = 0.0, progress: Progress | None = None) -> EditSummary:
    """Erase the bytes of removed images, and merge small segments. The remaining images are numbered again.

    Files of the earlier state are erased as soon as nobody has it open. A service opens the new state by itself, within
    seconds; another process closes its `Index`. Where that takes longer than `wait`, a service erases them when the
    last reader is done; or call `compact` again. Cells and the null stay as they are.

    Args:
        path: of the index.
        wait: seconds to wait for those who have the earlier state open.
        progress: is called with (stage, done, total).

    Returns:
        How many images were erased, how many files are left, and who reads them.

    Raises:
        LockedError, StorageError, NotAnIndexError, VersionError, CorruptIndexError: as `add_images`.

    Example:
        >>> import tempfile, numpy as np, nda_index as nda
        >>> images = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), np.uint8)
        >>> path = tempfile.mkdtemp() + "/x.nda"
        >>> nda.build_index(images, path, image_size=16, scales=[nda.Scale(5)], null=0).close()
        >>> _ = nda.remove_images(path, image_ids=[7])
        >>> nda.compact(path)
        EditSummary(images=19, changed=1, failures=0, waiting=0, readers=(), notes=(), left_out=0, missing=())
    """
    report = progress or quiet
    images, changed = _rewrite(path, report)
    waiting, readers = erase_in_time(path, wait, report)
    facts = {"who": whoami(), "index_hash": read_manifest(Path(path), check_files=False).index_hash}
    write_event(audit_path(Path(path)), "erasure", **facts, images=changed, waiting=len(waiting))
    return EditSummary(images, changed, waiting=len(waiting), readers=tuple(map(str, readers)))


def erase_in_time(path: str | PathLike[str], wait: float, report: Progress) -> tuple[Sequence[str], Sequence[Reader]]:
    """Erase old files as soon as nobody needs them; what is left after `wait` seconds, and who reads it.

    Raises:
        LockedError, StorageError, NotAnIndexError, VersionError, CorruptIndexError: as `erase_old`.
    """
    start = time.monotonic()
    while True:
        waited = time.monotonic() - start
        try:
            waiting, readers = erase_old(path)
            if not waiting or waited >= wait:
                return waiting, readers
        except LockedError:  # a service that has just let go of the files erases them, or another edit has begun
            if waited >= wait:
                raise
        report("wait for readers", round(waited), round(wait))
        time.sleep(min(POLL, wait))


def _rewrite(path: str | PathLike[str], report: Progress) -> tuple[int, int]:
    """Write what is kept, and make it visible; the number of images that are kept, and of those that are not."""
    with open_for_edit(path, "a compaction") as opened:
        manifest = opened.manifest
        if len(opened.removed) == 0 and not any(_can_merge(manifest, scale) for scale in opened.scales):
            return opened.corpus.count, 0
        kept = np.setdiff1d(np.arange(opened.corpus.count), opened.removed, assume_unique=True)
        table = manifest.table
        if len(opened.removed):
            table = _copy_table(opened, kept, report)
        renumbered = np.full(opened.corpus.count, -1, np.int32)
        renumbered[kept] = np.arange(len(kept))
        for scale in opened.scales:
            _merge_segments(opened, scale, renumbered, report)
        if manifest.config.pictures:
            number = catalogue.next_segment([*manifest.files, *manifest.obsolete])
            corpus = Corpus(opened.folder, opened.corpus.shape, table)
            name = catalogue.segment_name(number)
            catalogue.write_segment(opened.folder, name, corpus, np.arange(len(kept)), 0)
        old = [name for name in manifest.files if is_segment(name) or name == manifest.removed]
        if table != manifest.table:
            old += [name for name in manifest.files if is_table_file(name, manifest.table["name"])]
        manifest = replace(
            manifest,
            table=table,
            removed="",
            features=[feature for feature in manifest.features if feature != FEATURE],
            counts={**manifest.counts, "images": len(kept), "removed": 0},
        )
        commit_edit(opened, manifest, old)
        return len(kept), len(opened.removed)


def _can_merge(manifest: Manifest, scale: Scale) -> bool:
    """Tell whether two segments that follow one another fit into one."""
    folder = segment_name(scale, 0).rpartition("/")[0]
    sizes = [manifest.files[f"{folder}/{name}"]["size"] for name in segment_names(manifest.files, scale)]
    return any(a + b < plan.SEGMENT_BYTES for a, b in zip(sizes, sizes[1:], strict=False))


def _copy_table(opened: OpenedIndex, kept: NDArray[np.int64], report: Progress) -> dict[str, Any]:
    """Write a new table of the images that are kept, numbered from 0; its name and version."""
    _, _, number = opened.manifest.table["name"].partition("-")
    name, table = f"{TABLE}-{int(number or 0) + 1}", dict[str, Any]()
    step = max(1, plan.CHUNK_BYTES // int(np.prod(opened.corpus.shape)))
    for start in range(0, len(kept), step):
        rows = opened.corpus.copy_rows(kept[start : start + step], start)
        table = append_images(opened.folder, name, [rows])
        report("copy images", min(start + step, len(kept)), len(kept))
    return table


def _merge_segments(opened: OpenedIndex, scale: Scale, renumbered: NDArray[np.int32], report: Progress) -> None:
    """Write a scale's segments again, without the members that are removed, several small ones as one."""
    folder = opened.folder / "scales" / scale.name
    names = segment_names(opened.manifest.files, scale)
    cells = read_cells(folder, scale, opened.manifest.config.coarse[scale.name].stride, names)
    number, group = next_segment(opened, scale), list[Segment]()
    for done, segment in enumerate(cells.segments, 1):
        group.append(segment)
        size = sum(part.codes.nbytes + part.image_ids.nbytes for part in group)
        following = cells.segments[done].codes.nbytes if done < len(cells.segments) else plan.SEGMENT_BYTES
        if size + following >= plan.SEGMENT_BYTES:
            write_segment(opened.folder / segment_name(scale, number), cells.merge_segments(group, renumbered))
            number, group = number + 1, []
        report(f"merge {scale.name}", done, len(cells.segments))

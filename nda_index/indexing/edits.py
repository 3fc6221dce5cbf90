"""Changing an index: images are added and removed, and what was removed is erased.

Nothing that a manifest names is changed. An edit writes new files, and one rename of the manifest makes it visible:
readers that are open go on with what they opened, new ones see all of the edit, and an edit that was interrupted leaves
the index as it was. `compact` alone deletes files, and only those that no reader needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nda_index.coarse import storage
from nda_index.coarse.cells import Segment
from nda_index.coarse.ivf import ID_BYTES
from nda_index.errors import ConfigError, QueryError, SourceError
from nda_index.indexing.pipeline import (
    CHUNK_BYTES,
    TABLE,
    Request,
    checked_batches,
    manifest_scales,
    request,
    write_failures,
)
from nda_index.indexing.plan import SEGMENT_BYTES, segment_images
from nda_index.indexing.segments import encode_segment, segment_name, segment_names
from nda_index.progress import Progress, quiet
from nda_index.scales import Scale
from nda_index.sources import Failure, Source
from nda_index.store.corpus import Corpus, append_images, as_rows
from nda_index.store.locks import without_readers, write_lock
from nda_index.store.manifest import Manifest, commit, hash_files, read_manifest, sweep
from nda_index.store.tombstones import FEATURE, read_removed, write_removed


@dataclass(frozen=True)
class EditSummary:
    """What an edit did.

    Attributes:
        images: number of images in the index now.
        changed: number of images that were added, removed or erased.
        failures: images that could not be read.
        waiting: files that hold erased images still, because readers are open.
    """

    images: int
    changed: int
    failures: int = 0
    waiting: int = 0


@dataclass(frozen=True)
class _Opened:
    folder: Path
    manifest: Manifest
    corpus: Corpus
    removed: NDArray[np.int64]

    @property
    def scales(self) -> tuple[Scale, ...]:
        return manifest_scales(self.manifest.config)


def add_images(
    path: str | PathLike[str], source: Source, *, max_failures: int | None = None, progress: Progress | None = None
) -> EditSummary:
    """Add images to an index. Their ids follow those that are there.

    Cells and codes stay as they were trained: after a collection has grown many times over, or has changed in kind, a
    new build answers better.

    Args:
        path: of the index.
        source: as for `build_index`. It must have the metadata columns of the index; it may have more.
        max_failures: as for `build_index`.
        progress: is called with (stage, done, total).

    Returns:
        How many were added.

    Raises:
        SourceError: the images cannot be read, there are none, or too many are broken.
        ConfigError: a metadata column is missing, or has another type.
        LockedError: another process writes to the index. StorageError: the disk is full.
        NotAnIndexError, VersionError, CorruptIndexError: as `open_index`.

    Example:
        >>> import tempfile, nda_index as nda
        >>> images = np.random.default_rng(0).integers(0, 256, (30, 16, 16, 3), np.uint8)
        >>> path = tempfile.mkdtemp() + "/x.nda"
        >>> index = nda.build_index(images[:20], path, image_size=16, scales=[Scale(5)], null=0)
        >>> add_images(path, images[20:]).images
        30
        >>> nda.open_index(path).attribute(images[25], timestep=50, top=1).image_ids
        array([25])
    """
    report = progress or quiet
    with _editing(path) as opened:
        config, columns = opened.manifest.config, opened.corpus.metadata_columns
        asked = request(
            source,
            image_size=tuple(config["image_size"]),
            channels=config["channels"],
            scales=opened.scales,
            columns=columns,
            max_failures=max_failures,
        )
        asked = _matching(asked, opened)
        table, failures = _append(opened, asked, report)
        corpus = Corpus(opened.folder, asked.shape, table)
        for scale in opened.scales:
            _encode(opened, corpus, scale, report)
        if failures:
            write_failures(opened.folder / f"failures-{corpus.count:010d}.parquet", failures)
        counts = dict(opened.manifest.counts)
        counts["images"], counts["failures"] = corpus.count, counts["failures"] + len(failures)
        _commit(opened, replace(opened.manifest, table=table, counts=counts))
        return EditSummary(corpus.count - len(opened.removed), corpus.count - opened.corpus.count, len(failures))


def remove_images(
    path: str | PathLike[str],
    *,
    image_ids: Sequence[int] | NDArray[np.int64] = (),
    keys: Sequence[str] = (),
    where: str | None = None,
) -> EditSummary:
    """Remove images: whoever opens the index from now on never gets them, and they take part in no softmax.

    Their pixels stay in the files until `compact` is called.

    Args:
        path: of the index.
        image_ids, keys: of the images. A key that several images have removes them all.
        where: SQL condition on the metadata columns.

    Returns:
        How many were removed.

    Raises:
        QueryError: an id or a key is not there, `where` is no condition, or nothing would be left.
        ConfigError: nothing is said of what to remove.
        LockedError, StorageError, NotAnIndexError, VersionError, CorruptIndexError: as `add_images`.

    Example:
        >>> import tempfile, nda_index as nda
        >>> images = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), np.uint8)
        >>> path = tempfile.mkdtemp() + "/x.nda"
        >>> index = nda.build_index(images, path, image_size=16, scales=[Scale(5)], null=0)
        >>> remove_images(path, image_ids=[7]).images
        19
        >>> 7 in nda.open_index(path).attribute(images[7], timestep=50, top=19).image_ids
        False
    """
    if len(image_ids) == 0 and len(keys) == 0 and where is None:
        raise ConfigError("neither image_ids nor keys nor where is given; say which images to remove")
    with _editing(path) as opened:
        chosen = np.unique(np.asarray(image_ids, np.int64))
        known = np.setdiff1d(np.arange(opened.corpus.count), opened.removed, assume_unique=True)
        unknown = np.setdiff1d(chosen, known)
        if len(unknown):
            raise QueryError(f"image_ids has {unknown[0]}, which the index does not hold; give ids of its images")
        if len(keys):
            chosen = np.union1d(chosen, _ids_of_keys(opened.corpus, keys, known))
        if where is not None:
            chosen = np.union1d(chosen, np.intersect1d(opened.corpus.matching(where), known))
        if len(chosen) == len(known):
            raise QueryError(f"all {len(known)} images would be removed; delete the folder {str(path)!r} instead")
        if len(chosen) == 0:
            return EditSummary(len(known), 0)
        removed = np.union1d(opened.removed, chosen)
        taken = [*opened.manifest.files, *opened.manifest.obsolete]
        manifest = replace(
            opened.manifest,
            removed=write_removed(opened.folder, removed, taken),
            features=sorted({*opened.manifest.features, FEATURE}),
            counts={**opened.manifest.counts, "removed": len(removed)},
        )
        _commit(opened, manifest, [opened.manifest.removed] if opened.manifest.removed else [])
        return EditSummary(opened.corpus.count - len(removed), len(chosen))


def compact(path: str | PathLike[str], *, progress: Progress | None = None) -> EditSummary:
    """Erase the bytes of removed images, and merge small segments. The remaining images are numbered anew.

    Files that readers have open are erased as soon as they are closed and `compact` is called again; until then
    `verify` names them. Cells and the null stay as they are.

    Args:
        path: of the index.
        progress: is called with (stage, done, total).

    Returns:
        How many images were erased, and how many files wait for readers.

    Raises:
        LockedError, StorageError, NotAnIndexError, VersionError, CorruptIndexError: as `add_images`.

    Example:
        >>> import tempfile, nda_index as nda
        >>> images = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), np.uint8)
        >>> path = tempfile.mkdtemp() + "/x.nda"
        >>> nda.build_index(images, path, image_size=16, scales=[Scale(5)], null=0).close()
        >>> _ = remove_images(path, image_ids=[7])
        >>> compact(path)
        EditSummary(images=19, changed=1, failures=0, waiting=0)
    """
    report = progress or quiet
    with _editing(path) as opened:
        manifest = opened.manifest
        if len(opened.removed) == 0 and not any(_mergeable(manifest, scale) for scale in opened.scales):
            waiting = _commit(opened, manifest) if manifest.obsolete else 0
            return EditSummary(opened.corpus.count, 0, waiting=waiting)
        kept = np.setdiff1d(np.arange(opened.corpus.count), opened.removed, assume_unique=True)
        table = manifest.table
        if len(opened.removed):
            table = _copy_table(opened, kept, report)
        renumbered = np.full(opened.corpus.count, -1, np.int32)
        renumbered[kept] = np.arange(len(kept))
        for scale in opened.scales:
            _merge_segments(opened, scale, renumbered, report)
        old = [name for name in manifest.files if "/lists-" in name or name == manifest.removed]
        if table != manifest.table:
            old += [name for name in manifest.files if name.startswith(f"{manifest.table['name']}.lance/")]
        manifest = replace(
            manifest,
            table=table,
            removed="",
            features=[feature for feature in manifest.features if feature != FEATURE],
            counts={**manifest.counts, "images": len(kept), "removed": 0},
        )
        waiting = _commit(opened, manifest, old)
        return EditSummary(len(kept), len(opened.removed), waiting=waiting)


@contextmanager
def _editing(path: str | PathLike[str]) -> Iterator[_Opened]:
    """The index as it is, for its only writer, without what an interrupted writer left."""
    folder = Path(path)
    manifest = read_manifest(folder)  # raises where there is no index, before a lock is put there
    if manifest.shards:
        raise ConfigError(
            f"the index {str(folder)!r} is in shards, each an index of its own; change one of them, such as "
            f"{str(folder / manifest.shards[-1])!r}"
        )
    with write_lock(folder):
        manifest = read_manifest(folder)
        sweep(folder, {*manifest.files, *manifest.obsolete})
        height, width = manifest.config["image_size"]
        corpus = Corpus(folder, (manifest.config["channels"], height, width), manifest.table)
        yield _Opened(folder, manifest, corpus, read_removed(folder, manifest))


def _commit(opened: _Opened, manifest: Manifest, old: Sequence[str] = ()) -> int:
    """Commit, and delete old files unless there are readers; the number of files that wait for them."""
    obsolete = [*opened.manifest.obsolete, *old]
    known = opened.manifest.files
    files = hash_files(opened.folder, known, but=obsolete)
    committed = commit(opened.folder, replace(manifest, files=files, obsolete=obsolete, index_hash=""), synced=known)
    if not obsolete:
        return 0
    with without_readers(opened.folder) as alone:
        if not alone:
            return len(obsolete)
        sweep(opened.folder, committed.files)
        commit(opened.folder, replace(committed, obsolete=[], index_hash=""), synced=committed.files)
    return 0


def _matching(asked: Request, opened: _Opened) -> Request:
    """The request with the metadata columns in the order of the index's table."""
    there = opened.corpus.schema
    for field in asked.opened.schema:
        if field.type != there.field(field.name).type:
            raise ConfigError(
                f"the metadata column {field.name!r} has type {field.type}, in the index it has type "
                f"{there.field(field.name).type}; convert it first"
            )
    schema = pa.schema([there.field(name) for name in opened.corpus.metadata_columns])
    return replace(asked, opened=replace(asked.opened, schema=schema))


def _append(opened: _Opened, asked: Request, report: Progress) -> tuple[dict[str, Any], list[Failure]]:
    """Append the source's images to the table; the version that has them, and what could not be read."""
    rows: list[pa.Table] = []
    failures: list[Failure] = []
    table, count, start = opened.manifest.table, opened.corpus.count, opened.corpus.count
    for batch in checked_batches(asked):
        failures += batch.failures
        if len(batch.images):
            rows.append(as_rows(batch, count, opened.corpus.schema))
            count += len(batch.images)
        if sum(part.nbytes for part in rows) >= CHUNK_BYTES:
            table, rows = append_images(opened.folder, table["name"], rows), []
        report("read", count - start + len(failures), asked.opened.count)
    if rows:
        table = append_images(opened.folder, table["name"], rows)
    if count == start:
        raise SourceError(
            f"none of the {asked.opened.count} images could be read; the first: {failures[0].key}: {failures[0].reason}"
        )
    return table, failures


def _encode(opened: _Opened, corpus: Corpus, scale: Scale, report: Progress) -> None:
    """Write the patches of the images that the table has and the index has not."""
    settings, start = opened.manifest.config["coarse"][scale.name], opened.corpus.count
    trained = storage.load_trained(opened.folder / "scales" / scale.name)
    step = segment_images(settings["patches_per_image"], trained.code_size + ID_BYTES)
    for number, first in enumerate(range(start, corpus.count, step), _next_segment(opened, scale)):
        images = range(first, min(first + step, corpus.count))

        def encoded(done: int, first: int = first) -> None:
            report(f"encode {scale.name}", first - start + done, corpus.count - start)

        path = opened.folder / segment_name(scale, number)
        encode_segment(path, trained, corpus, scale, settings["stride"], images, encoded)


def _mergeable(manifest: Manifest, scale: Scale) -> bool:
    """Whether two segments that follow one another fit into one."""
    folder = segment_name(scale, 0).rpartition("/")[0]
    sizes = [manifest.files[f"{folder}/{name}"]["size"] for name in segment_names(manifest.files, scale)]
    return any(a + b < SEGMENT_BYTES for a, b in zip(sizes, sizes[1:], strict=False))


def _next_segment(opened: _Opened, scale: Scale) -> int:
    names = [*segment_names([*opened.manifest.files, *opened.manifest.obsolete], scale)]
    return 1 + max((int(name[len("lists-") : -len(".arrow")]) for name in names), default=-1)


def _ids_of_keys(corpus: Corpus, keys: Sequence[str], known: NDArray[np.int64]) -> NDArray[np.int64]:
    found = np.intersect1d(corpus.with_keys(keys), known)
    missing = set(keys) - set(corpus.rows(found)[0])
    if missing:
        raise QueryError(f"keys has {min(missing)!r}, which no image of the index has; give keys as answers show them")
    return found


def _copy_table(opened: _Opened, kept: NDArray[np.int64], report: Progress) -> dict[str, Any]:
    """A new table of the images that are kept, numbered anew."""
    _, _, number = opened.manifest.table["name"].partition("-")
    name, table = f"{TABLE}-{int(number or 0) + 1}", dict[str, Any]()
    step = max(1, CHUNK_BYTES // int(np.prod(opened.corpus.shape)))
    for start in range(0, len(kept), step):
        rows = opened.corpus.copy_rows(kept[start : start + step], start)
        table = append_images(opened.folder, name, [rows])
        report("copy images", min(start + step, len(kept)), len(kept))
    return table


def _merge_segments(opened: _Opened, scale: Scale, renumbered: NDArray[np.int32], report: Progress) -> None:
    """Write a scale's segments anew, without the members that are removed, several small ones as one."""
    folder = opened.folder / "scales" / scale.name
    names = segment_names(opened.manifest.files, scale)
    cells = storage.read_cells(folder, scale, opened.manifest.config["coarse"][scale.name]["stride"], names)
    number, group = _next_segment(opened, scale), list[Segment]()
    for done, segment in enumerate(cells.segments, 1):
        group.append(segment)
        size = sum(part.codes.nbytes + part.image_ids.nbytes for part in group)
        following = cells.segments[done].codes.nbytes if done < len(cells.segments) else SEGMENT_BYTES
        if size + following >= SEGMENT_BYTES:
            storage.write_segment(opened.folder / segment_name(scale, number), cells.merged(group, renumbered))
            number, group = number + 1, []
        report(f"merge {scale.name}", done, len(cells.segments))

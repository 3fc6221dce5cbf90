"""Adding images to an index: new rows of its table, and new segments of its scales."""

from __future__ import annotations

import secrets
from dataclasses import replace
from os import PathLike
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nda_index.coarse.blocks import BlockRunner
from nda_index.coarse.ivf import ID_BYTES
from nda_index.coarse.storage import segment_name
from nda_index.device import choose_device
from nda_index.errors import ConfigError, SourceError
from nda_index.indexing import plan
from nda_index.indexing.edits import EditSummary, OpenedIndex, commit_edit, next_segment, open_for_edit
from nda_index.indexing.encoding import encode_segment, open_encoder
from nda_index.indexing.ingest import read_checked, refuse_all
from nda_index.indexing.missing import list_first, write_failures
from nda_index.indexing.plan import images_per_segment
from nda_index.indexing.request import Request, check_request
from nda_index.pictures import catalogue
from nda_index.progress import Progress, quiet
from nda_index.scales import Scale
from nda_index.sources import Failure, Source
from nda_index.store.config import IndexConfig
from nda_index.store.corpus import PICTURE, Corpus, append_images, as_rows, short_digests


def add_images(
    path: str | PathLike[str],
    source: Source,
    *,
    image_column: str | None = None,
    split: str | None = None,
    max_failures: int | None = None,
    value_range: str | tuple[float, float] | None = None,
    allow_duplicates: bool = False,
    device: str = "auto",
    progress: Progress | None = None,
) -> EditSummary:
    """Add images to an index. Their ids follow those that are there.

    Cells and codes stay as they were trained: after a collection has grown many times over, or has changed in kind, a
    new build answers better.

    Args:
        path: of the index.
        source: as for `build_index`. Where it lacks a metadata column of the index, the new images have null there;
            columns that the index lacks are left out. The summary's notes name both.
        image_column, split, max_failures, value_range: as for `build_index`.
        allow_duplicates: also add images that are there already, with the same key and the same pixels.
        device: as for `build_index`.
        progress: is called with (stage, done, total).

    Returns:
        How many were added.

    Raises:
        SourceError: the images cannot be read, there are none, too many are broken, or they were added before.
        ConfigError: a metadata column has a type that does not fit.
        LockedError: another process writes to the index. StorageError: the disk is full.
        NotAnIndexError, VersionError, CorruptIndexError: as `open_index`.

    Example:
        >>> import tempfile, numpy as np, nda_index as nda
        >>> images = np.random.default_rng(0).integers(0, 256, (30, 16, 16, 3), np.uint8)
        >>> path = tempfile.mkdtemp() + "/x.nda"
        >>> index = nda.build_index(images[:20], path, image_size=16, scales=[nda.Scale(5)], null=0)
        >>> nda.add_images(path, images[20:]).images
        30
        >>> nda.open_index(path).attribute(images[25], timestep=50, top=1).image_ids
        array([25])
    """
    report, runner = progress or quiet, BlockRunner(choose_device(device))
    with open_for_edit(path) as opened:
        config = opened.manifest.config
        request = check_request(
            source,
            scales=opened.scales,
            image_column=image_column,
            split=split,
            max_failures=max_failures,
            value_range=value_range,
            **_same_images(config),
        )
        request = _match_columns(request, opened)
        table, failures, left_out = _append(opened, request, allow_duplicates, report)
        corpus = Corpus(opened.folder, request.shape, table)
        for scale in opened.scales:
            _encode(opened, corpus, scale, runner, report)
        if config.pictures:
            ids = np.arange(opened.corpus.count, corpus.count)
            number = catalogue.next_segment([*opened.manifest.files, *opened.manifest.obsolete])
            catalogue.write_segment(opened.folder, catalogue.segment_name(number), corpus, ids, int(ids[0]))
        if failures or left_out:
            write_failures(
                opened.folder / f"failures-{corpus.count:010d}-{secrets.token_hex(4)}.parquet", failures, left_out
            )
        counts = dict(opened.manifest.counts)
        counts["images"], counts["failures"] = corpus.count, counts["failures"] + len(failures)
        counts["left_out"] = counts.get("left_out", 0) + len(left_out)
        commit_edit(opened, replace(opened.manifest, table=table, counts=counts))
        added = corpus.count - opened.corpus.count
        return EditSummary(
            corpus.count - len(opened.removed), added, len(failures), notes=(*request.opened.notes, *runner.describe()),
            left_out=len(left_out), missing=list_first(failures, left_out),
        )  # fmt: skip


def _same_images(config: IndexConfig) -> dict[str, Any]:
    """Return the options of a build that make images of the kind that an index has."""
    if config.latents:
        return {"latents": config.shape}
    return {"image_size": config.image_size, "channels": config.channels, "pictures": config.pictures}


def _match_columns(request: Request, opened: OpenedIndex) -> Request:
    """Put a request's metadata columns into the order and types of the index's table, and say what that changes."""
    given, there = request.opened.schema, opened.corpus.metadata_schema
    for field in there:
        if field.name in given.names and not _fits(given.field(field.name).type, field.type):
            raise ConfigError(
                f"the metadata column {field.name!r} has type {given.field(field.name).type}, in the index it has type "
                f"{field.type}; convert it first"
            )
    missing = [name for name in there.names if name not in given.names]
    extra = [name for name in given.names if name not in there.names]
    unshown = request.opened.shown and PICTURE not in opened.corpus.schema.names
    notes = (
        *request.opened.notes,
        *(f"the source has no column {name!r}; the new images have null there" for name in missing),
        *(f"the column {name!r} is left out, since the index has none" for name in extra),
        *(["the pictures beside the latents are left out, since the index has none"] if unshown else []),
    )
    return replace(request, opened=replace(request.opened, schema=there, notes=notes))


def _fits(given: pa.DataType, there: pa.DataType) -> bool:
    """Tell whether values of a type can be kept in a column of another; a value that cannot is a failure."""
    same = (pa.types.is_integer, pa.types.is_floating, pa.types.is_timestamp, pa.types.is_decimal, _is_text)
    whole = pa.types.is_integer(given) and pa.types.is_floating(there)
    return bool(whole or given == there or pa.types.is_null(given) or any(fit(given) and fit(there) for fit in same))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _check_new(opened: OpenedIndex, rows: pa.Table, there: NDArray[np.uint64]) -> None:
    """Raise `SourceError` where rows have the key and the pixels of an image of the index."""
    hashes = short_digests(rows["sha256"].combine_chunks())
    places = np.flatnonzero(np.isin(hashes, there))
    if not len(places):
        return
    some = rows.select(["key", "sha256"]).take(pa.array(places)).to_pylist()
    known = opened.corpus.digests_of({row["key"] for row in some}, opened.removed)
    again = [row["key"] for row in some if row["sha256"] in known.get(row["key"], ())]
    if again:
        raise SourceError(
            f"{len(again)} of {rows.num_rows} images are in the index already with the same key and pixels, the first "
            f"is {again[0]!r}; nothing is added, leave them out, or add them once more with allow_duplicates "
            f"(--allow-duplicates)"
        )


def _append(
    opened: OpenedIndex, request: Request, allow_duplicates: bool, report: Progress
) -> tuple[dict[str, Any], list[Failure], list[Failure]]:
    """Append the source's images to the table; the version that has them, what could not be read, and what else is
    left out."""
    there = None if allow_duplicates else opened.corpus.digests(opened.removed)
    rows: list[pa.Table] = []
    failures: list[Failure] = []
    left_out = list(request.opened.left_out)
    table, count, start, read = opened.manifest.table, opened.corpus.count, opened.corpus.count, 0
    for batch in read_checked(request):
        failures += batch.failures
        left_out += [*batch.absent, *batch.left_out]
        read += batch.read
        if len(batch.images):
            rows.append(as_rows(batch, count, opened.corpus.schema))
            if there is not None:
                _check_new(opened, rows[-1], there)
            count += len(batch.images)
        if sum(part.nbytes for part in rows) >= plan.CHUNK_BYTES:
            table, rows = append_images(opened.folder, table["name"], rows), []
        report("read", read, request.opened.count)
    if rows:
        table = append_images(opened.folder, table["name"], rows)
    if count == start:
        raise refuse_all(request.opened.count, [*failures, *left_out])
    return table, failures, left_out


def _encode(opened: OpenedIndex, corpus: Corpus, scale: Scale, runner: BlockRunner, report: Progress) -> None:
    """Write the patches of the images that the table has and the index has not."""
    config, start = opened.manifest.config.coarse[scale.name], opened.corpus.count
    encoder = open_encoder(opened.folder / "scales" / scale.name, scale, config.stride, runner)
    step = images_per_segment(config.patches_per_image, encoder.code_size + ID_BYTES)
    for number, first in enumerate(range(start, corpus.count, step), next_segment(opened, scale)):
        images = range(first, min(first + step, corpus.count))

        def report_images(done: int, first: int = first) -> None:
            report(f"encode {scale.name}", first - start + done, corpus.count - start)

        path = opened.folder / segment_name(scale, number)
        encode_segment(path, encoder, corpus, images, report_images)

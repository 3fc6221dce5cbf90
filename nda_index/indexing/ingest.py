"""From a source to the table of images: what is read, what is left out, and how far it has come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from nda_index.errors import SourceError
from nda_index.indexing import plan
from nda_index.indexing.journal import Journal, record
from nda_index.indexing.missing import count_missing
from nda_index.indexing.request import Request
from nda_index.pictures.record import RECORD, make_record, tell_unfit
from nda_index.progress import Progress
from nda_index.sources import Failure, ImageBatch, read_batches
from nda_index.store.corpus import append_images, as_rows, table_schema

TABLE = "images"  # the first table of an index; compact makes the next, images-1


def ingest_images(folder: Path, request: Request, journal: Journal, report: Progress) -> Journal:
    """Read what the journal lacks of the source into the table; the lock is held."""
    picture = RECORD if request.pictures else pa.binary() if request.opened.shown else None
    schema = table_schema(request.shape, request.opened.schema, picture, request.values)
    total = request.opened.count
    if journal.complete:
        report("read", total, total)
        return journal
    rows: list[pa.Table] = []
    waiting = journal
    for batch in read_checked(request, journal.position, journal.failures):
        if len(batch.images):
            rows.append(as_rows(batch, waiting.images, schema))
        waiting = replace(
            waiting,
            images=waiting.images + len(batch.images),
            position=waiting.position + batch.read,
            failures=[*waiting.failures, *([failure.key, failure.reason] for failure in batch.failures)],
            left_out=[*waiting.left_out, *([one.key, one.reason] for one in [*batch.absent, *batch.left_out])],
        )
        if sum(table.nbytes for table in rows) >= plan.CHUNK_BYTES:
            waiting = record(folder, replace(waiting, table=append_images(folder, TABLE, rows)))
            rows = []
        report("read", waiting.position, total)
    if rows:
        waiting = replace(waiting, table=append_images(folder, TABLE, rows))
    if waiting.images == 0:
        raise refuse_all(total, [Failure(*one) for one in [*waiting.failures, *waiting.left_out]])
    return record(folder, replace(waiting, complete=True))


def refuse_all(total: int, reasons: Sequence[Failure]) -> SourceError:
    """Return the error of a source of which no image can be read, with the reason of the first."""
    first = reasons[0]
    return SourceError(f"none of the {total:,} images could be read; the first: {first.key}: {first.reason}")


def read_checked(request: Request, start: int = 0, failures: Sequence[Any] = ()) -> Iterator[ImageBatch]:
    """Read the source's images from a position on; `failures` were met before it.

    Raises:
        SourceError: more images are unreadable than are allowed.
    """
    failed = len(failures)
    describe = make_record if request.pictures else None
    size = plan.READ_BATCH if describe is None else plan.READ_PICTURES
    for batch in read_batches(request.opened, request.size, request.channels, size, start, describe):
        failed += len(batch.failures)
        if failed > request.max_failures:
            last = batch.failures[-1] if batch.failures else Failure(*failures[-1])  # of the part that is resumed
            raise SourceError(
                f"{count_missing(failed, 0)}, {request.max_failures:,} may be (max_failures, --max-failures); "
                f"the last: {last.key}: {last.reason}"
            )
        unfit = (
            [
                Failure(key, reason)
                for key, picture in zip(batch.keys, batch.pictures, strict=True)
                if (reason := tell_unfit(picture))
            ]
            if request.pictures
            else []
        )
        yield replace(batch, left_out=[*batch.left_out, *unfit])

"""Building an index: images into the corpus, patches into the coarse stage, and a manifest that makes it one.

Images stream from the source into a table on disk, and from there, segment by segment, into inverted lists: memory does
not grow with their number. What is finished is noted in a journal, so that a build that was interrupted can go on.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from nda_index.coarse import ivf, storage
from nda_index.errors import ConfigError, SourceError
from nda_index.indexing.journal import Journal, begin, record
from nda_index.indexing.plan import READ_BATCH, Estimate, ScalePlan, described, estimate, plan_scales
from nda_index.indexing.segments import encode_segment, segment_name, segment_names, train_scale
from nda_index.progress import Progress, quiet
from nda_index.scales import Scale
from nda_index.sources import Failure, ImageBatch, OpenSource, Source, open_source, read_batches, select_positions
from nda_index.store.corpus import Corpus, append_images, as_rows, table_schema
from nda_index.store.files import writing
from nda_index.store.locks import write_lock
from nda_index.store.manifest import Manifest, commit, hash_files
from nda_index.trust.null import DEFAULT_PICTURES, NULL, make_null, write_null
from nda_index.version import __version__

DEFAULT_SCALES = (Scale(patch=7), Scale(patch=14, downscale=2))
DEFAULT_MEMORY = 3 << 30
CHUNK_BYTES = 64 << 20  # pixels that are added to the table, and noted as finished, at a time
TABLE = "images"
SEED = 0


@dataclass(frozen=True)
class BuildSummary:
    """What was built: numbers of images and failures, and for each scale how patches are kept and why.

    `resumed` counts the images that an interrupted build had read already; `started_over` says that one was cleared
    away.
    """

    images: int
    failures: int
    scales: dict[str, str]
    started_over: bool
    resumed: int


@dataclass(frozen=True)
class Request:
    """The arguments of a build, checked.

    Attributes:
        opened: the source.
        size: (height, width).
        channels: 3 or 1.
        scales: of the index.
        memory, coarse_stride: as for `plan_scales`.
        max_failures: images that may be unreadable.
        settings: what of this must be the same when a build is resumed, as JSON values.
    """

    opened: OpenSource
    size: tuple[int, int]
    channels: int
    scales: tuple[Scale, ...]
    memory: int
    coarse_stride: int | None
    max_failures: int
    settings: dict[str, Any]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the images."""
        return self.channels, *self.size

    def plans(self, images: int) -> list[ScalePlan]:
        """How the patches of so many images are taken and kept."""
        return plan_scales(images, self.size, self.scales, self.memory, self.coarse_stride)

    def part(self, positions: range) -> Request:
        """The request of a part of the source, for a shard."""
        settings = {**self.settings, "images in the source": len(positions), "first image": positions.start}
        return replace(self, opened=select_positions(self.opened, positions), settings=settings)

    def config(self, plans: Sequence[ScalePlan]) -> dict[str, Any]:
        """What a manifest says of the settings."""
        coarse = {
            plan.scale.name: {"stride": plan.stride, "patches_per_image": plan.per_image, "codec": plan.codec.codec}
            for plan in plans
        }
        return {
            "image_size": list(self.size),
            "channels": self.channels,
            "scales": [asdict(scale) for scale in self.scales],
            "source": self.opened.kind,
            "coarse": coarse,
        }


def request(
    source: Source,
    *,
    image_size: int | tuple[int, int] = 32,
    channels: int = 3,
    scales: Sequence[Scale] = DEFAULT_SCALES,
    columns: Sequence[str] | None = None,
    max_failures: int | None = None,
    coarse_stride: int | None = None,
    memory: int = DEFAULT_MEMORY,
) -> Request:
    """Check the arguments of `nda_index.build_index` and open the source."""
    height, width = _checked_size(image_size)
    if channels not in (1, 3):
        raise ConfigError(f"channels is {channels}; it must be 3 (colour) or 1 (grey)")
    if not scales:
        raise ConfigError("scales is empty; give at least one, such as Scale(patch=7)")
    names = [scale.name for scale in scales]
    if len(set(names)) < len(names):
        raise ConfigError(f"scales are {', '.join(names)}; no two may have the same patch and downscale")
    for scale in scales:
        scale.check_fits(height, width)
    if coarse_stride is not None and coarse_stride < 1:
        raise ConfigError(f"coarse_stride is {coarse_stride}; it must be 1 or more")
    ivf.load_faiss()
    opened = open_source(source, columns=columns)
    settings = {
        "source": opened.kind,
        "images in the source": opened.count,
        "image_size": [height, width],
        "channels": channels,
        "scales": [asdict(scale) for scale in scales],
        "columns": opened.schema.names,
        "coarse_stride": coarse_stride,
        "memory": memory,
        "version": __version__,
    }
    allowed = max(10, opened.count // 100) if max_failures is None else max_failures
    return Request(opened, (height, width), channels, tuple(scales), memory, coarse_stride, allowed, settings)


def estimate_build(source: Source, **options: Any) -> Estimate:
    """What a build will need, without writing anything.

    Args:
        source: as for `build_index`.
        options: `image_size`, `channels`, `scales`, `columns`, `max_failures`, `coarse_stride` and `memory` as for
            `build_index`.

    Raises:
        As `build_index`.

    Example:
        >>> import numpy as np
        >>> images = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), np.uint8)
        >>> estimate_build(images, image_size=16, scales=[Scale(5)]).patches
        5120
    """
    asked = request(source, **options)
    return estimate(asked.opened, asked.size, asked.channels, asked.plans(asked.opened.count))


def build(
    source: Source,
    path: str | PathLike[str],
    *,
    null: int | Sequence[Any] = DEFAULT_PICTURES,
    resume: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> BuildSummary:
    """Index a collection of images; `nda_index.build_index` has the arguments."""
    folder = Path(path)
    if isinstance(null, int) and null < 0:
        raise ConfigError(f"null is {null}; it must be a number of pictures, 0 or more, or the pictures")
    asked = request(source, **options)
    report = progress or quiet
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"the output folder {str(folder)!r} is a file; choose another")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with write_lock(folder):
        journal, started_over = begin(folder, asked.settings, resume)
        resumed = journal.images
        journal = read_images(folder, asked, journal, report)
        plans = asked.plans(journal.images)
        finish(folder, asked, journal, plans, null, report)
    scales = {plan.scale.name: described(plan, journal.images) for plan in plans}
    return BuildSummary(journal.images, len(journal.failures), scales, started_over, resumed)


def finish(
    folder: Path,
    asked: Request,
    journal: Journal,
    plans: Sequence[ScalePlan],
    null: int | Sequence[Any],
    report: Progress,
    trained: Path | None = None,
) -> Manifest:
    """From images that were read to an index; the lock is held.

    Args:
        folder: of the index.
        asked: the request.
        journal: of a source that was read to its end.
        plans: how patches are taken and kept.
        null: as for `build_index`.
        report: is called with (stage, done, total).
        trained: an index's folder, whose embeddings and cells are taken over; trained on the images by default.
    """
    corpus = Corpus(folder, asked.shape, journal.table)
    for plan in plans:
        journal = _build_scale(folder, corpus, plan, journal, report, trained)
    if NULL not in journal.files:
        cells = [
            storage.read_cells(
                folder / "scales" / plan.scale.name, plan.scale, plan.stride, segment_names(journal.files, plan.scale)
            )
            for plan in plans
        ]
        write_null(folder, make_null(corpus, cells, null, SEED, report))
        journal = record(folder, journal)
    report("commit", 0, 1)
    write_failures(folder / "failures.parquet", [Failure(key, reason) for key, reason in journal.failures])
    counts = {"images": journal.images, "removed": 0, "failures": len(journal.failures)}
    files = hash_files(folder, journal.files)
    manifest = commit(
        folder,
        Manifest(config=asked.config(plans), counts=counts, files=files, table=journal.table, version=__version__),
    )
    report("commit", 1, 1)
    return manifest


def _checked_size(image_size: int | tuple[int, int]) -> tuple[int, int]:
    size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if len(size) != 2 or any(not isinstance(side, int) or side < 1 for side in size):
        raise ConfigError(f"image_size is {image_size!r}; it must be a number of pixels, or (height, width)")
    return size[0], size[1]


def read_images(folder: Path, asked: Request, journal: Journal, report: Progress) -> Journal:
    """Read what the journal lacks of the source into the table; the lock is held."""
    schema, total = table_schema(asked.shape, asked.opened.schema), asked.opened.count
    if journal.complete:
        report("read", total, total)
        return journal
    rows: list[pa.Table] = []
    waiting = journal
    for batch in checked_batches(asked, journal.position, journal.failures):
        if len(batch.images):
            rows.append(as_rows(batch, waiting.images, schema))
        waiting = replace(
            waiting,
            images=waiting.images + len(batch.images),
            position=waiting.position + len(batch.images) + len(batch.failures),
            failures=[*waiting.failures, *([failure.key, failure.reason] for failure in batch.failures)],
        )
        if sum(table.nbytes for table in rows) >= CHUNK_BYTES:
            waiting = record(folder, replace(waiting, table=append_images(folder, TABLE, rows)))
            rows = []
        report("read", waiting.position, total)
    if rows:
        waiting = replace(waiting, table=append_images(folder, TABLE, rows))
    if waiting.images == 0:
        key, reason = waiting.failures[0]
        raise SourceError(f"none of the {total} images could be read; the first: {key}: {reason}")
    return record(folder, replace(waiting, complete=True))


def checked_batches(asked: Request, start: int = 0, failures: Sequence[Any] = ()) -> Iterator[ImageBatch]:
    """The source's images from a position on; `failures` were met before it.

    Raises:
        SourceError: more images are unreadable than are allowed.
    """
    failed = len(failures)
    for batch in read_batches(asked.opened, asked.size, asked.channels, READ_BATCH, start):
        failed += len(batch.failures)
        if failed > asked.max_failures:
            last = batch.failures[-1]
            raise SourceError(
                f"{failed} images could not be read, {asked.max_failures} are allowed (max_failures); "
                f"the last: {last.key}: {last.reason}"
            )
        yield batch


def write_failures(path: Path, failures: Sequence[Failure]) -> None:
    """Write the images that could not be read to a Parquet file."""
    table = pa.table(
        {
            "key": pa.array([failure.key for failure in failures], pa.string()),
            "reason": pa.array([failure.reason for failure in failures], pa.string()),
        }
    )
    with writing(path):
        pq.write_table(table, path)


def _build_scale(
    folder: Path, corpus: Corpus, plan: ScalePlan, journal: Journal, report: Progress, trained_in: Path | None
) -> Journal:
    """Train and encode what the journal lacks of a scale."""
    scale, stage = plan.scale, f"train {plan.scale.name}"
    report(stage, 0, 1)
    if f"scales/{scale.name}/{storage.QUANTIZER}" not in journal.files:
        if trained_in is None:
            train_scale(folder / "scales" / scale.name, corpus, plan)
        else:
            with writing(folder):
                shutil.copytree(trained_in / "scales" / scale.name, folder / "scales" / scale.name, dirs_exist_ok=True)
        journal = record(folder, journal)
    report(stage, 1, 1)
    trained = storage.load_trained(folder / "scales" / scale.name)
    for number, start in enumerate(range(0, corpus.count, plan.segment_images)):
        images = range(start, min(start + plan.segment_images, corpus.count))
        name = segment_name(scale, number)
        if name not in journal.files:

            def encoded(done: int, start: int = start) -> None:
                report(f"encode {scale.name}", start + done, corpus.count)

            encode_segment(folder / name, trained, corpus, scale, plan.stride, images, encoded)
            journal = record(folder, journal)
        report(f"encode {scale.name}", images.stop, corpus.count)
    return journal


def manifest_scales(config: dict[str, Any]) -> tuple[Scale, ...]:
    """The scales that a manifest's config names."""
    return tuple(Scale(**values) for values in config["scales"])

"""Building an index: images into the corpus, patches into the coarse stage, and a manifest that makes it one.

Images stream from the source into a table on disk, and from there, segment by segment, into inverted lists: memory does
not grow with their number. What is finished is noted in a journal, so that a build that was interrupted can go on.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nda_index.coarse.blocks import BlockRunner
from nda_index.coarse.cells import Cells
from nda_index.coarse.cpu_lists import CpuLists
from nda_index.coarse.gpu import place_lists
from nda_index.coarse.lists import InvertedLists
from nda_index.coarse.storage import QUANTIZER, read_cells, segment_name, segment_names
from nda_index.device import choose_device
from nda_index.errors import ConfigError
from nda_index.exact import gpu
from nda_index.images import Pixels, decode_image, to_float
from nda_index.indexing.encoding import describe_engine, encode_segment, open_encoder, train_scale
from nda_index.indexing.ingest import ingest_images
from nda_index.indexing.journal import Journal, begin, check_output, record
from nda_index.indexing.missing import list_first, write_failures
from nda_index.indexing.plan import ScalePlan, describe_plan
from nda_index.indexing.request import Request, check_request
from nda_index.pictures import catalogue
from nda_index.pictures.null import NULL as REGIONS_NULL
from nda_index.pictures.null import make_null as make_regions_null
from nda_index.pictures.null import write_null as write_regions_null
from nda_index.pictures.windows import KINDS
from nda_index.progress import Progress, quiet, report_to
from nda_index.scales import Scale
from nda_index.sources import Failure, Source
from nda_index.sources.fingerprint import fingerprint_source
from nda_index.store.corpus import Corpus, Images
from nda_index.store.files import writing
from nda_index.store.hashes import hash_files
from nda_index.store.locks import write_lock
from nda_index.store.manifest import Manifest, commit
from nda_index.trust.null import (
    DEFAULT_PICTURES,
    NULL,
    Null,
    choose_evidence_scales,
    choose_pictures,
    make_null,
    null_features,
    read_null,
    vote_on_cells,
    write_null,
)
from nda_index.version import __version__

SEED = 0
MEASURED, TOGETHER = 1024, 64  # latents whose numbers say what the deviation of all is; read at a time
USUAL = (0.5, 2.0)  # standard deviations of latents as models see them: the scaling factor makes it about 1
LATENTS_FEATURE = "latents"  # a feature of the format: an older reader would take them for pixels
FILES = "names, sizes or order of the source's files"  # a setting: another source cannot go on with a build


@dataclass(frozen=True)
class BuildSummary:
    """What was built: numbers of images and failures, and for each scale how patches are kept and why.

    `resumed` counts the images that an interrupted build had read already; `started_over` says that one was cleared
    away. `pictures`: regions of them can be found. `notes`: columns that are kept under another name, or not at all.
    `left_out` counts what else of the source is not in the index, and `missing` has key and reason of the first of
    both; failures.parquet lists all. `latents` is the shape of latents, and `deviation` their standard deviation.
    `device` is what the build computed on; `halved` counts how often its memory was too small for a block of images,
    and `on_cpu` the parts of the work that the CPU did because a GPU failed.
    """

    images: int
    failures: int
    scales: dict[str, str]
    started_over: bool
    resumed: int
    pictures: bool = False
    notes: tuple[str, ...] = ()
    left_out: int = 0
    missing: tuple[tuple[str, str], ...] = ()
    latents: tuple[int, int, int] | None = None
    deviation: float | None = None
    device: str = "cpu"
    halved: int = 0
    on_cpu: int = 0


def build(
    source: Source,
    path: str | PathLike[str],
    *,
    null: int | Sequence[Any] = DEFAULT_PICTURES,
    resume: bool = False,
    device: str = "auto",
    progress: Progress | None = None,
    **options: Any,
) -> BuildSummary:
    """Index a collection of images; `nda_index.build_index` has the arguments."""
    folder, runner = check_output(path, source), BlockRunner(choose_device(device))
    if isinstance(null, str | float) or (isinstance(null, int) and null < 0):
        raise ConfigError(f"null is {null!r}; it must be a whole number of pictures, 0 or more, or a list of pictures")
    request = check_request(source, **options)
    if request.latents:
        check_null(null)
        null = 0
    if not isinstance(null, int):  # one that cannot be read is known before the build, not near its end
        null = [decode_image(picture, request.size, request.channels).transpose(1, 2, 0) for picture in null]
    report = progress or quiet
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with write_lock(folder, "a build") as note:
        report = report_to(report, note)
        settings = {**request.settings, FILES: fingerprint_source(request.opened)}
        journal, started_over = begin(folder, settings, resume)
        resumed = journal.images
        journal = ingest_images(folder, request, journal, report)
        plans = request.plans(journal.images)
        finish_build(folder, request, journal, plans, null, report, runner=runner)
        deviation = measure_deviation(Corpus(folder, request.shape, journal.table)) if request.latents else None
    scales = {plan.scale.name: describe_plan(plan, journal.images) for plan in plans}
    failures, left_out = _list_missing(request, journal)
    return BuildSummary(
        journal.images, len(failures), scales, started_over, resumed, request.pictures,
        (*request.opened.notes, *judge_deviation(deviation), *runner.describe()), len(left_out),
        list_first(failures, left_out), request.opened.latents, deviation, describe_engine(runner.device),
        runner.halved, runner.on_cpu,
    )  # fmt: skip


def finish_build(
    folder: Path,
    request: Request,
    journal: Journal,
    plans: Sequence[ScalePlan],
    null: int | Sequence[Any],
    report: Progress,
    trained: Path | None = None,
    *,
    runner: BlockRunner,
) -> Manifest:
    """Make an index of images that were read; the caller holds the lock.

    Args:
        folder: of the index.
        request: the request.
        journal: of a source that was read to its end.
        plans: how patches are taken and kept.
        null: as for `build_index`.
        report: is called with (stage, done, total).
        trained: an index's folder, whose embeddings and cells are taken over; trained on the images by default.
        runner: has the device.
    """
    corpus = Corpus(folder, request.shape, journal.table)
    for plan in plans:
        journal = train_missing(folder, corpus, plan, journal, report, trained, runner=runner)
        journal = _encode_missing(folder, corpus, plan, journal, report, runner)
    if NULL not in journal.files:
        cells = [
            read_cells(
                folder / "scales" / plan.scale.name, plan.scale, plan.stride, segment_names(journal.files, plan.scale)
            )
            for plan in plans
        ]
        pictures = choose_pictures(corpus, null, SEED)
        judged_at = choose_evidence_scales(request.size, request.scales)
        write_null(folder, _make_null(cells, corpus, pictures, judged_at, report, runner))
        journal = record(folder, journal)
    if request.pictures:
        journal = index_pictures(folder, corpus, journal, null, report)
    report("commit", 0, 1)
    failures, left_out = _list_missing(request, journal)
    write_failures(folder / "failures.parquet", failures, left_out)
    counts = {"images": journal.images, "removed": 0, "failures": len(failures), "left_out": len(left_out)}
    files = hash_files(folder, journal.files)
    manifest = commit(
        folder,
        Manifest(
            config=request.config(plans),
            counts=counts,
            files=files,
            table=journal.table,
            version=__version__,
            features=null_features(read_null(folder, request.scales), request.scales)
            + ([catalogue.FEATURE] if request.pictures else [])
            + ([LATENTS_FEATURE] if request.latents else []),
        ),
    )
    report("commit", 1, 1)
    return manifest


def check_null(null: int | Sequence[Any]) -> None:
    """Raise `ConfigError` where a null is asked for, other than by default, and latents are indexed."""
    if not isinstance(null, int) or null not in (0, DEFAULT_PICTURES):
        raise ConfigError(f"null is {null!r}, and latents are indexed, which get no verdicts: leave null out")


def measure_deviation(images: Images) -> float:
    """Return the standard deviation of all numbers of a sample of latents."""
    chosen = np.random.default_rng(SEED).choice(images.count, min(images.count, MEASURED), replace=False)
    sums = np.zeros(2)  # of the numbers, and of their squares
    for some in np.array_split(np.sort(chosen), -(-len(chosen) // TOGETHER)):
        numbers = to_float(images.pixels(some), np.float64)
        sums += [numbers.mean() * len(some), np.square(numbers).mean() * len(some)]
    mean, square = sums / len(chosen)
    return float(np.sqrt(square - mean**2))


def judge_deviation(deviation: float | None) -> tuple[str, ...]:
    """Say where the standard deviation of latents is far from what a model of latents sees."""
    if deviation is None or USUAL[0] <= deviation <= USUAL[1]:
        return ()
    return (
        f"the latents have a standard deviation of {deviation:.3g}, and most models see them at about 1: a timestep "
        f"means what it means to the model only where its scaling factor was applied (docs/latents.md)",
    )


def _make_null(
    cells: Sequence[Cells], corpus: Corpus, pictures: Pixels, scales: Sequence[Scale], report: Progress,
    runner: BlockRunner,
) -> Null:  # fmt: skip
    """Ask for unrelated pictures, many at a time, where the build computes."""
    here = tuple(CpuLists(one) for one in cells)

    def place(device: torch.device) -> tuple[InvertedLists, ...]:
        return place_lists(here, device) if device.type == "cuda" and gpu.available() else here

    lists = runner.run_whole(place)
    backend = "cpu" if lists is here else "gpu"
    return make_null(pictures, corpus.pixels, vote_on_cells(lists, corpus.count), scales, report, backend)


def _list_missing(request: Request, journal: Journal) -> tuple[list[Failure], list[Failure]]:
    """List the images that could not be read, and what else of the source was left out."""
    failures = [Failure(key, reason) for key, reason in journal.failures]
    return failures, [*request.opened.left_out, *(Failure(key, reason) for key, reason in journal.left_out)]


def index_pictures(
    folder: Path, corpus: Corpus, journal: Journal, null: int | Sequence[Any], report: Progress
) -> Journal:
    """Make what the journal lacks of the pictures' cells, and the null of their verdicts; the journal, with these.

    Args:
        folder: of the index.
        corpus: images with records of pictures.
        journal: of the build.
        null: as for `build_index`; where pictures are given, as many of the collection's own are taken.
        report: is called with (stage, done, total).
    """
    names = [catalogue.centroids_name(kind) for kind in KINDS]
    report("cells of pictures", 0, 1)
    if any(name not in journal.files for name in names):
        catalogue.train_catalogue(folder, corpus)
        journal = record(folder, journal)
    segment = catalogue.segment_name(0)
    if segment not in journal.files:
        catalogue.write_segment(folder, segment, corpus, np.arange(corpus.count), 0)
        journal = record(folder, journal)
    report("cells of pictures", 1, 1)
    if REGIONS_NULL not in journal.files:
        opened = catalogue.open_catalogue(folder, list(journal.files), corpus, np.ones(corpus.count, bool))
        pictures = null if isinstance(null, int) else len(null)
        write_regions_null(folder, make_regions_null([opened], pictures, report))
        journal = record(folder, journal)
    return journal


def train_missing(
    folder: Path,
    images: Images,
    plan: ScalePlan,
    journal: Journal,
    report: Progress,
    trained: Path | None = None,
    *,
    runner: BlockRunner,
) -> Journal:
    """Train the cells of a scale, where the journal lacks them.

    Args:
        folder: of the index.
        images: the collection.
        plan: of the scale.
        journal: of the build.
        report: is called with (stage, done, total).
        trained: an index's folder, whose cells are taken over.
        runner: has the device.

    Returns:
        The journal, with the cells.
    """
    scale, stage = plan.scale, f"train {plan.scale.name}"
    report(stage, 0, 1)
    if f"scales/{scale.name}/{QUANTIZER}" not in journal.files:
        if trained is None:
            train_scale(folder / "scales" / scale.name, images, plan, runner)
        else:
            with writing(folder):
                shutil.copytree(trained / "scales" / scale.name, folder / "scales" / scale.name, dirs_exist_ok=True)
        journal = record(folder, journal)
    report(stage, 1, 1)
    return journal


def _encode_missing(
    folder: Path, corpus: Corpus, plan: ScalePlan, journal: Journal, report: Progress, runner: BlockRunner
) -> Journal:
    """Encode the segments of a scale that the journal lacks; the journal, with these files."""
    scale = plan.scale
    encoder = open_encoder(folder / "scales" / scale.name, scale, plan.stride, runner)
    for number, start in enumerate(range(0, corpus.count, plan.images_per_segment)):
        images = range(start, min(start + plan.images_per_segment, corpus.count))
        name = segment_name(scale, number)
        if name not in journal.files:

            def report_images(done: int, start: int = start) -> None:
                report(f"encode {scale.name}", start + done, corpus.count)

            encode_segment(folder / name, encoder, corpus, images, report_images)
            journal = record(folder, journal)
        report(f"encode {scale.name}", images.stop, corpus.count)
    return journal

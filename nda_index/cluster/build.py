"""Ray: an index in shards, built on many machines at once.

A sharded index is a folder with an index for each part of the collection (`shards/00000`, ...) and a manifest that
names them. Images are read in parallel, cells are trained once, on a sample of all shards, and patches are encoded in
parallel; one rename makes it an index. The folder must be on storage that all machines see.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nda_index.cluster.connection import connect
from nda_index.cluster.shards import RayShards
from nda_index.coarse.blocks import BlockRunner
from nda_index.device import choose_device
from nda_index.errors import ConfigError, ShardLostError
from nda_index.images import Pixels
from nda_index.index import Index
from nda_index.indexing.ingest import ingest_images
from nda_index.indexing.journal import begin, check_output, read_journal
from nda_index.indexing.missing import SHOWN, read_missing
from nda_index.indexing.pipeline import (
    FILES,
    LATENTS_FEATURE,
    BuildSummary,
    check_null,
    finish_build,
    judge_deviation,
    measure_deviation,
    train_missing,
)
from nda_index.indexing.plan import ScalePlan, describe_plan
from nda_index.indexing.request import Request, check_request
from nda_index.pictures.catalogue import FEATURE, FOLDER
from nda_index.pictures.null import make_null as make_regions_null
from nda_index.pictures.null import write_null as write_regions_null
from nda_index.progress import Progress, quiet, report_to
from nda_index.query.shard import Shard
from nda_index.sources import Source
from nda_index.sources.fingerprint import fingerprint_source
from nda_index.store.corpus import Corpus
from nda_index.store.files import writing
from nda_index.store.folder import BUILDING, MANIFEST, SHARDS
from nda_index.store.hashes import hash_files
from nda_index.store.locks import write_lock
from nda_index.store.manifest import Manifest, commit, read_manifest
from nda_index.trust.null import (
    DEFAULT_PICTURES,
    TIMESTEP,
    Null,
    choose_evidence_scales,
    choose_pictures,
    make_null,
    null_features,
    write_null,
)
from nda_index.version import __version__

SEED = 0
WAIT = 600.0  # seconds that a task of a build waits for one of an earlier build, whose caller was killed
RETRIES = 3  # of a task whose worker was lost


def build_shards(
    source: Source,
    path: str | PathLike[str],
    *,
    shards: int,
    address: str | None = None,
    null: int = DEFAULT_PICTURES,
    device: str = "auto",
    progress: Progress | None = None,
    **options: Any,
) -> BuildSummary:
    """Index a collection on the machines of a Ray cluster, in shards. Called again, it goes on where it was.

    A task whose worker is lost runs again and goes on from the shard's journal.

    Args:
        source: as for `build_index`; every machine must see it.
        path: folder to write the index to; every machine must see it.
        shards: number of parts.
        address: of the cluster, as `ray.init` takes it.
        null: number of the collection's own pictures that verdicts are set against.
        device: "cuda" encodes each part on a GPU that Ray lends it; else workers use the CPU, and only the cells are
            trained on a GPU, where this machine has one and device is "auto".
        progress: is called with (stage, done, total).
        options: `image_size`, `channels`, `scales`, `columns`, `max_failures`, `coarse_stride`, `memory`,
            `image_column`, `split`, `value_range` and `latents` as for `build_index`.

    Returns:
        What was built.

    Raises:
        As `build_index`; ShardLostError: a task failed again and again.
    """
    _check_source(source)
    report = progress or quiet
    folder, request = check_output(path, source), check_request(source, **options)
    null = _check_null(null, request)
    if not 1 <= shards <= request.opened.count:
        raise ConfigError(f"shards is {shards}; it must be from 1 to the number of images, {request.opened.count}")
    runner = BlockRunner(choose_device("auto" if device == "cuda" else device))
    ray = connect(address)
    gpus = _check_gpus(ray, device)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with write_lock(folder, "a build") as note:
        report, interrupted = report_to(report, note), (folder / BUILDING).exists()
        settings = {**request.settings, "shards": shards, FILES: fingerprint_source(request.opened)}
        journal, _ = begin(folder, settings, resume=True)
        where = "cuda" if gpus else "cpu"
        parts = [
            _Part(source, options, str(folder / f"{SHARDS}/{number:05d}"), positions, where)
            for number, positions in enumerate(_cut_evenly(request.opened.count, shards))
        ]
        task = ray.remote(max_retries=RETRIES, retry_exceptions=[OSError])
        read = [task(_read_shard).remote(part) for part in parts]
        counts = _wait_for_all(ray, read, lambda done: report("read", done, shards))
        images, plans = _ShardedImages(ray, request, parts, counts), request.plans(sum(counts))
        for plan in plans:
            journal = train_missing(folder, images, plan, journal, report, runner=runner)
        task = ray.remote(max_retries=RETRIES, retry_exceptions=[OSError], num_gpus=gpus)
        encode = [task(_encode_shard).remote(part, sum(counts), str(folder)) for part in parts]
        missing = _wait_for_all(ray, encode, lambda done: report("encode", done, shards))
        failures, left_out, first = _sum_missing(missing)
        counts_of_all = {"images": sum(counts), "removed": 0, "failures": failures, "left_out": left_out}
        manifest = _make_manifest(request, plans, counts_of_all, shards)
        made = _make_null(ray, folder, manifest, choose_pictures(images, null, SEED), report)
        write_null(folder, made)
        if request.pictures:
            _write_regions_null(folder, manifest, null, report)
            manifest = replace(manifest, features=[*manifest.features, FEATURE])
        features = [*manifest.features, *null_features(made, request.scales)]
        commit(folder, replace(manifest, features=features, files=hash_files(folder, journal.files)))
        deviation = measure_deviation(images) if request.latents else None
    scales = {plan.scale.name: describe_plan(plan, sum(counts)) for plan in plans}
    resumed = sum(counts) if interrupted else 0
    return BuildSummary(
        sum(counts), failures, scales, False, resumed, request.pictures,
        (*request.opened.notes, *judge_deviation(deviation)), left_out, first, request.opened.latents, deviation,
        "cuda, on the machines of the cluster" if gpus else "cpu",
    )  # fmt: skip


def _check_null(null: int, request: Request) -> int:
    """Return how many pictures the null is made with: none where latents are indexed."""
    if request.latents:
        check_null(null)
        return 0
    return null


def _make_manifest(request: Request, plans: Sequence[ScalePlan], counts: dict[str, int], shards: int) -> Manifest:
    """Make the manifest of an index in shards, before there are files."""
    return Manifest(
        config=request.config(plans),
        counts=counts,
        files={},
        table={},
        features=["shards", *([LATENTS_FEATURE] if request.latents else [])],
        shards=[f"{SHARDS}/{number:05d}" for number in range(shards)],
        version=__version__,
    )


def _cut_evenly(count: int, shards: int) -> list[range]:
    cuts = np.linspace(0, count, shards + 1).astype(int).tolist()
    return [range(first, last) for first, last in zip(cuts[:-1], cuts[1:], strict=True)]


def _check_gpus(ray: Any, device: str) -> int:
    """Return how many GPUs each part of a build takes."""
    if device != "cuda":
        return 0
    if ray.cluster_resources().get("GPU", 0) < 1:
        raise ConfigError("device is 'cuda', but no machine of the Ray cluster has a GPU; take 'auto' or 'cpu'")
    return 1


def _write_regions_null(folder: Path, manifest: Manifest, null: int, report: Progress) -> None:
    """Make the null of the regions' verdicts of an index in shards."""
    opened = [Shard(folder / name, "cpu").catalogue for name in manifest.shards]
    catalogues = [catalogue for catalogue in opened if catalogue is not None]
    (folder / FOLDER).mkdir(exist_ok=True)
    write_regions_null(folder, make_regions_null(catalogues, null, report))


def _sum_missing(
    parts: Sequence[tuple[int, int, list[tuple[str, str]]]],
) -> tuple[int, int, tuple[tuple[str, str], ...]]:
    first = tuple(one for _, _, some in parts for one in some)[:SHOWN]
    return sum(failures for failures, _, _ in parts), sum(left_out for _, left_out, _ in parts), first


def _check_source(source: Source) -> None:
    if not isinstance(source, str | PathLike | np.ndarray | list | tuple):
        raise ConfigError(
            f"the source is of type {type(source).__name__}, which other machines cannot read; give a folder or files "
            f"that all see, or build on one machine with build_index"
        )


@dataclass(frozen=True)
class _Part:
    """A shard to be built: the source and options of the whole, the shard's folder, its images' places, the device."""

    source: Source
    options: dict[str, Any]
    folder: str
    positions: range
    device: str

    def request(self) -> Request:
        return check_request(self.source, **self.options).part(self.positions)


class _ShardedImages:
    """The images of all shards: a sample is read where they lie."""

    def __init__(self, ray: Any, request: Request, parts: Sequence[_Part], counts: Sequence[int]) -> None:
        self.count = sum(counts)
        self.shape = request.shape
        self._values = np.float16 if request.latents else np.uint8
        self._read = ray.remote(max_retries=RETRIES)(_pixels_of_shard)
        self._ray = ray
        self._folders = [part.folder for part in parts]
        self._offsets = np.cumsum([0, *counts])

    def pixels(self, image_ids: NDArray[np.int64]) -> Pixels:
        """Read the pixels of some, uint8 or float16 [n, C, H, W]."""
        where = np.searchsorted(self._offsets, image_ids, side="right") - 1
        shards = np.unique(where).tolist()
        pending = [
            self._read.remote(self._folders[shard], self.shape, image_ids[where == shard] - self._offsets[shard])
            for shard in shards
        ]
        pixels: Pixels = np.empty((len(image_ids), *self.shape), self._values)
        for shard, part in zip(shards, self._ray.get(pending), strict=True):
            pixels[where == shard] = part
        return pixels


def _read_shard(part: _Part) -> int:
    """Read a part of the source; the number of images."""
    path, request = Path(part.folder), part.request()
    path.mkdir(parents=True, exist_ok=True)
    with write_lock(path, "a build", WAIT):
        if (path / MANIFEST).exists():
            return int(read_manifest(path).counts["images"])
        journal, _ = begin(path, request.settings, resume=True)
        return ingest_images(path, request, journal, quiet).images


def _encode_shard(part: _Part, images: int, trained: str) -> tuple[int, int, list[tuple[str, str]]]:
    """Encode a part that was read, with the cells of all; how much of it is missing, and the first of that."""
    path, request = Path(part.folder), part.request()
    with write_lock(path, "a build", WAIT):
        if (path / MANIFEST).exists():
            return _count_missing(path, read_manifest(path))
        journal, _ = begin(path, request.settings, resume=True)
        runner = BlockRunner(choose_device(part.device))
        manifest = finish_build(path, request, journal, request.plans(images), 0, quiet, Path(trained), runner=runner)
        return _count_missing(path, manifest)


def _count_missing(path: Path, manifest: Manifest) -> tuple[int, int, list[tuple[str, str]]]:
    first = read_missing(path, manifest).slice(0, SHOWN).to_pylist()
    counts = manifest.counts
    return counts["failures"], counts.get("left_out", 0), [(row["key"], row["reason"]) for row in first]


def _pixels_of_shard(folder: str, shape: tuple[int, int, int], ids: NDArray[np.int64]) -> Pixels:
    path = Path(folder)
    table = read_manifest(path).table if (path / MANIFEST).exists() else read_journal(path).table
    return Corpus(path, shape, table).pixels(ids)


def _wait_for_all(ray: Any, pending: list[Any], report: Callable[[int], None]) -> list[Any]:
    """Results of tasks in their order; `report` is told how many are done."""
    waiting = list(pending)
    try:
        report(0)
        while waiting:
            done, waiting = ray.wait(waiting)
            ray.get(done)
            report(len(pending) - len(waiting))
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError as error:
        raise ShardLostError(
            f"a task of the build failed {RETRIES + 1} times: {str(error).splitlines()[0]}; call build_shards again, "
            f"it goes on where it was"
        ) from error
    finally:
        for one in waiting:
            ray.cancel(one)
    return list(ray.get(pending))


def _make_null(ray: Any, folder: Path, manifest: Manifest, pictures: Pixels, report: Progress) -> Null:
    """Make the null of an index in shards: each picture is searched for on all of them at once."""
    config = manifest.config
    empty = Null(np.empty(0), choose_evidence_scales(config.image_size, config.scales))
    if not len(pictures):
        return empty
    shards = RayShards(ray, [folder / name for name in manifest.shards], partial=False)
    with Index(folder, manifest, empty, shards) as index:

        def vote(block: Pixels) -> NDArray[np.float64]:
            return np.stack([index.votes(picture.transpose(1, 2, 0), TIMESTEP) for picture in block])

        return make_null(pictures, index.pixels, vote, empty.scales, report)

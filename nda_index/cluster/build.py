"""Ray: an index in shards, built on many machines at once.

A sharded index is a folder with an index for each part of the collection (`shards/00000`, ...) and a manifest that
names them. Images are read in parallel, cells are trained once, on a sample of all shards, and patches are encoded in
parallel; one rename makes it an index. The folder must be on storage that all machines see.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nda_index.cluster.shards import RayShards, connect
from nda_index.coarse.storage import QUANTIZER
from nda_index.errors import ConfigError, ShardLostError
from nda_index.index import Index
from nda_index.indexing.journal import begin, is_unimportant, read_journal
from nda_index.indexing.pipeline import BuildSummary, Request, finish, read_images, request
from nda_index.indexing.plan import described
from nda_index.indexing.segments import train_scale
from nda_index.progress import Progress, quiet
from nda_index.query.gather import divided
from nda_index.sources import Source
from nda_index.store.corpus import Corpus
from nda_index.store.files import write_atomically, writing
from nda_index.store.locks import write_lock
from nda_index.store.manifest import BUILDING, MANIFEST, SHARDS, Manifest, commit, hash_files, read_manifest
from nda_index.trust.null import BEST, DEFAULT_PICTURES, TIMESTEP, write_null
from nda_index.trust.verdict import best_unrelated
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
        progress: is called with (stage, done, total).
        options: `image_size`, `channels`, `scales`, `columns`, `max_failures`, `coarse_stride` and `memory` as for
            `build_index`.

    Returns:
        What was built.

    Raises:
        As `build_index`; ShardLostError: a task failed again and again.
    """
    report = progress or quiet
    asked, folder = request(source, **options), Path(path)
    if not 1 <= shards <= asked.opened.count:
        raise ConfigError(f"shards is {shards}; it must be from 1 to the number of images, {asked.opened.count}")
    ray = connect(address)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with write_lock(folder):
        resumed = _begin(folder, {**asked.settings, "shards": shards})
        names = [f"{SHARDS}/{number:05d}" for number in range(shards)]
        cuts = np.linspace(0, asked.opened.count, shards + 1).astype(int).tolist()
        parts = [(a, b) for a, b in zip(cuts[:-1], cuts[1:], strict=True)]
        task = ray.remote(max_retries=RETRIES, retry_exceptions=[OSError])
        read, encode = task(_read_shard), task(_encode_shard)
        counts = _all(
            ray,
            [read.remote(source, options, str(folder / name), part) for name, part in zip(names, parts, strict=True)],
            lambda done: report("read", done, shards),
        )
        plans = asked.plans(sum(counts))
        images = _ShardedImages(ray, asked, [folder / name for name in names], counts)
        for plan in plans:
            report(f"train {plan.scale.name}", 0, 1)
            if not (folder / "scales" / plan.scale.name / QUANTIZER).exists():
                train_scale(folder / "scales" / plan.scale.name, images, plan)
            report(f"train {plan.scale.name}", 1, 1)
        failures = _all(
            ray,
            [
                encode.remote(source, options, str(folder / name), part, sum(counts), str(folder))
                for name, part in zip(names, parts, strict=True)
            ],
            lambda done: report("encode", done, shards),
        )
        manifest = Manifest(
            config=asked.config(plans),
            counts={"images": sum(counts), "removed": 0, "failures": sum(failures)},
            files={},
            table={},
            features=["shards"],
            shards=names,
            version=__version__,
        )
        write_null(folder, _null(ray, folder, manifest, null, report))
        commit(folder, replace(manifest, files=hash_files(folder)))
    scales = {plan.scale.name: described(plan, sum(counts)) for plan in plans}
    return BuildSummary(sum(counts), sum(failures), scales, False, sum(counts) if resumed else 0)


class _ShardedImages:
    """The images of all shards, for training: a sample is read where they lie."""

    def __init__(self, ray: Any, asked: Request, folders: Sequence[Path], counts: Sequence[int]) -> None:
        self.count = sum(counts)
        self.shape = asked.shape
        self._read = ray.remote(max_retries=RETRIES)(_pixels_of_shard)
        self._ray = ray
        self._folders = folders
        self._offsets = np.cumsum([0, *counts])

    def pixels(self, image_ids: NDArray[np.int64]) -> NDArray[np.uint8]:
        parts = divided(image_ids, self._offsets)
        asked = [
            self._read.remote(str(folder), self.shape, ids) for folder, ids in zip(self._folders, parts, strict=True)
        ]
        return np.concatenate(self._ray.get(asked))


def _begin(folder: Path, settings: dict[str, Any]) -> bool:
    """Make the folder ready for a build in shards; whether an interrupted one goes on."""
    settings = json.loads(json.dumps(settings))
    if (folder / MANIFEST).exists():
        raise ConfigError(
            f"the output folder {str(folder)!r} exists and is an index; choose another, or delete it first"
        )
    if (folder / BUILDING).exists():
        begun = json.loads((folder / BUILDING).read_bytes()).get("settings", {})
        differing = sorted(name for name in settings if begun.get(name) != settings[name])
        if differing:
            raise ConfigError(
                f"the build in {str(folder)!r} was begun with another {', '.join(differing)}; give the same settings "
                f"to go on with it, or delete the folder"
            )
        return True
    if any(not is_unimportant(path.name) for path in folder.iterdir()):
        raise ConfigError(f"the output folder {str(folder)!r} is not empty; choose another, or delete it first")
    write_atomically(folder / BUILDING, json.dumps({"settings": settings}).encode())
    return False


def _read_shard(source: Source, options: dict[str, Any], folder: str, part: tuple[int, int]) -> int:
    """Read a part of the source; the number of images."""
    path, asked = Path(folder), request(source, **options).part(range(*part))
    path.mkdir(parents=True, exist_ok=True)
    with write_lock(path, WAIT):
        if (path / MANIFEST).exists():
            return int(read_manifest(path).counts["images"])
        journal, _ = begin(path, asked.settings, resume=True)
        return read_images(path, asked, journal, quiet).images


def _encode_shard(
    source: Source, options: dict[str, Any], folder: str, part: tuple[int, int], images: int, trained: str
) -> int:
    """Encode a part that was read, with the cells of all; the number of images that could not be read."""
    path, whole = Path(folder), request(source, **options)
    asked = whole.part(range(*part))
    with write_lock(path, WAIT):
        if (path / MANIFEST).exists():
            return int(read_manifest(path).counts["failures"])
        journal, _ = begin(path, asked.settings, resume=True)
        manifest = finish(path, asked, journal, whole.plans(images), 0, quiet, Path(trained))
        return int(manifest.counts["failures"])


def _pixels_of_shard(folder: str, shape: tuple[int, int, int], ids: NDArray[np.int64]) -> NDArray[np.uint8]:
    path = Path(folder)
    table = read_manifest(path).table if (path / MANIFEST).exists() else read_journal(path).table
    return Corpus(path, shape, table).pixels(ids)


def _all(ray: Any, pending: list[Any], report: Callable[[int], None]) -> list[Any]:
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


def _null(ray: Any, folder: Path, manifest: Manifest, pictures: int, report: Progress) -> NDArray[np.float64]:
    """The null of an index in shards: as of any, but each picture is asked about alone."""
    if pictures == 0:
        return np.empty(0)
    shards = RayShards(ray, [folder / name for name in manifest.shards], partial=False)
    index = Index(folder, manifest, np.empty(0), shards)
    chosen = np.random.default_rng(SEED).choice(len(index), min(pictures, len(index)), replace=False)
    found = []
    for picture in index.pixels(chosen):
        votes = index.votes(picture.transpose(1, 2, 0), TIMESTEP)
        best = np.argsort(-votes, kind="stable")[:BEST]
        found.append(best_unrelated(picture, index.pixels(best), index.scales))
        report("null", len(found), len(chosen))
    index.close()
    return np.array(found, np.float64)

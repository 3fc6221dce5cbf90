"""Ray: an index in shards, built and asked where they are.

A sharded index is a folder with an index for each part of the collection (`shards/00000`, ...) and a manifest that
names them. All shards have the same cells, trained once, so that what they find can be merged. `open_index` opens all
shards in one process, `open_cluster` has a Ray actor open each: the coarse and the exact stage run there, and sums
travel. The folder must be on storage that all machines see.

A question is a coroutine on every shard, and a deterministic one. So a shard that was lost is opened elsewhere, and is
told again what it was told before.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nda_index.build import BuildSummary, Progress, Request, finish, read_images, request
from nda_index.coarse.cells import Census, merge_census
from nda_index.coarse.storage import QUANTIZER
from nda_index.corpus import Corpus
from nda_index.encode import train_scale
from nda_index.errors import ConfigError, MissingDependencyError, ShardLostError
from nda_index.index import Index
from nda_index.journal import begin, read_journal
from nda_index.lock import write_lock
from nda_index.manifest import (
    BUILDING,
    MANIFEST,
    SHARDS,
    Manifest,
    commit,
    hash_files,
    read_manifest,
    write_atomically,
    writing,
)
from nda_index.merge import divided
from nda_index.null import BEST, DEFAULT_PICTURES, TIMESTEP, read_null, write_null
from nda_index.plan import described
from nda_index.shard import Answer, Ask, Conversation, Shard, whole_manifest
from nda_index.sources import Source
from nda_index.verdict import best_unrelated
from nda_index.version import __version__

SEED = 0
WAIT = 600.0  # seconds that a task of a build waits for one of an earlier build, whose caller was killed
RESTARTS = 3  # of a shard's actor, and of a task of a build


def load_ray() -> Any:
    """The ray module.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise MissingDependencyError("Ray is not installed; run: pip install 'nda-index[ray]'") from error
    return ray


def connect(address: str | None) -> Any:
    """Join the Ray cluster at an address ("auto": the one of this machine; None: one that is started here).

    Raises:
        ConfigError: there is none.
    """
    ray = load_ray()
    if not ray.is_initialized():
        try:
            ray.init(address, log_to_driver=False, configure_logging=False, include_dashboard=False)
        except (ConnectionError, ValueError) as error:
            raise ConfigError(f"there is no Ray cluster at {address!r}: {error}; start one with `ray start`") from error
    return ray


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

    Images are read in parallel, cells are trained once, on a sample of all shards, and patches are encoded in parallel;
    one rename makes it an index. A task whose worker is lost runs again and goes on from the shard's journal.

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
    report = progress or (lambda stage, done, total: None)
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
        task = ray.remote(max_retries=RESTARTS, retry_exceptions=[OSError])
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
        shards_ = RayShards(ray, [folder / name for name in names], partial=False)
        write_null(folder, _null(Index(folder, manifest, np.empty(0), shards_), null, report))
        shards_.close()
        commit(folder, replace(manifest, files=hash_files(folder)))
    scales = {plan.scale.name: described(plan, sum(counts)) for plan in plans}
    return BuildSummary(sum(counts), sum(failures), scales, False, sum(counts) if resumed else 0)


def open_cluster(path: str | PathLike[str], address: str | None = None, *, partial: bool = False) -> Index:
    """Open an index in shards, each in an actor of a Ray cluster.

    Args:
        path: of an index that `build_shards` wrote.
        address: of the cluster, as `ray.init` takes it.
        partial: where a shard is lost for good, answer from the others; the answer's `missing` says how many images it
            could not ask about. By default such a question raises.

    Returns:
        The index. Its answers are those of `open_index`.

    Raises:
        ConfigError: the index is not in shards, or there is no cluster.
        ShardLostError: a shard cannot be opened.
        NotAnIndexError, VersionError, CorruptIndexError, MismatchError: as `open_index`.
    """
    folder = Path(path)
    names = read_manifest(folder).shards
    if not names:
        raise ConfigError(f"the index {str(folder)!r} is not in shards; build it with `build_shards`, or open_index it")
    shards = RayShards(connect(address), [folder / name for name in names], partial)
    manifest = whole_manifest(folder, [read_manifest(folder / name) for name in names])
    return Index(folder, manifest, read_null(folder), shards)


class ForgottenError(Exception):
    """An actor was opened anew and does not know the question it is asked to go on with."""


class ShardActor:
    """A shard in a process of its own, and the questions that it is working on."""

    def __init__(self, folder: str) -> None:
        """Open the shard."""
        self._shard = Shard(Path(folder), "auto")
        self._questions: dict[str, Any] = {}

    def opened(self) -> tuple[NDArray[np.bool_], list[Census]]:
        """Which images are present, and the census of the cells."""
        return self._shard.present, self._shard.census()

    def join(self, census: list[Census]) -> None:
        """Be one of several shards."""
        self._shard.join(census)

    def advance(self, name: str, message: Any) -> Any:
        """Send a message to a question; what it yields next."""
        if name not in self._questions:
            raise ForgottenError(name)
        return self._questions[name].send(message)

    def replay(self, name: str, census: list[Census], ask: Ask, messages: list[Any]) -> Any:
        """Begin a question, here for the first time, with all that was said; what it yields after the last message."""
        self._shard.join(census)
        self._questions[name] = self._shard.asked(ask)
        return [self._questions[name].send(message) for message in messages][-1]

    def end(self, name: str) -> None:
        """Forget a question."""
        self._questions.pop(name, None)

    def pixels(self, image_ids: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Pixels of some images."""
        return self._shard.pixels(image_ids)


class RayShards:
    """Shards in actors of a Ray cluster."""

    def __init__(self, ray: Any, folders: Sequence[Path], partial: bool) -> None:
        """Start the actors."""
        self.ray = ray
        self.lost: set[int] = set()
        self._partial = partial
        self._names = [str(folder) for folder in folders]
        actor = ray.remote(max_restarts=RESTARTS, max_task_retries=RESTARTS)(ShardActor)
        self.actors = [actor.remote(name) for name in self._names]
        opened = self.all(lambda number: self.actors[number].opened.remote())
        self.present = [present for present, _ in opened]
        self.census = [merge_census(parts) for parts in zip(*(census for _, census in opened), strict=True)]

    def missing(self) -> int:
        """Number of images in shards that are lost."""
        return int(sum(self.present[number].sum() for number in self.lost))

    def attempt(self, answer: Callable[[], Answer]) -> Answer:
        """Answer a question, and again without a shard that is lost on the way, if that is allowed."""
        while True:
            before = len(self.lost)
            try:
                return answer()
            except ShardLostError:
                if not self._partial or len(self.lost) in (before, len(self.actors)):
                    raise

    def ask(self, ask: Ask) -> Conversation:
        """Put a question to all shards that are not lost."""
        return _RayConversation(self, replace(ask, progress=None))

    def pixels(self, image_ids: Sequence[NDArray[np.int64]]) -> list[NDArray[np.uint8]]:
        """Pixels of some images of each shard, by ids of the shard."""
        return self.all(lambda number: self.actors[number].pixels.remote(image_ids[number]))

    def close(self) -> None:
        """Stop the actors."""
        for actor in self.actors:
            self.ray.kill(actor)

    def all(self, call: Callable[[int], Any], again: Callable[[int], Any] | None = None) -> list[Any]:
        """What all shards answer to a call, None from those that are lost; one that was opened anew is asked `again`.

        Raises:
            ShardLostError: one is lost only now, and for good.
        """
        asked = [None if number in self.lost else call(number) for number in range(len(self.actors))]
        return [
            None if pending is None else self._result(number, pending, again or call)
            for number, pending in enumerate(asked)
        ]

    def _result(self, number: int, pending: Any, again: Callable[[int], Any]) -> Any:
        errors = self.ray.exceptions
        reason: Exception | None = None
        for _ in range(RESTARTS + 1):
            try:
                return self.ray.get(pending)
            except errors.RayTaskError as error:
                if not isinstance(error.cause, ForgottenError):
                    raise error.cause from None
            except errors.RayActorError as error:
                reason = error
            pending = again(number)
        self.lost.add(number)
        raise ShardLostError(
            f"the shard {self._names[number]!r} cannot be reached: {str(reason).splitlines()[0]}; start a machine that "
            f"sees it, or open the index with partial=True"
        ) from reason


class _RayConversation:
    """A question on all shards: what was said to each is kept, for one that is opened anew."""

    def __init__(self, shards: RayShards, ask: Ask) -> None:
        self._shards = shards
        self._ask = ask
        self._name = uuid.uuid4().hex
        self._said: list[list[Any]] = [[] for _ in shards.actors]

    def advance(self, messages: Sequence[Any]) -> list[Any]:
        for said, message in zip(self._said, messages, strict=True):
            said.append(message)
        actors = self._shards.actors

        def replay(number: int) -> Any:
            return actors[number].replay.remote(self._name, self._shards.census, self._ask, self._said[number])

        def go_on(number: int) -> Any:
            return actors[number].advance.remote(self._name, messages[number])

        return self._shards.all(replay if len(self._said[0]) == 1 else go_on, replay)

    def end(self) -> None:
        for number, actor in enumerate(self._shards.actors):
            if number not in self._shards.lost:
                actor.end.remote(self._name)


class _ShardedImages:
    """The images of all shards, for training: a sample is read where they lie."""

    def __init__(self, ray: Any, asked: Request, folders: Sequence[Path], counts: Sequence[int]) -> None:
        self.count = sum(counts)
        self.shape = asked.shape
        self._read = ray.remote(max_retries=RESTARTS)(_pixels_of_shard)
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
    if any(not path.name.endswith(".lock") for path in folder.iterdir()):
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
        return read_images(path, asked, journal, _quiet).images


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
        manifest = finish(path, asked, journal, whole.plans(images), 0, _quiet, Path(trained))
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
            f"a task of the build failed {RESTARTS + 1} times: {str(error).splitlines()[0]}; call build_shards again, "
            f"it goes on where it was"
        ) from error
    finally:
        for one in waiting:
            ray.cancel(one)
    return list(ray.get(pending))


def _null(index: Index, pictures: int, report: Progress) -> NDArray[np.float64]:
    """The null of an index in shards: as of any, but each picture is asked about alone."""
    chosen = np.random.default_rng(SEED).choice(len(index), min(pictures, len(index)), replace=False)
    found = []
    for picture in index.pixels(chosen):
        votes = index.votes(picture.transpose(1, 2, 0), TIMESTEP)
        best = np.argsort(-votes, kind="stable")[:BEST]
        found.append(best_unrelated(picture, index.pixels(best), index.scales))
        report("null", len(found), len(chosen))
    return np.array(found, np.float64)


def _quiet(stage: str, done: int, total: int) -> None:
    pass

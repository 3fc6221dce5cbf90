"""Shards in actors of a Ray cluster: a question works on each where its images lie, and sums travel.

All shards have the same cells (`nda_index.cluster.build`), so that what they compute can be merged. `open_index` opens
all shards in one process, `open_cluster` has a Ray actor open each. All machines must see the folder.

A session is deterministic. So a shard that was lost is opened elsewhere, and is told again what it was told before.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from nda_index.answer.region import FoundRegions
from nda_index.cluster.connection import connect
from nda_index.coarse.cells import Census, merge_census
from nda_index.device import choose_device
from nda_index.errors import ConfigError, ShardLostError
from nda_index.images import Pixels
from nda_index.index import Index
from nda_index.paths import as_path
from nda_index.progress import Progress, quiet
from nda_index.query.local import LocalShards
from nda_index.query.protocol import (
    Floats,
    Outside,
    Rows,
    Selection,
    ShardMean,
    ShardQuestion,
    ShardScores,
    ShardSession,
    Totals,
    Votes,
)
from nda_index.query.session import LocalSession
from nda_index.query.shard import Shard
from nda_index.store.manifest import merge_manifests, read_manifest
from nda_index.trust.null import read_null

RESTARTS = 3  # of a shard's actor

Result = TypeVar("Result")
Call = tuple[str, tuple[Any, ...]]  # a method of a session, and its arguments


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
    folder = as_path(path, "the index")
    names = read_manifest(folder).shards
    if not names:
        raise ConfigError(f"the index {str(folder)!r} is not in shards; build it with `build_shards`, or open_index it")
    shards = RayShards(connect(address), [folder / name for name in names], partial)
    manifest = merge_manifests(folder, [read_manifest(folder / name) for name in names])
    return Index(folder, manifest, read_null(folder, manifest.config.scales), shards)


class ForgottenError(Exception):
    """An actor was opened again and does not know the question that it is told to go on with."""


class ShardActor:
    """A shard in a process of its own, and the sessions that work on it."""

    def __init__(self, folder: str) -> None:
        """Open the shard."""
        self._shard = Shard(Path(folder), "auto" if choose_device("auto", kernels=True).type == "cuda" else "cpu")
        self._sessions: dict[str, LocalSession] = {}

    def describe(self) -> tuple[NDArray[np.bool_], list[Census], pa.Schema]:
        """Return which images are present, the census of the cells, and the metadata columns."""
        return self._shard.present, self._shard.census(), self._shard.corpus.metadata_schema

    def call(self, name: str, method: str, arguments: tuple[Any, ...]) -> Any:
        """Take a step of a session.

        Raises:
            ForgottenError: no session has this name.
        """
        if name not in self._sessions:
            raise ForgottenError(name)
        return getattr(self._sessions[name], method)(*arguments)

    def replay(self, name: str, census: list[Census], question: ShardQuestion, calls: Sequence[Call]) -> Any:
        """Begin a session, take all steps that it was told so far, and return what the last one gives."""
        self._shard.join(census)
        session = self._sessions[name] = LocalSession(self._shard, question)
        return [getattr(session, method)(*arguments) for method, arguments in calls][-1]

    def end(self, name: str) -> None:
        """Forget a session."""
        self._sessions.pop(name, None)

    def pixels(self, image_ids: NDArray[np.int64]) -> Pixels:
        """Read the pixels of some images."""
        return self._shard.corpus.pixels(image_ids)

    def rows(self, image_ids: NDArray[np.int64]) -> pa.Table:
        """Read the key and the metadata of some images."""
        return self._shard.rows(image_ids)

    def with_keys(self, keys: Sequence[str]) -> NDArray[np.int64]:
        """Find the images that have one of these keys."""
        return self._shard.corpus.with_keys(keys)


class RayShards:
    """Shards in actors; `nda_index.query.protocol.Shards` has the attributes."""

    backend = "cpu"  # maps are made where the question is asked
    pictures_together = 1
    concurrent = False  # an actor works on one question at a time

    def __init__(self, ray: Any, folders: Sequence[Path], partial: bool) -> None:
        """Start the actors."""
        self.partial = partial
        self._ray = ray
        self._lost: set[int] = set()
        self._here: LocalShards | None = None
        self._names = [str(folder) for folder in folders]
        actor = ray.remote(max_restarts=RESTARTS, max_task_retries=RESTARTS)(ShardActor)
        self.actors = [actor.remote(name) for name in self._names]
        started = [actor.describe.remote() for actor in self.actors]
        described = [
            self.wait(shard, pending, self.actors[shard].describe.remote) for shard, pending in enumerate(started)
        ]
        self.present = [present for present, _, _ in described]
        self.metadata_schema = described[0][2]
        census = [merge_census(parts) for parts in zip(*(census for _, census, _ in described), strict=True)]
        self.census = ray.put(census)  # sent to each machine once

    def sessions(self, question: ShardQuestion) -> list[ShardSession | None]:
        """Begin a session on every shard that is not lost.

        Raises:
            ShardLostError: one is lost, and answers without it are not wanted.
        """
        if self._lost and not self.partial:
            raise self._error(min(self._lost), "it was lost before")
        quiet = replace(question, progress=None)
        return [None if shard in self._lost else RaySession(self, shard, quiet) for shard in range(len(self.actors))]

    def together(self, calls: Sequence[Callable[[], Result]]) -> list[Result]:
        """Make calls at the same time: their threads wait for other processes."""
        with ThreadPoolExecutor(max(1, len(calls)), "shard") as pool:
            return [future.result() for future in [pool.submit(call) for call in calls]]

    def pixels(self, shard: int, image_ids: NDArray[np.int64]) -> Pixels:
        """Read the pixels of a shard's images, uint8 [n, C, H, W]."""
        pixels: Pixels = self._read(shard, "pixels", image_ids)
        return pixels

    def rows(self, shard: int, image_ids: NDArray[np.int64]) -> pa.Table:
        """Read the key and the metadata of a shard's images."""
        return self._read(shard, "rows", image_ids)

    def with_keys(self, shard: int, keys: Sequence[str]) -> NDArray[np.int64]:
        """Find the images of a shard that have one of these keys: ids there, ascending."""
        image_ids: NDArray[np.int64] = self._read(shard, "with_keys", list(keys))
        return image_ids

    def regions(
        self, pictures: Sequence[Image.Image], where: str | None, null: Floats, report: Progress = quiet
    ) -> list[FoundRegions]:
        """Find regions on this machine, which opens the windows of all shards at the first call."""
        if self._here is None:
            self._here = LocalShards([Shard(Path(name), "cpu") for name in self._names])
        return self._here.regions(pictures, where, null, report)

    def lost(self) -> frozenset[int]:
        """Return the numbers of the shards that cannot be reached."""
        return frozenset(self._lost)

    def close(self) -> None:
        """Stop the actors."""
        if self._here is not None:
            self._here.close()
        for actor in self.actors:
            self._ray.kill(actor)

    def wait(self, shard: int, pending: Any, again: Callable[[], Any]) -> Any:
        """Wait for a call to a shard; where the shard is opened again on the way, make it `again`.

        Raises:
            ShardLostError: the shard is lost, and for good.
            NdaIndexError: what the call raises.
        """
        errors = self._ray.exceptions
        reason: Exception | None = None
        for _ in range(RESTARTS + 1):
            try:
                return self._ray.get(pending)
            except errors.RayTaskError as error:
                if not isinstance(error.cause, ForgottenError):
                    raise error.cause from None
            except errors.RayActorError as error:
                reason = error
            pending = again()
        self._lost.add(shard)
        raise self._error(shard, str(reason).splitlines()[0]) from reason

    def _read(self, shard: int, what: str, argument: Any) -> Any:
        if shard in self._lost:
            raise self._error(shard, "it was lost before")

        def read() -> Any:
            return getattr(self.actors[shard], what).remote(argument)

        return self.wait(shard, read(), read)

    def _error(self, shard: int, reason: str) -> ShardLostError:
        return ShardLostError(
            f"the shard {self._names[shard]!r} cannot be reached: {reason}; start a machine that sees it, or open the "
            f"index with partial=True"
        )


class RaySession:
    """A session in an actor: what it was told is kept, for an actor that is opened again."""

    def __init__(self, shards: RayShards, shard: int, question: ShardQuestion) -> None:
        """Begin; the actor hears of it with the first step."""
        self._shards, self._shard, self._question = shards, shard, question
        self._actor = shards.actors[shard]
        self._name = uuid.uuid4().hex
        self._calls: list[Call] = []

    def probe(self) -> list[Floats]:
        """Visit cells."""
        masses: list[Floats] = self._call("probe")
        return masses

    def vote(self, log_masses: list[Floats]) -> Votes:
        """Estimate scores."""
        votes: Votes = self._call("vote", log_masses)
        return votes

    def total(self, selection: Selection) -> Totals:
        """Sum the masses of selected images."""
        totals: Totals = self._call("total", selection)
        return totals

    def weigh(self, totals: Totals) -> Outside:
        """Weigh the sampled images."""
        outside: Outside = self._call("weigh", totals)
        return outside

    def score(self, log_normalisers: list[Floats]) -> ShardScores:
        """Score the selected images."""
        scores: ShardScores = self._call("score", log_normalisers)
        return scores

    def average(self, log_normalisers: list[Floats]) -> ShardMean:
        """Sum the pixels of the selected images."""
        mean: ShardMean = self._call("average", log_normalisers)
        return mean

    def fetch(self, image_ids: NDArray[np.int64]) -> Rows:
        """Read images of the shard."""
        rows: Rows = self._call("fetch", image_ids)
        return rows

    def end(self) -> None:
        """Forget the question; an actor that is gone has forgotten it."""
        if self._shard not in self._shards.lost():
            self._actor.end.remote(self._name)

    def _call(self, method: str, *arguments: Any) -> Any:
        self._calls.append((method, arguments))

        def replay() -> Any:
            return self._actor.replay.remote(self._name, self._shards.census, self._question, self._calls)

        first = len(self._calls) == 1
        pending = replay() if first else self._actor.call.remote(self._name, method, arguments)
        return self._shards.wait(self._shard, pending, replay)

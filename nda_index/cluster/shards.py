"""Ray: an index in shards, asked where they are.

All shards have the same cells (`nda_index.cluster.build`), so that what they find can be merged. `open_index` opens all
shards in one process, `open_cluster` has a Ray actor open each: the coarse and the exact stage run there, and sums
travel. The folder must be on storage that all machines see.

A question is a coroutine on every shard, and a deterministic one. So a shard that was lost is opened elsewhere, and is
told again what it was told before.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nda_index.coarse.cells import Census, merge_census
from nda_index.errors import ConfigError, MissingDependencyError, ShardLostError
from nda_index.index import Index
from nda_index.query.shard import Answer, Ask, Conversation, Shard, whole_manifest
from nda_index.store.manifest import read_manifest
from nda_index.trust.null import read_null

RESTARTS = 3  # of a shard's actor


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
        self.concurrent = False  # an actor works on one question at a time
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

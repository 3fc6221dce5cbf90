"""A question on all shards: opened, worked on and ended in one place, whatever it wants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from nda_index.coarse.lookups import choose_lookups
from nda_index.errors import ShardLostError
from nda_index.images import Pixels
from nda_index.query.protocol import ShardQuestion, Shards, ShardSession
from nda_index.question import Query
from nda_index.scales import Scale
from nda_index.trust.null import Null

Result = TypeVar("Result")
Read = TypeVar("Read")
Value = TypeVar("Value", bound=np.generic)


@dataclass(frozen=True)
class Collection:
    """An open index, as far as answers depend on it.

    Attributes:
        shards: where its images are.
        scales: its scales.
        null: what unrelated pictures get.
        regions_null: float64 [m], what regions of unrelated pictures get.
        probes: cells that a window of a query visits at most.
        candidates: length of the shortlist, None to choose it.
        index_hash: sha256 of its manifest.
    """

    shards: Shards
    scales: tuple[Scale, ...]
    null: Null
    regions_null: NDArray[np.float64]
    probes: int
    candidates: int | None
    index_hash: str

    @property
    def offsets(self) -> NDArray[np.int64]:
        """Where each shard's image ids begin, and the end: int64 [S + 1]."""
        return np.cumsum([0, *(len(part) for part in self.shards.present)])

    def missing(self) -> int:
        """Return the number of images that cannot be reached, because their shard was lost."""
        return int(sum(self.shards.present[shard].sum() for shard in self.shards.lost()))

    def pixels(self, image_ids: NDArray[np.int64]) -> Pixels:
        """Read images as they were indexed: uint8 [n, C, H, W], in the order of their ids, which are there."""
        return self.by_shard(image_ids, self.shards.pixels, np.concatenate, np.ndarray.__getitem__)

    def by_shard(
        self,
        image_ids: NDArray[np.int64],
        read: Callable[[int, NDArray[np.int64]], Read],
        join: Callable[[list[Read]], Read],
        reorder: Callable[[Read, NDArray[np.int64]], Read],
    ) -> Read:
        """Read something of images, each from its shard, in the order of their ids.

        Args:
            image_ids: int64 [n], of images that are there.
            read: reads it, given the number of a shard and ids there.
            join: puts what was read of the shards together.
            reorder: takes out of that what is at some places.
        """
        order = np.argsort(image_ids, kind="stable")
        cuts = np.searchsorted(image_ids[order], self.offsets)
        parts = [
            read(shard, image_ids[order[first:last]] - start)
            for shard, (first, last, start) in enumerate(zip(cuts[:-1], cuts[1:], self.offsets[:-1], strict=True))
            if first < last or shard == 0  # of no ids at all: nothing, of the right shape
        ]
        return reorder(join(parts), np.argsort(order))

    def prepare(self, query: Query, *, mean: bool = False, probes: int | None = None) -> ShardQuestion:
        """Make a query ready for the shards: noise is drawn here, once for all of them."""
        views = tuple(query.question.views(query.pixels, self.scales))
        lookups = choose_lookups(views, self.scales)
        probes = self.probes if probes is None else probes
        return ShardQuestion(query.question, query.pixels, views, lookups, probes, mean, query.progress)


@dataclass(frozen=True)
class Part:
    """A shard's session, and the image ids `start` to `stop` - 1 of the collection, which lie on it."""

    session: ShardSession
    start: int
    stop: int

    def holds(self, image_ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell which of some images of the collection lie here."""
        return (image_ids >= self.start) & (image_ids < self.stop)

    def own(self, image_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return those of the images that lie here, in their order, as the shard numbers them."""
        return image_ids[self.holds(image_ids)] - self.start


@dataclass(frozen=True)
class Conversation:
    """A question, and the sessions of the shards that can be reached, in the order of their images.

    Attributes:
        question: what they all got.
        parts: the sessions.
        count: number of images in the collection, removed and lost ones included.
        together: makes calls to several shards.
    """

    question: ShardQuestion
    parts: tuple[Part, ...]
    count: int
    shards: Shards

    def each(self, step: Callable[[Part], Result]) -> list[Result]:
        """Take a step with every session, on all shards at the same time where they are apart."""
        return self.shards.together([partial(step, part) for part in self.parts])

    def in_order(self, image_ids: NDArray[np.int64], values: NDArray[Value]) -> NDArray[Value]:
        """Bring values [n, ...] that came shard by shard, for `Part.own(image_ids)`, into the order of the ids."""
        ordered = np.empty_like(values)
        ordered[self.places(image_ids)] = values
        return ordered

    def places(self, image_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the place in `image_ids` of each value that comes shard by shard, int64 [n]."""
        return np.concatenate([np.flatnonzero(part.holds(image_ids)) for part in self.parts])


def converse(collection: Collection, question: ShardQuestion, work: Callable[[Conversation], Result]) -> Result:
    """Work on a question with all shards; the sessions end, however the work does.

    Args:
        collection: the open index.
        question: from `Collection.prepare`.
        work: takes the steps. Where a shard is lost meanwhile and the index is opened with `partial`, it is called
            again with the shards that are left.

    Raises:
        ShardLostError: a shard is lost, and answers without it are not wanted, or none is left.
    """
    shards, offsets = collection.shards, collection.offsets
    while True:
        reached = len(offsets) - 1 - len(shards.lost())
        parts: list[Part] = []
        try:
            sessions = zip(shards.sessions(question), offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)
            parts += [Part(session, start, stop) for session, start, stop in sessions if session is not None]
            return work(Conversation(question, tuple(parts), int(offsets[-1]), shards))
        except ShardLostError:
            left = len(offsets) - 1 - len(shards.lost())
            if not shards.partial or left in (0, reached):
                raise
        finally:
            for part in parts:
                part.session.end()

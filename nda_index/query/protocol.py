"""What is said between a question and a shard: the session that works on it, and the messages of each step.

A shard computes sums over its own images; the sums of all shards are merged (`nda_index.query.gather`) and given back,
and each shard goes on as if it held the whole collection. So an answer does not depend on how a collection is divided.

A session is deterministic: the same calls give the same results. That is why a shard that was lost can be opened
elsewhere and be told again what it was told before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from nda_index.answer.region import FoundRegions
from nda_index.coarse.lookups import Lookups
from nda_index.exact.views import View
from nda_index.images import Pixels
from nda_index.progress import Progress, quiet
from nda_index.question import Question

Result = TypeVar("Result")
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ShardQuestion:
    """A question as every shard gets it.

    Attributes:
        question: its options.
        pixels: uint8 [C, H, W], the picture as the index compares it; of latents float16.
        views: noisy versions of the picture at every scale, made once for all shards.
        lookups: what the coarse stage looks up for them.
        probes: cells that a window of the picture visits at most.
        mean: the posterior mean is wanted, and not scores.
        progress: is called with (stage, done, total) by shards of this process.
    """

    question: Question
    pixels: Pixels
    views: tuple[View, ...]
    lookups: Lookups
    probes: int
    mean: bool = False
    progress: Progress | None = None


@dataclass(frozen=True)
class Votes:
    """What the coarse stage says of the images of a shard, or of all.

    Attributes:
        votes: their estimated scores, float64 [N]; None in exact mode.
        allowed: which of them the question is about, bool [N].
        backend: what computed the votes, "cpu", "gpu" or "gpu and cpu"; "" in exact mode.
    """

    votes: Floats | None
    allowed: NDArray[np.bool_]
    backend: str = ""


@dataclass(frozen=True)
class Selection:
    """Images of a shard, by its own numbering.

    Attributes:
        image_ids: int64 [n], ascending: to be scored exactly, or to be averaged.
        sampled: int64 [m], drawn from the others to estimate what these weigh; None where there are no others.
    """

    image_ids: NDArray[np.int64]
    sampled: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Totals:
    """Masses of the selected images together.

    Attributes:
        exact: of each view, natural logarithm, float64 [P] each.
        coarse: of each scale's lookups, logarithm to base 2, float64 [W] each; none where nothing is sampled.
    """

    exact: list[Floats]
    coarse: list[Floats]


@dataclass(frozen=True)
class Outside:
    """What lies outside the shortlist, for each view.

    Attributes:
        ratios: mass of each sampled image over that of all selected ones, float64 [m, P] each.
        held: part of the visited cells' mass that the selected images hold, float64 [rows, columns] each; NaN where
            the coarse stage does not know.
    """

    ratios: list[Floats]
    held: list[Floats]


@dataclass(frozen=True)
class ShardScores:
    """Scores of the selected images, float64 [n], what computed them, and the fraction of mass too small to compute."""

    scores: Floats
    backend: str
    left_out: float


@dataclass(frozen=True)
class ShardMean:
    """Weighted pixels of the selected images, float64 [scales, H, W, C + 1], and seconds by stage."""

    pixels: Floats
    seconds: dict[str, float]


@dataclass(frozen=True)
class Rows:
    """Images by name: pixels [n, C, H, W], keys, metadata, seconds by stage of the whole session, and beside latents
    files of small pictures, None where there is none.
    """

    pixels: Pixels
    keys: tuple[str, ...]
    metadata: pa.Table
    seconds: dict[str, float]
    previews: tuple[bytes | None, ...] = ()


class ShardSession(Protocol):
    """One question on one shard. Its methods are called in their order here, each once.

    Scores take all but `average`; a posterior mean takes `probe`, `vote`, `total` and `average`; votes the first two.
    """

    def probe(self) -> list[Floats]:
        """Visit cells: the log mass (base 2) of every visit, [V] for each scale; none in exact mode."""

    def vote(self, log_masses: list[Floats]) -> Votes:
        """Estimate scores, from the log masses of all shards."""

    def total(self, selection: Selection) -> Totals:
        """Sum the masses of selected images."""

    def weigh(self, totals: Totals) -> Outside:
        """Weigh the sampled images against the totals of all shards."""

    def score(self, log_normalisers: list[Floats]) -> ShardScores:
        """Score the selected images in the whole posterior, whose log normalisers are [P] for each view."""

    def average(self, log_normalisers: list[Floats]) -> ShardMean:
        """Sum the pixels of the selected images by their weights in the whole posterior."""

    def fetch(self, image_ids: NDArray[np.int64]) -> Rows:
        """Read images of the shard, in the order of these ids."""

    def end(self) -> None:
        """Forget the question. Never raises."""


class Shards(Protocol):
    """The shards of an index, in this process or on other machines.

    Attributes:
        present: bool [images of the shard] each, False for those that were removed.
        metadata_schema: names and types of the metadata columns.
        concurrent: whether several threads may ask questions at a time.
        backend: what computes maps, which need no shard: "cpu", "gpu", or "auto", a GPU where there is one.
        pictures_together: of how many pictures regions are found in one search where questions come in a row.
        partial: whether questions are answered without shards that are lost for good.
    """

    present: list[NDArray[np.bool_]]
    metadata_schema: pa.Schema
    concurrent: bool
    pictures_together: int
    partial: bool

    @property
    def backend(self) -> str: ...

    def sessions(self, question: ShardQuestion) -> list[ShardSession | None]:
        """Begin a session on every shard; None for shards that are lost."""

    def together(self, calls: Sequence[Callable[[], Result]]) -> list[Result]:
        """Make calls to several shards, at the same time where they are on other machines."""

    def pixels(self, shard: int, image_ids: NDArray[np.int64]) -> Pixels:
        """Read the pixels of a shard's images, uint8 [n, C, H, W]."""

    def rows(self, shard: int, image_ids: NDArray[np.int64]) -> pa.Table:
        """Read the key and the metadata of a shard's images: a column "key", and one for each metadata column."""

    def with_keys(self, shard: int, keys: Sequence[str]) -> NDArray[np.int64]:
        """Find the images of a shard that have one of these keys: ids there, ascending."""

    def regions(
        self, pictures: Sequence[Image.Image], where: str | None, null: Floats, report: Progress = quiet
    ) -> list[FoundRegions]:
        """Find the regions of pictures at their own size that indexed pictures explain, of each the most evident first.

        The null is the evidence of unrelated pictures; there are no regions where the index has no pictures. What
        `report` raises ends the search.
        """

    def lost(self) -> frozenset[int]:
        """Return the numbers of the shards that cannot be reached."""

    def close(self) -> None:
        """Let the files be erased: no question follows."""

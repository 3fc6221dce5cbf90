"""What shards are told and how their replies are merged, with shards that are scripted: no index, no Ray."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from PIL import Image

import nda_index as nda
from nda_index.answer.region import FoundRegions
from nda_index.coarse.lookups import Lookups
from nda_index.progress import Progress, quiet
from nda_index.query.conversation import Collection, Conversation, converse
from nda_index.query.gather import average_images, collect_votes, fetch_rows, score_images
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
from nda_index.query.timing import StageTimer
from nda_index.question import Question
from nda_index.trust import coverage
from nda_index.trust.null import Null

Result = TypeVar("Result")
POSITIONS = 4
MASSES = np.random.default_rng(0).uniform(1, 5, (30, POSITIONS))  # of image and position
PIXELS = np.zeros((1, 2, 2), np.uint8)


@dataclass
class ScriptedSession:
    """A shard that holds the masses of images `first` to `stop` - 1, and notes what it is told."""

    first: int
    stop: int
    mode: str
    lost_at: str = ""
    told: dict[str, Any] = field(default_factory=dict)
    ended: int = 0

    def _hear(self, step: str, message: Any) -> NDArray[np.float64]:
        if step == self.lost_at:
            raise nda.ShardLostError("the shard cannot be reached")
        assert not self.ended
        self.told[step] = message
        return MASSES[self.first : self.stop]

    def probe(self) -> list[Floats]:
        return [np.log2(self._hear("probe", None).sum(axis=0))]

    def vote(self, log_masses: list[Floats]) -> Votes:
        mine = self._hear("vote", log_masses)
        allowed = np.ones(len(mine), np.bool_)
        allowed[0] = False
        votes = (mine / np.exp2(log_masses[0])).sum(axis=1)
        return Votes(None if self.mode == "exact" else votes, allowed)

    def total(self, selection: Selection) -> Totals:
        mine = self._hear("total", selection)[selection.image_ids]
        with np.errstate(divide="ignore"):
            return Totals([np.log(mine.sum(axis=0))], [] if selection.sampled is None else [np.log2(mine.sum(axis=0))])

    def weigh(self, totals: Totals) -> Outside:
        mine, sampled = self._hear("weigh", totals), self.told["total"].sampled
        if sampled is None:
            return Outside([], [])
        held = np.exp2(totals.coarse[0]) / MASSES.sum(axis=0)
        return Outside([mine[sampled] / np.exp(totals.exact[0])], [held.reshape(2, 2)])

    def score(self, log_normalisers: list[Floats]) -> ShardScores:
        mine = self._hear("score", log_normalisers)[self.told["total"].image_ids]
        return ShardScores((mine / np.exp(log_normalisers[0])).sum(axis=1), "cpu", 0.25 if self.first else 0.0)

    def average(self, log_normalisers: list[Floats]) -> ShardMean:
        mine = self._hear("average", log_normalisers)[self.told["total"].image_ids]
        return ShardMean((mine / np.exp(log_normalisers[0])).sum(axis=0), {"exact": float(self.first)})

    def fetch(self, image_ids: NDArray[np.int64]) -> Rows:
        self._hear("fetch", image_ids)
        ids = image_ids + self.first
        keys = tuple(f"image {i}" for i in ids)
        return Rows(ids.astype(np.uint8)[:, None, None, None], keys, pa.table({"number": ids}), {"fetch": 1.0})

    def end(self) -> None:
        self.ended += 1


class ScriptedShards:
    """Shards with these numbers of images; `losses` says at which step which shard is lost."""

    metadata_schema = pa.schema([])
    concurrent = False
    backend = "cpu"
    pictures_together = 1

    def __init__(self, counts: Sequence[int], mode: str = "ann", partial: bool = False, **losses: str) -> None:
        self.partial = partial
        self.present = [np.ones(count, np.bool_) for count in counts]
        self.begun: list[list[ScriptedSession]] = []
        self._mode, self._losses = mode, {int(name.removeprefix("shard_")): step for name, step in losses.items()}
        self._lost: set[int] = set()

    def sessions(self, question: ShardQuestion) -> list[ShardSession | None]:
        offsets = np.cumsum([0, *(len(part) for part in self.present)]).tolist()
        made: list[ShardSession | None] = []
        self.begun.append([])
        for shard, (first, stop) in enumerate(zip(offsets[:-1], offsets[1:], strict=True)):
            session = ScriptedSession(first, stop, self._mode, self._losses.get(shard, ""))
            made.append(None if shard in self._lost else session)
            self.begun[-1] += [] if shard in self._lost else [session]
        return made

    def regions(
        self, pictures: Sequence[Image.Image], where: str | None, null: Floats, report: Progress = quiet
    ) -> list[FoundRegions]:
        return [FoundRegions()] * len(pictures)

    def together(self, calls: Sequence[Callable[[], Result]]) -> list[Result]:
        replies = []
        for shard, call in zip([s for s in range(len(self.present)) if s not in self._lost], calls, strict=True):
            try:
                replies.append(call())
            except nda.ShardLostError:
                self._lost.add(shard)
                raise
        return replies

    def pixels(self, shard: int, image_ids: NDArray[np.int64]) -> NDArray[np.uint8]:
        raise NotImplementedError

    def rows(self, shard: int, image_ids: NDArray[np.int64]) -> pa.Table:
        raise NotImplementedError

    def with_keys(self, shard: int, keys: Sequence[str]) -> NDArray[np.int64]:
        raise NotImplementedError

    def lost(self) -> frozenset[int]:
        return frozenset(self._lost)

    def close(self) -> None:
        pass


def ask(shards: ScriptedShards, work: Callable[[Conversation], Result], mode: str = "ann") -> Result:
    collection = Collection(shards, (nda.Scale(1),), Null(np.empty(0), ()), np.empty(0), 4, None, "")
    question = Question((100,), mode=mode)  # type: ignore[arg-type]
    views = tuple(question.views(PIXELS, collection.scales))
    return converse(collection, ShardQuestion(question, PIXELS, views, Lookups((), ()), 4), work)


def scored(shards: ScriptedShards, candidates: int, mode: str = "ann") -> Any:
    return ask(shards, lambda conversation: score_images(conversation, candidates, 2, StageTimer()), mode)


DIVISIONS = [[30], [10, 20], [1, 9, 0, 20]]


@pytest.mark.parametrize("counts", DIVISIONS[1:])
@pytest.mark.parametrize("sample", [512, 6])
def test_scores_do_not_depend_on_the_division(counts: list[int], sample: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coverage, "SAMPLE", sample)
    counts = [count for count in counts if count]
    first_of_each = np.cumsum([0, *counts])[:-1]
    one, several = ScriptedShards([30]), ScriptedShards(counts)
    allowed = np.ones(30, np.bool_)  # a scripted shard forbids its first image: one shard must forbid the same ones
    allowed[first_of_each] = False
    original = ScriptedSession.vote

    def vote(session: ScriptedSession, log_masses: list[Floats]) -> Votes:
        return Votes(original(session, log_masses).votes, allowed[session.first : session.stop])

    monkeypatch.setattr(ScriptedSession, "vote", vote)
    expected, found = scored(one, 8), scored(several, 8)
    np.testing.assert_array_equal(found.image_ids, expected.image_ids)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-9)
    np.testing.assert_allclose(found.log_normalisers[0], expected.log_normalisers[0], rtol=1e-9)
    np.testing.assert_allclose(found.coverages[0].covered, expected.coverages[0].covered, rtol=1e-9)
    assert (found.allowed, len(found.image_ids)) == (30 - len(counts), 8)
    assert found.left_out == 0.25
    assert all(session.ended == 1 for session in (*one.begun[0], *several.begun[0]))


def test_a_complete_sample_gives_the_whole_posterior() -> None:
    found = scored(ScriptedShards([10, 20]), 8)
    allowed = np.ones(30, np.bool_)
    allowed[[0, 10]] = False
    whole = MASSES[allowed].sum(axis=0)
    np.testing.assert_allclose(np.exp(found.log_normalisers[0]), whole)
    np.testing.assert_allclose(found.scores, (MASSES[found.image_ids] / whole).sum(axis=1))


def test_every_shard_is_told_its_own_images_by_its_own_numbers() -> None:
    shards = ScriptedShards([10, 20])
    found = scored(shards, 8)
    first, second = shards.begun[0]
    told = [first.told["total"].image_ids, second.told["total"].image_ids + 10]
    np.testing.assert_array_equal(np.concatenate(told), found.image_ids)
    sampled = np.concatenate([first.told["total"].sampled, second.told["total"].sampled + 10])
    assert not set(sampled) & set(found.image_ids) and not set(sampled) & {0, 10}
    assert len(sampled) == 30 - 2 - 8


def test_exact_mode_takes_all_allowed_images_and_no_sample() -> None:
    shards = ScriptedShards([10, 20], mode="exact")
    found = scored(shards, 8, mode="exact")
    assert found.image_ids.tolist() == [*range(1, 10), *range(11, 30)]
    assert found.coverages == []
    assert all(session.told["total"].sampled is None for session in shards.begun[0])
    assert ask(ScriptedShards([5], mode="exact"), collect_votes, "exact").votes is None


def test_rows_come_in_the_order_of_the_ids() -> None:
    rows = ask(ScriptedShards([10, 20]), lambda conversation: fetch_rows(conversation, np.array([25, 3, 12, 4])))
    assert rows.keys == ("image 25", "image 3", "image 12", "image 4")
    assert rows.metadata["number"].to_pylist() == rows.pixels.ravel().tolist() == [25, 3, 12, 4]


def test_values_of_several_shards_are_brought_into_order() -> None:
    ids = np.array([25, 3, 3, 12])

    def work(conversation: Conversation) -> NDArray[np.int64]:
        by_shard = np.concatenate([part.own(ids) + part.start for part in conversation.parts])
        return conversation.in_order(ids, by_shard)

    assert ask(ScriptedShards([10, 20]), work).tolist() == [25, 3, 3, 12]


def test_a_mean_leaves_images_out_after_the_shortlist() -> None:
    best = scored(ScriptedShards([30]), 8).image_ids
    shards = ScriptedShards([10, 20])

    def work(conversation: Conversation) -> Any:
        return average_images(conversation, 9, best[:3])

    found = ask(shards, work)
    assert not set(best[:3]) & set(found.image_ids)
    kept = MASSES[found.image_ids]
    np.testing.assert_allclose(found.pixels, kept.sum(axis=0) / kept.sum(axis=0))
    assert found.seconds == {"exact": 10.0}
    with pytest.raises(nda.QueryError, match="without leaves none of the 9 images"):
        ask(ScriptedShards([10, 20]), lambda conversation: average_images(conversation, 9, np.arange(30)))


@pytest.mark.parametrize("step", ["probe", "vote", "total", "weigh", "score"])
def test_a_lost_shard_is_an_error_or_a_known_gap(step: str) -> None:
    shards = ScriptedShards([10, 20], shard_0=step)
    with pytest.raises(nda.ShardLostError):
        scored(shards, 8)
    assert [session.ended for session in shards.begun[0]] == [1, 1]
    partial = ScriptedShards([10, 20], partial=True, shard_0=step)
    found = scored(partial, 8)
    assert found.image_ids.min() > 10 and found.allowed == 19
    assert [[session.ended for session in sessions] for sessions in partial.begun] == [[1, 1], [1]]
    collected = ask(partial, collect_votes)
    votes, allowed = collected.votes, collected.allowed
    assert votes is not None and not votes[:10].any() and not allowed[:10].any()


def test_a_question_ends_where_every_shard_is_lost() -> None:
    with pytest.raises(nda.ShardLostError):
        scored(ScriptedShards([10, 20], partial=True, shard_0="vote", shard_1="total"), 8)


def test_sessions_end_where_the_work_fails() -> None:
    shards = ScriptedShards([10, 20])

    def fail(conversation: Conversation) -> None:
        raise KeyError("something else")

    with pytest.raises(KeyError):
        ask(shards, fail)
    assert [session.ended for session in shards.begun[0]] == [1, 1]

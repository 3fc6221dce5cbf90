"""One answer from all shards: their sums are merged, so that it does not matter how a collection is divided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nda_index.coarse.lists import join_backends
from nda_index.coarse.shortlist import shortlist
from nda_index.errors import QueryError
from nda_index.exact.masses import merge_log_totals
from nda_index.query.conversation import Conversation
from nda_index.query.protocol import Outside, Rows, Selection, Totals, Votes
from nda_index.query.timing import StageTimer
from nda_index.question import Question
from nda_index.trust.coverage import OutsideSample, ViewCoverage, draw_outside, estimate_coverages


@dataclass(frozen=True)
class Scored:
    """Scores of some images in the whole posterior.

    Attributes:
        image_ids: int64 [n], ascending.
        scores: float64 [n].
        log_normalisers: of each view's whole posterior, float64 [P].
        coverages: of the views; none where every allowed image was scored.
        backend: what computed the scores.
        coarse: what computed the votes; "" where there were none.
        left_out: at most this fraction of a position's mass was too small to be computed and is missing.
        allowed: number of images that the question is about.
    """

    image_ids: NDArray[np.int64]
    scores: NDArray[np.float64]
    log_normalisers: list[NDArray[np.float64]]
    coverages: list[ViewCoverage]
    backend: str
    coarse: str
    left_out: float
    allowed: int


@dataclass(frozen=True)
class Averaged:
    """Sums of a posterior mean.

    Attributes:
        image_ids: int64 [n], ascending: the images that the posterior runs over.
        pixels: float64 [scales, H, W, C + 1], for `nda_index.exact.means.posterior_mean`.
        allowed: number of images that the question is about.
        seconds: by stage, of the slowest shard.
    """

    image_ids: NDArray[np.int64]
    pixels: NDArray[np.float64]
    allowed: int
    seconds: dict[str, float]


def collect_votes(conversation: Conversation) -> Votes:
    """Ask the coarse stage of all shards for the votes of all images: the first two steps."""
    visits = conversation.each(lambda part: part.session.probe())
    merged = [np.logaddexp2.reduce(parts) for parts in zip(*visits, strict=True)]
    votes, allowed = np.zeros(conversation.count), np.zeros(conversation.count, np.bool_)
    exact = conversation.question.question.mode == "exact"
    replies = conversation.each(lambda part: part.session.vote(merged))
    for part, reply in zip(conversation.parts, replies, strict=True):
        allowed[part.start : part.stop] = reply.allowed
        if reply.votes is not None:
            votes[part.start : part.stop] = reply.votes
    return Votes(None if exact else votes, allowed, join_backends(reply.backend for reply in replies))


def score_images(conversation: Conversation, candidates: int | None, top: int, timer: StageTimer) -> Scored:
    """Score the images that are worth it, in the posterior of all that the question allows.

    Args:
        conversation: just begun.
        candidates: length of the shortlist; None chooses it. More cost time in proportion and leave less to estimate.
        top: images that must be scored at least, where there are as many.
        timer: of this side.

    Raises:
        QueryError: there are not enough images for the question.
    """
    collected = collect_votes(conversation)
    votes, allowed = collected.votes, collected.allowed
    top = check_counts(conversation.question.question, top, int(allowed.sum()))
    image_ids = _select(votes, allowed, candidates, top)
    sample = _sample(image_ids, votes, allowed, conversation.question.question.seed)
    drawn = None if sample is None else sample.ids
    totals = conversation.each(
        lambda part: part.session.total(Selection(part.own(image_ids), None if drawn is None else part.own(drawn)))
    )
    merged = Totals(
        [merge_log_totals(parts) for parts in zip(*(part.exact for part in totals), strict=True)],
        [np.logaddexp2.reduce(parts) for parts in zip(*(part.coarse for part in totals), strict=True)],
    )
    outside = conversation.each(lambda part: part.session.weigh(merged))
    normalisers, coverages = merged.exact, list[ViewCoverage]()
    views, mirror = conversation.question.views, conversation.question.question.mirror
    if sample is not None:
        with timer.stage("coverage"):
            sure = [view.scale.train_stride > 1 and not mirror for view in views]
            coverages = estimate_coverages(
                _ratios(conversation, sample, outside), merged.exact, outside[0].held, sure, sample
            )
        normalisers = [
            total - np.log(coverage.covered) for total, coverage in zip(merged.exact, coverages, strict=True)
        ]
    scores = conversation.each(lambda part: part.session.score(normalisers))
    return Scored(
        image_ids,
        np.concatenate([part.scores for part in scores]),
        normalisers,
        coverages,
        " and ".join(dict.fromkeys(part.backend for part in scores)),
        collected.backend,
        max(part.left_out for part in scores),
        int(allowed.sum()),
    )


def average_images(conversation: Conversation, candidates: int | None, without: NDArray[np.int64]) -> Averaged:
    """Sum the posterior mean over the images that are worth it.

    Args:
        conversation: just begun, with `ShardQuestion.mean`.
        candidates: length of the shortlist; None chooses it.
        without: int64, ids of images that take no part, of the shortlist or not.

    Raises:
        QueryError: no image is left.
    """
    collected = collect_votes(conversation)
    check_counts(conversation.question.question, 1, int(collected.allowed.sum()))
    chosen = _select(collected.votes, collected.allowed, candidates, 1)
    image_ids = np.setdiff1d(chosen, without)
    if not len(image_ids):
        raise QueryError(
            f"without leaves none of the {len(chosen)} images that the posterior runs over; leave out fewer, or take "
            f"more candidates"
        )
    totals = conversation.each(lambda part: part.session.total(Selection(part.own(image_ids))))
    normalisers = [merge_log_totals(parts) for parts in zip(*(part.exact for part in totals), strict=True)]
    means = conversation.each(lambda part: part.session.average(normalisers))
    pixels = np.sum([part.pixels for part in means], axis=0)
    return Averaged(image_ids, pixels, int(collected.allowed.sum()), _slowest([part.seconds for part in means]))


def fetch_rows(conversation: Conversation, image_ids: NDArray[np.int64]) -> Rows:
    """Read the images that an answer names, in the order of their ids."""
    rows = conversation.each(lambda part: part.session.fetch(part.own(image_ids)))
    order = np.argsort(conversation.places(image_ids))
    keys = [key for part in rows for key in part.keys]
    return Rows(
        np.concatenate([part.pixels for part in rows])[order],
        tuple(keys[place] for place in order),
        pa.concat_tables([part.metadata for part in rows]).take(pa.array(order)),
        _slowest([part.seconds for part in rows]),
        _join_previews(rows, order),
    )


def _join_previews(rows: Sequence[Rows], order: NDArray[np.int64]) -> tuple[bytes | None, ...]:
    """Put the pictures beside latents in order; a shard may have none, and others some."""
    previews = [one for part in rows for one in part.previews or [None] * len(part.keys)]
    return tuple(previews[place] for place in order) if any(previews) else ()


def check_counts(question: Question, top: int, allowed: int) -> int:
    """Return how many images an answer has: `top`, or all where there are fewer.

    Args:
        question: the question.
        top: images that its answer should have.
        allowed: number of images that it is about.

    Raises:
        QueryError: there are no images for the question.
    """
    if allowed == 0:
        raise QueryError(f"where is {question.where!r}, which no image fulfils; relax the condition")
    if top < 1:
        raise QueryError(f"top is {top}; it must be 1 or more")
    top = min(top, allowed)
    if question.candidates is not None and question.candidates < top:
        raise QueryError(f"candidates is {question.candidates}; it must be at least top, which is {top}")
    return top


def _select(
    votes: NDArray[np.float64] | None, allowed: NDArray[np.bool_], candidates: int | None, top: int
) -> NDArray[np.int64]:
    """Choose the images that the exact stage takes: ids, ascending; all allowed ones where there are no votes."""
    if votes is None:
        return np.flatnonzero(allowed)
    return shortlist(votes, candidates, top, None if allowed.all() else allowed)


def _sample(
    image_ids: NDArray[np.int64], votes: NDArray[np.float64] | None, allowed: NDArray[np.bool_], seed: int
) -> OutsideSample | None:
    """Sample the allowed images that are not selected; None where there are none."""
    others = allowed.copy()
    others[image_ids] = False
    return None if votes is None or not others.any() else draw_outside(np.flatnonzero(others), votes, seed)


def _ratios(conversation: Conversation, sample: OutsideSample, outside: Sequence[Outside]) -> list[NDArray[np.float64]]:
    """Bring what the sampled images weigh over the scored ones into the order of the sample: [m, P] for each view."""
    by_view = zip(*(part.ratios for part in outside), strict=True)
    return [conversation.in_order(sample.ids, np.concatenate(parts)) for parts in by_view]


def _slowest(seconds: Sequence[dict[str, float]]) -> dict[str, float]:
    """Seconds by stage of the slowest shard; not every shard has images to fetch."""
    stages = dict.fromkeys(stage for part in seconds for stage in part)
    return {stage: max(part.get(stage, 0.0) for part in seconds) for stage in stages}

"""An answer from all shards: what each finds is merged, so that it does not matter how a collection is divided."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nda_index.coarse.shortlist import shortlist
from nda_index.errors import QueryError
from nda_index.exact.masses import merge_log_totals
from nda_index.exact.posterior import View
from nda_index.query.shard import Ask, Conversation, Shards
from nda_index.query.timing import Clock
from nda_index.trust.coverage import OutsideSample, ViewCoverage, draw_outside, view_coverages

Check = Callable[[NDArray[np.bool_]], None]  # checks what is asked about
Choose = Callable[[NDArray[np.bool_]], int]  # the same, and says how many images must be scored


@dataclass(frozen=True)
class Scored:
    """Scores of some images in the whole posterior.

    Attributes:
        ids: int64 [n], ascending.
        scores: float64 [n].
        log_normalisers: of each view's whole posterior, float64 [P].
        coverages: of the views; none where every image asked about was scored.
        backend: what computed the scores.
        left_out: at most this fraction of a position's mass was too small to be computed and is missing.
        asked: number of images that were asked about.
    """

    ids: NDArray[np.int64]
    scores: NDArray[np.float64]
    log_normalisers: list[NDArray[np.float64]]
    coverages: list[ViewCoverage]
    backend: str
    left_out: float
    asked: int


@dataclass(frozen=True)
class Named:
    """The images that an answer names, in its order: pixels uint8 [n, C, H, W], keys, metadata, seconds by stage."""

    pixels: NDArray[np.uint8]
    keys: tuple[str, ...]
    metadata: pa.Table
    seconds: dict[str, float]


@dataclass(frozen=True)
class Averaged:
    """Sums of a posterior mean.

    Attributes:
        ids: int64 [n], ascending: the images that the posterior runs over.
        sums: float64 [scales, H, W, C + 1], for `nda_index.exact.means.posterior_mean`.
        asked: number of images that were asked about.
        seconds: by stage, of the slowest shard.
    """

    ids: NDArray[np.int64]
    sums: NDArray[np.float64]
    asked: int
    seconds: dict[str, float]


@contextmanager
def conversing(shards: Shards, ask: Ask) -> Iterator[Conversation]:
    """A question to all shards, which they forget in the end, however it ends."""
    conversation = shards.ask(ask)
    try:
        yield conversation
    finally:
        conversation.end()


def coarse_votes(
    conversation: Conversation, offsets: NDArray[np.int64]
) -> tuple[NDArray[np.float64] | None, NDArray[np.bool_]]:
    """Votes of all images, float64 [N], None in exact mode; and which are asked about, bool [N].

    Args:
        conversation: just begun.
        offsets: int64 [S + 1], where each shard's ids begin.
    """
    shards = len(offsets) - 1
    totals = _answered(conversation.advance([None] * shards))
    merged = [np.logaddexp2.reduce(parts) for parts in zip(*totals, strict=True)]
    votes, allowed = np.zeros(offsets[-1]), np.zeros(offsets[-1], np.bool_)
    exact = True
    for found, start, stop in zip(conversation.advance([merged] * shards), offsets[:-1], offsets[1:], strict=True):
        if found is not None:
            part, allowed[start:stop] = found
            if part is not None:
                votes[start:stop], exact = part, False
    return None if exact else votes, allowed


def score(
    conversation: Conversation,
    views: Sequence[View],
    offsets: NDArray[np.int64],
    candidates: int | None,
    choose: Choose,
    seed: int,
    clock: Clock,
) -> Scored:
    """Scores of the images that are worth it, in the posterior of all that are asked about.

    Args:
        conversation: just begun.
        views: of the query.
        offsets: int64 [S + 1], where each shard's ids begin.
        candidates: length of the shortlist; None chooses it.
        choose: is told which images are asked about; returns how many must be scored at least.
        seed: of the sample of images outside the shortlist.
        clock: of this side.
    """
    shards = len(offsets) - 1
    votes, allowed = coarse_votes(conversation, offsets)
    top = choose(allowed)
    sample: OutsideSample | None = None
    if votes is None:
        ids = np.flatnonzero(allowed)
    else:
        ids, others = shortlist(votes, candidates, top, None if allowed.all() else allowed), allowed.copy()
        others[ids] = False
        sample = draw_outside(np.flatnonzero(others), votes, seed) if others.any() else None
    where = None if sample is None else np.searchsorted(offsets, sample.ids, side="right") - 1
    messages = [
        (part, None if sample is None else sample.ids[where == shard] - offsets[shard])
        for shard, part in enumerate(divided(ids, offsets))
    ]
    found = _answered(conversation.advance(messages))
    log_totals = [merge_log_totals(parts) for parts in zip(*(totals for totals, _ in found), strict=True)]
    held = [np.logaddexp2.reduce(parts) for parts in zip(*(inside for _, inside in found), strict=True)]
    beyond = _answered(conversation.advance([(log_totals, held)] * shards))
    normalisers, coverages = log_totals, list[ViewCoverage]()
    if sample is not None and where is not None:
        with clock.stage("coverage"):
            order = np.argsort(np.argsort(where, kind="stable"))  # shards have their part of the sample, in its order
            ratios = [np.concatenate(parts)[order] for parts in zip(*(part for part, _ in beyond), strict=True)]
            coverages = view_coverages(ratios, log_totals, beyond[0][1], sample)
        normalisers = [total - np.log(c.covered) for total, c in zip(log_totals, coverages, strict=True)]
    scores, backends, left_out = zip(*_answered(conversation.advance([normalisers] * shards)), strict=True)
    return Scored(ids, np.concatenate(scores), normalisers, coverages, backends[0], max(left_out), int(allowed.sum()))


def average(
    conversation: Conversation,
    offsets: NDArray[np.int64],
    candidates: int | None,
    without: NDArray[np.int64],
    check: Check,
) -> Averaged:
    """The posterior mean over the images that are worth it, but some.

    Args:
        conversation: just begun, with `Ask.mean`.
        offsets: int64 [S + 1], where each shard's ids begin.
        candidates: length of the shortlist; None chooses it.
        without: int64, ids of the images that take no part, of the shortlist or not.
        check: is told which images are asked about.

    Raises:
        QueryError: no image is left.
    """
    shards = len(offsets) - 1
    votes, allowed = coarse_votes(conversation, offsets)
    check(allowed)
    some = None if allowed.all() else allowed
    found = np.flatnonzero(allowed) if votes is None else shortlist(votes, candidates, 1, some)
    ids = np.setdiff1d(found, without)
    if not len(ids):
        raise QueryError(
            f"without leaves none of the {len(found)} images that the posterior runs over; leave out fewer, or take "
            f"more candidates"
        )
    log_totals = _answered(conversation.advance(divided(ids, offsets)))
    normalisers = [merge_log_totals(parts) for parts in zip(*log_totals, strict=True)]
    sums, seconds = zip(*_answered(conversation.advance([normalisers] * shards)), strict=True)
    return Averaged(ids, np.sum(sums, axis=0), int(allowed.sum()), _slowest(seconds))


def named(conversation: Conversation, image_ids: NDArray[np.int64], offsets: NDArray[np.int64]) -> Named:
    """The images that an answer names, by their ids in its order."""
    order = np.argsort(image_ids, kind="stable")
    back = np.argsort(order)
    pixels, keys, metadata, seconds = zip(
        *_answered(conversation.advance(divided(image_ids[order], offsets))), strict=True
    )
    in_order = [key for part in keys for key in part]
    return Named(
        np.concatenate(pixels)[back],
        tuple(in_order[place] for place in back),
        pa.concat_tables(metadata).take(pa.array(back)),
        _slowest(seconds),
    )


def _slowest(seconds: Sequence[dict[str, float]]) -> dict[str, float]:
    stages = dict.fromkeys(stage for part in seconds for stage in part)  # not every shard has images to fetch
    return {stage: max(part.get(stage, 0.0) for part in seconds) for stage in stages}


def _answered(found: Sequence[Any]) -> list[Any]:
    """What was found by the shards that are not lost."""
    return [part for part in found if part is not None]


def divided(image_ids: NDArray[np.int64], offsets: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Ascending ids by shard, as the shard numbers its images.

    Example:
        >>> divided(np.array([1, 4, 7]), np.array([0, 5, 10]))
        [array([1, 4]), array([2])]
    """
    cuts = np.searchsorted(image_ids, offsets)
    return [image_ids[a:b] - start for a, b, start in zip(cuts[:-1], cuts[1:], offsets[:-1], strict=True)]

"""From a query to its answer: what the shards are asked, and what is made of what they find."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nda_index.answer.attribution import Attribution
from nda_index.errors import QueryError
from nda_index.exact.maps import evidence_maps
from nda_index.exact.posterior import total_score, views_of
from nda_index.images import to_float
from nda_index.query.gather import Named, Scored, conversing, named, score
from nda_index.query.shard import Ask, Shards
from nda_index.query.timing import Clock
from nda_index.question import Query, Question
from nda_index.scales import Scale
from nda_index.trust.coverage import errors_of_scores, mass_covered
from nda_index.trust.duplicates import group_duplicates
from nda_index.trust.evidence import measure_evidence
from nda_index.trust.verdict import find_percentile
from nda_index.version import __version__

JUDGED = 32  # images of an answer that get a verdict
GROUPED = 1000  # images of an answer that are compared with one another


@dataclass(frozen=True)
class Opened:
    """An open index, as far as answers depend on it.

    Attributes:
        shards: where its images are.
        offsets: int64 [S + 1], where each shard's ids begin.
        scales: its scales.
        null: float64, the best evidence of unrelated pictures.
        probes: cells that a window of a query visits at most.
        candidates: length of the shortlist, None to choose it.
        index_hash: sha256 of its manifest.
    """

    shards: Shards
    offsets: NDArray[np.int64]
    scales: tuple[Scale, ...]
    null: NDArray[np.float64]
    probes: int
    candidates: int | None
    index_hash: str


def answered(opened: Opened, asked: Query) -> Attribution:
    """The answer to a query.

    Raises:
        NdaIndexError: as `Index.attribute`; or whatever the query's `progress` raises.
    """
    question, query, top = asked.question, asked.pixels, asked.top
    clock = Clock()
    with clock.stage("decode"):
        views = views_of(question.noisy_versions(query), opened.scales)

    def choose(allowed: NDArray[np.bool_]) -> int:
        check_counts(question, top, int(allowed.sum()))
        return top

    def converse() -> tuple[Scored, NDArray[np.int64], Named]:
        candidates = question.candidates or opened.candidates
        with conversing(opened.shards, Ask(question, query, opened.probes, asked.progress)) as conversation:
            result = score(conversation, views, opened.offsets, candidates, choose, question.seed, clock)
            best = np.argsort(-result.scores, kind="stable")[:top]
            return result, best, named(conversation, result.ids[best], opened.offsets)

    result, best, found_images = opened.shards.attempt(converse)
    coverages, image_ids, pixels = result.coverages, result.ids[best], found_images.pixels
    with clock.stage("maps"):
        maps = evidence_maps(views, result.log_normalisers, pixels, question.posterior)
    with clock.stage("coverage"):
        covered, error = mass_covered(views, coverages) if coverages else (1.0, 0.0)
        score_errors, draw_errors = errors_of_scores(
            views, result.log_normalisers, coverages, to_float(pixels), question.posterior, question.grouping
        )
    with clock.stage("verdict"):
        found = measure_evidence(query, pixels[:JUDGED], opened.scales)
        places = [find_percentile(float(value), opened.null) if len(opened.null) else np.nan for value in found]
        unjudged = np.full(top - len(found), np.nan)
        groups = np.concatenate([group_duplicates(pixels[:GROUPED]), np.arange(min(GROUPED, top), top)])
    return Attribution(
        image_ids=image_ids,
        scores=result.scores[best],
        shares=result.scores[best] / total_score(views),
        keys=found_images.keys,
        metadata=found_images.metadata,
        images=pixels.transpose(0, 2, 3, 1),
        query=query.transpose(1, 2, 0),
        query_maps=maps[0],
        train_maps=maps[1],
        evidence=np.concatenate([found, unjudged]),
        percentiles=np.concatenate([places, unjudged]),
        null_pictures=len(opened.null),
        groups=groups,
        mass_covered=covered,
        mass_error=error,
        score_errors=score_errors,
        draw_errors=draw_errors,
        scored=len(result.ids),
        collection=result.asked,
        missing=opened.shards.missing(),
        settings={
            **question.as_settings(),
            "scales": [scale.name for scale in opened.scales],
            "backend": result.backend,
            "left_out": result.left_out,
        },
        scales=opened.scales,
        log_normalisers=tuple(result.log_normalisers),
        index_hash=opened.index_hash,
        version=__version__,
        seconds=clock.including({**found_images.seconds, "decode": asked.decode_seconds}),
    )


def check_counts(question: Question, top: int, asked: int) -> None:
    """Raise `QueryError` where there are not enough images for a question.

    Args:
        question: the question.
        top: images that its answer must have.
        asked: number of images that it is about.
    """
    if asked == 0:
        raise QueryError(f"where is {question.where!r}, which no image fulfils; relax the condition")
    if not 1 <= top <= asked:
        of = "the index has" if question.where is None else "where leaves"
        raise QueryError(f"top is {top}; {of} {asked} images, so it must be from 1 to {asked}")
    if question.candidates is not None and question.candidates < top:
        raise QueryError(f"candidates is {question.candidates}; it must be at least top, which is {top}")

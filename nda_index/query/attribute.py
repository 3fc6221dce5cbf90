"""From a query to its answer: search the collection, judge what was found, put the answer together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numba
import numpy as np
from numpy.typing import NDArray

from nda_index.answer.attribution import Attribution
from nda_index.exact.maps import evidence_maps
from nda_index.exact.views import scales_of, total_score
from nda_index.images import Pixels, encode_jpeg, encode_small, is_latent
from nda_index.query.conversation import Collection, Conversation, converse
from nda_index.query.gather import Scored, fetch_rows, score_images
from nda_index.query.protocol import Rows, ShardQuestion
from nda_index.query.regions import Found, regions_of, regions_of_several
from nda_index.query.timing import StageTimer
from nda_index.question import Query
from nda_index.trust.coverage import estimate_errors, estimate_mass_covered
from nda_index.trust.duplicates import group_duplicates
from nda_index.trust.evidence import measure_evidence
from nda_index.trust.verdict import find_percentile
from nda_index.version import __version__

JUDGED = 32  # images of an answer that get a verdict
SHOWN = 1024  # pixels of the longer side of the picture that an answer keeps to show
GROUPED = 1000  # images of an answer that are compared with one another


@dataclass(frozen=True)
class _Search:
    """What the shards know: scores, the places of the best images among these, and the best images."""

    scored: Scored
    best: NDArray[np.int64]
    rows: Rows


@dataclass(frozen=True)
class _Judgement:
    """How much of the query each image explains by its own fit; `Attribution` has the meaning of each field."""

    evidence: NDArray[np.float64]
    percentiles: NDArray[np.float64]
    groups: NDArray[np.int64]


def attribute(collection: Collection, query: Query) -> Attribution:
    """Answer a query.

    Args:
        collection: an open index.
        query: a picture with a question.

    Raises:
        NdaIndexError: as `Index.attribute`; or whatever the query's `progress` raises.
    """
    with ThreadPoolExecutor(1, "regions") as pool:  # neither these nor the rest keep all cores busy
        return _answer(collection, query, pool.submit(regions_of, collection, query).result)


def _answer(collection: Collection, query: Query, wait_for_regions: Callable[[], Found]) -> Attribution:
    timer = StageTimer()
    with timer.stage("decode"):
        prepared = collection.prepare(query)
    search = _search(collection, prepared, query.top, timer)
    with timer.stage("maps"):
        settings = query.question.posterior_on(collection.shards.backend)
        maps = evidence_maps(prepared.views, search.scored.log_normalisers, search.rows.pixels, settings)
    with timer.stage("coverage"):
        covered, error = (1.0, 0.0)
        if search.scored.coverages:
            covered, error = estimate_mass_covered(prepared.views, search.scored.coverages)
        score_errors, draw_errors = estimate_errors(
            prepared.views, search.scored.log_normalisers, search.scored.coverages, search.rows.pixels, settings
        )
    with timer.stage("verdict"):
        judgement = _judge(query.pixels, search.rows.pixels, collection)
    regions, regions_seconds = wait_for_regions()
    scores = search.scored.scores[search.best]
    return Attribution(
        image_ids=search.scored.image_ids[search.best],
        scores=scores,
        shares=scores / total_score(prepared.views),
        keys=search.rows.keys,
        metadata=search.rows.metadata,
        images=search.rows.pixels.transpose(0, 2, 3, 1),
        query=query.pixels.transpose(1, 2, 0),
        query_maps=maps[0],
        train_maps=maps[1],
        evidence=judgement.evidence,
        percentiles=judgement.percentiles,
        null_pictures=len(collection.null.evidence),
        groups=judgement.groups,
        mass_covered=covered,
        mass_error=error,
        score_errors=score_errors,
        draw_errors=draw_errors,
        scored=len(search.scored.image_ids),
        collection=search.scored.allowed,
        missing=collection.missing(),
        settings=_settings(prepared, search.scored),
        scales=tuple(scales_of(prepared.views)),
        log_normalisers=tuple(search.scored.log_normalisers),
        regions=regions.regions,
        crops=regions.crops,
        picture=(encode_small if is_latent(query.pixels) else encode_jpeg)(query.picture, SHOWN)
        if query.picture
        else b"",
        picture_size=query.picture.size if query.picture and not is_latent(query.pixels) else None,
        previews=tuple(preview or b"" for preview in search.rows.previews),
        index_hash=collection.index_hash,
        version=__version__,
        seconds=timer.add({**search.rows.seconds, **regions_seconds, "decode": query.decode_seconds}),
    )


def attribute_batch(collection: Collection, queries: Sequence[Query]) -> Iterator[Attribution | Exception]:
    """Answer several queries; `Index.attribute_batch` has the details."""

    def attempt(query: Query) -> Attribution | Exception:
        return _attempt(partial(attribute, collection, query))

    together = collection.shards.pictures_together
    if together > 1:
        for start in range(0, len(queries), together):
            yield from _attribute_together(collection, queries[start : start + together])
        return
    threads = numba.get_num_threads() if collection.shards.concurrent else 1
    whole = len(queries) - len(queries) % threads
    for some in (queries[:whole], queries[whole:]):  # those that are left over share all cores, none waits for one
        workers = min(threads, len(some))
        if workers < 2:
            yield from map(attempt, some)
            continue
        with ThreadPoolExecutor(workers, "question", numba.set_num_threads, (threads // workers,)) as pool:
            yield from pool.map(attempt, some)


def _attribute_together(collection: Collection, queries: Sequence[Query]) -> Iterator[Attribution | Exception]:
    """Answer queries one after another, while the regions of all are found together."""
    with ThreadPoolExecutor(1, "regions") as pool:
        finding = pool.submit(regions_of_several, collection, queries)
        for number, query in enumerate(queries):

            def wait(place: int = number) -> Found:
                outcome = finding.result()[place]
                if isinstance(outcome, Exception):
                    raise outcome
                return outcome

            yield _attempt(partial(_answer, collection, query, wait))


def _attempt(work: Callable[[], Attribution]) -> Attribution | Exception:
    try:
        return work()
    except Exception as error:  # one query's failure is not the others'
        return error


def _search(collection: Collection, prepared: ShardQuestion, top: int, timer: StageTimer) -> _Search:
    candidates = prepared.question.candidates or collection.candidates

    def work(conversation: Conversation) -> _Search:
        scored = score_images(conversation, candidates, top, timer)
        best = np.argsort(-scored.scores, kind="stable")[:top]
        return _Search(scored, best, fetch_rows(conversation, scored.image_ids[best]))

    return converse(collection, prepared, work)


def _judge(query: Pixels, images: Pixels, collection: Collection) -> _Judgement:
    """Judge images [n, C, H, W]: the first `JUDGED` get a verdict, the first `GROUPED` are grouped.

    Latents get no verdict: evidence is measured, and its null chosen, on the structure of pixels.
    """
    judged = 0 if is_latent(query) else JUDGED
    explained = np.empty(0)
    if judged:
        scales, backend = collection.null.scales, collection.shards.backend
        explained = measure_evidence(query, images[:judged], scales, backend=backend)
    null = collection.null.evidence
    places = [find_percentile(float(value), null) if len(null) else np.nan for value in explained]
    unjudged = np.full(len(images) - len(explained), np.nan)
    alone = np.arange(min(GROUPED, len(images)), len(images))
    return _Judgement(
        np.concatenate([explained, unjudged]),
        np.concatenate([places, unjudged]),
        np.concatenate([group_duplicates(images[:GROUPED]), alone]),
    )


def _settings(prepared: ShardQuestion, scored: Scored) -> dict[str, object]:
    return {
        **prepared.question.as_settings(),
        "scales": [scale.name for scale in scales_of(prepared.views)],
        "backend": scored.backend,
        **({"coarse_backend": scored.coarse} if scored.coarse else {}),
        "left_out": scored.left_out,
    }

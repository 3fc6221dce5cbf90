"""Regions of the pictures of queries: of one alone, or of several whose windows are looked for in one search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from PIL import Image

from nda_index.answer.region import FoundRegions, move_box
from nda_index.images import crop_region, is_latent
from nda_index.query.conversation import Collection
from nda_index.query.timing import StageTimer
from nda_index.question import Query

Found = tuple[FoundRegions, dict[str, float]]  # of a query, and the seconds that it took


def regions_of(collection: Collection, query: Query) -> Found:
    """Find the regions of a query's picture, or of the part of it that it is about; what it raises ends the query."""
    (outcome,) = regions_of_several(collection, [query])
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def regions_of_several(collection: Collection, queries: Sequence[Query]) -> list[Found | Exception]:
    """Find the regions of several queries' pictures; one query's failure is not the others'.

    Those with the same condition are looked for together.
    """
    outcomes: list[Found | Exception] = [(FoundRegions(), {})] * len(queries)
    asked = [n for n, query in enumerate(queries) if query.picture is not None and not is_latent(query.pixels)]
    for where in dict.fromkeys(queries[n].question.where for n in asked):
        alike = [n for n in asked if queries[n].question.where == where]
        try:
            found = _find(collection, [queries[n] for n in alike])
        except Exception as error:
            found = [error]
            if len(alike) > 1:  # whose failure it is shows where each is looked for alone
                found = [regions_of_several(collection, [queries[n]])[0] for n in alike]
        for n, outcome in zip(alike, found, strict=True):
            outcomes[n] = outcome
    return outcomes


def _find(collection: Collection, queries: Sequence[Query]) -> list[Found | Exception]:
    """Find the regions of queries that have pictures and one condition."""
    ended: dict[int, Exception] = {}

    def report(stage: str, done: int, total: int) -> None:
        for number, query in enumerate(queries):
            if query.progress is not None and number not in ended:
                try:
                    query.progress(stage, done, total)
                except Exception as error:  # this query ends; the others go on
                    ended[number] = error
        if len(ended) == len(queries):
            raise ended[0]

    timer = StageTimer()
    with timer.stage("regions"):
        pictures = [_part_of(query) for query in queries]
        answers = collection.shards.regions(pictures, queries[0].question.where, collection.regions_null, report)
        found = [_move(answer, query) for answer, query in zip(answers, queries, strict=True)]
    seconds = {stage: spent / len(queries) for stage, spent in timer.seconds.items()}
    return [ended.get(number, (regions, seconds)) for number, regions in enumerate(found)]


def _part_of(query: Query) -> Image.Image:
    if query.picture is None:
        raise RuntimeError("regions are asked of a query without a picture")
    part = query.question.region
    return query.picture if part is None else crop_region(query.picture, part)


def _move(found: FoundRegions, query: Query) -> FoundRegions:
    """Tell regions of a part in the whole picture's pixels."""
    left, top = query.question.region[:2] if query.question.region else (0, 0)
    moved = [replace(region, box=move_box(region.box, left, top)) for region in found.regions]
    return FoundRegions(tuple(moved), found.crops)

"""Judge answers to the queries: is the source found, is the verdict right, is the place right, how long does it take.

    rows = judge(queries, from_null(queries, answers))

It knows no system. A system gives for each query an `Answer`: its candidates, best first, and how long it took; and its
own verdict, or none, in which case `from_null` calls strong what scores above unrelated queries.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.pictures.composites import AREAS, UNRELATED, WHOLE_EDITS, Query
from benchmarks.pictures.edits import EDITS

LARGE = 0.2  # area from which on pieces are in the tables of edits
ALARMS = 0.01  # share of the unrelated queries that may be called strong


class Candidate(NamedTuple):
    """A picture that a system names.

    Args:
        key: of the picture.
        score: larger is better; of one scale over all queries.
        box: of the piece in the query, in px, or None where the system tells no place.
    """

    key: str
    score: float
    box: tuple[float, float, float, float] | None


@dataclass(frozen=True)
class Answer:
    """What a system says to a query.

    Args:
        candidates: best first.
        strong: whether it says that the first of them is a source for sure.
        seconds: that it took.
    """

    candidates: tuple[Candidate, ...]
    strong: bool
    seconds: float


@dataclass(frozen=True)
class Row:
    """A line of a table.

    Args:
        name: of the group of queries.
        queries: how many.
        first: share whose source is the first candidate.
        ten: share whose source is among the first ten.
        strong: share whose source is first and called strong; of unrelated queries, those called strong.
        overlap: mean intersection over union of the source's box among the first ten and the piece; 0 where there is
            none. None where no candidate of the group has a box.
        seconds: the median.
    """

    name: str
    queries: int
    first: float | None
    ten: float | None
    strong: float
    overlap: float | None
    seconds: float


def read_queries(folder: Path) -> list[Query]:
    """Read the queries of a set."""
    rows: list[dict[str, Any]] = json.loads((folder / "queries.json").read_text())
    for row in rows:
        for name in ("box", "source_box"):
            row[name] = tuple(row[name]) if row[name] else None
    return [Query(**row) for row in rows]


def from_null(queries: Sequence[Query], answers: Sequence[Answer], alarms: float = ALARMS) -> list[Answer]:
    """Call strong what scores above the unrelated queries, but for the given share of them.

    Args:
        queries: with unrelated ones among them.
        answers: to them, in their order.
        alarms: share of the unrelated queries that may be strong; of about 100, 0.01 lets the best one be.
    """
    null = sorted((best_score(a) for q, a in zip(queries, answers, strict=True) if q.key is None), reverse=True)
    threshold = null[min(round(alarms * len(null)), len(null) - 1)]
    return [replace(answer, strong=best_score(answer) > threshold) for answer in answers]


def best_score(answer: Answer) -> float:
    """Give the first candidate's score; minus infinity where there is none."""
    return answer.candidates[0].score if answer.candidates else float("-inf")


def intersection_over_union(one: Sequence[float], other: Sequence[float]) -> float:
    """Divide the area that two boxes share by the area that they cover.

    >>> intersection_over_union((0, 0, 2, 2), (1, 0, 3, 2))
    0.3333333333333333
    """
    width = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
    height = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
    area, second = ((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return width * height / (area + second - width * height)


def judge(queries: Sequence[Query], answers: Sequence[Answer]) -> list[Row]:
    """Judge answers in groups: by area, by edit where the area is 20% or more, whole pictures, unrelated ones.

    Args:
        queries: of a set.
        answers: to them, in their order.
    """
    pairs = list(zip(queries, answers, strict=True))
    pieces = [(query, answer) for query, answer in pairs if 0 < query.area < 1]
    hard = {edit.name for edit in EDITS if not edit.soft}
    groups = {
        f"area {area:.0%}, all edits but soft ones": [p for p in pieces if p[0].area == area and p[0].edit in hard]
        for area in sorted(AREAS, reverse=True)
    }
    for edit in EDITS:
        name = f"{edit.name}{' (soft)' if edit.soft else ''}, area >= {LARGE:.0%}"
        groups[name] = [p for p in pieces if p[0].edit == edit.name and p[0].area >= LARGE]
    for edit_name in (*WHOLE_EDITS, UNRELATED):
        groups[edit_name] = [p for p in pairs if p[0].edit == edit_name]
    return [judge_group(name, group) for name, group in groups.items() if group]


def judge_group(name: str, pairs: Sequence[tuple[Query, Answer]]) -> Row:
    """Judge a group of queries, which all have a source or none of which has one."""
    seconds = statistics.median(answer.seconds for _, answer in pairs)
    if pairs[0][0].key is None:
        return Row(name, len(pairs), None, None, mean([answer.strong for _, answer in pairs]), None, seconds)
    ranks, overlaps = [], []
    for query, answer in pairs:
        keys = [candidate.key for candidate in answer.candidates[:10]]
        ranks.append(keys.index(query.key) if query.key in keys else None)
        box = answer.candidates[ranks[-1]].box if ranks[-1] is not None else None
        overlaps.append(intersection_over_union(box, query.box) if box and query.box else 0.0)
    told = any(candidate.box for _, answer in pairs for candidate in answer.candidates)
    return Row(
        name,
        len(pairs),
        mean([rank == 0 for rank in ranks]),
        mean([rank is not None for rank in ranks]),
        mean([rank == 0 and answer.strong for rank, (_, answer) in zip(ranks, pairs, strict=True)]),
        mean(overlaps) if told else None,
        seconds,
    )


def mean(values: Sequence[float]) -> float:
    """Average numbers or truths."""
    return float(sum(values) / len(values))


def as_markdown(rows: Sequence[Row]) -> str:
    """Write rows as a table."""
    lines = [
        "| queries | number | source first | among ten | first and strong | IoU of the box | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        shares = (row.first, row.ten, row.strong, row.overlap)
        cells = ["-" if share is None else f"{share:.2f}" for share in shares]
        lines.append(f"| {row.name} | {row.queries} | {' | '.join(cells)} | {row.seconds:.2f} |")
    return "\n".join(lines) + "\n"

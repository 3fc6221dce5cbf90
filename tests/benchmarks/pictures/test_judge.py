"""The judge's arithmetic, on answers whose shares are known."""

from __future__ import annotations

import pytest

from benchmarks.pictures.composites import UNRELATED, Query
from benchmarks.pictures.judge import Answer, Candidate, as_markdown, from_null, intersection_over_union, judge

BOX = (0, 0, 100, 100)


def candidate(key: str, score: float = 1.0, box: tuple[float, float, float, float] | None = BOX) -> Candidate:
    return Candidate(key, score, box)


def test_shares_of_a_group() -> None:
    queries = [Query(f"{n}.png", "a", "plain", 0.2, BOX, BOX) for n in range(4)]
    others = [candidate(f"other {n}") for n in range(10)]
    answers = [
        Answer((candidate("a"),), True, 1.0),
        Answer((candidate("a", box=(50, 0, 150, 100)),), False, 2.0),
        Answer((*others[:9], candidate("a")), True, 3.0),  # the tenth, and strong for another
        Answer((*others, candidate("a")), False, 9.0),
    ]
    by_area, by_edit = judge(queries, answers)
    assert by_area.name.startswith("area 20%")
    assert by_edit.name.startswith("plain")
    for row in (by_area, by_edit):
        assert (row.queries, row.first, row.ten, row.strong, row.seconds) == (4, 0.5, 0.75, 0.25, 2.5)
        assert row.overlap == pytest.approx((1 + 1 / 3 + 1 + 0) / 4)


def test_groups() -> None:
    queries = [
        Query("a.png", "a", "plain", 0.1, BOX, BOX),
        Query("b.png", "a", "style", 0.4, BOX, BOX),
        Query("c.png", "a", "exact copy", 1.0, BOX, BOX),
        Query("d.png", None, UNRELATED, 0.0),
    ]
    rows = judge(queries, [Answer((candidate("a", box=None),), True, 1.0)] * 4)
    assert [row.name for row in rows] == [
        "area 10%, all edits but soft ones",
        "style (soft), area >= 20%",
        "exact copy",
        UNRELATED,
    ]
    assert [row.overlap for row in rows] == [None] * 4
    assert rows[-1].first is None
    assert rows[-1].strong == 1
    assert as_markdown(rows).splitlines()[-1] == "| unrelated | 1 | - | - | 1.00 | - | 1.00 |"


def test_the_null_lets_its_share_of_alarms_through() -> None:
    queries = [Query(f"{n}.png", None, UNRELATED, 0.0) for n in range(100)]
    answers = [Answer((candidate("a", float(n)),), False, 1.0) for n in range(100)]
    queries += [Query("p.png", "a", "plain", 0.2, BOX, BOX)] * 3
    answers += [Answer((candidate("a", score),), False, 1.0) for score in (97.5, 98.0, 98.5)]
    answers.append(Answer((), True, 1.0))
    queries.append(queries[-1])
    judged = from_null(queries, answers)
    assert sum(answer.strong for answer in judged[:100]) == 1
    assert [answer.strong for answer in judged[100:]] == [False, False, True, False]
    assert sum(answer.strong for answer in from_null(queries, answers, alarms=0)[:100]) == 0


def test_boxes_that_do_not_meet() -> None:
    assert intersection_over_union((0, 0, 1, 1), (2, 2, 3, 3)) == 0
    assert intersection_over_union(BOX, BOX) == 1


def test_answers_are_to_all_queries() -> None:
    with pytest.raises(ValueError, match="zip"):
        judge([Query("d.png", None, UNRELATED, 0.0)], [])

from __future__ import annotations

from dataclasses import replace

import numpy as np

import nda_index as nda
from nda_index.answer.region import Region
from nda_index.answer.rows import SCHEMA, rows_of, rows_of_error


def region(key: str, percentile: float) -> Region:
    return Region(7, key, None, (1, 2, 30, 40), (5, 6, 70, 80), (90, 95), True, 0.5, -3.0, 0.9, 20.0, percentile, 199)


def test_each_strong_region_is_a_row(answer: nda.Attribution) -> None:
    rows = rows_of("q.png", replace(answer, regions=(region("a", 0.995), region("b", 0.995), region("c", 0.5))))
    assert [row["key"] for row in rows] == ["a", "b"]
    assert rows[0] == {
        "question": "q.png", "key": "a", "image_id": 7, "strong": True, "evidence": 20.0, "percentile": 0.995,
        "left": 1, "top": 2, "right": 30, "bottom": 40,
        "source_left": 5, "source_top": 6, "source_right": 70, "source_bottom": 80,
        "mirrored": True, "zoom": 0.5, "turn": -3.0,
    }  # fmt: skip
    assert set(rows[0]) | {"error", "share"} == set(SCHEMA.names)


def test_without_a_strong_region_the_best_image_is_the_row(answer: nda.Attribution) -> None:
    for regions in ((), (region("c", 0.5),)):
        [row] = rows_of("q.png", replace(answer, regions=regions))
        assert (row["key"], row["image_id"]) == (answer.keys[0], answer.image_ids[0])
        assert (row["share"], row["strong"]) == (answer.shares[0], answer.verdict(0).strong)
        assert "left" not in row
    [row] = rows_of("q.png", replace(answer, percentiles=np.full(len(answer), np.nan)))
    assert row["strong"] is row["percentile"] is None


def test_an_error_is_a_row() -> None:
    assert rows_of_error("q.png", ValueError("broken")) == [{"question": "q.png", "error": "broken"}]

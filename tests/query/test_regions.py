"""Regions of several queries: each gets what it would get alone, and its own exception."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import nda_index as nda
from nda_index.answer.region import FoundRegions
from nda_index.query.regions import regions_of, regions_of_several
from nda_index.question import Query


class Stop(Exception):
    pass


def stop(stage: str, done: int, total: int) -> None:
    raise Stop


def collection(asked: list[list[int]]) -> Any:
    """A collection whose regions of a picture are named after its width; pictures 13 wide cannot be looked at."""

    def regions(pictures: Sequence[Image.Image], where: str | None, null: Any, report: Any) -> list[FoundRegions]:
        asked.append([picture.width for picture in pictures])
        report("regions", 1, 3)
        if any(picture.width == 13 for picture in pictures):
            raise ValueError("13")
        return [FoundRegions((), (str(picture.width).encode(),)) for picture in pictures]

    return SimpleNamespace(shards=SimpleNamespace(regions=regions), regions_null=np.empty(0))


def ask(index: nda.Index, width: int, **options: Any) -> Query:
    """A query of an index of small images, with a picture as one of photographs has."""
    picture = Image.new("RGB", (width, 40))
    return replace(index.query(picture, **options), picture=picture)


def queries(index: nda.Index, *widths: int) -> list[Query]:
    return [ask(index, width) for width in widths]


def outcomes(found: Sequence[Any]) -> list[Any]:
    return [type(one) if isinstance(one, Exception) else one[0].crops for one in found]


def test_one_querys_failure_is_not_the_others(index: nda.Index) -> None:
    asked: list[list[int]] = []
    few = queries(index, 20, 13, 30)
    few[2] = replace(few[2], progress=stop)
    found = regions_of_several(collection(asked), few)
    assert outcomes(found) == [(b"20",), ValueError, Stop]
    assert asked == [[20, 13, 30], [20], [13], [30]]


def test_a_query_that_is_stopped_leaves_the_others_together(index: nda.Index) -> None:
    asked: list[list[int]] = []
    few = queries(index, 20, 30, 40)
    few[1] = replace(few[1], progress=stop)
    assert outcomes(regions_of_several(collection(asked), few)) == [(b"20",), Stop, (b"40",)]
    assert asked == [[20, 30, 40]]
    assert (
        regions_of_several(collection(asked), [replace(query, picture=None) for query in few])
        == [(FoundRegions(), {})] * 3
    )
    with pytest.raises(Stop):
        regions_of(collection(asked), few[1])


def test_queries_of_one_condition_are_looked_for_together(index: nda.Index) -> None:
    asked: list[list[int]] = []
    few = queries(index, 20, 30, 40, 50)
    few[1] = ask(index, 30, where="key = 'a'")
    few[2] = ask(index, 40, region=(1, 2, 26, 30))
    found = regions_of_several(collection(asked), few)
    assert outcomes(found) == [(b"20",), (b"30",), (b"25",), (b"50",)]
    assert asked == [[20, 25, 50], [30]]
    assert all(not isinstance(one, Exception) and one[1]["regions"] >= 0 for one in found)

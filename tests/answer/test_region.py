from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from nda_index.answer.forms import strict_json
from nda_index.answer.region import Region, read_region

REGION = Region(
    7, "a.jpg", "/p/a.jpg", (1, 2, 70, 71), (3, 4, 100, 101), (400, 300), False, 1.0, 0.0, 0.9, 20.0, 0.995, 199
)  # fmt: skip


def test_a_region_comes_back_from_json_as_it_was() -> None:
    for region in (REGION, replace(REGION, path=None, mirrored=True, zoom=0.5)):
        again = read_region(json.loads(json.dumps(region.as_json())))
        assert again == region
        assert hash(again) == hash(region)
    unjudged = read_region(json.loads(json.dumps(replace(REGION, percentile=float("nan")).as_json())))
    assert np.isnan(unjudged.percentile)
    assert json.loads(strict_json(replace(REGION, percentile=float("nan")).as_json()))["percentile"] is None


def test_a_region_with_fields_of_a_later_version_is_read() -> None:
    assert read_region({**REGION.as_json(), "hologram": 1}) == REGION


@pytest.mark.parametrize(("percentile", "strong"), [(0.99, True), (0.9899, False), (0.0, False), (float("nan"), False)])
def test_a_region_is_strong_from_the_99th_percentile_on(percentile: float, strong: bool) -> None:
    region = replace(REGION, percentile=percentile)
    assert (region.strong, region.verdict.strong, region.as_json()["strong"]) == (strong, strong, strong)
    assert (region.verdict.evidence, region.verdict.pictures) == (20.0, 199)
    assert str(region.verdict).startswith("strong match") == strong


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "at its own size"),
        ({"zoom": 1.02, "turn": 1.4}, "at its own size"),
        ({"zoom": 0.96}, "0.96 times the size"),
        ({"zoom": 2.0, "turn": -7.6}, "2 times the size, turned by -8 degrees"),
        ({"mirrored": True}, "mirrored, at its own size"),
    ],
)
def test_a_region_says_what_was_done_to_it(changes: dict[str, float], words: str) -> None:
    region = replace(REGION, **changes)  # type: ignore[arg-type]
    assert region.describe() == words == region.as_json()["what"]

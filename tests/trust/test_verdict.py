from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import nda_index as nda
from nda_index.trust.verdict import STRONG, find_percentile, judge


def test_a_percentile_never_claims_more_than_the_null_supports() -> None:
    null = np.arange(99.0)
    assert find_percentile(1000.0, null) == 0.99
    assert find_percentile(-1.0, null) == 0.0
    assert find_percentile(50.0, null) == 0.50  # ties are not stronger
    for wrong in (np.zeros(0), np.array([0.1, np.nan]), np.zeros((2, 2))):
        with pytest.raises(nda.ConfigError, match="the null"):
            find_percentile(0.5, wrong)


def test_a_match_is_strong_from_the_percentile_on_and_not_below() -> None:
    assert STRONG == 0.99
    assert judge(0.5, STRONG, 199).strong
    assert not judge(0.5, np.nextafter(STRONG, 0.0), 199).strong
    assert judge(0.5, find_percentile(1000.0, np.arange(99.0)), 99).strong  # 99 pictures just support it
    assert not judge(0.5, find_percentile(1000.0, np.arange(98.0)), 98).strong


def test_an_answer_judges_by_the_same_rule(index: nda.Index) -> None:
    answer = index.attribute(np.zeros((24, 20, 3), np.uint8), top=3)
    edge = replace(answer, percentiles=np.array([STRONG, np.nextafter(STRONG, 0.0), np.nan]), null_pictures=99)
    assert edge.verdict(0) == nda.Verdict(float(answer.evidence[0]), STRONG, True, 99)
    assert edge.verdict(1) == nda.Verdict(float(answer.evidence[1]), np.nextafter(STRONG, 0.0), False, 99)
    with pytest.raises(nda.QueryError, match="rank 2 has no verdict"):
        edge.verdict(2)


def test_an_unrelated_picture_is_called_strong_at_most_as_often_as_said() -> None:
    rng = np.random.default_rng(0)
    strong = [judge(value, find_percentile(value, rng.normal(size=150)), 150).strong for value in rng.normal(size=4000)]
    assert 0.004 < np.mean(strong) < 0.0135


def test_the_sentence_rounds_down() -> None:
    sentence = "strong match: stronger than 99.9% of unrelated pictures"
    assert str(judge(2.0, 1998 / 2000, 1999)) == sentence
    assert str(judge(2.0, 0.99999, 99_999)) == sentence  # and never 100.0%
    assert str(judge(2.0, 0.99, 99)) == "strong match: stronger than 99.0% of unrelated pictures"
    assert str(judge(2.0, 50 / 51, 50)) == "no strong match"

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nda_index as nda
from nda_index.question import Question, as_question

IMAGE = np.random.default_rng(0).integers(0, 256, (3, 6, 5), np.uint8)

QUESTIONS = st.builds(
    Question,
    timesteps=st.lists(st.integers(0, 999), min_size=1, max_size=3).map(tuple),
    noise=st.sampled_from(("none", "draw", "average")),
    seed=st.integers(0, 2**32),
    draws=st.integers(2, 4),
    temper=st.sampled_from((1.0, 2.0)),
    mode=st.sampled_from(("ann", "exact")),
    candidates=st.none() | st.integers(1, 9),
    per_image_topk=st.none() | st.integers(1, 9),
    mirror=st.booleans(),
    where=st.none() | st.just("a = 1"),
)


@given(QUESTIONS)
def test_settings_written_as_json_ask_the_same(question: Question) -> None:
    settings = json.loads(json.dumps(question.as_settings()))
    again = Question.from_settings(settings)
    assert again.as_settings() == question.as_settings()
    assert (again.posterior, again.grouping, again.mode) == (question.posterior, question.grouping, question.mode)
    for ours, theirs in zip(again.noisy_versions(IMAGE), question.noisy_versions(IMAGE), strict=True):
        np.testing.assert_array_equal(ours.pixels, theirs.pixels)
        assert ours.sigma == theirs.sigma


@given(QUESTIONS)
def test_there_are_as_many_noisy_versions_of_each_timestep(question: Question) -> None:
    timesteps, versions = question.grouping
    assert len(question.noisy_versions(IMAGE)) == timesteps * versions
    assert timesteps == len(question.timesteps)
    assert versions == (question.draws if question.noise == "average" else 1)


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8])
def test_numbers_of_numpy_ask_what_those_of_python_do(kind: Any) -> None:
    question = as_question(kind(50), noise="draw", seed=kind(3), candidates=kind(7), mirror=np.bool_(True))  # type: ignore[arg-type]
    assert question == as_question(50, noise="draw", seed=3, candidates=7, mirror=True)
    assert json.loads(json.dumps(question.as_settings()))["timestep"] == [50]
    assert as_question(np.array([50, 200])) == as_question([50, 200])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("timestep", "options", "message"),
    [
        ([], {}, "timestep is empty"),
        (1000, {}, "1000"),
        (True, {}, "True"),
        ("fifty", {}, "fifty"),
        (50, {"mode": "fast"}, "mode is 'fast'"),
        (50, {"candidates": 0}, "candidates is 0"),
    ],
)
def test_what_is_no_question_is_refused(timestep: Any, options: Any, message: str) -> None:
    with pytest.raises(nda.ConfigError, match=message):
        as_question(timestep, **options)

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nda_index as nda
from nda_index.exact.views import total_score
from nda_index.question import Question, as_question, parse_region
from nda_index.recipe import DEFAULT, parse_recipe

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


SCALES = (nda.Scale(3, weight=2.0), nda.Scale(4, 2))
RECIPES = st.sampled_from(["2@100", "3@100 + 4/2@50*2(draws=2)", "3@7(draws=0, temper=2)"]).map(parse_recipe)


@given(QUESTIONS | st.builds(Question, recipe=RECIPES, seed=st.integers(0, 9), mirror=st.booleans()))
def test_settings_written_as_json_ask_the_same(question: Question) -> None:
    settings = json.loads(json.dumps(question.as_settings()))
    again = Question.from_settings(settings)
    assert again.as_settings() == question.as_settings()
    assert (again.posterior, again.mode, again.recipe) == (question.posterior, question.mode, question.recipe)
    for ours, theirs in zip(again.views(IMAGE, SCALES), question.views(IMAGE, SCALES), strict=True):
        np.testing.assert_array_equal(ours.noisy.pixels, theirs.noisy.pixels)
        assert (ours.noisy.sigma, ours.scale, ours.factor) == (theirs.noisy.sigma, theirs.scale, theirs.factor)


@given(QUESTIONS)
def test_every_scale_looks_at_every_draw_of_every_timestep(question: Question) -> None:
    draws = question.draws if question.noise == "average" else 1
    views = question.views(IMAGE, SCALES)
    expected = [(scale, t, draw) for scale in SCALES for t in question.timesteps for draw in range(draws)]
    assert [(view.scale, view.timestep, view.draw) for view in views] == expected
    assert total_score(views) == pytest.approx(2 * 30 + 4 * 5 * 4 // 4)


def test_options_of_timesteps_do_not_mix_with_a_recipe() -> None:
    assert as_question().recipe == DEFAULT
    named, terms = (as_question(recipe=given) for given in ("published", parse_recipe("published").terms))
    assert named == terms
    assert as_question(noise="draw") == as_question(100, noise="draw")
    for options in ({"timestep": 50}, {"noise": "draw"}, {"draws": 3}, {"temper": 2.0}):
        with pytest.raises(nda.ConfigError, match="each term of a recipe has its own"):
            as_question(recipe="published", **options)


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


def test_an_option_that_there_is_not_is_named_with_those_that_there_are() -> None:
    with pytest.raises(TypeError, match="there is no option 'tops'; the options are recipe, noise, .* where, region"):
        as_question(50, tops=1)  # type: ignore[call-arg]


@pytest.mark.parametrize("mirror", ["yes", 1, None])
def test_mirror_is_true_or_false(mirror: Any) -> None:
    with pytest.raises(nda.ConfigError, match=f"mirror is {mirror!r}; it must be True or False"):
        as_question(50, mirror=mirror)
    assert as_question(50, mirror=np.True_).mirror is True  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "region",
    [(0, 0, 10), (0, 0, 0, 10), (5, 0, 4, 10), (-1, 0, 4, 10), (0.0, 0.0, 9.0, 9.0), (0, 0, True, 9), 7, "0123"],
)
def test_a_region_is_four_edges_in_order(region: Any) -> None:
    with pytest.raises(nda.ConfigError, match="left, top, right, bottom in whole pixels"):
        as_question(region=region)


def test_a_region_of_any_sequence_is_kept_in_the_settings() -> None:
    several: tuple[Any, ...] = ([1, 2, 30, 40], np.array([1, 2, 30, 40]))
    for region in several:
        question = as_question(region=region)
        assert question.region == (1, 2, 30, 40) == tuple(question.as_settings()["region"])
        assert Question.from_settings(question.as_settings()) == question
    assert "region" not in as_question().as_settings()
    with pytest.raises(nda.ConfigError, match="left,top,right,bottom"):
        parse_region("1,2,x,4")

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import nda_index as nda
from nda_index.recipe import DEFAULT, RECIPES, Recipe, Term, as_recipe, parse_recipe

SCALES = st.builds(
    lambda taps, downscale, weight, strides: nda.Scale(taps * downscale, downscale, weight, *strides),
    taps=st.integers(1, 20),
    downscale=st.integers(1, 4),
    weight=st.just(1.0) | st.floats(1e-300, 1e300),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
)
TERMS = st.builds(
    Term, SCALES, timestep=st.integers(0, 999), draws=st.integers(0, 9), temper=st.just(1.0) | st.floats(1e-9, 1e18)
)


@given(st.lists(TERMS, min_size=1, max_size=4, unique_by=lambda term: term.scale.name))
def test_a_recipe_is_read_as_it_is_written(terms: list[Term]) -> None:
    recipe = Recipe(tuple(terms))
    assert parse_recipe(str(recipe)) == recipe
    assert recipe.passes == sum(term.draws or 1 for term in terms)


def test_text_without_options_is_one_draw_at_full_strides() -> None:
    expected = (Term(nda.Scale(3), 100, draws=1), Term(nda.Scale(14, 2, 0.5), 200, draws=1))
    for text in ("3@100+14/2@200*0.5", " 3 @ 100 + 14 / 2 @ 200 * 0.5 ( ) "):
        assert parse_recipe(text).terms == expected


def test_strides_may_differ() -> None:
    term = parse_recipe("5@200(stride=2, train_stride=1)").terms[0]
    assert (term.scale.query_stride, term.scale.train_stride) == (2, 1)


def test_terms_of_one_patch_share_a_scale() -> None:
    recipe = parse_recipe("3@50 + 3@100*2 + 6/2@100")
    assert recipe.scales == (nda.Scale(3, weight=3.0), nda.Scale(6, 2))
    with pytest.raises(nda.ConfigError, match="patch 3 with strides"):
        parse_recipe("3@50 + 3@100(stride=2)")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("modles", "no name of one"),
        ("", "no name of one"),
        ("3@100 + ", "the term '3@100 +'"),
        ("3@100 5@200", "the term '3@100 5@200'"),
        ("3@1000", "timestep is 1000"),
        ("3@100(noise=2)", "the option 'noise=2'"),
        ("3@100(draws=two)", "'two'"),
        ("3@100(draws=1.5)", "'1.5'"),
        ("3@100*heavy", "'heavy'"),
        ("3@100*-1", "weight is -1"),
        ("5/2@100", "blocks of 2"),
        ("3@100(draws=-1)", "draws is -1"),
        ("3@100(temper=0)", "temper is 0"),
        ("3@100(stride=0)", "stride is 0"),
    ],
)
def test_what_is_no_recipe_is_refused_with_a_rule(text: str, message: str) -> None:
    with pytest.raises(nda.ConfigError, match=re.escape(message)):
        parse_recipe(text)


def test_the_method_page_has_the_named_recipes() -> None:
    page = (Path(nda.__file__).parents[1] / "docs" / "method.md").read_text()
    assert RECIPES["models"] is DEFAULT
    for name, recipe in RECIPES.items():
        assert f"| `{name}`" in page and f"| `{recipe}` |" in page
        assert recipe.title and recipe.summary.endswith(".")


def test_names_terms_and_recipes_are_taken() -> None:
    for name, recipe in RECIPES.items():
        assert recipe.name == name
        assert as_recipe(name) is as_recipe(recipe) is recipe
        assert as_recipe(recipe.terms) is parse_recipe(str(recipe)) is recipe
    other = Recipe(RECIPES["models"].terms[:1], name="models")
    assert as_recipe(other) is other and parse_recipe(str(other)).name is None
    with pytest.raises(nda.ConfigError, match="no terms"):
        as_recipe([])
    for wrong in (3, ["3@100"]):
        with pytest.raises(nda.ConfigError, match="it must be text, a Recipe or a list of Term"):
            as_recipe(wrong)  # type: ignore[arg-type]

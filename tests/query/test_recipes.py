"""Questions by recipe, from an open index; `test_recipe` has how recipes are written and read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import nda_index as nda
from nda_index.diffusion import noisy_images
from nda_index.exact import image_scores
from nda_index.images import to_float
from nda_index.recipe import RECIPES, Recipe, Term, parse_recipe

MIXED = "3@150*2(draws=2) + 6/2@300(draws=0, temper=2, stride=2)"


def scores_of_term(pictures: NDArray[np.uint8], query: NDArray[np.uint8], term: Term, seed: int) -> NDArray[np.float64]:
    """The definition, by the reference: scores that sum to the term's weight times the query's pixels."""
    noise: dict[str, Any] = {"noise": "average", "draws": term.draws} if term.draws else {"noise": "none"}
    versions = noisy_images(to_float(query.transpose(2, 0, 1)), term.timestep, seed=seed, temper=term.temper, **noise)
    train, scale = to_float(pictures.transpose(0, 3, 1, 2)), replace(term.scale, weight=1.0)
    total = np.zeros(len(pictures))
    for noisy in versions:
        level: dict[str, Any] = {"signal": noisy.signal, "sigma": noisy.sigma}
        total += image_scores(noisy.pixels, train, scale, mask_value=np.inf, backend="reference", **level)
    height, width = query.shape[:2]
    factor = term.scale.weight * height * width / scale.query_positions(height, width) / len(versions)
    return np.asarray(factor * total, np.float64)


def test_scores_of_a_recipe_are_the_sum_of_its_terms(index: nda.Index, pictures: NDArray[np.uint8]) -> None:
    found = index.scores([pictures[11]], recipe=MIXED, seed=3)[0]
    expected = sum(scores_of_term(pictures, pictures[11], term, 3) for term in parse_recipe(MIXED).terms)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    assert found.sum() == pytest.approx(3 * 24 * 20, rel=1e-4)


def test_the_published_recipe_gives_the_published_scores(index: nda.Index, pictures: NDArray[np.uint8]) -> None:
    (noisy,) = noisy_images(to_float(pictures[5].transpose(2, 0, 1)), 100, "draw", seed=2)
    expected = image_scores(
        noisy.pixels, to_float(pictures.transpose(0, 3, 1, 2)), nda.Scale(7), mask_value=np.inf, backend="reference",
        signal=noisy.signal, sigma=noisy.sigma,
    )  # fmt: skip
    found = index.scores([pictures[5]], recipe="published", seed=2)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("recipe", [*RECIPES, MIXED])
@pytest.mark.parametrize("mode", ["ann", "exact"])
def test_every_recipe_finds_a_copy(index: nda.Index, pictures: NDArray[np.uint8], recipe: str, mode: Any) -> None:
    answer = index.attribute(pictures[42], top=4, recipe=recipe, mode=mode, candidates=60)
    assert answer.image_ids[0] == 42
    assert answer.verdict(0).strong
    assert [scale.name for scale in answer.scales] == [scale.name for scale in parse_recipe(recipe).scales]
    for rank in range(4):
        for parts in (answer.query_map(rank), answer.train_map(rank), answer.links(rank)):
            assert parts.sum() == pytest.approx(answer.scores[rank], rel=2e-3, abs=1e-4)
    assert answer.settings["recipe"] == str(parse_recipe(recipe))
    assert answer.settings["recipe_name"] == (recipe if recipe in RECIPES else None)


def test_a_saved_answer_keeps_its_recipe(index: nda.Index, pictures: NDArray[np.uint8], tmp_path: Path) -> None:
    answer = index.attribute(pictures[42], top=2, recipe=MIXED, seed=1)
    answer.save(tmp_path / "a.arrow")
    again = nda.read_answer(tmp_path / "a.arrow")
    assert (again.settings, again.scales) == (answer.settings, answer.scales)
    np.testing.assert_array_equal(again.links(1), answer.links(1))
    answer.save(tmp_path / "a.html")
    assert f"It was compared by the recipe {parse_recipe(MIXED)}." in (tmp_path / "a.html").read_text()
    index.attribute(pictures[42], top=2).save(tmp_path / "b.html")
    assert RECIPES["models"].summary in (tmp_path / "b.html").read_text()


def test_draw_errors_are_those_of_the_terms_with_several_draws(index: nda.Index, pictures: NDArray[np.uint8]) -> None:
    single, several = ("3@150 + 5@50(draws=0)", "3@150(draws=3) + 5@50(draws=0)")
    options: dict[str, Any] = {"top": 5, "mode": "exact"}
    assert not index.attribute(pictures[3], recipe=single, **options).draw_errors.any()
    answer = index.attribute(pictures[3], recipe=several, **options)
    by_draw = [index.scores([pictures[3]], recipe="3@150", seed=seed)[0][answer.image_ids] for seed in range(3)]
    np.testing.assert_allclose(answer.draw_errors, np.std(by_draw, axis=0, ddof=1) / np.sqrt(3), rtol=1e-3)


def test_a_mean_and_its_answer_take_the_same_recipe(
    index: nda.Index, pictures: NDArray[np.uint8], tmp_path: Path
) -> None:
    answer = index.attribute(pictures[9], top=2)
    answer.save(tmp_path / "a.html", explained=[index.denoise(pictures[9])])
    with pytest.raises(nda.ConfigError, match="explained has recipe"):
        answer.save(tmp_path / "a.html", explained=[index.denoise(pictures[9], recipe="pieces")])
    assert index.denoise(pictures[9], recipe=Recipe((Term(nda.Scale(5), 20, draws=0),))).distance < 0.2


def test_a_patch_larger_than_the_images_is_refused(index: nda.Index, pictures: NDArray[np.uint8]) -> None:
    with pytest.raises(nda.ConfigError, match="a patch of 21 pixels does not fit"):
        index.attribute(pictures[0], recipe="3@100 + 21@500")

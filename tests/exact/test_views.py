from __future__ import annotations

import numpy as np
import pytest

import nda_index as nda
from nda_index.diffusion import noisy_images
from nda_index.exact.views import scales_of, total_score, views_of_recipe
from nda_index.images import to_float
from nda_index.recipe import parse_recipe

IMAGE = np.random.default_rng(0).integers(0, 256, (3, 12, 10), np.uint8)


def test_the_views_of_a_recipe_are_those_of_its_terms() -> None:
    views = views_of_recipe(parse_recipe("3@50*2(draws=2) + 4/2@200(draws=0, temper=3) + 3@200"), IMAGE, seed=7)
    assert [(view.scale.patch, view.timestep, view.draw, view.draws) for view in views] == [
        (3, 50, 0, 2), (3, 50, 1, 2), (4, 200, 0, 1), (3, 200, 0, 1)
    ]  # fmt: skip
    clean = to_float(IMAGE)
    expected = [
        *noisy_images(clean, 50, "average", seed=7, draws=2),
        *noisy_images(clean, 200, "none", temper=3.0),
        *noisy_images(clean, 200, "draw", seed=7),
    ]
    for view, noisy in zip(views, expected, strict=True):
        np.testing.assert_array_equal(view.noisy.pixels, noisy.pixels)
        assert (view.noisy.signal, view.noisy.sigma) == (noisy.signal, noisy.sigma)


@pytest.mark.parametrize("text", ["3@50", "4/2@50(stride=2)", "5@50(stride=3) + 3@100"])
def test_a_term_sums_to_its_weight_times_the_pixels(text: str) -> None:
    recipe = parse_recipe(text)
    assert total_score(views_of_recipe(recipe, IMAGE, seed=0)) == pytest.approx(120 * len(recipe.terms))


def test_a_patch_that_does_not_fit_is_refused() -> None:
    with pytest.raises(nda.ConfigError, match="patch of 11 pixels does not fit an image of 12 x 10"):
        views_of_recipe(parse_recipe("3@50 + 11@200"), IMAGE, seed=0)


def test_the_published_recipe_is_one_draw_at_patch_7() -> None:
    (view,) = views_of_recipe(parse_recipe("published"), IMAGE, seed=3)
    (noisy,) = noisy_images(to_float(IMAGE), 100, "draw", seed=3)
    np.testing.assert_array_equal(view.noisy.pixels, noisy.pixels)
    assert (view.scale, view.factor) == (nda.Scale(7), 1.0)


def test_terms_of_one_timestep_share_their_noise_and_those_of_one_patch_their_scale() -> None:
    views = views_of_recipe(parse_recipe("3@50 + 5@50 + 3@100*2"), IMAGE, seed=0)
    assert views[0].noisy is views[1].noisy
    assert scales_of(views) == [nda.Scale(3, weight=3.0), nda.Scale(5)]
    assert [view.factor for view in views] == [1.0, 1.0, 2.0]

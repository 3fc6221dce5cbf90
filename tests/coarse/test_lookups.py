from __future__ import annotations

import numpy as np
import pytest

import nda_index as nda
from nda_index.coarse.lookups import LUMPS, TOGETHER, choose_lookups
from nda_index.exact.views import total_score, views_of_recipe
from nda_index.question import as_question
from nda_index.recipe import parse_recipe

IMAGE = np.random.default_rng(0).integers(0, 256, (3, 12, 10), np.uint8)
SCALES = (nda.Scale(5), nda.Scale(8, 2, query_stride=2))


def test_views_at_scales_of_the_index_are_looked_up_as_they_are() -> None:
    views = as_question([50, 200], noise="average", draws=2).views(IMAGE, SCALES)
    lookups = choose_lookups(views, SCALES)
    assert lookups.places == tuple(range(8))
    for lookup, view in zip(lookups.views, views, strict=True):
        assert (lookup.noisy, lookup.scale.name) == (view.noisy, view.scale.name)
    assert total_score(lookups.views) == pytest.approx(total_score(views))


def test_other_patches_are_looked_up_at_the_nearest_scale_and_share_it() -> None:
    views = views_of_recipe(parse_recipe("4@50 + 5@50*2(stride=2) + 9@50 + 3@100"), IMAGE, seed=0)
    lookups = choose_lookups(views, SCALES)
    assert lookups.places == (None, 1, None, None)
    assert [lookup.scale.train_stride for lookup in lookups.views] == [1, 2, 1, 1]
    assert [lookup.scale.patch for lookup in lookups.views] == [5, 5, 8, 5]
    sigmas = [lookup.noisy.sigma / view.noisy.sigma for lookup, view in zip(lookups.views, views, strict=True)]
    assert sigmas == pytest.approx([5 / 4, 1, 8 / 9, 5 / 3])
    assert total_score(lookups.views) == pytest.approx(total_score(views))


def test_views_that_look_for_the_same_share_a_lookup() -> None:
    views = views_of_recipe(parse_recipe("10@50 + 10/2@50(stride=2)"), IMAGE, seed=0)
    lookups = choose_lookups(views, SCALES)
    assert (len(lookups.views), lookups.places) == (1, (None, None))
    assert total_score(lookups.views) == pytest.approx(total_score(views))


def test_a_terms_only_view_counts_more_beside_terms_of_several() -> None:
    views = views_of_recipe(parse_recipe("5@50(draws=2) + 8/2@50*0.1(draws=0) + 8/2@100(draws=1)"), IMAGE, seed=0)
    lookups = choose_lookups(views, SCALES)
    single = [view.factor * view.positions for view in lookups.views[2:]]
    assert total_score(lookups.views) == pytest.approx(total_score(views) + (1 - 1 / LUMPS) * sum(single))
    assert total_score(lookups.views[:2]) == pytest.approx(total_score(views[:2]))


def test_views_at_one_scale_are_looked_up_together_up_to_a_number() -> None:
    views = views_of_recipe(parse_recipe("5@50(draws=6) + 8/2@50 + 5@100(draws=4)"), IMAGE, seed=0)
    groups = choose_lookups(views, SCALES).by_scale()
    assert groups == [[0, 1, 2, 3, 4, 5, 7, 8], [6], [9, 10]]
    assert len(groups[0]) == TOGETHER


def test_what_is_known_is_spread_over_the_query_positions_of_each_view() -> None:
    views = views_of_recipe(parse_recipe("5@50(stride=2) + 3@50"), IMAGE, seed=0)
    held = np.arange(120.0).reshape(12, 10)
    known, unknown = choose_lookups(views, SCALES).spread([held, held], views)
    np.testing.assert_array_equal(known, held[::2, ::2])
    assert unknown.shape == (12, 10) and np.isnan(unknown).all()

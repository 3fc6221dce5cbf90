from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import spearmanr

from nda_index import ConfigError, MissingDependencyError
from nda_index.evaluate.lds import linear_datamodeling_scores, mean_with_interval, subset_masks


def linear_model(
    seed: int, images: int = 60, subsets: int = 40, queries: int = 5
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]:
    """True effects of images on queries, and losses that are linear in them."""
    effects = np.random.default_rng(seed).normal(size=(queries, images))
    masks = subset_masks(images, subsets, seed)
    return effects, masks, -(masks @ effects.T)


@given(st.integers(0, 100), st.floats(0.1, 10), st.floats(-5, 5))
def test_a_linear_model_is_predicted_by_its_effects(seed: int, factor: float, offset: float) -> None:
    effects, masks, losses = linear_model(seed)
    # Any increasing function of the losses, and any scale and offset of the scores, ranks alike.
    lds = linear_datamodeling_scores(factor * effects + offset, masks, np.exp(losses / 10))
    np.testing.assert_allclose(lds, 1.0)
    np.testing.assert_allclose(linear_datamodeling_scores(-effects, masks, losses), -1.0)


def test_shuffled_scores_predict_nothing() -> None:
    effects, masks, losses = linear_model(0, images=400, subsets=64, queries=400)
    shuffled = np.random.default_rng(1).permuted(effects, axis=1)
    estimate = mean_with_interval(linear_datamodeling_scores(shuffled, masks, losses))
    assert abs(estimate.mean) < 0.03
    assert estimate.low < 0 < estimate.high
    assert estimate.high - estimate.low < 0.05  # it is known well: 400 queries of standard deviation 1/8


def test_ties_are_ranked_as_scipy_ranks_them() -> None:
    rng = np.random.default_rng(2)
    scores, masks = rng.integers(0, 2, (6, 20)).astype(float), subset_masks(20, 12)
    losses = rng.integers(0, 4, (12, 6)).astype(float)
    expected = [spearmanr(masks @ s, -loss).statistic for s, loss in zip(scores, losses.T, strict=True)]
    np.testing.assert_allclose(linear_datamodeling_scores(scores, masks, losses), expected)


def test_equal_losses_are_predicted_by_nothing() -> None:
    effects, masks, losses = linear_model(3)
    assert (linear_datamodeling_scores(effects, masks, np.zeros_like(losses)) == 0).all()


def test_masks_are_halves_that_depend_on_the_seed() -> None:
    masks = subset_masks(11, 8, seed=1)
    assert masks.dtype == np.bool_ and masks.shape == (8, 11)
    assert (masks.sum(axis=1) == 5).all()
    assert len(np.unique(masks, axis=0)) == 8
    assert (masks == subset_masks(11, 8, seed=1)).all()
    assert (masks != subset_masks(11, 8, seed=2)).any()


def test_an_interval_holds_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(4)
    estimates = [mean_with_interval(rng.normal(0.3, 1.0, 50)) for _ in range(60)]
    held = sum(each.low < 0.3 < each.high for each in estimates)
    assert 51 <= held <= 60


@pytest.mark.parametrize(
    ("scores", "masks", "losses"),
    [((2, 5), (4, 6), (4, 2)), ((2, 5), (4, 5), (2, 4)), ((2, 5), (1, 5), (1, 2)), ((2, 5), (4, 5), (3, 2))],
)
def test_shapes_that_do_not_fit_are_refused(
    scores: tuple[int, int], masks: tuple[int, int], losses: tuple[int, int]
) -> None:
    with pytest.raises(ConfigError, match=r"must be \[Q, N\], \[M, N\] and \[M, Q\]"):
        linear_datamodeling_scores(np.zeros(scores), np.zeros(masks, np.bool_), np.zeros(losses))


def test_one_query_has_no_interval() -> None:
    with pytest.raises(ConfigError, match="2 or more queries"):
        mean_with_interval(np.zeros(1))


def test_without_scipy_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    effects, masks, losses = linear_model(5)
    with pytest.raises(MissingDependencyError, match=r"nda-index\[eval\]"):
        linear_datamodeling_scores(effects, masks, losses)

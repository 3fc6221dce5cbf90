from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nda_index.trust.wins import (
    BRACKET,
    SHAPES,
    UNSEEN,
    Prior,
    Wins,
    describe_positions,
    estimate_inside,
    make_prior,
    regress,
    resample,
)

POSITIONS = 300


def some_features() -> np.ndarray:
    rng = np.random.default_rng(1)
    held = np.where(rng.random(POSITIONS) < 0.2, np.nan, rng.random(POSITIONS))
    return describe_positions(held, rng.normal(size=POSITIONS))


def test_positions_are_described_by_centred_features() -> None:
    features = some_features()
    assert features.shape == (POSITIONS, 4)
    np.testing.assert_allclose(features.mean(axis=0), [1, 0, 0, 0], atol=1e-12)


def test_a_regression_finds_the_log_odds_that_wins_were_drawn_from() -> None:
    features = some_features()
    truth = np.array([-1.0, 0.5, 0.2, -0.4])
    prior = Prior(np.zeros(4), np.full(4, 1e-9), 1.0, 1.0)
    wins = np.exp(features @ truth)[None]  # wins against one loss each: the odds themselves
    found, level_error = regress(features, wins, prior)
    np.testing.assert_allclose(found, truth[None], atol=1e-4)
    assert level_error[0] < 1e-3  # nothing is left to a prior that says nothing


def test_a_strong_prior_is_kept() -> None:
    features, beta = some_features(), np.array([0.3, 0.7, 0.0, -0.3])
    found, level_error = regress(features, np.full((1, POSITIONS), 9.0), Prior(beta, np.full(4, 1e9), 1.0, 1.0))
    np.testing.assert_allclose(found, beta[None], atol=1e-4)
    assert level_error[0] == pytest.approx(1e9**-0.5, rel=1e-3)


@pytest.mark.parametrize("known", [True, False])
def test_samples_together_are_estimated_as_each_alone(known: bool) -> None:
    rng = np.random.default_rng(0)
    features = some_features()
    held = rng.random(POSITIONS) if known else np.full(POSITIONS, np.nan)
    wins = np.exp(rng.normal(-2, 2, (40, POSITIONS)))
    prior = make_prior(features, held, wins, 3.0, sure=False)
    picks = rng.integers(0, 40, (7, 40))
    together = estimate_inside(resample(wins, picks, prior), features, prior)
    for number, pick in enumerate(picks):
        alone = estimate_inside(resample(wins, pick[None], prior), features, prior)
        for name in ("covered", "bracket", "reliability"):
            np.testing.assert_allclose(getattr(together, name)[number], getattr(alone, name)[0], atol=1e-6)


@pytest.mark.parametrize("width", [0.3, 0.6])
def test_estimates_follow_the_formulas_position_by_position(width: float) -> None:
    rng = np.random.default_rng(5)
    features = some_features()
    wins = np.exp(rng.normal(-1, width, (30, POSITIONS)) + rng.normal(0, width, POSITIONS))
    prior = make_prior(features, rng.random(POSITIONS), wins, 2.0, sure=False)
    sample = resample(wins, np.arange(30)[None], prior)
    found = estimate_inside(sample, features, prior)
    first, second, jump = sample.first[0], sample.second[0], sample.jump[0]
    beta, level_error = regress(features, (sample.first + sample.second) / 2 + UNSEEN * 2.0 / POSITIONS, prior)
    mu = [float(np.exp(row @ beta[0])) for row in features]
    alike = sum((a - m) * (b - m) / (1 + m) ** 2 for a, b, m in zip(first, second, mu, strict=True))
    shape = sum(m**2 / (1 + m) ** 2 for m in mu) / alike
    assert SHAPES[0] < shape < SHAPES[1]
    for p, m in enumerate(mu):
        counted = (first[p] + second[p]) / 2
        reliability = m / (m + shape * jump)
        covered = 1 / (1 + m + reliability * (counted - m))
        model = BRACKET * (1 - reliability) ** 0.5 * (1 / (1 + counted) - 1 / (1 + m))
        level = covered * (1 - covered) * (1 - reliability) * level_error[0]
        assert found.reliability[0, p] == pytest.approx(reliability, rel=1e-6)
        assert found.covered[0, p] == pytest.approx(covered, rel=1e-6)
        assert found.bracket[0, p] == pytest.approx((model**2 + level**2) ** 0.5, rel=1e-6)


def test_halves_of_a_sample_are_means_of_its_wins() -> None:
    wins = np.random.default_rng(0).random((6, 5))
    prior = Prior(np.zeros(4), np.ones(4), 1.0, jump=7.0)
    picks = np.array([[0, 1, 2, 3, 4, 5], [3, 3, 3, 0, 0, 1]])
    found = resample(wins, picks, prior)
    np.testing.assert_allclose(found.first, wins[picks[:, ::2]].mean(axis=1))
    np.testing.assert_allclose(found.second, wins[picks[:, 1::2]].mean(axis=1))
    drawn = wins[picks[1]]
    assert found.jump[1] == pytest.approx((drawn**2).sum() / drawn.sum() / 6)
    assert resample(0 * wins, picks, prior).jump.tolist() == [7.0, 7.0]


def test_no_wins_leave_nearly_all_inside_and_many_leave_little() -> None:
    features = some_features()
    held = np.full(POSITIONS, 0.5)
    nothing, much = (np.full((1, POSITIONS), value) for value in (0.0, 50.0))
    prior = replace(make_prior(features, held, np.ones((2, POSITIONS)), 1.0, sure=True), dispersion=1.0)
    jump = np.ones(1)
    few = estimate_inside(Wins(nothing, nothing, jump), features, prior)
    many = estimate_inside(Wins(much, much, jump), features, prior)
    assert few.covered.min() > 0.8 and many.covered.max() < 0.2

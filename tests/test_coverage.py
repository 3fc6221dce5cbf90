from __future__ import annotations

import numpy as np
import pytest

from nda_index import Scale
from nda_index.coverage import SAMPLE, OutsideSample, covered_scores, draw_outside, mass_covered, view_coverages
from nda_index.diffusion import NoisyImage
from nda_index.exact.evidence import to_float, total_score, views_of
from nda_index.exact.posterior import PosteriorSettings, score_views
from tests.exact.test_evidence import SCALES, asked, smooth_bytes

SETTINGS = PosteriorSettings()


def test_images_are_drawn_by_their_votes_and_stand_for_all() -> None:
    votes = np.arange(5000.0)
    sample = draw_outside(np.arange(1000, 5000), votes, seed=3)
    assert len(sample.ids) == SAMPLE and not sample.complete
    assert sample.ids.min() >= 1000
    assert sample.ids.mean() > 3200  # not the middle, 3000
    assert sample.stands_for.sum() == pytest.approx(4000, rel=0.15)
    # Sums over the outside are estimated without bias.
    estimates = [
        (s.stands_for * np.sqrt(votes[s.ids])).sum()
        for s in (draw_outside(np.arange(1000, 5000), votes, seed) for seed in range(50))
    ]
    assert np.mean(estimates) == pytest.approx(np.sqrt(votes[1000:]).sum(), rel=0.01)


def test_a_complete_sample_is_the_truth() -> None:
    train = smooth_bytes(40)
    views, everything = asked(SCALES, SETTINGS, train)
    part = score_views(views, lambda: [to_float(train[:15])], 15, SETTINGS, lambda done, total: None)
    sample = draw_outside(np.arange(15, 40), np.ones(40), seed=0)
    held = [np.full(view.positions, np.nan) for view in views]
    coverages = view_coverages(views, part.log_normalisers, held, sample, to_float(train[15:]), SETTINGS)
    covered, error = mass_covered(views, coverages)
    assert covered == pytest.approx(everything.scores[:15].sum() / total_score(views), rel=1e-4)
    assert error == 0
    for coverage, total, whole in zip(coverages, part.log_normalisers, everything.log_normalisers, strict=True):
        known = np.isfinite(whole)
        np.testing.assert_allclose((total - np.log(coverage.covered))[known], whole[known], atol=1e-4)


@pytest.mark.parametrize("sigma", [0.3, 0.9, 2.0])
def test_estimates_lie_within_a_few_errors(sigma: float) -> None:
    train = smooth_bytes(600)
    views = views_of([NoisyImage(to_float(train[1]), 0.7, sigma)], [Scale(5)])
    everything = score_views(views, lambda: [to_float(train)], 600, SETTINGS, lambda done, total: None)
    part = score_views(views, lambda: [to_float(train[:50])], 50, SETTINGS, lambda done, total: None)
    truth = everything.scores[:50].sum() / total_score(views)
    inside = 0
    for seed in range(10):
        ids = np.random.default_rng(seed).integers(50, 600, 200)
        sample = OutsideSample(ids, np.full(200, 550 / 200), complete=False)
        held = [np.full(views[0].positions, np.nan)]
        coverages = view_coverages(views, part.log_normalisers, held, sample, to_float(train[ids]), SETTINGS)
        covered, error = mass_covered(views, coverages)
        inside += abs(covered - truth) < 2.5 * error
        assert 0 < error < 0.3
        weights = [np.ones((1, views[0].positions))]
        assert covered_scores(views, weights, coverages)[0] == pytest.approx(covered * total_score(views))
    assert inside >= 8

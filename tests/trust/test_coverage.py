from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from nda_index import Scale
from nda_index.diffusion import NoisyImage
from nda_index.exact.posterior import PosteriorSettings, block_masses, score_views
from nda_index.exact.views import View, total_score, views_of
from nda_index.images import to_float
from nda_index.trust.coverage import (
    SAMPLE,
    OutsideSample,
    ViewCoverage,
    cover_scores,
    draw_outside,
    estimate_coverages,
    estimate_mass_covered,
    weigh_outside,
)
from tests.exact.test_maps import SCALES, score, smooth_bytes

SETTINGS = PosteriorSettings()


def unknown(view: View) -> NDArray[np.float64]:
    rows, columns = (
        len(range(0, view.scale.positions(size), view.scale.query_stride)) for size in view.noisy.pixels.shape[1:]
    )
    return np.full((rows, columns), np.nan)


def covering(
    views: list[View],
    log_totals: Sequence[NDArray[np.float64]],
    held: Sequence[NDArray[np.float64]],
    sample: OutsideSample,
    train: NDArray[np.uint8],
) -> list[ViewCoverage]:
    ratios = weigh_outside(views, log_totals, to_float(train), SETTINGS)
    return estimate_coverages(ratios, log_totals, held, [False] * len(views), sample)


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
    views, everything = score(SCALES, SETTINGS, train)
    part = score_views(views, lambda: [to_float(train[:15])], 15, SETTINGS, lambda done, total: None)
    sample = draw_outside(np.arange(15, 40), np.ones(40), seed=0)
    held = [unknown(view) for view in views]
    coverages = covering(views, part.log_normalisers, held, sample, train[15:])
    covered, error = estimate_mass_covered(views, coverages)
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
    estimates, errors = [], []
    for seed in range(10):
        ids = np.random.default_rng(seed).integers(50, 600, 200)
        sample = OutsideSample(ids, np.full(200, 550 / 200), complete=False)
        held = [unknown(views[0])]
        coverages = covering(views, part.log_normalisers, held, sample, train[ids])
        covered, error = estimate_mass_covered(views, coverages)
        estimates.append(covered)
        errors.append(error)
        weights = [np.ones((1, views[0].positions))]
        assert cover_scores(views, weights, coverages)[0] == pytest.approx(covered * total_score(views))
    distances = np.abs(np.array(estimates) - truth)
    assert (distances < 2.5 * np.array(errors)).sum() >= 8
    # They say something: where the truth is nearly certain (sigma = 2) they are five times too careful, no more.
    assert np.median(errors) < 6 * np.sqrt(np.mean(distances**2))


def test_single_scores_lie_within_their_errors() -> None:
    train = smooth_bytes(600)
    views = views_of([NoisyImage(to_float(train[1]), 0.7, 0.3)], [Scale(5)])
    everything = score_views(views, lambda: [to_float(train)], 600, SETTINGS, lambda done, total: None)
    part = score_views(views, lambda: [to_float(train[:50])], 50, SETTINGS, lambda done, total: None)
    blocks = block_masses(views, to_float(train[:50]), SETTINGS, part.log_normalisers)
    weights = [block.weights(total) for block, total in zip(blocks, part.log_normalisers, strict=True)]
    best = np.argsort(-part.scores)[:10]
    inside, relative = [], []
    for seed in range(10):
        ids = np.random.default_rng(seed).integers(50, 600, 200)
        sample = OutsideSample(ids, np.full(200, 550 / 200), complete=False)
        known = [unknown(views[0])]
        coverages = covering(views, part.log_normalisers, known, sample, train[ids])
        scores, errors = cover_scores(views, [weight[best] for weight in weights], coverages)
        inside += list(np.abs(scores - everything.scores[best]) < 2 * errors)
        relative += list(errors / scores)
    assert np.mean(inside) > 0.85
    assert np.median(relative) < 0.7  # so the errors say something


def test_neighbouring_positions_err_together() -> None:
    train = smooth_bytes(2)
    views = views_of([NoisyImage(to_float(train[1]), 0.7, 0.3)], [Scale(5)])
    shape = unknown(views[0]).shape
    count = views[0].positions
    nothing = np.zeros(count)
    coverage = ViewCoverage(np.full(count, 0.5), nothing[None], nothing, np.full(shape, 0.1))
    near, far = np.zeros((2, *shape))
    near[3:5, 3:5] = 1
    far[[0, 0, -1, -1], [0, -1, 0, -1]] = 1
    errors = cover_scores(views, [np.stack([near, far]).reshape(2, -1)], [coverage])[1]
    assert errors[1] == pytest.approx(0.1 * 2)  # four independent positions
    assert errors[0] == pytest.approx(0.1 * (4 + 8 * 0.8 + 4 * 0.64) ** 0.5)


def test_less_is_made_of_what_a_sure_coarse_stage_finds() -> None:
    rng = np.random.default_rng(0)
    held, sample = rng.random((10, 10)), OutsideSample(np.arange(200), np.full(200, 50.0), complete=False)
    found = [
        estimate_coverages([np.zeros((200, 100))], [np.zeros(100)], [held], [sure], sample) for sure in (False, True)
    ]
    unsure, sure = (one[0].covered for one in found)
    assert sure.mean() == pytest.approx(unsure.mean(), abs=0.05)
    assert 0.2 < np.std(np.log(1 / sure - 1)) / np.std(np.log(1 / unsure - 1)) < 0.6


@pytest.mark.parametrize("ratio", [0.0, 1e-14, 1e-3, 1.0, 1e30])
def test_estimates_stay_in_their_range_whatever_the_sample(ratio: float) -> None:
    rng = np.random.default_rng(0)
    ratios = [ratio * rng.random((200, 100)) * (rng.random((200, 100)) < 0.1)]
    sample = OutsideSample(np.arange(200), np.full(200, 50.0), complete=False)
    for held in (rng.random((10, 10)), np.full((10, 10), np.nan), np.zeros((10, 10)), np.ones((10, 10))):
        sure = bool(rng.integers(2))
        [found] = estimate_coverages(ratios, [rng.normal(size=100)], [held], [sure], sample)
        assert ((found.covered >= 0) & (found.covered <= 1)).all()
        assert np.isfinite(found.residual).all()
        assert np.isfinite(found.bracket).all()
        assert np.isfinite(found.replicates).all()

"""How much of the posterior the scored images hold, from a sample of the others, and what that means for the scores.

A score is normalised by the whole posterior, of which a shortlist knows a part. Of the images outside, some are drawn
with a probability that grows with their votes, and scored exactly. At one query position such a sample says little
where the posterior is sharp: a single image holds the mass, and is drawn or not. What it says is how often outside
images win over the scored ones, over many positions. So a logistic regression learns it, from what the coarse stage
finds to lie outside and from how close the scored images come. Where few sampled images win much, the sample says
little of the level too, and the coarse stage's own level, which is nearly right, holds; where many win a little, the
sample does. Wins at a position are counts about the regression's mean: each position is drawn towards its own count as
far as two halves of the sample agree (a gamma-Poisson model; empirical Bayes, Efron and Morris 1973). What the
regression cannot know of a position is the residual: it is alike at neighbouring positions, whose windows overlap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nda_index.exact.posterior import Block, PosteriorSettings, image_weights
from nda_index.exact.views import View, total_score

SAMPLE = 512  # images outside the shortlist that are scored
UNIFORM = 0.1  # part of the mean vote that every image has when the sample is drawn
REPLICATES = 24  # of the bootstrap
UNSEEN = 0.1  # wins by a typical sampled image, at one position of all, that are added to what was seen
EXPECTED = (0.7, 0.0, -0.3)  # coefficients of the regression where the sample says nothing
SURE = 0.3  # the first of them where the coarse stage does not allow for windows that it does not know
PRECISION = 1.0  # of the expected coefficients: one over their variance
LEVEL_ERROR = 0.3  # standard error of the level of the log odds as the coarse stage finds it
SHAPES = (0.1, 100.0)  # of the gamma distribution of wins over positions: from very unlike to all alike
LARGEST = 40.0  # log odds: beyond them nothing changes
BRACKET = 0.3  # standard error as a part of the distance between two estimates that err to either side


@dataclass(frozen=True)
class ViewCoverage:
    """Of one view's P query positions, the part of their posterior mass that the scored images hold.

    Attributes:
        covered: float64 [P].
        replicates: float64 [B, P], the same from resampled samples; the same image sample for all views.
        bracket: float64 [P], standard error of the model, of one sign over all positions.
        residual: float64 [rows, columns], standard deviation of the truth about `covered`, alike at positions that are
            less than a window apart.
    """

    covered: NDArray[np.float64]
    replicates: NDArray[np.float64]
    bracket: NDArray[np.float64]
    residual: NDArray[np.float64]


@dataclass(frozen=True)
class OutsideSample:
    """Images outside the shortlist: their ids, and how many images each of them stands for."""

    ids: NDArray[np.int64]
    stands_for: NDArray[np.float64]
    complete: bool


def draw_outside(outside: NDArray[np.int64], votes: NDArray[np.float64], seed: int) -> OutsideSample:
    """Draw a sample of the images outside the shortlist, with replacement; all of them where they are few.

    Args:
        outside: int64 [M], their ids, at least one.
        votes: float64 [N], of all images.
        seed: of the draw.

    Example:
        >>> draw_outside(np.array([3, 5]), np.ones(6), seed=0).stands_for.tolist()
        [1.0, 1.0]
    """
    if len(outside) <= SAMPLE:
        return OutsideSample(outside, np.ones(len(outside)), complete=True)
    mine = votes[outside]
    weights = mine + UNIFORM * mine.mean() if mine.any() else np.ones(len(outside))
    probability = weights / weights.sum()
    chosen = np.random.default_rng(seed).choice(len(outside), SAMPLE, p=probability)
    return OutsideSample(outside[chosen], 1 / (SAMPLE * probability[chosen]), complete=False)


def weigh_outside(
    views: Sequence[View],
    log_totals: Sequence[NDArray[np.float64]],
    train: Block,
    settings: PosteriorSettings,
) -> list[NDArray[np.float64]]:
    """Weigh images outside at every position of every view, over what the scored ones do together: [m, P] each.

    Args:
        views: of the query.
        log_totals: log of the mass of the scored images, float64 [P] each.
        train: [m, C, H, W], bytes or floats in [-1, 1], on any device.
        settings: as for the scores.
    """
    if len(train) == 0:  # a shard may have none of the sample
        return [np.zeros((0, view.positions)) for view in views]
    with np.errstate(invalid="ignore", over="ignore"):  # nothing over a total that is nothing beside it
        weights = image_weights(views, train, replace(settings, per_image_topk=None), log_totals)
        return [np.minimum(np.nan_to_num(weight, nan=0.0), 1e30) for weight in weights]


def estimate_coverages(
    ratios: Sequence[NDArray[np.float64]],
    log_totals: Sequence[NDArray[np.float64]],
    held: Sequence[NDArray[np.float64]],
    sure: Sequence[bool],
    sample: OutsideSample,
) -> list[ViewCoverage]:
    """Estimate what the scored images hold at every position of every view.

    Args:
        ratios: of the sample's images, from `weigh_outside`.
        log_totals: log of the mass of the scored images, float64 [P] each.
        held: part of the mass that the scored images hold as the coarse stage sees it, float64 [rows, columns] each,
            NaN where it does not know.
        sure: for each view, whether the coarse stage takes the windows that it knows for all there are, as it does
            where the exact stage sees no others. What it finds outside then says less.
        sample: from `draw_outside`.
    """
    count = len(sample.ids)
    picks = np.random.default_rng(0).integers(0, count, (REPLICATES, count))  # [B, m]
    found = []
    for ratio, log_total, known, is_sure in zip(ratios, log_totals, held, sure, strict=True):
        if sample.complete:
            covered = 1 / (1 + ratio.sum(axis=0))  # [P]
            nothing = np.zeros_like(covered)
            found.append(ViewCoverage(covered, covered[None], nothing, nothing.reshape(known.shape)))
            continue
        won = ratio / (1 + ratio)  # [m, P]
        wins = count * sample.stands_for[:, None] * won  # [m, P]
        features = _describe_positions(known.reshape(-1), log_total)
        expected = (SURE, *EXPECTED[1:]) if is_sure else EXPECTED
        prior = _make_prior(features, known.reshape(-1), wins, float(np.median(sample.stands_for)), expected)
        resampled = _resample(wins, np.vstack([np.arange(count), picks]), prior)
        estimate, *others = [_estimate_inside(one, features, prior) for one in resampled]
        replicates = np.stack([other.covered for other in others])  # [B, P]
        # Whoever wins, wins this much of a position: 1 where one image holds the mass, little where many share it.
        sharpness = _average(won, wins) if wins.any() else 1.0
        spread = (1 - estimate.reliability) * sharpness * estimate.covered * (1 - estimate.covered)
        residual = np.sqrt(spread).reshape(known.shape)
        found.append(ViewCoverage(estimate.covered, replicates, estimate.bracket, residual))
    return found


def estimate_mass_covered(views: Sequence[View], coverages: Sequence[ViewCoverage]) -> tuple[float, float]:
    """Estimate the part of the whole posterior that the scored images hold, and its standard error."""
    weights = [np.ones((1, view.positions)) for view in views]
    scores, errors = cover_scores(views, weights, coverages)
    whole = total_score(views)
    return float(scores[0]) / whole, float(errors[0]) / whole


def cover_scores(
    views: Sequence[View], weights: Sequence[NDArray[np.float64]], coverages: Sequence[ViewCoverage]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bring scores to the whole posterior: the scores and their standard errors, float64 [n].

    Args:
        views: of the query.
        weights: of n images at each view's positions, float64 [n, P], normalised over the scored images alone.
        coverages: from `estimate_coverages`.
    """
    scores = np.zeros(len(weights[0]))
    varied = np.zeros((max(len(coverage.replicates) for coverage in coverages), len(scores)))  # [B, n]
    variance = np.zeros_like(scores)
    # Views of one scale err alike, scales do not.
    for scale in dict.fromkeys(view.scale for view in views):
        bracket, residual = np.zeros_like(scores), np.zeros(())
        for view, weight, coverage in zip(views, weights, coverages, strict=True):
            if view.scale == scale:
                scores += view.factor * (weight @ coverage.covered)
                varied += view.factor * (weight @ coverage.replicates.T).T
                bracket += view.factor * np.abs(weight @ coverage.bracket)
                residual = residual + view.factor * weight.reshape(-1, *coverage.residual.shape) * coverage.residual
        variance += bracket**2 + _sum_variance(residual, scale.patch / scale.query_stride)
    return scores, np.sqrt(variance + varied.var(axis=0))


def estimate_errors(
    views: Sequence[View],
    log_normalisers: Sequence[NDArray[np.float64]],
    coverages: Sequence[ViewCoverage],
    train: Block,
    settings: PosteriorSettings,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Estimate the standard errors of images' scores, float64 [n]: from what was not scored, and from the noise draws.

    A term of a single draw adds nothing to the second: it does not know how another draw would score.

    Args:
        views: of the query: for each scale, timestep and draw.
        log_normalisers: of the whole posterior, float64 [P] each.
        coverages: of the views; none where everything was scored.
        train: the images, [n, C, H, W], bytes or floats in [-1, 1].
        settings: as for the scores.
    """
    repeated = any(view.draws > 1 for view in views)
    if not coverages and not repeated:
        return np.zeros(len(train)), np.zeros(len(train))
    covered = [c.covered for c in coverages] if coverages else [np.ones(view.positions) for view in views]
    totals = [normaliser + np.log(part) for normaliser, part in zip(log_normalisers, covered, strict=True)]
    weights = image_weights(views, train, settings, totals)
    from_outside = cover_scores(views, weights, coverages)[1] if coverages else np.zeros(len(train))
    by_draw: dict[tuple[int, int], NDArray[np.float64]] = {}  # [draws, n] of each noise: scales that share it err alike
    for view, weight, part in zip(views, weights, covered, strict=True):
        if view.draws > 1:
            noise = by_draw.setdefault((view.timestep, view.draws), np.zeros((view.draws, len(train))))
            noise[view.draw] += view.factor * (weight @ part)
    variances = [len(draws) * draws.var(axis=0, ddof=1) for draws in by_draw.values()]
    return from_outside, np.sqrt(np.sum(variances, axis=0) if variances else np.zeros(len(train)))


@dataclass(frozen=True)
class _Prior:
    """What is known before wins are counted.

    Attributes:
        coefficients: of the regression, without a sample.
        precision: of the coefficients, one over their variance.
        dispersion: variance of all wins together over their sum: a sampled image wins at many positions or at none.
        jump: what a sampled image adds to the wins of a position where it is the only winner.
    """

    coefficients: NDArray[np.float64]
    precision: NDArray[np.float64]
    dispersion: float
    jump: float


@dataclass(frozen=True)
class _Wins:
    """Wins of sampled images: means of two halves of the sample, [P] each, and what one image's win adds to a mean."""

    first: NDArray[np.float64]
    second: NDArray[np.float64]
    jump: float


@dataclass(frozen=True)
class _Estimate:
    covered: NDArray[np.float64]
    bracket: NDArray[np.float64]
    reliability: NDArray[np.float64]


def _describe_positions(held: NDArray[np.float64], log_total: NDArray[np.float64]) -> NDArray[np.float64]:
    """Say what is known of each position, [P, 4]: 1, the log odds that its mass is outside as the coarse stage sees it,
    whether the coarse stage does not know, and how close the scored images come; the last three centred.
    """
    known = np.isfinite(held)
    inside = np.clip(held, 1e-4, 1 - 1e-4)
    outside = np.log(1 - inside) - np.log(inside)
    outside = np.where(known, outside, outside[known].mean() if known.any() else 0.0)
    possible = np.isfinite(log_total)
    closeness = np.where(possible, log_total, log_total[possible].min() if possible.any() else 0.0)
    columns = np.stack([outside, ~known, closeness / max(closeness.std(), 1e-9)])
    centred = columns - columns.mean(axis=1, keepdims=True)
    return np.asarray(np.vstack([np.ones(len(held)), centred]).T, np.float64)  # [P, 4]


def _make_prior(
    features: NDArray[np.float64],
    held: NDArray[np.float64],
    wins: NDArray[np.float64],
    jump: float,
    expected: tuple[float, ...],
) -> _Prior:
    """Make the prior of the regression: coefficients N(beta0, 1 / precision).

    beta0 has the slopes `expected`, and the level at which the mean over positions of 1 / (1 + exp(x beta0)) is the
    mean part that the coarse stage sees inside (found by bisection); where it sees nothing, the level of the sample's
    wins.
    """
    by_image = wins.sum(axis=1) / len(wins)  # [m]
    dispersion = max(1.0, _average(by_image, by_image) if wins.any() else jump)
    known = np.isfinite(held)
    slopes = features @ np.array([0.0, *expected])  # [P]
    if known.any():
        low, high = -LARGEST, LARGEST
        for _ in range(50):  # of bisection
            level = (low + high) / 2
            inside = (1 / (1 + np.exp(np.clip(level + slopes[known], -LARGEST, LARGEST)))).mean()
            low, high = (level, high) if inside > np.clip(held[known], 1e-4, 1 - 1e-4).mean() else (low, level)
        precision = 1 / LEVEL_ERROR**2
    else:
        level, precision = float(np.log(wins.mean() + UNSEEN * jump / len(features))), 0.0
    slack = np.full(len(expected), PRECISION)
    return _Prior(np.array([level, *expected]), np.array([precision, *slack]), dispersion, jump)


def _resample(wins: NDArray[np.float64], picks: NDArray[np.int64], prior: _Prior) -> list[_Wins]:
    """Summarise wins of sampled images, [m, P], for each choice of m of them with replacement, [B, m]."""
    count = len(wins)
    parts = []
    for half in (picks[:, ::2], picks[:, 1::2]):
        times = np.stack([np.bincount(one, minlength=count) for one in half]) / half.shape[1]  # [B, m]
        parts.append(np.einsum("bm,mp->bp", times, wins))  # as in `Masses.scores`, not a matrix product
    sums, squares = wins.sum(axis=1), (wins**2).sum(axis=1)  # [m]
    found = []
    for first, second, pick in zip(*parts, picks, strict=True):
        whole = sums[pick].sum()
        found.append(_Wins(first, second, squares[pick].sum() / whole / count if whole > 0 else prior.jump))
    return found


def _estimate_inside(wins: _Wins, features: NDArray[np.float64], prior: _Prior) -> _Estimate:
    """Estimate the part of the mass inside at each position, from wins of sampled images over the scored ones.

    With mu = exp(x beta) wins expected at a position (`_regress`) and y wins counted, y ~ Gamma-Poisson of shape a:
    E[wins | y] = mu + r (y - mu) with the reliability r = mu / (mu + a j), where j is what one sampled image adds.
    The shape is the moment estimate a = sum(mu^2 u) / sum((y1 - mu)(y2 - mu) u) with u = 1 / (1 + mu)^2, from two
    halves y1, y2 of the sample, whose errors are independent (empirical Bayes). The part inside is
    1 / (1 + E[wins | y]).
    """
    single = (wins.first + wins.second) / 2  # [P]
    coefficients, level_error = _regress(features, single + UNSEEN * prior.jump / len(single), prior)
    expected = np.exp(np.clip(features @ coefficients, -LARGEST, LARGEST))  # [P]
    unit = (1 + expected) ** 2
    alike = ((wins.first - expected) * (wins.second - expected) / unit).sum()
    shape = float(np.clip((expected**2 / unit).sum() / max(alike, 1e-300), *SHAPES))
    reliability = expected / (expected + shape * wins.jump)  # of a position's own count, under the gamma-Poisson model
    covered = 1 / (1 + expected + reliability * (single - expected))
    # 1 / (1 + x) is convex: from noisy single positions the estimate is too high, from expected wins too low.
    bracket = BRACKET * np.sqrt(1 - reliability) * (1 / (1 + single) - 1 / (1 + expected))
    from_level = covered * (1 - covered) * (1 - reliability) * level_error
    return _Estimate(covered, np.hypot(bracket, from_level), reliability)


def _regress(
    features: NDArray[np.float64], wins: NDArray[np.float64], prior: _Prior
) -> tuple[NDArray[np.float64], float]:
    """Fit the log odds that an image outside wins, logit(p) = x beta, to wins [P] against one loss at each position.

    Newton's method on the penalised quasi-likelihood sum(wins log p + log(1 - p)) / dispersion
    - (beta - beta0)' diag(precision) (beta - beta0) / 2. Returns beta, and the standard error of its level that the
    prior leaves.
    """
    found = prior.coefficients.copy()
    for _ in range(25):  # of Newton
        chance = 1 / (1 + np.exp(-np.clip(features @ found, -LARGEST, LARGEST)))
        gradient = features.T @ (wins - (1 + wins) * chance) / prior.dispersion
        gradient -= prior.precision * (found - prior.coefficients)
        information = (features.T * ((1 + wins) * chance * (1 - chance))) @ features / prior.dispersion
        curvature = information + np.diag(prior.precision)
        step = np.clip(np.linalg.lstsq(curvature, gradient)[0], -1, 1)
        found = found + step
        if np.abs(step).max() < 1e-4:
            break
    return found, float(np.sqrt(prior.precision[0]) * np.linalg.pinv(curvature)[0, 0])


def _average(parts: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    return float((parts * weights).sum() / weights.sum())


def _sum_variance(deviations: NDArray[np.float64], window: float) -> NDArray[np.float64]:
    """Variance of the sum of deviations [n, rows, columns] that are correlated as far as their windows overlap: [n]."""
    rows, columns = (
        np.maximum(0.0, 1 - np.abs(np.subtract.outer(np.arange(n), np.arange(n))) / window)
        for n in deviations.shape[1:]
    )
    return np.asarray((deviations * (rows @ deviations @ columns)).sum(axis=(1, 2)))

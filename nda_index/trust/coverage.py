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
from nda_index.trust.wins import average, describe_positions, estimate_inside, make_prior, resample

SAMPLE = 512  # images outside the shortlist that are scored
UNIFORM = 0.1  # part of the mean vote that every image has when the sample is drawn
REPLICATES = 24  # of the bootstrap


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
    weights = mine + (UNIFORM * mine.mean() or 1.0)  # all alike where there are no votes
    below = np.cumsum(weights)
    chosen = np.searchsorted(below, np.random.default_rng(seed).random(SAMPLE) * below[-1], side="right")
    return OutsideSample(outside[chosen], below[-1] / (SAMPLE * weights[chosen]), complete=False)


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
    picks = np.vstack(
        [np.arange(count), np.random.default_rng(0).integers(0, count, (REPLICATES, count))]
    )  # [1 + B, m]
    found = []
    for ratio, log_total, known, is_sure in zip(ratios, log_totals, held, sure, strict=True):
        if sample.complete:
            covered = 1 / (1 + ratio.sum(axis=0))  # [P]
            nothing = np.zeros_like(covered)
            found.append(ViewCoverage(covered, covered[None], nothing, nothing.reshape(known.shape)))
            continue
        won = ratio / (1 + ratio)  # [m, P]
        wins = count * sample.stands_for[:, None] * won  # [m, P]
        features = describe_positions(known.reshape(-1), log_total)
        prior = make_prior(features, known.reshape(-1), wins, float(np.median(sample.stands_for)), sure=is_sure)
        estimate = estimate_inside(resample(wins, picks, prior), features, prior)
        covered, reliability = estimate.covered[0], estimate.reliability[0]  # [P], of the sample as it was drawn
        # Whoever wins, wins this much of a position: 1 where one image holds the mass, little where many share it.
        sharpness = average(won, wins) if wins.any() else 1.0
        residual = np.sqrt((1 - reliability) * sharpness * covered * (1 - covered)).reshape(known.shape)
        found.append(ViewCoverage(covered, estimate.covered[1:], estimate.bracket[0], residual))
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


def _sum_variance(deviations: NDArray[np.float64], window: float) -> NDArray[np.float64]:
    """Variance of the sum of deviations [n, rows, columns] that are correlated as far as their windows overlap: [n]."""
    rows, columns = (
        np.maximum(0.0, 1 - np.abs(np.subtract.outer(np.arange(n), np.arange(n))) / window)
        for n in deviations.shape[1:]
    )
    return np.asarray((deviations * (rows @ deviations @ columns)).sum(axis=(1, 2)))

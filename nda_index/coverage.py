"""How much of the posterior the scored images hold, from a sample of the others, and what that means for the scores.

A score is normalised by the whole posterior, of which a shortlist knows a part. Of the images outside, some are drawn
with a probability that grows with their votes, and scored exactly. At one query position such a sample says little
where the posterior is sharp: a single image holds the mass, and is drawn or not. What it says well is how often outside
images win over the scored ones, over many positions that are alike. So positions are put in groups by what the coarse
stage finds to lie outside, each group has a mean, and a position is drawn towards it as far as two halves of the sample
disagree (empirical Bayes, Efron and Morris 1973).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nda_index.exact.evidence import total_score
from nda_index.exact.posterior import PosteriorSettings, View, block_masses

SAMPLE = 512  # images outside the shortlist that are scored
UNIFORM = 0.1  # part of the mean vote that every image has when the sample is drawn
GROUPS = 32  # of positions
REPLICATES = 24  # of the bootstrap
BRACKET = 0.5  # standard error as a part of the distance between two estimates that err to either side


@dataclass(frozen=True)
class ViewCoverage:
    """Of one view's P query positions, the part of their posterior mass that the scored images hold.

    Attributes:
        covered: float64 [P].
        replicates: float64 [B, P], the same from resampled samples; the same image sample for all views.
        bracket: float64 [P], standard error of the model, of one sign over all positions.
    """

    covered: NDArray[np.float64]
    replicates: NDArray[np.float64]
    bracket: NDArray[np.float64]


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


def view_coverages(
    views: Sequence[View],
    log_totals: Sequence[NDArray[np.float64]],
    held: Sequence[NDArray[np.float64]],
    sample: OutsideSample,
    train: NDArray[np.floating],
    settings: PosteriorSettings,
) -> list[ViewCoverage]:
    """Estimate what the scored images hold at every position of every view.

    Args:
        views: of the query.
        log_totals: log of the mass of the scored images, float64 [P] each.
        held: part of the mass that the scored images hold as the coarse stage sees it, float64 [P] each, NaN where it
            does not know.
        sample: from `draw_outside`.
        train: floats [m, C, H, W] in [-1, 1], the sample's images.
        settings: as for the scores.
    """
    everything = replace(settings, per_image_topk=None)
    blocks = block_masses(views, train, everything, log_totals)
    picks = np.random.default_rng(0).integers(0, len(train), (REPLICATES, len(train)))  # [B, m]
    found = []
    for block, log_total, known in zip(blocks, log_totals, held, strict=True):
        with np.errstate(invalid="ignore"):  # nothing over a total that is nothing beside it
            ratios = np.nan_to_num(block.weights(log_total), nan=0.0, posinf=1e30)  # [m, P]
        if sample.complete:
            covered = 1 / (1 + ratios.sum(axis=0))  # [P]
            found.append(ViewCoverage(covered, covered[None], np.zeros_like(covered)))
            continue
        wins = len(train) * sample.stands_for[:, None] * ratios / (1 + ratios)  # [m, P]
        groups = _groups(known)
        covered, bracket = _covered(wins, groups)
        replicates = np.stack([_covered(wins[pick], groups)[0] for pick in picks])  # [B, P]
        found.append(ViewCoverage(covered, replicates, bracket))
    return found


def mass_covered(views: Sequence[View], coverages: Sequence[ViewCoverage]) -> tuple[float, float]:
    """The part of the whole posterior that the scored images hold, and its standard error."""
    weights = [np.ones((1, view.positions)) for view in views]
    scores, errors = covered_scores(views, weights, coverages)
    whole = total_score(views)
    return float(scores[0]) / whole, float(errors[0]) / whole


def covered_scores(
    views: Sequence[View], weights: Sequence[NDArray[np.float64]], coverages: Sequence[ViewCoverage]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores in the whole posterior and their standard errors, float64 [n].

    Args:
        views: of the query.
        weights: of n images at each view's positions, float64 [n, P], normalised over the scored images alone.
        coverages: from `view_coverages`.
    """
    scores = np.zeros(len(weights[0]))
    varied = np.zeros((max(len(coverage.replicates) for coverage in coverages), len(scores)))  # [B, n]
    brackets: dict[str, NDArray[np.float64]] = {}
    for view, weight, coverage in zip(views, weights, coverages, strict=True):
        scores += view.factor * (weight @ coverage.covered)
        varied += view.factor * (weight @ coverage.replicates.T).T
        # Views of one scale err alike, scales do not.
        name = view.scale.name
        brackets[name] = brackets.get(name, 0.0) + view.factor * np.abs(weight @ coverage.bracket)
    variance = varied.var(axis=0) + sum(bracket**2 for bracket in brackets.values())
    return scores, np.sqrt(variance)


def errors_of_scores(
    views: Sequence[View],
    log_normalisers: Sequence[NDArray[np.float64]],
    coverages: Sequence[ViewCoverage],
    train: NDArray[np.floating],
    settings: PosteriorSettings,
    grouping: tuple[int, int],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Standard errors of images' scores, float64 [n]: because of what was not scored, and because of the noise draws.

    Args:
        views: of the query: for each scale, timestep and draw.
        log_normalisers: of the whole posterior, float64 [P] each.
        coverages: of the views; none where everything was scored.
        train: floats [n, C, H, W] in [-1, 1], the images.
        settings: as for the scores.
        grouping: numbers of timesteps and of draws.
    """
    timesteps, draws = grouping
    if not coverages and draws < 2:
        return np.zeros(len(train)), np.zeros(len(train))
    covered = [c.covered for c in coverages] if coverages else [np.ones(view.positions) for view in views]
    totals = [normaliser + np.log(part) for normaliser, part in zip(log_normalisers, covered, strict=True)]
    blocks = block_masses(views, train, settings, totals)
    weights = [block.weights(total) for block, total in zip(blocks, totals, strict=True)]
    from_outside = covered_scores(views, weights, coverages)[1] if coverages else np.zeros(len(train))
    if draws < 2:
        return from_outside, np.zeros(len(train))
    parts = np.stack([v.factor * (w @ c) for v, w, c in zip(views, weights, covered, strict=True)])  # [views, n]
    by_draw = parts.reshape(-1, timesteps, draws, len(train)).sum(axis=0)  # [timesteps, draws, n]
    return from_outside, np.sqrt(draws * by_draw.var(axis=1, ddof=1).sum(axis=0))


def _groups(held: NDArray[np.float64]) -> list[NDArray[np.int64]]:
    known = np.isfinite(held)
    filled = np.where(known, held, held[known].mean() if known.any() else 0.5)
    return [group for group in np.array_split(np.argsort(filled, kind="stable"), GROUPS) if len(group)]


def _covered(
    wins: NDArray[np.float64], groups: Sequence[NDArray[np.int64]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Part of the mass inside at each position [P], from how often sampled images win over the scored ones [m, P]."""
    halves = wins[::2].mean(axis=0), wins[1::2].mean(axis=0)  # [P] each
    single = (halves[0] + halves[1]) / 2  # [P]
    group_mean = np.empty_like(single)
    for group in groups:
        group_mean[group] = single[group].mean()
    unit = (1 + group_mean) ** 2
    both = ((halves[0] - group_mean) * (halves[1] - group_mean) / unit).sum()
    each = sum(((half - group_mean) ** 2 / unit).sum() for half in halves) / 2
    alike = float(np.clip(both / max(each, 1e-300), 0.0, 1.0))
    reliability = 2 * alike / (1 + alike)  # Spearman and Brown: of the mean of two halves
    estimate = 1 / (1 + group_mean + reliability * (single - group_mean))
    # 1 / (1 + x) is convex: from noisy single positions the estimate is too high, from group means too low.
    bracket = BRACKET * np.sqrt(1 - reliability) * (1 / (1 + single) - 1 / (1 + group_mean))
    return estimate, bracket

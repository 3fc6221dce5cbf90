"""Wins of sampled images over the scored ones at the positions of a view, and the part of the mass that stays inside.

At one position a sample says little where the posterior is sharp: a single image holds the mass, and is drawn or not.
So a regression learns over all positions how often images outside win, and each position is drawn towards its own count
as far as two halves of the sample agree. `nda_index.trust.coverage` says what that is for. Samples that are resampled
are estimated together: sums over arrays [B, ...] in place of B times as many small steps. They are no matrix products,
whose threads would go on spinning while the next kernel wants the cores.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

UNSEEN = 0.1  # wins by a typical sampled image, at one position of all, that are added to what was seen
EXPECTED = (0.7, 0.0, -0.3)  # coefficients of the regression where the sample says nothing
SURE = 0.3  # the first of them where the coarse stage does not allow for windows that it does not know
PRECISION = 1.0  # of the expected coefficients: one over their variance
LEVEL_ERROR = 0.3  # standard error of the level of the log odds as the coarse stage finds it
SHAPES = (0.1, 100.0)  # of the gamma distribution of wins over positions: from very unlike to all alike
LARGEST = 40.0  # log odds: beyond them nothing changes
BRACKET = 0.3  # standard error as a part of the distance between two estimates that err to either side
STEPS = 25  # of Newton's method at most
CLOSE = 1e-4  # a step of Newton's method below which it ends


@dataclass(frozen=True)
class Prior:
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
class Wins:
    """Wins of sampled images, of B samples.

    Attributes:
        first, second: means of two halves of each sample, float64 [B, P].
        jump: what one image's win adds to a mean, float64 [B].
    """

    first: NDArray[np.float64]
    second: NDArray[np.float64]
    jump: NDArray[np.float64]


@dataclass(frozen=True)
class Inside:
    """The part of the mass inside, of B samples.

    Attributes:
        covered: the part, float64 [B, P].
        bracket: standard error of the model, of one sign over all positions, float64 [B, P].
        reliability: of a position's own count, float64 [B, P].
    """

    covered: NDArray[np.float64]
    bracket: NDArray[np.float64]
    reliability: NDArray[np.float64]


def describe_positions(held: NDArray[np.float64], log_total: NDArray[np.float64]) -> NDArray[np.float64]:
    """Say what is known of each position: 1, log odds of the outside, whether these are unknown, how close images come.

    Args:
        held: part of the mass that the scored images hold as the coarse stage sees it, [P], NaN where it does not know.
        log_total: log of the mass of the scored images, [P].

    Returns:
        Features, float64 [P, 4]; the last three have a mean of 0.
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


def make_prior(
    features: NDArray[np.float64], held: NDArray[np.float64], wins: NDArray[np.float64], jump: float, *, sure: bool
) -> Prior:
    """Make the prior of the regression: coefficients N(beta0, 1 / precision).

    beta0 has the slopes `EXPECTED`, and the level at which the mean over positions of 1 / (1 + exp(x beta0)) is the
    mean part that the coarse stage sees inside (found by bisection); where it sees nothing, the level of the sample's
    wins.

    Args:
        features: of the positions, from `describe_positions`.
        held: as there.
        wins: of the sampled images, [m, P].
        jump: what a typical sampled image adds to the wins of a position.
        sure: whether the coarse stage takes the windows that it knows for all there are.
    """
    by_image = wins.sum(axis=1) / len(wins)  # [m]
    dispersion = max(1.0, average(by_image, by_image) if wins.any() else jump)
    known = np.isfinite(held)
    expected = (SURE, *EXPECTED[1:]) if sure else EXPECTED
    slopes = features @ np.array([0.0, *expected])  # [P]
    if known.any():
        low, high = -LARGEST, LARGEST
        wanted = np.clip(held[known], 1e-4, 1 - 1e-4).mean()
        for _ in range(50):  # of bisection
            level = (low + high) / 2
            inside = (1 / (1 + np.exp(np.clip(level + slopes[known], -LARGEST, LARGEST)))).mean()
            low, high = (level, high) if inside > wanted else (low, level)
        precision = 1 / LEVEL_ERROR**2
    else:
        level, precision = float(np.log(wins.mean() + UNSEEN * jump / len(features))), 0.0
    slack = np.full(len(expected), PRECISION)
    return Prior(np.array([level, *expected]), np.array([precision, *slack]), dispersion, jump)


def resample(wins: NDArray[np.float64], picks: NDArray[np.int64], prior: Prior) -> Wins:
    """Summarise wins of sampled images, [m, P], for each choice of m of them with replacement, [B, m]."""
    count = len(wins)
    halves = []
    for half in (picks[:, ::2], picks[:, 1::2]):
        times = np.stack([np.bincount(one, minlength=count) for one in half]) / half.shape[1]  # [B, m]
        halves.append(np.einsum("bm,mp->bp", times, wins))
    sums, squares = (part.sum(axis=1)[picks].sum(axis=1) for part in (wins, wins**2))  # [B]
    jump = np.where(sums > 0, squares / np.where(sums > 0, sums, 1.0) / count, prior.jump)  # [B]
    return Wins(halves[0], halves[1], jump)


def estimate_inside(wins: Wins, features: NDArray[np.float64], prior: Prior) -> Inside:
    """Estimate the part of the mass inside at each position, from wins of sampled images over the scored ones.

    With mu = exp(x beta) wins expected at a position (`regress`) and y wins counted, y ~ Gamma-Poisson of shape a:
    E[wins | y] = mu + r (y - mu) with the reliability r = mu / (mu + a j), where j is what one sampled image adds.
    The shape is the moment estimate a = sum(mu^2 u) / sum((y1 - mu)(y2 - mu) u) with u = 1 / (1 + mu)^2, from two
    halves y1, y2 of the sample, whose errors are independent (empirical Bayes). The part inside is
    1 / (1 + E[wins | y]).
    """
    single = (wins.first + wins.second) / 2  # [B, P]
    coefficients, level_error = regress(features, single + UNSEEN * prior.jump / len(features), prior)
    expected = np.exp(np.clip(_multiply(coefficients, features), -LARGEST, LARGEST))  # [B, P]
    unit = (1 + expected) ** 2  # [B, P]
    alike = ((wins.first - expected) * (wins.second - expected) / unit).sum(axis=1)  # [B]
    shape = np.clip((expected**2 / unit).sum(axis=1) / np.maximum(alike, 1e-300), *SHAPES)  # [B]
    # Of a position's own count, under the gamma-Poisson model.
    reliability = expected / (expected + (shape * wins.jump)[:, None])  # [B, P]
    covered = 1 / (1 + expected + reliability * (single - expected))  # [B, P]
    # 1 / (1 + x) is convex: from noisy single positions the estimate is too high, from expected wins too low.
    bracket = BRACKET * np.sqrt(1 - reliability) * (1 / (1 + single) - 1 / (1 + expected))  # [B, P]
    from_level = covered * (1 - covered) * (1 - reliability) * level_error[:, None]  # [B, P]
    return Inside(covered, np.hypot(bracket, from_level), reliability)


def regress(
    features: NDArray[np.float64], wins: NDArray[np.float64], prior: Prior
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fit the log odds that an image outside wins, logit(p) = x beta, to wins against one loss at each position.

    Newton's method on the penalised quasi-likelihood sum(wins log p + log(1 - p)) / dispersion
    - (beta - beta0)' diag(precision) (beta - beta0) / 2, for all samples at once, until the last one's has ended.

    Args:
        features: of the positions, [P, k].
        wins: of B samples, [B, P].
        prior: of the coefficients.

    Returns:
        The coefficients [B, k], and the standard error of their level that the prior leaves [B].
    """
    count, width = features.shape
    pairs = (features[:, :, None] * features[:, None, :]).reshape(count, -1)  # [P, k k]
    found = np.tile(prior.coefficients, (len(wins), 1))  # [B, k]
    for _ in range(STEPS):
        chance = 1 / (1 + np.exp(-np.clip(_multiply(found, features), -LARGEST, LARGEST)))  # [B, P]
        gradient = np.einsum("bp,pk->bk", wins - (1 + wins) * chance, features) / prior.dispersion  # [B, k]
        gradient -= prior.precision * (found - prior.coefficients)
        information = np.einsum("bp,pk->bk", (1 + wins) * chance * (1 - chance), pairs) / prior.dispersion  # [B, k k]
        curvature = information.reshape(-1, width, width) + np.diag(prior.precision)  # [B, k, k]
        inverse = np.linalg.pinv(curvature, hermitian=True)  # [B, k, k]; singular without a prior and wins
        step = np.clip((inverse @ gradient[:, :, None])[..., 0], -1, 1)  # [B, k]
        found = found + step
        if np.abs(step).max() < CLOSE:
            break
    return found, np.sqrt(prior.precision[0]) * inverse[:, 0, 0]


def average(parts: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """Return the mean of parts by weights, not all of which are 0."""
    return float((parts * weights).sum() / weights.sum())


def _multiply(coefficients: NDArray[np.float64], features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return x beta of each sample at each position, [B, P]."""
    return np.asarray(np.einsum("bk,pk->bp", coefficients, features))

"""What a question rests on: its views at every scale and noise, their scores, where they come from, what they miss."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nda_index.diffusion import NoisyImage
from nda_index.exact import cpu
from nda_index.exact.posterior import Masses, PosteriorSettings, masses, position_weights, scores_of_blocks
from nda_index.scales import Scale


@dataclass(frozen=True)
class View:
    """One noisy version of the query at one scale; `factor` is its part in the sum of scores."""

    noisy: NoisyImage
    scale: Scale
    factor: float

    @property
    def positions(self) -> int:
        """Number of query positions."""
        return self.scale.query_positions(*self.noisy.pixels.shape[1:])


@dataclass(frozen=True)
class ViewScores:
    """Scores float64 [N] summed over views, and each view's log normaliser, float64 [P]."""

    scores: NDArray[np.float64]
    log_normalisers: tuple[NDArray[np.float64], ...]


def views_of(noisy: Sequence[NoisyImage], scales: Sequence[Scale]) -> list[View]:
    """All pairs of noisy images and scales: noisy images are averaged, scales are summed with their weights."""
    return [View(image, scale, scale.weight / len(noisy)) for scale in scales for image in noisy]


def total_score(views: Sequence[View]) -> float:
    """What the scores of all training images sum to (without `per_image_topk`)."""
    return sum(view.factor * view.positions for view in views)


def score_views(
    views: Sequence[View],
    blocks: Callable[[], Iterable[NDArray[np.uint8]]],
    count: int,
    settings: PosteriorSettings,
    progress: Callable[[int, int], None],
) -> ViewScores:
    """Exact scores of `count` images that come in blocks, uint8 [n, C, H, W], the same at every call.

    `progress` is called with the number of images done and of all to do, over all views.
    """
    scores, normalisers = np.zeros(count), []
    for number, view in enumerate(views):

        def block_masses(view: View = view, number: int = number) -> Iterator[Masses]:
            done = 0
            for pixels in blocks():
                yield masses(view.noisy, to_float(pixels), view.scale, settings)
                done += len(pixels)
                progress(number * count + done, len(views) * count)

        result = scores_of_blocks(block_masses, count, view.positions)
        scores += view.factor * result.scores
        normalisers.append(result.log_normaliser)
    return ViewScores(scores, tuple(normalisers))


def evidence_maps(
    views: Sequence[View],
    log_normalisers: Sequence[NDArray[np.float64]],
    pixels: NDArray[np.uint8],
    settings: PosteriorSettings,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Where on the query, and where on each image, its score comes from.

    Args:
        views: of the query.
        log_normalisers: from `score_views`.
        pixels: uint8 [n, C, H, W], the images.
        settings: as for the scores.

    Returns:
        Two float32 [n, H, W]. Each map sums to the image's score; a window's weight stands at its centre. With
        `per_image_topk` the second shows all windows, scaled to the score.
    """
    n, _, height, width = pixels.shape
    train = to_float(pixels)
    on_query, on_train = np.zeros((n, height, width)), np.zeros((n, height, width))
    for view, normaliser in zip(views, log_normalisers, strict=True):
        scale = view.scale
        counted = position_weights(masses(view.noisy, train, scale, settings).counted, normaliser)  # [n, P]
        grid = counted.reshape(n, -1, len(range(0, scale.positions(width), scale.query_stride)))
        on_query += view.factor * _on_pixels(grid, scale, scale.query_stride, height, width)
        weights = cpu.train_maps(view.noisy, train, scale, normaliser)  # [n, rows, columns]
        spread = _on_pixels(weights, scale, scale.train_stride, height, width)
        if settings.mirror:
            flipped = cpu.train_maps(view.noisy, train[..., ::-1], scale, normaliser)
            spread += _on_pixels(flipped, scale, scale.train_stride, height, width)[..., ::-1]
        if settings.per_image_topk is not None:
            spread *= (counted.sum(axis=1) / np.maximum(spread.sum(axis=(1, 2)), 1e-300))[:, None, None]
        on_train += view.factor * spread
    return on_query.astype(np.float32), on_train.astype(np.float32)


def estimate_coverage(
    views: Sequence[View],
    log_normalisers: Sequence[NDArray[np.float64]],
    sample: NDArray[np.uint8],
    outside: int,
    settings: PosteriorSettings,
) -> tuple[float, float]:
    """Which fraction of the whole posterior the scored images hold.

    Args:
        views: of the query.
        log_normalisers: of the scored images, from `score_views`.
        sample: uint8 [m, C, H, W], a uniform random sample of the images that were not scored.
        outside: number of images that were not scored.
        settings: as for the scores.

    Returns:
        The estimate, and its standard error by the jackknife over the sample. It is too small where a few images that
        the sample has missed hold much mass.
    """
    if outside == 0:
        return 1.0, 0.0
    m, whole = len(sample), total_score(views)
    covered, without_one = 0.0, np.zeros(m)
    for view, normaliser in zip(views, log_normalisers, strict=True):
        total = masses(view.noisy, to_float(sample), view.scale, settings).total
        ratio = np.minimum(position_weights(total, normaliser), 1e300 / m)  # [m, P]
        missed = ratio.sum(axis=0)  # [P]
        covered += view.factor * float((1 / (1 + outside / m * missed)).sum())
        for i in range(m):
            rest = np.maximum(missed - ratio[i], 0)
            without_one[i] += view.factor * (1 / (1 + outside / max(m - 1, 1) * rest)).sum()
    error = np.sqrt((m - 1) / m * ((without_one - without_one.mean()) ** 2).sum())
    return covered / whole, float(error) / whole


def to_float(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Bytes to float32 in [-1, 1]."""
    return np.asarray(pixels / np.float32(127.5) - np.float32(1.0), np.float32)


def _on_pixels(grid: NDArray[np.float64], scale: Scale, stride: int, height: int, width: int) -> NDArray[np.float64]:
    """Weights at window positions [n, rows, columns] to pixels [n, H, W], sums kept."""
    rows, columns = _spread(height, scale, stride), _spread(width, scale, stride)
    return np.asarray(rows @ grid @ columns.T, np.float64)


def _spread(size: int, scale: Scale, stride: int) -> NDArray[np.float64]:
    """Matrix [pixels, positions]: a position's weight goes to its window's centre, and to the pixels up to the next."""
    matrix = np.zeros((size, len(range(0, scale.positions(size), stride))))
    for column, position in enumerate(range(0, scale.positions(size), stride)):
        for pixel in range(position, min(position + stride, scale.positions(size))):
            matrix[pixel, column] += 0.5
            matrix[pixel if scale.patch % 2 else pixel + 1, column] += 0.5  # an even window's centre is between two
    return np.asarray(matrix / matrix.sum(axis=0), np.float64)

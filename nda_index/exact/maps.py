"""Evidence maps: where on the query, and where on a training image, a score comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nda_index.exact import cpu, gpu, gpu_plain, gpu_weights
from nda_index.exact.posterior import PosteriorSettings, image_weights
from nda_index.exact.views import View, scales_of
from nda_index.images import Pixels, to_float
from nda_index.scales import Scale

SMALLEST = 1e-300  # keeps the division finite where a map is empty


def evidence_maps(
    views: Sequence[View],
    log_normalisers: Sequence[NDArray[np.float64]],
    pixels: Pixels,
    settings: PosteriorSettings,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Map where on the query, and where on each image, its score comes from.

    Args:
        views: of the query.
        log_normalisers: from `score_views`.
        pixels: uint8 [n, C, H, W], the images.
        settings: as for the scores; a GPU takes part as there.

    Returns:
        Two float32 [scales, n, H, W], in the order of the views' scales. Summed over scales, each map sums to the
        image's score; a window's weight lies at its centre. With `per_image_topk` the second shows all windows,
        scaled to the score.
    """
    n, _, height, width = pixels.shape
    scales = scales_of(views)
    on_query, on_train = (np.zeros((len(scales), n, height, width)) for _ in range(2))
    for view, normaliser in zip(views, log_normalisers, strict=True):
        scale, place = view.scale, scales.index(view.scale)
        counted, weights = _sum_both_ways(view, normaliser, pixels, settings)
        grid = counted.reshape(n, -1, len(range(0, scale.positions(width), scale.query_stride)))
        on_query[place] += view.factor * _spread(grid, scale, scale.query_stride, height, width)
        spread = _spread(weights[0], scale, scale.train_stride, height, width)
        for flipped in weights[1:]:
            spread += _spread(flipped, scale, scale.train_stride, height, width)[..., ::-1]
        if settings.per_image_topk is not None:
            spread *= (counted.sum(axis=1) / np.maximum(spread.sum(axis=(1, 2)), SMALLEST))[:, None, None]
        on_train[place] += view.factor * spread
    return on_query.astype(np.float32), on_train.astype(np.float32)


def _sum_both_ways(
    view: View, normaliser: NDArray[np.float64], pixels: Pixels, settings: PosteriorSettings
) -> tuple[NDArray[np.float64], list[NDArray[np.float64]]]:
    """Sum the weights of images at the query's positions, [n, P], and at their own, [n, rows, columns].

    The latter are those of the images and, where they count, of their mirror images.
    """
    scale, noisy, topk = view.scale, view.noisy, settings.per_image_topk
    versions = [pixels, pixels[..., ::-1]] if settings.mirror else [pixels]

    def on_gpu() -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        floats = [gpu_plain.as_floats(gpu.move_pixels(version)) for version in versions]
        return [gpu_weights.sum_both_ways(noisy, train, scale, normaliser, topk) for train in floats]

    sums = gpu.attempt(settings.backend, on_gpu)
    if sums is not None:
        columns = len(range(0, scale.positions(pixels.shape[3]), scale.train_stride))
        return np.sum([here for here, _ in sums], axis=0), [there.reshape(len(there), -1, columns) for _, there in sums]
    (counted,) = image_weights([view], pixels, replace(settings, backend="cpu"), [normaliser])  # [n, P]
    return counted, [cpu.train_maps(noisy, to_float(version), scale, normaliser) for version in versions]


def _spread(grid: NDArray[np.float64], scale: Scale, stride: int, height: int, width: int) -> NDArray[np.float64]:
    """Move weights at window positions [n, rows, columns] to pixels [n, H, W], without changing their sums."""
    rows, columns = on_pixels_matrix(height, scale, stride), on_pixels_matrix(width, scale, stride)
    return np.asarray(rows @ grid @ columns.T, np.float64)


def on_pixels_matrix(size: int, scale: Scale, stride: int) -> NDArray[np.float64]:
    """Return the matrix [pixels, positions] of where weights go: a window's centre and the pixels up to the next."""
    matrix = np.zeros((size, len(range(0, scale.positions(size), stride))))
    for column, position in enumerate(range(0, scale.positions(size), stride)):
        for pixel in range(position, min(position + stride, scale.positions(size))):
            matrix[pixel, column] += 0.5
            matrix[pixel if scale.patch % 2 else pixel + 1, column] += 0.5  # an even window's centre is between two
    return np.asarray(matrix / matrix.sum(axis=0), np.float64)

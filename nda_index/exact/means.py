"""The posterior mean: the picture that an optimal local denoiser makes of a query, from the training images' pixels.

A denoiser that sees the window about a pixel, and nothing else, is best in the mean square if it answers with the
posterior's mean of the pixel at the window's centre: of the training pixels at the centres of all windows, by their
weights (Kamb and Ganguli, arXiv 2412.20292). The mean of the estimates of all windows that cover a pixel would be no
posterior mean: it mixes in windows that have the pixel at their edge, and know less about it.

A pixel takes the window whose centre is nearest, and the mean of several that are equally near: with even patches the
centre lies between pixels, so a pixel takes up to four windows; with a `query_stride` or at a border where windows have
no partner, it takes the pixel at its own place in the nearest windows there are. Pixels are those of the training
images at full resolution, also where blocks are compared.

For one displacement between query and training window, all windows that a pixel takes have the same training pixel
there: so weights are added up at pixels, and the sums of parts of a collection add up to those of the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from nda_index.diffusion import NoisyImage
from nda_index.errors import ConfigError
from nda_index.exact import cpu, gpu, gpu_plain, gpu_weights
from nda_index.exact.borders import pair_plan
from nda_index.exact.posterior import Block, PosteriorSettings, on_cpu, sum_posterior
from nda_index.exact.views import View, scales_of
from nda_index.scales import Scale


@dataclass(frozen=True)
class MeanSums:
    """What some images add to the posterior mean, before its normaliser is known.

    Attributes:
        log_totals: log of the mass of these images, float64 [P] for each view.
        pixels: from the log normalisers of the whole posterior, [P] for each view, to the weighted pixels, float64
            [scales, H, W, C + 1], in the order of the views' scales: sums of all views of a scale, the sums of weights
            last. Those of several collections add up, and `posterior_mean` makes a picture of them. It is the second
            pass.
    """

    log_totals: list[NDArray[np.float64]]
    pixels: Callable[[Sequence[NDArray[np.float64]]], NDArray[np.float64]]


def sum_mean(
    views: Sequence[View],
    blocks: Callable[[], Iterable[Block]],
    count: int,
    settings: PosteriorSettings,
    progress: Callable[[int, int], None],
) -> MeanSums:
    """Sum the masses of images for a posterior mean: the first of two passes, in bounded memory.

    Args:
        views: of the query. Windows match only those that stick out by the same amount.
        blocks: gives the images, floats [n, C, H, W] or tensors of them; is called once in each pass.
        count: number of images.
        settings: `mask_value` and `per_image_topk` must be the defaults.
        progress: is called with the number of images done and of all to do, in both passes.

    Returns:
        The totals of these images; its `pixels` is the second pass.

    Raises:
        ConfigError: as `sum_posterior` and `pixel_spans`.
    """
    scales = scales_of(views)
    height, width = views[0].noisy.pixels.shape[1:]
    spans = [pixel_spans(height, width, scale) for scale in scales]
    first = sum_posterior(
        views, blocks, count, settings, lambda done, _: progress(min(done, count), 2 * count), keep_masses=False
    )

    def pixels(log_normalisers: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
        sums, done = np.zeros((len(scales), height, width, views[0].noisy.pixels.shape[0] + 1)), count
        for block in blocks():
            for place, scale in enumerate(scales):
                chosen = [i for i, view in enumerate(views) if view.scale == scale]
                queries, of_queries = [views[i].noisy for i in chosen], [log_normalisers[i] for i in chosen]
                sums[place] += _sum_pixels(queries, block, scale, of_queries, spans[place], settings)
            done += len(block)
            progress(done, 2 * count)
        return sums

    return MeanSums(first.log_totals, pixels)


def _sum_pixels(
    queries: Sequence[NoisyImage], block: Block, scale: Scale, log_normalisers: Sequence[NDArray[np.float64]],
    spans: NDArray[np.int64], settings: PosteriorSettings,
) -> NDArray[np.float64]:  # fmt: skip
    def on_gpu() -> NDArray[np.float64]:
        train = gpu_plain.as_floats(gpu.move_pixels(block))  # [n, C, H, W]
        both = torch.cat([train, train.flip(-1)]) if settings.mirror else train
        pairs = zip(queries, log_normalisers, strict=True)
        parts = [gpu_weights.pixel_sums(query, both, scale, normaliser, spans) for query, normaliser in pairs]
        return np.asarray(sum(parts[1:], parts[0]))

    sums = gpu.attempt(settings.backend, on_gpu)
    if sums is not None:
        return sums
    train = on_cpu(block)
    both = np.concatenate([train, train[..., ::-1]]) if settings.mirror else train
    return cpu.pixel_sums(queries, both, scale, log_normalisers, spans)


def posterior_mean(
    sums: NDArray[np.float64], scales: Sequence[Scale]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Divide the sums of all images into the posterior mean.

    Args:
        sums: float64 [scales, H, W, C + 1], from `MeanSums.pixels`.
        scales: in their order; their weights are those of their means.

    Returns:
        float32 [H, W, C], the mean; and that of each scale, [scales, H, W, C].

    Example:
        >>> whole, parts = posterior_mean(np.array([[[[2.0, 4.0]]], [[[1.0, 1.0]]]]), [Scale(3), Scale(5, weight=3.0)])
        >>> parts.ravel().tolist(), whole.ravel().tolist()
        ([0.5, 1.0], [0.875])
    """
    means = sums[..., :-1] / sums[..., -1:]
    whole = np.average(means, axis=0, weights=[scale.weight for scale in scales])
    return whole.astype(np.float32), means.astype(np.float32)


def pixel_spans(height: int, width: int, scale: Scale) -> NDArray[np.int64]:
    """Return the pixels that take each window of a query.

    Returns:
        int64 [P, 4]: first row, end of rows, first column, end of columns; empty where another window is nearer.

    Raises:
        ConfigError: the scale's strides leave a pixel in no window that is compared.

    Example:
        >>> pixel_spans(3, 3, Scale(2))[0].tolist()
        [0, 2, 0, 2]
    """
    plan = pair_plan(height, width, scale, matching_overhang=True)
    rows, columns = _span_axis(plan.rows, height, scale), _span_axis(plan.columns, width, scale)
    whole = np.broadcast_arrays(rows[:, None, :1], rows[:, None, 1:], columns[None, :, :1], columns[None, :, 1:])
    return np.concatenate(whole, axis=2).reshape(-1, 4)


def _span_axis(axis: NDArray[np.int64], size: int, scale: Scale) -> NDArray[np.int64]:
    """Return along an axis the first pixel and the end of those that take each window."""
    grid = np.arange(0, scale.positions(size), scale.query_stride)
    compared = np.isin(grid, np.concatenate([np.arange(first, end, step) for _, first, end, step in axis]))
    place = np.arange(size)[:, None] - grid  # [pixels, windows], from the window's centre, or what comes before it
    distance = np.where(compared, np.abs(2 * place - (scale.patch % 2 == 0)), 2 * size)
    takes = distance == distance.min(axis=1, keepdims=True)
    if (takes & ((place < -scale.padding) | (place >= scale.patch - scale.padding))).any():
        raise ConfigError(
            f"the scale {scale.name} has query_stride {scale.query_stride} and train_stride {scale.train_stride}, "
            f"which leave a pixel in no window that is compared, so that nothing explains it; build the index with "
            f"smaller strides, such as 1"
        )
    return np.stack([takes.argmax(axis=0), takes.argmax(axis=0) + takes.sum(axis=0)], axis=1)

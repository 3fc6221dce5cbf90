"""Which part of a training image explains which part of the query: posterior weights between cells of the two."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from nda_index.exact import gpu, gpu_plain, gpu_weights
from nda_index.exact.maps import on_pixels_matrix
from nda_index.exact.posterior import PosteriorSettings
from nda_index.exact.views import View, scales_of
from nda_index.images import Pixels, to_float
from nda_index.scales import Scale, block_means

GRID = 8  # cells along each side of an image
PAIRS = 1 << 21  # pairs of windows weighed at a time: 16 MiB of float64


def cell_links(
    views: Sequence[View],
    log_normalisers: Sequence[NDArray[np.float64]],
    pixels: Pixels,
    settings: PosteriorSettings,
    check: Callable[[], None] = lambda: None,
) -> NDArray[np.float64]:
    """Sum the posterior weights between cells of the query and cells of a training image.

    They say how much of the image's score each cell of the query gets from each cell of the image. Windows are compared
    as for the scores, only those of equal overhang, and a window's weight lies at its centre, as on the evidence maps.

    Args:
        views: of the query.
        log_normalisers: float64 [P] each, from `score_views`.
        pixels: uint8 [C, H, W], one training image.
        settings: as for the scores; only the K largest weights count where `per_image_topk` says so.
        check: is called before each piece of the work, and ends it by raising: all pairs of windows take long.

    Returns:
        float64 [scales, 64, 64], in the order of the views' scales: from cell row * 8 + column of the query to that of
        the image. Summed over the last axis it is the query's map, summed over cells.
    """
    on_gpu = gpu.attempt(settings.backend, lambda: _links_on_gpu(views, log_normalisers, pixels, settings, check))
    if on_gpu is not None:
        return on_gpu
    train = to_float(pixels).astype(np.float64)
    topk = settings.per_image_topk
    scales = scales_of(views)
    links = np.zeros((len(scales), GRID**2, GRID**2))
    for view, normaliser in zip(views, log_normalisers, strict=True):
        place = scales.index(view.scale)
        for flipped in (False, True) if settings.mirror else (False,):
            links[place] += view.factor * _link_view(view, normaliser, train, topk, check, flipped=flipped)
    return links


def _links_on_gpu(
    views: Sequence[View], log_normalisers: Sequence[NDArray[np.float64]], pixels: Pixels,
    settings: PosteriorSettings, check: Callable[[], None],
) -> NDArray[np.float64]:  # fmt: skip
    train = gpu_plain.as_floats(gpu.move_pixels(pixels[None]))  # [1, C, H, W]
    height, width = pixels.shape[1:]
    scales = scales_of(views)
    links = np.zeros((len(scales), GRID**2, GRID**2))
    for view, normaliser in zip(views, log_normalisers, strict=True):
        scale = view.scale
        here = [_assign_cells(size, scale, scale.query_stride) for size in (height, width)]
        for flipped in (False, True) if settings.mirror else (False,):
            check()
            there = [
                _assign_cells(height, scale, scale.train_stride),
                _assign_cells(width, scale, scale.train_stride, flipped=flipped),
            ]
            cells = _cross(*here), _cross(*there)  # [64, P], [64, Q]
            image = train.flip(-1) if flipped else train
            part = gpu_weights.link_cells(view.noisy, image, scale, normaliser, cells, settings.per_image_topk)
            links[scales.index(scale)] += view.factor * part
    return links


def _cross(rows: NDArray[np.float64], columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the matrix of the plane, [64, rows columns], from those of its axes, [8, rows] and [8, columns]."""
    return np.asarray(np.kron(rows, columns), np.float64)


def _link_view(
    view: View, normaliser: NDArray[np.float64], train: NDArray[np.float64], topk: int | None,
    check: Callable[[], None], *, flipped: bool,
) -> NDArray[np.float64]:  # fmt: skip
    scale, noisy = view.scale, view.noisy
    height, width = train.shape[1:]
    query = _take_windows(noisy.pixels.astype(np.float64), scale, scale.query_stride)  # [rows, columns, D]
    others = _take_windows((train[..., ::-1] if flipped else train) * noisy.signal, scale, scale.train_stride)
    log_total = normaliser.reshape(query.shape[:2])
    query_rows, query_columns = (
        _assign_cells(size, scale, scale.query_stride) for size in (height, width)
    )  # [8, positions]
    train_rows = _assign_cells(height, scale, scale.train_stride)
    train_columns = _assign_cells(width, scale, scale.train_stride, flipped=flipped)
    links = np.zeros((GRID, GRID, GRID**2))
    for rows, other_rows in _match_overhangs(height, scale):
        for columns, other_columns in _match_overhangs(width, scale):
            candidates = others[other_rows, other_columns]  # [k, l, D]
            wide = columns.stop - columns.start
            step = max(1, PAIRS // (wide * candidates.shape[0] * candidates.shape[1]))
            for some in (slice(i, min(i + step, rows.stop)) for i in range(rows.start, rows.stop, step)):
                check()
                windows, total = query[some, columns], log_total[some, columns]  # [i, j, D], [i, j]
                weights = _weigh(windows, candidates, total, noisy.sigma, topk)  # [i j, k, l]
                there = train_rows[:, other_rows] @ (weights @ train_columns[:, other_columns].T)  # [i j, 8, 8]
                there = there.reshape(-1, wide, GRID**2)  # [i, j, 64]
                here = (query_columns[:, columns] @ there).reshape(-1, GRID**3)  # [i, 8 64]
                links += (query_rows[:, some] @ here).reshape(links.shape)
    return links.reshape(GRID**2, GRID**2)


def _weigh(
    windows: NDArray[np.float64], candidates: NDArray[np.float64], log_total: NDArray[np.float64], sigma: float,
    topk: int | None,
) -> NDArray[np.float64]:  # fmt: skip
    """Return the posterior weights of windows [i, j, D] and [k, l, D]: [i j, k, l]."""
    here, there = windows.reshape(-1, windows.shape[2]), candidates.reshape(-1, candidates.shape[2])
    # Expanding the square is safe in float64: its rounding is below 1e-9 of sigma^2 at every timestep.
    distance = here @ there.T  # [P, Q]
    distance *= -2.0
    distance += np.square(here).sum(axis=1)[:, None]
    distance += np.square(there).sum(axis=1)
    distance *= -1.0 / (2.0 * sigma**2)
    distance -= log_total.reshape(-1, 1)
    weights = np.exp(distance, out=distance)  # [P, Q]
    if topk is not None and topk < weights.shape[1]:
        rest = np.argpartition(weights, -topk, axis=1)[:, :-topk]  # [P, Q - K]
        np.put_along_axis(weights, rest, 0.0, axis=1)
    return np.asarray(weights.reshape(-1, *candidates.shape[:2]), np.float64)


def _take_windows(image: NDArray[np.float64], scale: Scale, stride: int) -> NDArray[np.float64]:
    """Return the windows at a grid of positions of an image [C, H, W]: [rows, columns, D]."""
    r, pad = scale.downscale, scale.padding
    blocks = block_means(np.pad(image, ((0, 0), (pad, pad), (pad, pad))), r)  # [C, H', W']
    side = (scale.taps - 1) * r + 1
    windows = sliding_window_view(blocks, (side, side), axis=(1, 2))
    windows = windows[:, ::stride, ::stride, ::r, ::r].transpose(1, 2, 0, 3, 4)  # [rows, columns, C, taps, taps]
    return np.asarray(windows.reshape(*windows.shape[:2], -1), np.float64)


def _match_overhangs(size: int, scale: Scale) -> list[tuple[slice, slice]]:
    """Return along an axis the places on the query's and the training grid whose windows have equal overhang."""
    here = range(0, scale.positions(size), scale.query_stride)
    there = range(0, scale.positions(size), scale.train_stride)
    interior = scale.interior(size)
    inside = [[i for i, p in enumerate(grid) if p in interior] for grid in (here, there)]
    pairs = [(slice(inside[0][0], inside[0][-1] + 1), slice(inside[1][0], inside[1][-1] + 1))] if all(inside) else []
    for i, p in enumerate(here):
        if p not in interior and p in there:
            pairs.append((slice(i, i + 1), slice(there.index(p), there.index(p) + 1)))
    return pairs


def _assign_cells(size: int, scale: Scale, stride: int, *, flipped: bool = False) -> NDArray[np.float64]:
    """Return the matrix [8, positions] of the cells along an axis that a window's weight goes to.

    The windows of a flipped image go to the cells of the image as it is. Pixels are turned round, not cells: cells
    have different widths where 8 does not divide the size.
    """
    cells = np.zeros((GRID, size))
    cells[np.arange(size) * GRID // size, np.arange(size)] = 1.0
    return (cells[:, ::-1] if flipped else cells) @ on_pixels_matrix(size, scale, stride)

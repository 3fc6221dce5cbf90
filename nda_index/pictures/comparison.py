"""Looking at the pixels: a picture is laid where a placement says, moved until it fits, and compared place by place.

What matches is told by the correlation of the structure in small windows, so brightness and contrast do not matter.
Placements come with an error of some pixels; corners of the picture are followed into the question (Lucas and Kanade)
and an affine map is fitted to them, by RANSAC.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from nda_index.pictures.placements import Placement

_SIDE = 96.0  # pixels that the windows in agreement cover at the level of the comparison, as a square
_MOST = 288.0  # pixels of a side there, at most
_LEAST = 24  # pixels of the question that a picture must cover
_WINDOW = 13  # pixels of a window whose structure is compared
_CORRELATION = 0.55  # of a window that matches
_OVERHANG = 4  # pixels that windows which match reach beyond what does, where the picture goes on
_FAINT = 2.0  # variance of structure, in squared levels of 255, below which there is nothing to compare
_CORNERS = 150  # that are followed
_FOLLOWED = 15, 15  # pixels of the window about a corner
_DRIFT = 12.0  # pixels that a corner may move
_STRETCH = 1.2  # of an affine map, at most

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Bounds = tuple[int, int, int, int]  # left, top, right, bottom


@dataclass(frozen=True)
class Fit:
    """What the pixels say of a placement.

    Attributes:
        box: left, top, right and bottom of what matches, in pixels of the question.
        to_picture: float64 [2, 3], maps places of the question to the picture, or to its mirror image.
        correlation: mean over the windows that match; 0 where the pixels show nothing to compare, and the box is that
            of the windows in agreement.
        share: part of the box that matches.
    """

    box: tuple[float, float, float, float]
    to_picture: NDArray[np.float64]
    correlation: float
    share: float


def compare(question: Pixels, picture: Pixels, scale: float, placement: Placement) -> Fit:
    """Compare a picture with the question, where a placement lays it.

    Args:
        question: luma uint8 [H, W].
        picture: luma of its small copy, uint8 [h, w]; mirrored if the placement says so.
        scale: pixels of the copy for one of the picture.
        placement: of the picture.
    """
    fallback = take_agreed(placement, (question.shape[1], question.shape[0]))
    agreed = fallback.box
    size = picture.shape[1] / scale, picture.shape[0] / scale
    corners = np.array([0, size[0], size[0] + 1j * size[1], 1j * size[1]]) * placement.zoom + placement.shift
    left, top = (max(0, int(np.floor(edge))) for edge in (corners.real.min(), corners.imag.min()))
    right = min(question.shape[1], int(np.ceil(corners.real.max())))
    bottom = min(question.shape[0], int(np.ceil(corners.imag.max())))
    if right - left < _LEAST or bottom - top < _LEAST:
        return fallback
    area = max((agreed[2] - agreed[0]) * (agreed[3] - agreed[1]), 400.0)
    level = min(1.0, scale / abs(placement.zoom), _SIDE / area**0.5, _MOST / max(right - left, bottom - top))
    asked = _resize(question[top:bottom, left:right], level)
    factor = abs(placement.zoom) * level / scale  # pixels of the level for one of the copy
    laid = _resize(picture, factor) if factor < 0.9 else picture
    zoom = placement.zoom * level * size[0] / laid.shape[1]
    shift = (placement.shift - left - 1j * top) * level
    matrix = np.array([[zoom.real, -zoom.imag, shift.real], [zoom.imag, zoom.real, shift.imag]])
    matrix = _align(asked, laid, matrix)
    pixels, inside = _lay(laid, matrix, asked)
    found = _find_region(_correlate(asked, pixels, inside))
    if found is None:
        return fallback
    matching, mean, share = found
    x0, y0, x1, y1 = _trim(matching, inside)
    box = (left + x0 / level, top + y0 / level, left + x1 / level, top + y1 / level)
    back = cv2.invertAffineTransform(matrix) * (size[0] / laid.shape[1])
    back[:, 2] -= back[:, :2] @ (left * level, top * level)
    back[:, :2] *= level
    return Fit(box, back, mean, share)


def take_agreed(placement: Placement, size: tuple[int, int]) -> Fit:
    """Return what the windows in agreement say alone: the box of most of them, without a look at the pixels.

    Args:
        placement: of a picture.
        size: width and height of the question.
    """
    x, y, width = placement.asked[:, :3].T
    left, top = np.quantile(x - width / 2, 0.1), np.quantile(y - width / 2, 0.1)
    right, bottom = np.quantile(x + width / 2, 0.9), np.quantile(y + width / 2, 0.9)
    box = max(0.0, float(left)), max(0.0, float(top)), min(size[0], float(right)), min(size[1], float(bottom))
    return Fit(box, _invert(placement.zoom, placement.shift), 0.0, 0.0)


def _invert(zoom: complex, shift: complex) -> NDArray[np.float64]:
    back, moved = 1 / zoom, -shift / zoom
    return np.array([[back.real, -back.imag, moved.real], [back.imag, back.real, moved.imag]])


def _resize(pixels: Pixels, scale: float) -> Pixels:
    size = [max(1, round(length * scale)) for length in (pixels.shape[1], pixels.shape[0])]
    return np.asarray(cv2.resize(np.ascontiguousarray(pixels), size, interpolation=cv2.INTER_AREA), np.uint8)


def _lay(picture: Pixels, matrix: NDArray[np.float64], asked: Pixels) -> tuple[Pixels, Pixels]:
    """Lay a picture over the question: its pixels there, and where they are."""
    size = asked.shape[1], asked.shape[0]
    inside = cv2.warpAffine(np.full(picture.shape, 255, np.uint8), matrix, size)
    return cv2.warpAffine(picture, matrix, size, borderMode=cv2.BORDER_REPLICATE), inside


def _align(asked: Pixels, picture: Pixels, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Move a picture by what its corners move by; twice, the second time less far."""
    target = _level_out(asked)
    for levels in (2, 1):
        pixels, inside = _lay(picture, matrix, asked)
        source = _level_out(pixels)
        corners = cv2.goodFeaturesToTrack(source, _CORNERS, 0.01, 4, mask=inside)
        if corners is None or len(corners) < 6:
            break
        moved, seen, _ = cv2.calcOpticalFlowPyrLK(source, target, corners, None, winSize=_FOLLOWED, maxLevel=levels)
        again, seen_again, _ = cv2.calcOpticalFlowPyrLK(target, source, moved, None, winSize=_FOLLOWED, maxLevel=levels)
        sound = (seen.ravel() > 0) & (seen_again.ravel() > 0)
        sound &= np.abs(again - corners).reshape(-1, 2).max(axis=1) < 1
        sound &= np.abs(moved - corners).reshape(-1, 2).max(axis=1) < _DRIFT
        if sound.sum() < 6:
            break
        pair = corners.reshape(-1, 2)[sound], moved.reshape(-1, 2)[sound]
        cv2.setRNGSeed(0)
        map_, chosen = cv2.estimateAffine2D(*pair, ransacReprojThreshold=1.5, maxIters=300)
        if map_ is None or chosen.sum() < 6:
            break
        stretches = np.linalg.svd(map_[:, :2], compute_uv=False)
        if stretches[0] > _STRETCH or stretches[1] < 1 / _STRETCH:
            break
        matrix = np.c_[map_[:, :2] @ matrix[:, :2], map_[:, :2] @ matrix[:, 2] + map_[:, 2]]
    return matrix


def _level_out(pixels: Pixels) -> Pixels:
    """Take the local mean away and divide by the local deviation, so that corners look alike in another light."""
    values = pixels.astype(np.float32)
    values -= cv2.GaussianBlur(values, (0, 0), 6.0)
    values /= np.sqrt(cv2.GaussianBlur(values * values, (0, 0), 6.0) + 9.0)
    return np.clip(values * 40 + 128, 0, 255).astype(np.uint8)


def _correlate(asked: Pixels, laid: Pixels, inside: Pixels) -> Floats:
    """Correlation of the structure in the window about each pixel, float32 [h, w]; 0 where there is too little."""
    weight = (inside > 128).astype(np.float32)
    one, other = (_structure(pixels) for pixels in (asked, laid))
    count = _sum_windows(weight)
    means = [_sum_windows(values * weight) / np.maximum(count, 1e-3) for values in (one, other)]
    products = [
        _sum_windows(a * b * weight) / np.maximum(count, 1e-3) for a, b in ((one, one), (other, other), (one, other))
    ]
    first, second = products[0] - means[0] ** 2, products[1] - means[1] ** 2
    both = products[2] - means[0] * means[1]
    clear = (count > 0.6) & (first > _FAINT) & (second > _FAINT)
    scale = np.sqrt(np.maximum((first + _FAINT / 4) * (second + _FAINT / 4), 1e-6))
    return np.where(clear, both / scale, 0).astype(np.float32)


def _structure(pixels: Pixels) -> Floats:
    """Detail between noise and slow changes of light, which fit anything."""
    values = pixels.astype(np.float32)
    return np.asarray(cv2.GaussianBlur(values, (0, 0), 0.7) - cv2.GaussianBlur(values, (0, 0), 4.0), np.float32)


def _sum_windows(values: Floats) -> Floats:
    return np.asarray(cv2.boxFilter(values, -1, (_WINDOW, _WINDOW), borderType=cv2.BORDER_REFLECT), np.float32)


def _trim(box: Bounds, inside: Pixels) -> Bounds:
    """Take away by what windows reach beyond what matches: on each side but where the picture ends too."""
    (left, right), (top, bottom) = (
        _trim_side(box[axis], box[axis + 2], np.flatnonzero((inside > 128).any(axis=axis))) for axis in (0, 1)
    )
    return left, top, right, bottom


def _trim_side(first: int, last: int, there: NDArray[np.int64]) -> tuple[int, int]:
    start = first + _OVERHANG if first > there[0] + 1 else first
    stop = last - _OVERHANG if last < there[-1] else last
    return (start, stop) if stop - start > _OVERHANG else (first, last)


def _find_region(correlation: Floats) -> tuple[Bounds, float, float] | None:
    """Find what matches: its box, mean correlation and share of the box; None where nothing does.

    Regions near one another count as one, so that text laid over a piece does not cut it in two. Of the others the
    largest counts, and with it those that gain at least a seventh of what it does.
    """
    matching = correlation > _CORRELATION
    closed = cv2.morphologyEx(matching.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8))
    _, labels = cv2.connectedComponents(closed)
    gain = np.where(matching, np.log1p(-(_CORRELATION**2)) - np.log1p(-(np.minimum(correlation, 0.98) ** 2)), 0)
    gains = np.bincount(labels.ravel(), gain.ravel())
    gains[0] = 0
    if gains.max(initial=0) <= 0:
        return None
    region = np.isin(labels, np.flatnonzero(gains > 0.15 * gains.max())) & matching
    rows, columns = np.nonzero(region)
    box = int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1
    area = (box[2] - box[0]) * (box[3] - box[1])
    return box, float(correlation[region].mean()), float(region.sum() / area)

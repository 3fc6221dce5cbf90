"""Windows of a picture at all its levels: where they lie, and codes that find the same window in another picture.

Two kinds complement one another. *Points* are extrema of a difference of Gaussians (Lowe 2004): they fall on the same
places of a picture after it was zoomed, turned or partly covered. *Grid* windows lie side by side, upright and large:
they are there where a picture is so soft that it has no points. Both are described by histograms of gradients, whose
root (Arandjelovic and Zisserman 2012) ignores brightness and contrast, and projected to fewer coordinates.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal, NamedTuple, get_args

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Kind = Literal["points", "grid"]
KINDS: tuple[Kind, ...] = get_args(Kind)
DIMENSIONS = 32  # of a code, one byte each

_CONTRAST, _EDGE = 0.01, 15.0  # of a point: a fourth of what is usual, since soft pictures have no others
_CELLS = 8  # along each side of a picture: the points are spread over these
_TURNS = 8  # directions of a histogram of gradients
_BLOCKS = 4  # histograms along each side of a window
_WIDTH = 6.0  # of a window, for a point's size as OpenCV gives it
_TEXTURE = 3.0  # levels of 255 that a grid window's pixels deviate by at least
_SMALLEST = 20.0  # pixels of a grid window: of the smallest, and at the level where a larger one is described


@dataclass(frozen=True)
class Sampling:
    """How many windows of a picture are taken.

    Attributes:
        side: pixels that a picture's shorter side is reduced to. Larger ones show smaller pieces, and cost time.
        points: at most; each takes 42 bytes of an index.
        widths: of grid windows, as parts of the shorter side.
        quotas: of each of these widths, drawn at random.
        step: between grid windows, as a part of their width.
    """

    side: int
    points: int
    widths: tuple[float, ...]
    quotas: tuple[int, ...]
    step: float = 0.25


INDEXED = Sampling(320, 450, (0.1875, 0.265, 0.375, 0.53), (80, 80, 60, 20))
ASKED = Sampling(512, 1500, (0.094, 0.13, 0.1875, 0.265, 0.375, 0.53), (250,) * 6)


class Windows(NamedTuple):
    """Windows of one kind.

    Attributes:
        frames: float32 [n, 4]: x and y of the centre and the width, in pixels of the picture, and the direction in
            radians (0 for grid windows).
        codes: uint8 [n, DIMENSIONS].
        mirrored: uint8 [n, DIMENSIONS], codes of the windows' mirror images.
    """

    frames: NDArray[np.float32]
    codes: NDArray[np.uint8]
    mirrored: NDArray[np.uint8]


def find_windows(picture: Image.Image, sampling: Sampling) -> dict[Kind, Windows]:
    """Find the windows of a picture.

    Args:
        picture: of any size and aspect.
        sampling: how many; `INDEXED` for a collection, `ASKED` for a question.

    Returns:
        By kind. A picture without structure has none.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> picture = Image.fromarray(rng.integers(0, 256, (40, 60), np.uint8)).resize((600, 400))
        >>> found = find_windows(picture, INDEXED)
        >>> len(found["points"].frames) > 100, found["grid"].codes.shape[1]
        (True, 32)
    """
    luma, scale = reduce_luma(picture, sampling.side)
    with ThreadPoolExecutor(1) as pool:
        grid = pool.submit(_find_grid, luma, sampling)
        found = {"points": _find_points(luma, sampling), "grid": grid.result()}
    windows: dict[Kind, Windows] = {}
    for kind in KINDS:
        frames, descriptors = found[kind]
        frames[:, :3] /= scale
        codes = [_project(kind, part) for part in (descriptors, descriptors[:, _mirror(kind)])]
        windows[kind] = Windows(frames, *codes)
    return windows


def reduce_luma(picture: Image.Image, side: int) -> tuple[NDArray[np.uint8], float]:
    """Reduce a picture to grey pixels [H, W] with a shorter side of at most `side`; and how many are one of its own."""
    scale = min(1.0, side / min(picture.size))
    size = [max(1, round(length * scale)) for length in picture.size]
    reduced = picture.convert("L").resize((size[0], size[1]), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return np.asarray(reduced), scale


def describe(luma: NDArray[np.uint8], sampling: Sampling) -> dict[Kind, NDArray[np.float32]]:
    """Describe the windows of a picture unprojected: float32 [n, 128] by kind, for a projection to be fitted."""
    return {"points": _find_points(luma, sampling)[1], "grid": _find_grid(luma, sampling)[1]}


Found = tuple[NDArray[np.float32], NDArray[np.float32]]  # frames [n, 4] in pixels of the level, descriptors [n, 128]


def _find_points(luma: NDArray[np.uint8], sampling: Sampling) -> Found:
    detector = cv2.SIFT_create(contrastThreshold=_CONTRAST, edgeThreshold=_EDGE)
    points = detector.detect(luma)
    if not points:
        return _nothing()
    chosen = _spread(points, luma.shape, sampling.points)
    points, descriptors = detector.compute(luma, [points[i] for i in chosen])
    frames = [(*point.pt, point.size * _WIDTH, np.deg2rad(point.angle)) for point in points]
    return np.array(frames, np.float32), _take_root(descriptors)


def _spread(points: list[cv2.KeyPoint], shape: tuple[int, ...], most: int) -> NDArray[np.int64]:
    """Choose points in rounds: of each place and octave the clearest, then the second of each, and so on."""
    at = np.array([point.pt for point in points])
    sizes = np.array([point.size for point in points])
    clarity = np.array([point.response for point in points])
    column, row = np.minimum((at / (shape[1], shape[0]) * _CELLS).astype(int), _CELLS - 1).T
    octave = np.clip(np.floor(np.log2(sizes / 4)), 0, 4).astype(int)
    group = (row * _CELLS + column) * 5 + octave
    order = np.lexsort((-clarity, group))
    first = np.r_[True, np.diff(group[order]) != 0]
    turn = np.empty(len(points), int)
    turn[order] = np.arange(len(points)) - np.maximum.accumulate(np.where(first, np.arange(len(points)), 0))
    return np.lexsort((-clarity, turn))[:most]


def _find_grid(luma: NDArray[np.uint8], sampling: Sampling) -> Found:
    height, width = luma.shape
    rng = np.random.default_rng(0)
    points: list[cv2.KeyPoint] = []
    frames: list[NDArray[np.float32]] = []
    for part, quota in zip(sampling.widths, sampling.quotas, strict=True):
        side = part * min(height, width)
        if side < _SMALLEST and part != sampling.widths[-1]:  # too few pixels to tell windows apart
            continue
        centres = [_spaced(length, side, sampling.step) for length in (width, height)]
        at = np.stack(np.meshgrid(*centres), -1).reshape(-1, 2)
        textured = np.flatnonzero(_texture(luma, side, at) > _TEXTURE)
        chosen = rng.permutation(textured)[:quota]
        octave = max(0, int(np.log2(max(side / _SMALLEST, 1))))
        layer = 1 << 8  # as OpenCV packs it beside the octave
        points += [cv2.KeyPoint(float(x), float(y), side / _WIDTH, 0.0, 1.0, octave | layer) for x, y in at[chosen]]
        frames.append(np.c_[at[chosen], np.full(len(chosen), side), np.zeros(len(chosen))].astype(np.float32))
    if not points:
        return _nothing()
    _, descriptors = cv2.SIFT_create().compute(luma, points)
    return np.concatenate(frames), _take_root(descriptors)


def _spaced(length: int, side: float, step: float) -> NDArray[np.float64]:
    """Centres of windows of one side along a length, evenly spaced from edge to edge."""
    count = max(1, round((length - side) / (side * step)) + 1)
    return np.linspace(side / 2, length - side / 2, count)


def _texture(luma: NDArray[np.uint8], side: float, at: NDArray[np.float64]) -> NDArray[np.float32]:
    """Standard deviation of the pixels of windows about centres [n, 2], at a level where they have 8 by 8."""
    scale = 8 / side
    size = max(8, round(luma.shape[1] * scale)), max(8, round(luma.shape[0] * scale))
    level = cv2.resize(luma, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    mean = cv2.blur(level, (8, 8))
    deviation = np.sqrt(np.maximum(cv2.blur(level * level, (8, 8)) - mean * mean, 0))
    x, y = np.minimum((at * scale).astype(int), (size[0] - 1, size[1] - 1)).T
    return np.asarray(deviation[y, x], np.float32)


def _take_root(descriptors: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.sqrt(descriptors / (descriptors.sum(axis=1, keepdims=True) + 1e-6)), np.float32)


def _nothing() -> Found:
    return np.zeros((0, 4), np.float32), np.zeros((0, _BLOCKS * _BLOCKS * _TURNS), np.float32)


@cache
def _mirror(kind: Kind) -> NDArray[np.int64]:
    """Order of a descriptor's numbers in the mirror image.

    A point's window is turned to its own direction, about which the mirror image turns it over; a grid window stays
    upright and changes left and right.
    """
    order = np.arange(_BLOCKS * _BLOCKS * _TURNS).reshape(_BLOCKS, _BLOCKS, _TURNS)
    if kind == "points":
        turned = order[::-1, :, (-np.arange(_TURNS)) % _TURNS]
    else:
        turned = order[:, ::-1, (_TURNS // 2 - np.arange(_TURNS)) % _TURNS]
    return np.ascontiguousarray(turned).reshape(-1)


def _project(kind: Kind, descriptors: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Project descriptors [n, 128] to codes [n, DIMENSIONS]."""
    mean, axes = _projection(kind)
    # Not by BLAS: pictures are read in many threads, and its own would wait for cores that these keep busy (16.7 s in
    # place of 10.8 for 303 pictures on two cores).
    codes = np.einsum("nd,dk->nk", descriptors - mean, axes, optimize=False)  # [n, DIMENSIONS]
    return np.asarray(np.clip(np.rint(codes + 128), 0, 255), np.uint8)


@cache
def _projection(kind: Kind) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean [128] and axes [128, DIMENSIONS], which `python -m benchmarks.pictures.project` fits."""
    file = files(__package__).joinpath("projections.npz")
    with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
        return arrays[f"{kind}_mean"], arrays[f"{kind}_axes"]

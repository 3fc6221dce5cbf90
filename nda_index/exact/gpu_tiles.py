"""Windows of equal overhang side by side: positions of the query and of training images, packed into tiles.

A tile is what one product on a GPU compares: some windows of the query with some of a training image. Positions are
sorted by the class of their overhang, so that few pairs that may not be compared meet in a tile. Windows inside the
image come first, in tiles of their own, where all pairs count; tiles at the border need a mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from nda_index.scales import Scale

NO_WINDOW = -1  # a slot that is empty
NO_QUERY, NO_TRAIN = -1, -2  # the classes of empty slots, which equal no other


@dataclass(frozen=True)
class Side:
    """Positions of the query's or the training images' grid in the order of their tiles.

    Attributes:
        positions: int64 [slots], index in the grid of positions; `NO_WINDOW` where a slot is empty.
        starts: int64 [slots], first pixel of the window in a padded plane of block sums; `NO_WINDOW` where empty.
        classes: int32 [slots], equal where windows may be compared; 0 inside the image.
        tile: slots of a tile.
        inside: number of tiles that hold windows inside the image alone; they come first.
        slots: int64 [positions], the slot of each position.
    """

    positions: NDArray[np.int64]
    starts: NDArray[np.int64]
    classes: NDArray[np.int32]
    tile: int
    inside: int
    slots: NDArray[np.int64]

    @property
    def tiles(self) -> int:
        """Number of tiles."""
        return len(self.positions) // self.tile


@dataclass(frozen=True)
class Tiling:
    """Which tiles meet.

    Attributes:
        query, train: the two sides.
        first, last: int32 [train tiles]: a training tile meets the query's tiles from `first` to before `last`.
        possible: bool [query slots], whether any training window may be compared with the slot's.
    """

    query: Side
    train: Side
    first: NDArray[np.int32]
    last: NDArray[np.int32]
    possible: NDArray[np.bool_]

    @property
    def pairs(self) -> int:
        """Number of pairs of slots that are multiplied, empty ones included."""
        return int((self.last - self.first).sum()) * self.query.tile * self.train.tile


@lru_cache(maxsize=64)
def tile_windows(height: int, width: int, scale: Scale, query_tile: int, train_tile: int) -> Tiling:
    """Pack the windows of an image size and scale into tiles.

    Args:
        height, width: of the images in pixels.
        scale: patch and strides.
        query_tile, train_tile: slots of a tile, powers of 2. Larger ones are read less often, and emptier.

    Example:
        >>> tiling = tile_windows(8, 8, Scale(3), 16, 16)
        >>> tiling.query.tiles, tiling.query.inside, tiling.pairs
        (5, 3, 2816)
    """
    query = _pack_side(height, width, scale, scale.query_stride, query_tile, NO_QUERY)
    train = _pack_side(height, width, scale, scale.train_stride, train_tile, NO_TRAIN)
    first, last = np.zeros((2, train.tiles), np.int32)
    of_query = query.classes.reshape(-1, query_tile)
    for t, classes in enumerate(train.classes.reshape(-1, train_tile)):
        meets = np.flatnonzero(np.isin(of_query, classes).any(axis=1))
        if len(meets):
            first[t], last[t] = meets[0], meets[-1] + 1
    return Tiling(query, train, first, last, np.isin(query.classes, train.classes))


def _pack_side(height: int, width: int, scale: Scale, stride: int, tile: int, empty: int) -> Side:
    """Sort positions by class, and begin a tile where a class that fits in one would be cut."""
    columns = scale.positions(width)
    plane = width + 2 * scale.padding - scale.downscale + 1  # width of a plane of block sums
    y, x = np.meshgrid(np.arange(0, scale.positions(height), stride), np.arange(0, columns, stride), indexing="ij")
    over_y, over_x = _overhang(y.ravel(), height, scale), _overhang(x.ravel(), width, scale)
    kind = (over_y > 0) + 2 * (over_x > 0)  # inside, rows that stick out, columns, corners
    order = np.lexsort((over_x, over_y, kind))
    classes = (over_y * (columns + 1) + over_x)[order]
    _, begins = np.unique(np.stack([kind[order], over_y[order], over_x[order]]), axis=1, return_index=True)
    slots: list[NDArray[np.int64]] = []
    used = 0
    for begin, end in zip(np.sort(begins), [*np.sort(begins)[1:], len(order)], strict=True):
        room = -used % tile
        starts_border = bool(slots) and classes[begin] != 0 and classes[slots[-1][-1]] == 0
        if room and (end - begin > room or starts_border):
            slots.append(np.full(room, NO_WINDOW))
            used += room
        slots.append(np.arange(begin, end))
        used += end - begin
    packed = np.concatenate([*slots, np.full(-used % tile, NO_WINDOW)])
    filled = packed >= 0
    positions = np.where(filled, order[packed], NO_WINDOW)
    starts = np.where(filled, (y.ravel() * plane + x.ravel())[order[packed]], NO_WINDOW)
    packed_classes = np.where(filled, classes[packed], empty).astype(np.int32)
    inside = -(-int((packed_classes == 0).sum()) // tile)
    slots_of = np.flatnonzero(filled)[np.argsort(positions[filled])]
    return Side(positions, starts, packed_classes, tile, inside, slots_of)


def _overhang(positions: NDArray[np.int64], size: int, scale: Scale) -> NDArray[np.int64]:
    """Return 0 for a window inside the image along an axis, else a number that no other position has."""
    interior = scale.interior(size)
    return np.where((positions >= interior.start) & (positions < interior.stop), 0, positions + 1)

"""A collection of pictures of 500 to 2,000 px, and crops of 1,024 px of what is held out.

Small originals are there whole. Large ones give tiles that do not overlap, so that no two pictures show one place.
Held-out originals give bases, which pieces are pasted into, and unrelated queries: no place of an original is in two of
these crops.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from benchmarks.pictures.originals import Original, is_rich, open_picture

Box = tuple[int, int, int, int]  # left, top, right, bottom in px

QUERY = 1024  # px of a query's side
SMALLEST, LARGEST = 500, 2000  # px of the sides of a picture of the collection
WHOLE = 1600  # px of the longer side up to which an original is taken whole
COLLECTION_SIDE = 2400  # px to which an original's shorter side is reduced before tiles are cut
HELD_OUT_SIDE = 3000  # the same for bases and unrelated queries
HELD_OUT_SMALLEST = 720  # px of the shorter side of a held-out original that gives crops
TILES = 12  # at most, of one original


@dataclass(frozen=True)
class Tile:
    """A picture of the collection.

    Args:
        key: the file's name in the collection.
        size: width and height in px.
        original: what it was cut of.
        box: where, in px of the original reduced to COLLECTION_SIDE.
    """

    key: str
    size: tuple[int, int]
    original: Original
    box: Box


@dataclass(frozen=True)
class Crop:
    """A square of a held-out original, in px of the original reduced to HELD_OUT_SIDE."""

    original: Original
    box: Box

    def open(self) -> Image.Image:
        """Open the crop as RGB of 1,024 x 1,024 px."""
        picture = open_picture(self.original.path, HELD_OUT_SIDE)
        return picture.resize((QUERY, QUERY), Image.Resampling.LANCZOS, box=self.box)


def overlap(one: Box, other: Box) -> bool:
    """Tell whether two boxes have a pixel in common.

    >>> overlap((0, 0, 10, 10), (10, 0, 20, 10)), overlap((0, 0, 10, 10), (9, 9, 20, 20))
    (False, True)
    """
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def split(box: Box, smallest: int, largest: int, rng: random.Random) -> list[Box]:
    """Split a box at random into boxes whose sides are between two lengths; a side below the first stays as it is.

    Args:
        box: to split.
        smallest: px of a side of the parts; half of `largest` at most.
        largest: px of a side of the parts.
        rng: decides where, and whether a part that is small enough is split again.
    """
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    across = width >= height
    longer = max(width, height)
    if longer < 2 * smallest or (longer <= largest and rng.random() < 0.3):
        return [box]
    cut = rng.randint(smallest, longer - smallest)
    if across:
        parts = (left, top, left + cut, bottom), (left + cut, top, right, bottom)
    else:
        parts = (left, top, right, top + cut), (left, top + cut, right, bottom)
    return [small for part in parts for small in split(part, smallest, largest, rng)]


def find_tiles(original: Original, rng: random.Random) -> list[Box]:
    """Find boxes for the tiles of an original, in an order of chance: all of a small one, up to TILES of a large one.

    Half of the large ones are split into large tiles, which pieces shrunk to half their size can be taken of.
    """
    picture = open_picture(original.path, COLLECTION_SIDE)
    whole: Box = (0, 0, *picture.size)
    if max(picture.size) <= WHOLE:
        return [whole]
    smallest, largest = (1000, LARGEST) if min(picture.size) >= 1700 and rng.random() < 0.5 else (SMALLEST, 1100)
    boxes = [box for box in split(whole, smallest, largest, rng) if is_rich(picture.crop(box), 10, 2)]
    rng.shuffle(boxes)
    return boxes[:TILES]


def cut_collection(originals: list[Original], folder: Path, count: int, seed: int) -> list[Tile]:
    """Write a collection.

    Args:
        originals: of the collection's side.
        folder: where the pictures go.
        count: of pictures; a second tile of an original comes after the first of all, and so on.
        seed: of places and sizes.

    Returns:
        The pictures, in the order of their keys. Keys tell nothing of where a picture is from.
    """
    boxes = [find_tiles(original, random.Random(f"{seed} {original.path.name}")) for original in originals]
    chosen = [
        (owner, boxes[owner][turn])
        for turn in range(TILES)
        for owner in range(len(originals))
        if turn < len(boxes[owner])
    ][:count]
    folder.mkdir(parents=True, exist_ok=True)
    numbers = list(range(len(chosen)))
    random.Random(f"{seed} keys").shuffle(numbers)
    tiles: list[Tile] = []
    for owner in sorted({owner for owner, _ in chosen}):
        original = originals[owner]
        picture = open_picture(original.path, COLLECTION_SIDE)
        drawn = original.path.suffix.lower() == ".png"
        for number, box in ((numbers[place], box) for place, (of, box) in enumerate(chosen) if of == owner):
            key = f"{number:04d}.{'png' if drawn else 'jpg'}"
            tile = picture.crop(box)
            if drawn:
                tile.save(folder / key)
            else:
                tile.save(folder / key, quality=90)
            tiles.append(Tile(key, tile.size, original, box))
    return sorted(tiles, key=lambda tile: tile.key)


def find_crops(originals: list[Original], most: int, seed: int) -> list[Crop]:
    """Find squares of held-out originals, none of which meets another of the same original.

    Args:
        originals: of the held-out side.
        most: of one original.
        seed: of places and sizes.

    Returns:
        In rounds: the first square of each original, in an order of chance, then the second, and so on.
    """
    found: list[list[Crop]] = []
    for original in originals:
        rng = random.Random(f"{seed} crops {original.path.name}")
        if min(original.size) < HELD_OUT_SMALLEST:
            continue
        picture = open_picture(original.path, HELD_OUT_SIDE)
        side = min(picture.size) // rng.randint(*rows_of_squares(min(picture.size)))
        side = min(side, max(max(picture.size) // 2, HELD_OUT_SMALLEST))
        squares = [
            (left, top, left + side, top + side)
            for top in range(0, picture.height - side + 1, side)
            for left in range(0, picture.width - side + 1, side)
        ]
        boxes = [box for box in squares if is_rich(picture.crop(box), 8, 1.5)]
        rng.shuffle(boxes)
        found.append([Crop(original, box) for box in boxes[:most]])
    random.Random(f"{seed} order of crops").shuffle(found)
    return [crops[turn] for turn in range(most) for crops in found if turn < len(crops)]


def rows_of_squares(shorter: int) -> tuple[int, int]:
    """Tell how few and how many rows of squares between HELD_OUT_SMALLEST and 1,500 px fit a shorter side in px.

    >>> rows_of_squares(720), rows_of_squares(1080), rows_of_squares(3000)
    ((1, 1), (1, 1), (2, 4))
    """
    most = shorter // HELD_OUT_SMALLEST
    return min(most, math.ceil(shorter / 1500)), most

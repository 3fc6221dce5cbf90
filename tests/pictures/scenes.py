"""Pictures with structure at several scales, and pieces of them in others."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

SCENES = 8  # in the index of photographs
SIZE = 320, 260
BROKEN, PLAIN, POINT, STRIP = "90-broken.jpg", "91-plain.png", "92-point.png", "93-strip.png"


class Pasted(NamedTuple):
    """A question, with a piece of a scene at a box."""

    picture: Image.Image
    box: tuple[int, int, int, int]


def scene(seed: int, size: tuple[int, int] = SIZE) -> Image.Image:
    """A picture with soft ground, grain and shapes, no two alike."""
    rng = np.random.default_rng(seed)
    width, height = size
    ground = np.zeros((height, width, 3), np.float32)
    for cells, strength in ((4, 50), (12, 40), (40, 25)):
        noise = rng.normal(128, strength, (cells, cells, 3)).clip(0, 255).astype(np.uint8)
        ground += np.asarray(Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC), np.float32) - 128
    picture = Image.fromarray(np.clip(128 + ground, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for _ in range(25):
        x, y = rng.integers(0, width), rng.integers(0, height)
        across, down = rng.integers(5, 40, 2)
        colour = tuple(rng.integers(0, 256, 3).tolist())
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape((int(x - across), int(y - down), int(x + across), int(y + down)), fill=colour)
    return picture


def soft(seed: int, size: tuple[int, int] = (480, 400)) -> Image.Image:
    """A picture with slow changes of colour only, on which a piece stands out."""
    noise = np.random.default_rng(seed).integers(90, 170, (3, 4, 3), np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def pasted(piece: Image.Image, at: tuple[int, int] = (120, 90), ground: Image.Image | None = None) -> Pasted:
    """Lay a piece on a soft ground, or on another."""
    picture = (ground or soft(1)).copy()
    picture.paste(piece, at)
    return Pasted(picture, (*at, at[0] + piece.width, at[1] + piece.height))


def write_photographs(folder: Path) -> None:
    """Write `SCENES` scenes, a file that is broken, and pictures that are at the edge of what can be looked at."""
    for seed in range(SCENES):
        scene(seed).save(folder / f"{seed:02d}.png", compress_level=1)
    (folder / BROKEN).write_bytes(b"broken")
    Image.new("RGB", (300, 200), "red").save(folder / PLAIN)
    Image.new("RGB", (1, 1), "blue").save(folder / POINT)
    grain = np.random.default_rng(3).integers(0, 256, (20, 3000, 3), np.uint8)
    Image.fromarray(grain).save(folder / STRIP)


def overlap(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    """Area that two boxes share, over the area that either covers."""
    width = max(0, min(one[2], other[2]) - max(one[0], other[0]))
    height = max(0, min(one[3], other[3]) - max(one[1], other[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return width * height / (sum(areas) - width * height)

"""Edits of a piece: what is done to it before it is in the query.

An edit has a geometry (zoom, turn, mirror, or the whole picture) and changes of what is seen. `repaint` and `style` are
soft: they keep what the piece shows, but hardly one pixel, as a generator's repetition of a picture does.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont
from scipy.ndimage import uniform_filter

Change = Callable[[Image.Image, Image.Image, random.Random], Image.Image]  # piece, base, chance
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Edit:
    """What is done to a piece.

    Args:
        name: in tables.
        zoom: px of the query for a px of the source.
        turn: degrees; the sign is of chance.
        mirror: change left and right.
        whole: take the whole picture, shrunk.
        change: what is done to the pixels.
        quality: code the whole query as JPEG of this quality.
        soft: whether hardly a pixel stays as it is; for tables.
    """

    name: str
    zoom: float = 1.0
    turn: float = 0.0
    mirror: bool = False
    whole: bool = False
    change: Change | None = None
    quality: int | None = None
    soft: bool = False


def recolour(piece: Image.Image, base: Image.Image, rng: random.Random) -> Image.Image:
    """Turn hues by 35 or 70 degrees, and change brightness and contrast by a fifth."""
    hue, *others = piece.convert("HSV").split()
    turn = rng.choice([-25, 25, 50])  # of 256
    turned = Image.merge("HSV", (hue.point([(level + turn) % 256 for level in range(256)]), *others)).convert("RGB")
    brighter = ImageEnhance.Brightness(turned).enhance(rng.choice([0.8, 1.2]))
    return ImageEnhance.Contrast(brighter).enhance(rng.choice([0.8, 1.2]))


def overlay(piece: Image.Image, base: Image.Image, rng: random.Random) -> Image.Image:
    """Lay four lines of text and two bars over the piece; the bars cover a tenth of it."""
    piece = piece.copy()
    draw = ImageDraw.Draw(piece)
    width, height = piece.size
    font = ImageFont.load_default(max(12, height // 14))
    for _ in range(4):
        at = rng.randint(0, width // 2), rng.randint(0, round(height * 0.9))
        draw.text(at, "SAMPLE TEXT " * 3, fill=(255, 255, 255), font=font)
    for colour in ((200, 30, 30), (20, 20, 20)):
        left, top = rng.randint(0, width // 2), rng.randint(0, round(height * 0.85))
        draw.rectangle((left, top, left + width // 2, top + height // 10), fill=colour)
    return piece


def blur(piece: Image.Image, base: Image.Image, rng: random.Random) -> Image.Image:
    """Blur by a Gaussian with a standard deviation of 3 px."""
    return piece.filter(ImageFilter.GaussianBlur(3))


def repaint(piece: Image.Image, base: Image.Image, rng: random.Random) -> Image.Image:
    """Repaint by a denoiser: noise of 20 levels, then Kuwahara's filter in windows of 5 x 5, and a little noise again.

    Each pixel gets the mean of that one of the four windows at its corners which varies least. Edges stay, fine detail
    becomes flat strokes whose borders the noise has decided.
    """
    noise = np.random.default_rng(rng.getrandbits(32))
    pixels = np.asarray(piece, np.float64)
    noisy = pixels + noise.normal(0, 20, pixels.shape)
    luma = noisy.mean(2)
    window, reach = 5, 2
    means = uniform_filter(noisy, (window, window, 1))
    variance = uniform_filter(luma**2, window) - uniform_filter(luma, window) ** 2
    shifts = [(down, right) for down in (-reach, reach) for right in (-reach, reach)]
    variances = np.stack([np.roll(variance, shift, (0, 1)) for shift in shifts])
    choices = np.stack([np.roll(means, shift, (0, 1)) for shift in shifts])
    calm = variances.argmin(0)[None, ..., None]
    painted = np.take_along_axis(choices, calm, 0)[0] + noise.normal(0, 2, pixels.shape)
    return as_picture(painted)


def style(piece: Image.Image, base: Image.Image, rng: random.Random) -> Image.Image:
    """Give the piece's colours the mean and the covariance of the base's.

    Colours go through the linear map of least squared change that does so (of Monge and Kantorovich).
    """
    pixels = np.asarray(piece, np.float64).reshape(-1, 3)
    wanted = np.asarray(base, np.float64).reshape(-1, 3)
    own, other = (np.cov(colours.T) + np.eye(3) for colours in (pixels, wanted))
    root = power(own, 0.5)
    back = power(own, -0.5)
    turn = back @ power(root @ other @ root, 0.5) @ back
    styled = (pixels - pixels.mean(0)) @ turn + wanted.mean(0)
    return as_picture(styled.reshape(piece.height, piece.width, 3))


def power(matrix: Floats, exponent: float) -> Floats:
    """Raise a symmetric positive matrix to a power."""
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray((vectors * np.maximum(values, 1e-9) ** exponent) @ vectors.T, np.float64)


def as_picture(pixels: Floats) -> Image.Image:
    """Round pixels [height, width, 3] to levels of 255."""
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


def code(picture: Image.Image, kind: str, quality: int) -> bytes:
    """Code a picture as JPEG or WebP of a quality."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, quality=quality)
    return buffer.getvalue()


EDITS = (
    Edit("plain"),
    Edit("zoom 0.5", zoom=0.5),
    Edit("zoom 0.7", zoom=0.7),
    Edit("zoom 1.4", zoom=1.4),
    Edit("zoom 2", zoom=2.0),
    Edit("mirror", mirror=True),
    Edit("rotate 5", turn=5.0),
    Edit("recolour", change=recolour),
    Edit("JPEG 40", quality=40),
    Edit("text", change=overlay),
    Edit("blur", change=blur),
    Edit("mirror, zoom 0.7, recolour", zoom=0.7, mirror=True, change=recolour),
    Edit("whole", whole=True),
    Edit("repaint", change=repaint, soft=True),
    Edit("style", change=style, soft=True),
)

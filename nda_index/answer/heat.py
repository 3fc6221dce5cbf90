"""Heat maps: where a score comes from, laid over pictures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from nda_index.images import Pixels, is_latent, to_float

SIDE = 176  # pixels of a picture's shorter side in the report
MUTED = 20  # grey level of black under a heat map: half the contrast is left, so that heat is what is seen
DEVIATIONS = 2.5  # of a latent's numbers that a drawing of it shows
OPAQUE = 235  # alpha of the most heat: the picture still shows through
STOPS = (0.0, 0.35, 0.65, 0.85, 1.0)
RAMP = ((66, 10, 104), (147, 38, 103), (221, 81, 58), (252, 165, 10), (252, 255, 164))  # inferno, at STOPS


def heat_layer(heat: NDArray[np.float32], size: tuple[int, int], highest: float | None = None) -> Image.Image:
    """Draw a heat map as a transparent layer, from clear (nothing) to bright (most of it).

    Args:
        heat: float32 [H, W], 0 or more.
        size: (width, height) of the layer.
        highest: heat that is brightest, and all above it; the map's own highest by default.

    Returns:
        RGBA image.

    Example:
        >>> heat_layer(np.zeros((4, 6), np.float32), (60, 40)).size
        (60, 40)
    """
    highest = float(heat.max(initial=0.0)) if highest is None else highest
    relative = np.minimum(heat / highest, 1) if highest > 0 else np.zeros_like(heat)
    grey = Image.fromarray((relative * 255).astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
    smooth = np.asarray(grey.filter(ImageFilter.GaussianBlur(size[0] / heat.shape[1] / 3))) / 255
    layer = [np.interp(smooth, STOPS, colours) for colours in zip(*RAMP, strict=True)]
    return Image.fromarray(np.stack([*layer, OPAQUE * np.sqrt(smooth)], axis=2).astype(np.uint8), "RGBA")


def draw_latent(latent: Pixels) -> NDArray[np.uint8]:
    """Draw the first three channels of a latent [H, W, C] as red, green and blue, the first one in grey where it has
    fewer: 2.5 standard deviations about 0 are all of black to white.

    Example:
        >>> draw_latent(np.zeros((8, 8, 4), np.float16)).shape
        (8, 8, 3)
    """
    chosen = to_float(latent[..., :3] if latent.shape[2] >= 3 else latent[..., :1])
    relative = chosen / max(DEVIATIONS * float(chosen.std()), 1e-6)
    return np.repeat(((relative + 1) * 127.5).clip(0, 255).astype(np.uint8), 3 // chosen.shape[2], axis=2)


def enlarge(image: Pixels | Image.Image, side: int = SIDE) -> Image.Image:
    """Enlarge an image uint8 [H, W, C], a latent float16 [H, W, C] or a picture: RGB, resized so that its shorter side
    has `side` pixels.
    """
    if isinstance(image, Image.Image):
        picture = image.convert("RGB")
    else:
        pixels = draw_latent(image) if is_latent(image) else image
        picture = Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0]).convert("RGB")
    factor = side / min(picture.size)
    return picture.resize((round(picture.width * factor), round(picture.height * factor)), Image.Resampling.BICUBIC)


def lay_heat(image: Pixels | Image.Image, heat: NDArray[np.float32], highest: float | None = None) -> Image.Image:
    """Draw an image in muted grey under its heat map."""
    picture = enlarge(image)
    muted = picture.convert("L").point([value // 2 + MUTED for value in range(256)]).convert("RGBA")
    return Image.alpha_composite(muted, heat_layer(heat, picture.size, highest)).convert("RGB")

"""The noise that a diffusion model adds to an image, as DDPM defines it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from nda_index.errors import ConfigError

TIMESTEPS = 1000  # these three are DDPM's (Ho et al. 2020, section 4)
BETA_FIRST, BETA_LAST = 1e-4, 0.02

NoiseSetting = Literal["draw", "average", "none"]


@dataclass(frozen=True)
class NoiseLevel:
    """How much of an image is left at a timestep: `x_t = signal * x_0 + sigma * noise`."""

    signal: float
    sigma: float


@dataclass(frozen=True)
class NoisyImage:
    """An image as the posterior sees it: pixels float [C, H, W], and the `signal` and `sigma` that go with them."""

    pixels: NDArray[np.floating]
    signal: float
    sigma: float


def noise_level(timestep: int) -> NoiseLevel:
    """Return signal and noise of DDPM's linear schedule (Ho et al. 2020, section 4) at a timestep.

    Args:
        timestep: 0 (nearly clean) to 999 (nearly pure noise).

    Returns:
        `signal = sqrt(alpha_bar)` and `sigma = sqrt(1 - alpha_bar)`.

    Raises:
        ConfigError: the timestep is not an integer from 0 to 999.

    Example:
        >>> level = noise_level(100)
        >>> round(level.signal, 4), round(level.sigma, 4)
        (0.9461, 0.3238)
    """
    if isinstance(timestep, bool) or not isinstance(timestep, int | np.integer) or not 0 <= timestep < TIMESTEPS:
        raise ConfigError(f"timestep is {timestep!r}; it must be an integer from 0 to {TIMESTEPS - 1}")
    alpha_bar = _make_alpha_bars()[timestep]
    return NoiseLevel(signal=float(np.sqrt(alpha_bar)), sigma=float(np.sqrt(1.0 - alpha_bar)))


def draw_noise(shape: tuple[int, int, int], timestep: int, seed: int = 0) -> NDArray[np.float32]:
    """Draw standard normal noise, the same for the same timestep and seed on every machine (torch's CPU generator).

    The published code draws it this way, so its scores can be reproduced.

    Args:
        shape: (C, H, W).
        timestep: 0 to 999.
        seed: number of the draw, 0 or more.

    Returns:
        float32 [C, H, W].

    Example:
        >>> draw_noise((1, 2, 2), timestep=100).shape
        (1, 2, 2)
    """
    generator = torch.Generator(device="cpu").manual_seed(seed * TIMESTEPS + timestep)
    noise: NDArray[np.float32] = torch.randn(1, *shape, generator=generator)[0].numpy()
    return noise


def noisy_images(
    image: NDArray[np.float32],
    timestep: int,
    noise: NoiseSetting = "draw",
    *,
    seed: int = 0,
    draws: int = 8,
    temper: float = 1.0,
) -> list[NoisyImage]:
    """Return the noisy versions of an image whose posteriors are averaged into its scores.

    Args:
        image: float32 [C, H, W] in [-1, 1].
        timestep: 0 to 999.
        noise: "draw" is one noise draw, as published; "average" is `draws` of them; "none" leaves the image clean.
        seed: the first draw's seed; "average" takes seed, seed + 1, ...
        draws: number of draws of "average". More give a steadier ranking; time grows with them.
        temper: divides the logits: above 1 the posterior is broader. It is folded into `sigma`.

    Returns:
        One `NoisyImage` for each draw.

    Raises:
        ConfigError: an unknown noise setting, draws below 1, or a temper that is not above 0.

    Example:
        >>> clean = noisy_images(np.zeros((3, 4, 4), np.float32), timestep=100, noise="none")
        >>> len(clean), float(clean[0].pixels.max())
        (1, 0.0)
    """
    if noise not in get_args(NoiseSetting):
        raise ConfigError(f"noise is {noise!r}; it must be one of {', '.join(map(repr, get_args(NoiseSetting)))}")
    if draws < 1:
        raise ConfigError(f"draws is {draws}; it must be 1 or more")
    if seed < 0:
        raise ConfigError(f"seed is {seed}; it must be 0 or more")
    if not 0.0 < temper < np.inf:
        raise ConfigError(f"temper is {temper}; it must be a number above 0")
    level = noise_level(timestep)
    sigma = level.sigma * float(np.sqrt(temper))
    scaled = np.float32(level.signal) * np.asarray(image, np.float32)
    if noise == "none":
        return [NoisyImage(scaled, level.signal, sigma)]
    channels, height, width = scaled.shape
    return [
        NoisyImage(
            scaled + np.float32(level.sigma) * draw_noise((channels, height, width), timestep, seed + draw),
            level.signal,
            sigma,
        )
        for draw in range(draws if noise == "average" else 1)
    ]


@lru_cache(maxsize=1)
def _make_alpha_bars() -> NDArray[np.float64]:
    # float32, as diffusion models are trained: the float64 product differs by 1e-6, which moves scores by up to 2e-3.
    betas = torch.linspace(BETA_FIRST, BETA_LAST, TIMESTEPS, dtype=torch.float32)
    alpha_bars: NDArray[np.float64] = torch.cumprod(1.0 - betas, dim=0).double().numpy()
    return alpha_bars

"""The exact posterior: how much of a noisy query the optimal denoiser would take from each training image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nda_index.diffusion import NoisyImage
from nda_index.errors import ConfigError
from nda_index.exact.posterior import PosteriorSettings, masses, scores_of_blocks
from nda_index.scales import Scale

BLOCK = 1024  # images whose masses are computed at a time

__all__ = ["image_scores"]


def image_scores(
    noisy: Any,
    train: Any,
    scale: Scale,
    *,
    signal: float,
    sigma: float,
    mask_value: float = 10.0,
    per_image_topk: int | None = None,
    mirror: bool = False,
    backend: str = "auto",
) -> NDArray[np.float64]:
    """Scores of training images for one noisy query (arXiv 2510.14269, section 3).

    Args:
        noisy: floats [C, H, W], the query `signal * x_0 + sigma * noise`. Arrays or tensors.
        train: floats [N, C, H, W], the clean training images, with values as x_0's.
        scale: patch, downscale, weight and strides.
        signal: factor of the clean image in the noisy one, above 0.
        sigma: standard deviation of the noise, above 0.
        mask_value: what stands outside the images, in both. `inf`: windows that stick out of the image match only those
            that stick out by the same amount; a finite value of 10 or more is the same in effect.
        per_image_topk: for each query position only an image's K largest weights count, after the softmax over all.
        mirror: the mirror images of the training images belong to the training set too, with one score an image.
        backend: "reference" (float64 torch, slow), "cpu", or "auto".

    Returns:
        float64 [N]; without `per_image_topk` they sum to the scale's weight times its number of query positions.

    Raises:
        ConfigError: an argument breaks a rule above.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> train = rng.uniform(-1, 1, (5, 3, 8, 8))
        >>> scores = image_scores(train[2], train, Scale(3), signal=1.0, sigma=0.1)
        >>> int(scores.argmax()), round(float(scores.sum()), 3)
        (2, 64.0)
    """
    noisy, train = _checked(noisy, train, scale)
    for name, value in (("signal", signal), ("sigma", sigma)):
        if not 0.0 < value < np.inf:
            raise ConfigError(f"{name} is {value}; it must be a number above 0")
    query = NoisyImage(noisy, signal, sigma)
    settings = PosteriorSettings(mask_value, per_image_topk, mirror, backend)
    result = scores_of_blocks(
        lambda: (masses(query, train[i : i + BLOCK], scale, settings) for i in range(0, len(train), BLOCK)),
        len(train),
        scale.query_positions(*noisy.shape[1:]),
    )
    return scale.weight * result.scores


def _checked(noisy: Any, train: Any, scale: Scale) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    noisy, train = np.asarray(noisy), np.asarray(train)
    for name, array, axes in (("noisy", noisy, "[C, H, W]"), ("train", train, "[N, C, H, W]")):
        if array.dtype.kind != "f":
            raise ConfigError(f"{name} has type {array.dtype}; it must be floats, bytes as value / 127.5 - 1")
        if array.ndim != axes.count(",") + 1:
            raise ConfigError(f"{name} has shape {array.shape}; it must be {axes}")
        if not np.isfinite(array).all():
            raise ConfigError(f"{name} holds NaN or infinity; remove these values first")
    if len(train) == 0:
        raise ConfigError("train holds 0 images; there must be 1 or more")
    if noisy.shape != train.shape[1:]:
        raise ConfigError(f"noisy has shape {noisy.shape} and train's images {train.shape[1:]}; they must be the same")
    scale.check_fits(noisy.shape[1], noisy.shape[2])
    return noisy, train

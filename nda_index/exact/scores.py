"""Scores and masses of training images for one noisy query, from arrays: the exact stage without an index."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nda_index.diffusion import NoisyImage
from nda_index.errors import ConfigError
from nda_index.exact.masses import Masses
from nda_index.exact.posterior import PosteriorSettings, block_masses, score_views
from nda_index.exact.views import View
from nda_index.scales import Scale

BLOCK = 1024  # images whose masses are computed at a time: 4 MiB at 1,024 query positions


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
    """Return the scores of training images for one noisy query (arXiv 2510.14269, section 3).

    Args:
        noisy: floats [C, H, W], the query `signal * x_0 + sigma * noise`. Arrays or tensors.
        train: floats [N, C, H, W], the clean training images, with values as x_0's.
        scale: patch, downscale, weight and strides.
        signal: factor of the clean image in the noisy one, above 0.
        sigma: standard deviation of the noise, above 0.
        mask_value: value of the pixels outside the images, in both. `inf`: windows that stick out of the
            image match only those that stick out by the same amount; a finite value of 10 or more is the same in
            effect.
        per_image_topk: for each query position only an image's K largest weights count, after the softmax over all. It
            takes memory for positions x K, and time that grows with K.
        mirror: the mirror images of the training images belong to the training set too, with one score an image. It
            doubles the time.
        backend: "reference" (float64 torch, slow), "cpu", "gpu" (tensor cores by Triton; float64 for `per_image_topk`,
            little noise and pixels that are not bytes, sixty times slower), or "auto": the GPU where there is one,
            else the CPU.

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
    settings = PosteriorSettings(mask_value, per_image_topk, mirror, backend)
    view, train = _check_input(noisy, train, scale, signal, sigma)
    blocks = [train[i : i + BLOCK] for i in range(0, len(train), BLOCK)]
    return score_views([view], lambda: blocks, len(train), settings, lambda done, total: None).scores


def image_masses(
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
    floor: NDArray[np.float64] | None = None,
) -> Masses:
    """Return what a block of training images adds to the posterior, for collections in parts or on many machines.

    Parts merge exactly: the normaliser of the whole is `merge_log_totals` of the parts' `log_total`, and
    `Masses.scores(normaliser)` are the scores of a part's images in the whole (`scale.weight` is not applied).

    Args:
        noisy, train, scale, signal, sigma, mask_value, per_image_topk, mirror: as for `image_scores`.
        backend: "reference", "cpu" or "auto". (The GPU keeps no masses of single positions.)
        floor: the merged `log_total` of other parts, float64 [P], where it is known: what is too small to matter
            next to it is not computed, which saves time.

    Returns:
        The masses of the N images at the P query positions.

    Raises:
        ConfigError: an argument breaks a rule.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> train = rng.uniform(-1, 1, (5, 3, 8, 8))
        >>> from nda_index.exact import merge_log_totals
        >>> options = {"signal": 1.0, "sigma": 0.1}
        >>> parts = [image_masses(train[2], part, Scale(3), **options) for part in (train[:3], train[3:])]
        >>> normaliser = merge_log_totals([part.log_total for part in parts])
        >>> merged = np.concatenate([part.scores(normaliser) for part in parts])
        >>> bool(np.allclose(merged, image_scores(train[2], train, Scale(3), **options), rtol=1e-5))
        True
    """
    settings = PosteriorSettings(mask_value, per_image_topk, mirror, backend)
    if backend == "gpu":
        raise ConfigError("backend is 'gpu', which keeps no masses of single positions; take 'cpu' or 'auto'")
    view, train = _check_input(noisy, train, scale, signal, sigma)
    if floor is not None and (np.shape(floor) != (view.positions,) or np.isnan(floor).any()):
        raise ConfigError(f"floor has shape {np.shape(floor)} or holds NaN; it must be {view.positions} numbers")
    return block_masses([view], train, settings, [floor])[0]


def _check_input(
    noisy: Any, train: Any, scale: Scale, signal: float, sigma: float
) -> tuple[View, NDArray[np.floating]]:
    for name, value in (("signal", signal), ("sigma", sigma)):
        if not 0.0 < value < np.inf:
            raise ConfigError(f"{name} is {value}; it must be a number above 0")
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
    return View(NoisyImage(noisy, signal, sigma), scale, scale.weight), train

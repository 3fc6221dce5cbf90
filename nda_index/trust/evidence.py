"""Evidence: how much of a query one image explains by its own fit, whatever the other images do.

`measure_evidence` says how well an image's windows explain those of the query *at one common displacement*. Unrelated
pictures have good partners for single windows (sky, edges), but not for many that keep their layout.

It depends on the query, the image and the scales, on nothing else: one null serves every question.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from nda_index.coarse.assignment import full_precision
from nda_index.errors import ConfigError
from nda_index.exact import gpu
from nda_index.images import Pixels, to_float
from nda_index.scales import Scale
from nda_index.threads import one_torch_thread

# Chosen on the first CIFAR-10 images; benchmarks/results/verdict.md measures them on others (docs/studies/verdict.md).
_POSITIONS = 32  # training windows along an axis: larger images are compared on a coarser grid
_QUERY_STEP = 2  # query windows stand on every second position of that grid: a quarter of the work
_MOST_SHIFT = 8  # positions by which a match may be displaced as a whole
_FLOOR = 0.02  # unexplained variance that coding noise leaves, relative
_CONTRAST_VARIANCE = 0.02  # of a pixel in [-1, 1]: windows with more structure count nearly alike
_QUIET_VARIANCE = 1e-3  # of a pixel in [-1, 1]: fainter structure counts as noise


@one_torch_thread()
def measure_evidence(
    query: Pixels, images: Pixels, scales: Sequence[Scale], *, mirror: bool = True, backend: str = "cpu"
) -> NDArray[np.float64]:
    """Measure how much of a query's structure each image explains at one common displacement.

    Windows are compared by their correlation r, each channel's mean removed, so that brightness and contrast do not
    matter. A window explains log((1 + c) / (1 - r^2 + c)) of itself, the Gaussian log likelihood ratio with a floor c
    for coding noise, as a fraction of the most it can. A displacement explains the root mean square over the query's
    windows, flat ones (which match anything) weighted down; the best displacement counts.

    Args:
        query: uint8 [C, H, W].
        images: uint8 [n, C, H, W].
        scales: the patch and downscale of each are used; the mean over scales is weighted by their `weight`. Time
            grows with their number.
        mirror: an image may match as its mirror image too; takes twice the time.
        backend: "cpu"; "gpu"; or "auto", a GPU where there is one.

    Returns:
        float64 [n], from 0 (nothing) to 1 (a copy with clear structure everywhere).

    Raises:
        ConfigError: shapes or types disagree, or there is no scale.

    Example:
        >>> images = np.random.default_rng(0).integers(0, 256, (3, 3, 32, 32), np.uint8)
        >>> explained = measure_evidence(images[1], images, [Scale(7)])
        >>> int(explained.argmax()), bool(explained[1] > 0.9), bool(explained[0] < 0.1)
        (1, True, True)
    """
    check_pictures(query[None], "query")
    check_pictures(images, "images")
    if query.shape != images.shape[1:]:
        raise ConfigError(f"query has shape {query.shape} and the images {images.shape[1:]}; they must be the same")
    if not scales:
        raise ConfigError("scales is empty; give the scales of the index")
    for scale in scales:
        scale.check_fits(*query.shape[1:])
    if len(images) == 0:
        return np.zeros(0)
    train = torch.from_numpy(to_float(images))  # [n, C, H, W]
    if mirror:
        train = torch.cat([train, train.flip(-1)])  # [2n, C, H, W]
    clean = torch.from_numpy(to_float(query))  # [C, H, W]

    def explain(device: str) -> NDArray[np.float64]:
        here, there = clean.to(device), train.to(device)
        with full_precision():
            parts = [scale.weight * _explain(here, there, scale) for scale in scales]
        explained = torch.stack(parts).sum(0) / sum(scale.weight for scale in scales)  # [n or 2n]
        return np.asarray(explained.reshape(-1, len(images)).amax(0).double().cpu().numpy(), np.float64)

    found = gpu.attempt(backend, lambda: explain(gpu.DEVICE))
    return explain("cpu") if found is None else found


def check_pictures(pictures: Pixels, name: str) -> None:
    """Raise `ConfigError` where pictures are not uint8 [n, C, H, W]; `name` says which in the message."""
    if pictures.ndim != 4 or pictures.dtype != np.uint8:
        axes = "[C, H, W]" if name == "query" else "[n, C, H, W]"
        shape = pictures.shape[1:] if name == "query" else pictures.shape
        raise ConfigError(f"{name} has shape {shape} and type {pictures.dtype}; it must be uint8 {axes}")


def _explain(query: torch.Tensor, train: torch.Tensor, scale: Scale) -> torch.Tensor:
    """Return how much of the query [C, H, W] each image [n, C, H, W] explains at its best displacement: [n]."""
    step = -(-max(query.shape[1:]) // _POSITIONS)
    windows, variance = _cut_windows(query[None], scale, _QUERY_STEP * step)  # [1, D, a, b], [1, a, b]
    others, _ = _cut_windows(train, scale, step)  # [n, D, rows, columns]
    flat = torch.einsum("dp,ndq->npq", windows[0].flatten(1), others.flatten(2))  # [n, a * b, rows * columns]
    correlations = flat.reshape(len(train), *windows.shape[2:], *others.shape[2:])  # [n, a, b, rows, columns]
    gain = -torch.log1p(correlations.clamp(0, 1).square() / -(1 + _FLOOR)) / np.log(
        1 + 1 / _FLOOR
    )  # [n, a, b, rows, columns]
    weights = variance[0] / (variance[0] + _CONTRAST_VARIANCE)  # [a, b]
    # The root mean square lets a half that is copied well count more than a whole that is vaguely alike.
    return _find_displacement(gain.square_(), weights / weights.sum().clamp(min=1e-12)).sqrt()


def _cut_windows(images: torch.Tensor, scale: Scale, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Cut windows inside images [n, C, H, W], every `step` pixels, without each channel's mean; and their variances.

    A window's length is 1, or less where it holds little more than noise: [n, D, rows, columns], [n, rows, columns].
    """
    r, taps = scale.downscale, scale.taps
    means = functional.avg_pool2d(images, r, 1) if r > 1 else images  # [n, C, H - r + 1, W - r + 1]
    rows, columns = ((size - r * (taps - 1) - 1) // step + 1 for size in means.shape[2:])
    windows = functional.unfold(means, taps, dilation=r, stride=step)  # [n, C * taps ** 2, rows * columns]
    windows = windows.reshape(*images.shape[:2], taps**2, rows, columns)  # [n, C, taps ** 2, rows, columns]
    windows = (windows - windows.mean(2, keepdim=True)).flatten(1, 2)  # [n, D, rows, columns]
    variance = windows.square().mean(1)  # [n, rows, columns]
    length = ((variance + _QUIET_VARIANCE) * windows.shape[1]).sqrt()  # [n, rows, columns]
    return windows / length[:, None], variance


def _find_displacement(gain: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the largest weighted sum over query windows at one displacement, [n].

    gain [n, a, b, rows, columns] is of each query window with each training window; weights [a, b].
    """
    reach = 2 * _MOST_SHIFT + 1
    padded = functional.pad(gain, (_MOST_SHIFT,) * 4)  # [n, a, b, rows + 16, columns + 16]
    n, a, b, rows, columns = padded.stride()
    # Query window (i, j) lies where the training window (2 i, 2 j) does: the view begins there for each of them.
    at_displacement = padded.as_strided(
        (*gain.shape[:3], reach, reach), (n, a + _QUERY_STEP * rows, b + _QUERY_STEP * columns, rows, columns)
    )  # [n, a, b, 17, 17]
    return torch.einsum("nabyx,ab->nyx", at_displacement, weights).flatten(1).amax(1)

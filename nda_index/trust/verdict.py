"""Whether an image of an answer is evidence: how much of the query it explains, against what unrelated pictures get.

A share says how the posterior divides, not how well anything fits. `evidence` measures the fit of one image alone: how
well its windows explain those of the query *at one common displacement*. Unrelated pictures find good partners for
single windows (sky, edges), but not for many that keep their layout. The best evidence of many unrelated pictures is
the null; `percentile` places an image in it.

The evidence depends on the query, the image and the scales, on nothing else: one null serves every question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from nda_index.errors import ConfigError
from nda_index.scales import Scale
from nda_index.threads import one_torch_thread

STRONG = 0.99  # an image at or above this percentile of the null is called a strong match

_POSITIONS = 32  # training windows along an axis: larger images are compared on a coarser grid
_QUERY_STEP = 2  # query windows stand on every second position of that grid: a quarter of the work
_MOST_SHIFT = 8  # positions by which a match may be displaced as a whole
_FLOOR = 0.02  # unexplained variance that coding noise leaves, relative
_CONTRAST_VARIANCE = 0.02  # of a pixel in [-1, 1]: windows with more structure count nearly alike
_QUIET_VARIANCE = 1e-3  # of a pixel in [-1, 1]: fainter structure counts as noise
_THUMBNAIL = 20  # side of the thumbnails that tell near-duplicates
_THUMBNAIL_SHIFT = 2  # thumbnail pixels by which a near-duplicate may be shifted
_ZOOM = 0.9  # the crop that is tried as well
_ALIKE = 0.85  # correlation of thumbnails from which images may be near-duplicates
_SAME = 0.97  # and from which they are
_SAME_EVIDENCE = 0.29  # at patch 7, from which those between are (a horizon alone makes thumbnails correlate by 0.9)


@dataclass(frozen=True)
class Verdict:
    """What is said of one image.

    Attributes:
        evidence: how much of the query the image explains.
        percentile: fraction of unrelated pictures whose best match has less evidence, from `percentile`.
        strong: whether that is at or above `STRONG`.
        pictures: number of unrelated pictures it was compared with.
    """

    evidence: float
    percentile: float
    strong: bool
    pictures: int

    def __str__(self) -> str:
        if not self.strong:
            return "no strong match"
        return f"strong match: stronger than {_rounded_down(self.percentile)} of unrelated pictures"


@one_torch_thread()
def evidence(
    query: NDArray[np.uint8], images: NDArray[np.uint8], scales: Sequence[Scale], *, mirror: bool = True
) -> NDArray[np.float64]:
    """How much of a query's structure each image explains at one common displacement.

    Windows are compared by their correlation r, each channel's mean removed, so that brightness and contrast do not
    matter. A window explains log((1 + c) / (1 - r^2 + c)) of itself, the Gaussian log likelihood ratio with a floor c
    for coding noise, as a fraction of the most it can. A displacement explains the root mean square over the query's
    windows, flat ones (which match anything) weighted down; the best displacement counts.

    Args:
        query: uint8 [C, H, W].
        images: uint8 [n, C, H, W].
        scales: patch and downscale of each are used; the means over scales are weighted by their `weight`.
        mirror: an image may match as its mirror image too.

    Returns:
        float64 [n], from 0 (nothing) to 1 (a copy with clear structure everywhere).

    Raises:
        ConfigError: shapes or types disagree, or there is no scale.

    Example:
        >>> images = np.random.default_rng(0).integers(0, 256, (3, 3, 32, 32), np.uint8)
        >>> found = evidence(images[1], images, [Scale(7)])
        >>> int(found.argmax()), bool(found[1] > 0.9), bool(found[0] < 0.1)
        (1, True, True)
    """
    _check_pictures(query[None], "query")
    _check_pictures(images, "images")
    if query.shape != images.shape[1:]:
        raise ConfigError(f"query has shape {query.shape} and the images {images.shape[1:]}; they must be the same")
    if not scales:
        raise ConfigError("scales is empty; give the scales of the index")
    for scale in scales:
        scale.check_fits(*query.shape[1:])
    if len(images) == 0:
        return np.zeros(0)
    train = torch.tensor(images).float() / 127.5 - 1  # [n, C, H, W]
    if mirror:
        train = torch.cat([train, train.flip(-1)])  # [2n, C, H, W]
    clean = torch.tensor(query).float() / 127.5 - 1  # [C, H, W]
    parts = [scale.weight * _explained(clean, train, scale) for scale in scales]
    explained = torch.stack(parts).sum(0) / sum(scale.weight for scale in scales)  # [n or 2n]
    return np.asarray(explained.reshape(-1, len(images)).amax(0).double().numpy(), np.float64)


def near_duplicates(images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Groups of images that are copies of one another: coded again, mirrored, recoloured, cropped by 10% or shifted.

    Thumbnails of the luminance, without their coarse shading, are compared at small shifts, mirrored, and enlarged by a
    tenth. An image joins the group of the earlier image that it correlates with most, where that is nearly 1, or high
    and confirmed by the `evidence` of one for the other. Pictures without any structure are alike.

    Args:
        images: uint8 [n, C, H, W].

    Returns:
        int64 [n], the position of the first image of each image's group.

    Raises:
        ConfigError: the images have another shape or type.

    Example:
        >>> images = np.random.default_rng(0).integers(0, 256, (4, 3, 32, 32), np.uint8)
        >>> images[2] = images[0][..., ::-1]
        >>> near_duplicates(images).tolist()
        [0, 1, 0, 3]
    """
    _check_pictures(images, "images")
    if len(images) < 2:
        return np.arange(len(images))
    correlations = _thumbnail_correlations(images)  # [n, n]
    correlations = torch.maximum(correlations, correlations.T).triu(1)  # [n, n], of column with the earlier row
    closest, partner = (part.numpy() for part in correlations.max(0))  # [n], [n]
    groups = np.arange(len(images))
    for i in np.flatnonzero(closest >= _ALIKE):  # ascending: the partner's own group is known
        if closest[i] >= _SAME or _confirmed(images[i], images[partner[i]]):
            groups[i] = groups[partner[i]]
    return groups


def percentile(evidence: float, null: NDArray[np.float64]) -> float:
    """The fraction of unrelated pictures whose best match has less evidence.

    The picture itself counts as one more that is not weaker: m pictures support no claim above m / (m + 1).

    Args:
        evidence: of one image.
        null: float64 [m], the best evidence of m unrelated pictures.

    Returns:
        0 to m / (m + 1).

    Raises:
        ConfigError: the null is empty or holds NaN.

    Example:
        >>> percentile(0.5, np.array([0.1, 0.2, 0.6]))
        0.5
    """
    if null.ndim != 1 or len(null) == 0 or np.isnan(null).any():
        raise ConfigError(f"the null has shape {null.shape} or holds NaN; it must be one or more numbers")
    return float((null < evidence).sum() / (len(null) + 1))


def judge(evidence: float, null: NDArray[np.float64]) -> Verdict:
    """The verdict on one image.

    Args:
        evidence: of the image.
        null: float64 [m], the best evidence of unrelated pictures. Fewer than 99 cannot support a strong match.

    Returns:
        The verdict; its `str` is a sentence for a reader.

    Raises:
        ConfigError: the null is empty or holds NaN.

    Example:
        >>> print(judge(0.8, np.linspace(0, 0.5, 499)))
        strong match: stronger than 99.8% of unrelated pictures
        >>> print(judge(0.3, np.linspace(0, 0.5, 499)))
        no strong match
    """
    place = percentile(evidence, null)
    return Verdict(float(evidence), place, place >= STRONG, len(null))


@one_torch_thread()
def best_unrelated(
    picture: NDArray[np.uint8], images: NDArray[np.uint8], scales: Sequence[Scale], *, mirror: bool = True
) -> float:
    """The best evidence among images that are not the picture itself or its near-duplicates: an entry of a null.

    Near-duplicates do not count for pictures from outside the collection either: half of the ten strongest matches of
    CIFAR-10's test set were copies of test images in the training set.

    Args:
        picture: uint8 [C, H, W].
        images: uint8 [n, C, H, W], its best matches in the collection; the picture may be one of them.
        scales, mirror: as for `evidence`.

    Returns:
        The evidence; 0 where no image is left.

    Raises:
        ConfigError: as `evidence`.

    Example:
        >>> images = np.random.default_rng(0).integers(0, 256, (5, 3, 16, 16), np.uint8)
        >>> best_unrelated(images[2], images, [Scale(5)]) < 0.2
        True
    """
    unrelated = near_duplicates(np.concatenate([picture[None], images]))[1:] != 0
    return float(evidence(picture, images[unrelated], scales, mirror=mirror).max(initial=0.0))


def _confirmed(image: NDArray[np.uint8], other: NDArray[np.uint8]) -> bool:
    scales = [Scale(min(7, *image.shape[1:]))]
    return any(evidence(a, b[None], scales)[0] >= _SAME_EVIDENCE for a, b in ((image, other), (other, image)))


def _rounded_down(fraction: float) -> str:
    """A percentage that claims no more than the fraction."""
    return f"{np.floor(fraction * 1000 + 1e-9) / 10:.1f}%"


def _check_pictures(pictures: NDArray[np.uint8], name: str) -> None:
    if pictures.ndim != 4 or pictures.dtype != np.uint8:
        axes = "[C, H, W]" if name == "query" else "[n, C, H, W]"
        shape = pictures.shape[1:] if name == "query" else pictures.shape
        raise ConfigError(f"{name} has shape {shape} and type {pictures.dtype}; it must be uint8 {axes}")


def _explained(query: torch.Tensor, train: torch.Tensor, scale: Scale) -> torch.Tensor:
    """Of each image [n, C, H, W] the explained fraction of the query [C, H, W] at its best displacement: [n]."""
    step = -(-max(query.shape[1:]) // _POSITIONS)
    windows, variance = _unit_windows(query[None], scale, _QUERY_STEP * step)  # [1, D, a, b], [1, a, b]
    others, _ = _unit_windows(train, scale, step)  # [n, D, rows, columns]
    flat = torch.einsum("dp,ndq->npq", windows[0].flatten(1), others.flatten(2))  # [n, a * b, rows * columns]
    correlations = flat.reshape(len(train), *windows.shape[2:], *others.shape[2:])  # [n, a, b, rows, columns]
    gain = -torch.log1p(correlations.clamp(0, 1).square() / -(1 + _FLOOR)) / np.log(
        1 + 1 / _FLOOR
    )  # [n, a, b, rows, columns]
    weights = variance[0] / (variance[0] + _CONTRAST_VARIANCE)  # [a, b]
    # The root mean square lets a half that is copied well count more than a whole that is vaguely alike.
    return _best_displacement(gain.square_(), weights / weights.sum().clamp(min=1e-12)).sqrt()


def _unit_windows(images: torch.Tensor, scale: Scale, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Windows inside the images [n, C, H, W], every `step` pixels, without each channel's mean, and their variances.

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


def _best_displacement(gain: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The largest weighted sum over query windows at one displacement: [n, a, b, rows, columns], [a, b] -> [n]."""
    reach = 2 * _MOST_SHIFT + 1
    padded = functional.pad(gain, (_MOST_SHIFT,) * 4)  # [n, a, b, rows + 16, columns + 16]
    n, a, b, rows, columns = padded.stride()
    # Query window (i, j) stands where the training window (2 i, 2 j) does: the view begins there for each of them.
    at_displacement = padded.as_strided(
        (*gain.shape[:3], reach, reach), (n, a + _QUERY_STEP * rows, b + _QUERY_STEP * columns, rows, columns)
    )  # [n, a, b, 17, 17]
    return torch.einsum("nabyx,ab->nyx", at_displacement, weights).flatten(1).amax(1)


def _thumbnail_correlations(images: NDArray[np.uint8]) -> torch.Tensor:
    """The correlation of thumbnails of each pair at its best shift, mirrored or not, as it is or zoomed: [n, n]."""
    plain = _thumbnails(images, zoom=1.0)  # [n, side, side]
    side = _THUMBNAIL - 1
    inner = side - 2 * _THUMBNAIL_SHIFT
    first = _unit_vectors(plain, _THUMBNAIL_SHIFT, _THUMBNAIL_SHIFT, inner)  # [n, d]
    best = torch.full((len(images), len(images)), -1.0)
    for second in (plain, _thumbnails(images, zoom=_ZOOM)):
        for turned in (second, second.flip(-1)):
            for dy in range(2 * _THUMBNAIL_SHIFT + 1):
                for dx in range(2 * _THUMBNAIL_SHIFT + 1):
                    torch.maximum(best, first @ _unit_vectors(turned, dy, dx, inner).T, out=best)
    return best


def _thumbnails(images: NDArray[np.uint8], zoom: float) -> torch.Tensor:
    """Luminance at thumbnail size without coarse shading, of the central `zoom` of each image: [n, side, side]."""
    grey = torch.from_numpy(images.mean(1, dtype=np.float32))[:, None]  # [n, 1, H, W]
    top, left = (round(size * (1 - zoom) / 2) for size in grey.shape[2:])
    centre = grey[:, :, top : grey.shape[2] - top, left : grey.shape[3] - left]  # [n, 1, H', W']
    small = functional.interpolate(
        centre, (_THUMBNAIL, _THUMBNAIL), mode="bilinear", antialias=True, align_corners=False
    )  # [n, 1, 20, 20]
    small = functional.avg_pool2d(small, 2, 1)  # [n, 1, side, side]
    shading = functional.avg_pool2d(functional.pad(small, (3, 3, 3, 3), mode="replicate"), 7, 1)  # [n, 1, side, side]
    return (small - shading)[:, 0]


def _unit_vectors(thumbnails: torch.Tensor, top: int, left: int, size: int) -> torch.Tensor:
    """Every second pixel of a square of the thumbnails, without their mean; a last number stands for faint noise."""
    part = thumbnails[:, top : top + size : 2, left : left + size : 2].flatten(1)  # [n, d]
    part = part - part.mean(1, keepdim=True)  # [n, d]
    part = functional.pad(part, (0, 1), value=part.shape[1] ** 0.5)  # [n, d + 1]; contrast of one grey level
    return functional.normalize(part)

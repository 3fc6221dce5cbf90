"""Near-duplicates: images that are copies of one another, and the best evidence that is left without them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from nda_index.images import Pixels, is_latent
from nda_index.scales import Scale
from nda_index.threads import one_torch_thread
from nda_index.trust.evidence import check_pictures, measure_evidence

# Chosen on the first CIFAR-10 images; benchmarks/results/verdict.md measures them on others.
_THUMBNAIL = 20  # side of the thumbnails that tell near-duplicates
_THUMBNAIL_SHIFT = 2  # thumbnail pixels by which a near-duplicate may be shifted
_ZOOM = 0.9  # the crop that is tried as well
_ALIKE = 0.85  # correlation of thumbnails from which images may be near-duplicates
_SAME = 0.97  # and from which they are
_GREY = 16.0  # levels of colour up to which a picture without structure counts as grey rather
_SAME_EVIDENCE = 0.29  # at patch 7, from which those between are (a horizon alone makes thumbnails correlate by 0.9)


def group_duplicates(images: Pixels) -> NDArray[np.int64]:
    """Group images that are copies of one another: coded again, mirrored, recoloured, cropped by 10% or shifted.

    Thumbnails in colour, without their coarse shading, are compared at small shifts, mirrored, and enlarged by a tenth.
    An image joins the group of the earlier image that it correlates with most, where that is nearly 1, or high and
    confirmed by the evidence of one for the other. Pictures without any structure are alike if their hues are.
    Latents are copies where they are equal: what else makes latents of the same picture is not known.

    Args:
        images: uint8 [n, C, H, W], or float16. Memory and time grow with n squared; of latents, with n.

    Returns:
        int64 [n], the position of the first image of each image's group.

    Raises:
        ConfigError: the images have another shape or type.

    Example:
        >>> images = np.random.default_rng(0).integers(0, 256, (4, 3, 32, 32), np.uint8)
        >>> images[2] = images[0][..., ::-1]
        >>> group_duplicates(images).tolist()
        [0, 1, 0, 3]
    """
    if is_latent(images):
        first: dict[bytes, int] = {}
        return np.array([first.setdefault(latent.tobytes(), place) for place, latent in enumerate(images)], np.int64)
    check_pictures(images, "images")
    if len(images) < 2:
        return np.arange(len(images))
    correlations = _correlate_thumbnails(images)  # [n, n]
    correlations = torch.maximum(correlations, correlations.T).triu(1)  # [n, n], of column with the earlier row
    closest, partner = (part.numpy() for part in correlations.max(0))  # [n], [n]
    groups = np.arange(len(images))
    for i in np.flatnonzero(closest >= _ALIKE):  # ascending: the partner's own group is known
        if closest[i] >= _SAME or _confirm(images[i], images[partner[i]]):
            groups[i] = groups[partner[i]]
    return groups


@one_torch_thread()
def find_best_unrelated(
    picture: Pixels, images: Pixels, scales: Sequence[Scale], *, mirror: bool = True, backend: str = "cpu"
) -> float:
    """Return the best evidence among images that are not the picture itself or its near-duplicates: an entry of a null.

    Near-duplicates do not count for pictures from outside the collection either: half of the ten strongest matches of
    CIFAR-10's test set were copies of test images in the training set.

    Args:
        picture: uint8 [C, H, W].
        images: uint8 [n, C, H, W], its best matches in the collection; the picture may be one of them.
        scales, mirror, backend: as for `measure_evidence`.

    Returns:
        The evidence; 0 where no image is left.

    Raises:
        ConfigError: as `measure_evidence`.

    Example:
        >>> images = np.random.default_rng(0).integers(0, 256, (5, 3, 16, 16), np.uint8)
        >>> find_best_unrelated(images[2], images, [Scale(5)]) < 0.2
        True
    """
    unrelated = group_duplicates(np.concatenate([picture[None], images]))[1:] != 0
    found = measure_evidence(picture, images[unrelated], scales, mirror=mirror, backend=backend)
    return float(found.max(initial=0.0))


def _confirm(image: Pixels, other: Pixels) -> bool:
    scales = [Scale(min(7, *image.shape[1:]))]
    return any(measure_evidence(a, b[None], scales)[0] >= _SAME_EVIDENCE for a, b in ((image, other), (other, image)))


def _correlate_thumbnails(images: Pixels) -> torch.Tensor:
    """Correlate the thumbnails of each pair at its best shift, mirrored or not, as it is or zoomed: [n, n]."""
    plain, hues = _make_thumbnails(images, zoom=1.0), _measure_hues(images)  # [n, C, side, side], [n, h]
    side = _THUMBNAIL - 1
    inner = side - 2 * _THUMBNAIL_SHIFT
    first = _cut_square(plain, hues, _THUMBNAIL_SHIFT, _THUMBNAIL_SHIFT, inner)  # [n, d]
    best = torch.full((len(images), len(images)), -1.0)
    for second in (plain, _make_thumbnails(images, zoom=_ZOOM)):
        for turned in (second, second.flip(-1)):
            for dy in range(2 * _THUMBNAIL_SHIFT + 1):
                for dx in range(2 * _THUMBNAIL_SHIFT + 1):
                    torch.maximum(best, first @ _cut_square(turned, hues, dy, dx, inner).T, out=best)
    return best


def _make_thumbnails(images: Pixels, zoom: float) -> torch.Tensor:
    """Return thumbnails of the central `zoom` of each image, without coarse shading, [n, C, side, side]."""
    height, width = images.shape[2:]
    top, left = (round(size * (1 - zoom) / 2) for size in (height, width))
    inside = images[:, :, top : height - top, left : width - left]  # [n, C, H', W']
    centre = torch.from_numpy(inside.astype(np.float32))  # [n, C, H', W']
    small = functional.interpolate(
        centre, (_THUMBNAIL, _THUMBNAIL), mode="bilinear", antialias=True, align_corners=False
    )  # [n, C, 20, 20]
    small = functional.avg_pool2d(small, 2, 1)  # [n, C, side, side]
    shading = functional.avg_pool2d(functional.pad(small, (3, 3, 3, 3), mode="replicate"), 7, 1)  # [n, C, side, side]
    return small - shading


def _measure_hues(images: Pixels) -> torch.Tensor:
    """Return a direction for the mean hue of each image, [n, 1 + C]: that of all greys is one, and reds differ from
    blues."""
    means = torch.from_numpy(images.mean((2, 3), dtype=np.float32))  # [n, C]
    colour = means - means.mean(1, keepdim=True)  # [n, C]
    return functional.normalize(functional.pad(colour, (1, 0), value=_GREY))


def _cut_square(thumbnails: torch.Tensor, hues: torch.Tensor, top: int, left: int, size: int) -> torch.Tensor:
    """Return every second pixel of a square of the thumbnails, each channel without its mean, as unit vectors.

    The hue is added at a contrast of one level: it decides where there is nothing but faint noise.
    """
    part = thumbnails[:, :, top : top + size : 2, left : left + size : 2]  # [n, C, h, w]
    part = (part - part.mean((2, 3), keepdim=True)).flatten(1)  # [n, d]
    return functional.normalize(torch.cat([part, hues * part.shape[1] ** 0.5], 1))  # [n, d + 1 + C]

"""Short vectors for patches, whose distances never exceed those of the patches.

A patch x becomes its coordinates on orthonormal directions (principal components of training patches) and one more, the
norm of what is left. By the triangle inequality for that rest, |e(x) - e(y)| <= |x - y|: whatever the index has not
visited within a distance lies no nearer in truth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from nda_index.scales import Scale, block_means


@dataclass(frozen=True)
class Embedding:
    """Orthonormal directions of a scale's patches, float64 [dimensions, C, taps, taps]."""

    scale: Scale
    directions: NDArray[np.float64]

    @property
    def dimensions(self) -> int:
        """Length of an embedded patch: one coordinate for each direction, and the norm of the rest."""
        return len(self.directions) + 1


def fit_embedding(images: NDArray[np.uint8], scale: Scale, dimensions: int) -> Embedding:
    """Principal directions of the patches of some training images.

    Args:
        images: uint8 [N, C, H, W].
        scale: its patches that lie inside the image are used.
        dimensions: length of an embedded patch, at least 2; fewer where a patch has fewer values.

    Returns:
        The embedding, not centred: the first direction is close to the mean patch.

    Example:
        >>> images = np.random.default_rng(0).integers(0, 256, (4, 1, 8, 8), np.uint8)
        >>> fit_embedding(images, Scale(3), dimensions=5).dimensions
        5
    """
    means = block_means(_to_float(images), scale.downscale)
    windows = F.unfold(torch.from_numpy(np.ascontiguousarray(means)), scale.taps, dilation=scale.downscale)  # [N, D, P]
    patches = windows.transpose(1, 2).flatten(0, 1)  # [N P, D]
    moments = (patches.T @ patches / len(patches)).numpy()  # [D, D]
    _, vectors = np.linalg.eigh(moments)  # ascending
    count = min(dimensions - 1, len(moments))
    directions = vectors[:, ::-1][:, :count].T  # [d, D]
    return Embedding(scale, np.ascontiguousarray(directions).reshape(count, images.shape[1], scale.taps, scale.taps))


def embed(embedding: Embedding, images: NDArray[np.uint8], stride: int = 1) -> NDArray[np.float32]:
    """Embedded patches of images, at the positions whose window lies inside the image.

    Args:
        embedding: from `fit_embedding`.
        images: uint8 [N, C, H, W].
        stride: every how many pixels a patch is taken.

    Returns:
        float32 [N, P, dimensions], positions row by row.

    Example:
        >>> images = np.random.default_rng(0).integers(0, 256, (4, 1, 8, 8), np.uint8)
        >>> embed(fit_embedding(images, Scale(3), dimensions=5), images, stride=2).shape
        (4, 9, 5)
    """
    # float64 throughout: the norm of the rest is a difference of two large squares.
    dilation, taps = embedding.scale.downscale, embedding.scale.taps
    means = torch.from_numpy(np.ascontiguousarray(block_means(_to_float(images), dilation)))  # [N, C, H', W']
    kernel = torch.from_numpy(np.array(embedding.directions))  # [d, C, taps, taps]
    coordinates = F.conv2d(means, kernel, stride=stride, dilation=dilation)  # [N, d, h, w]
    energy = means.square().sum(dim=1, keepdim=True)  # [N, 1, H', W']
    ones = torch.ones(1, 1, taps, taps, dtype=torch.float64)
    norms = F.conv2d(energy, ones, stride=stride, dilation=dilation)  # [N, 1, h, w]
    rest = (norms - coordinates.square().sum(dim=1, keepdim=True)).clamp_min(0).sqrt()  # [N, 1, h, w]
    embedded = torch.cat([coordinates, rest], dim=1).flatten(2).transpose(1, 2)  # [N, P, d + 1]
    return np.ascontiguousarray(embedded.to(torch.float32).numpy())


def positions_inside(scale: Scale, height: int, width: int, stride: int) -> int:
    """Number of positions that `embed` takes from an image.

    Example:
        >>> positions_inside(Scale(7), 32, 32, stride=2)
        169
    """
    return len(scale.interior(height)[::stride]) * len(scale.interior(width)[::stride])


def _to_float(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    return images.astype(np.float64) / 127.5 - 1.0

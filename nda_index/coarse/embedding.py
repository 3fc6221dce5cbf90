"""Short vectors for patches, whose distances never exceed those of the patches.

A patch x becomes its coordinates on orthonormal directions (principal components of training patches) and one more, the
norm of what is left. By the triangle inequality for that rest, |e(x) - e(y)| <= |x - y|: whatever the index has not
visited within a distance lies no nearer in truth. Where a window sticks out of the image its pixels are 0, and two last
coordinates say by how much, down and right: windows that stick out differently never match (`mask_value=inf`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nda_index.images import Pixels
from nda_index.scales import Scale

OVERHANG_UNIT = 4.0  # added distance of windows that stick out by one pixel more or less: farther than neighbours are


@dataclass(frozen=True)
class Embedding:
    """Orthonormal directions of a scale's patches, float64 [dimensions, C, taps, taps]."""

    scale: Scale
    directions: NDArray[np.float64]

    @property
    def dimensions(self) -> int:
        """Length of an embedded patch: a coordinate for each direction, the norm of the rest, and the overhang."""
        return len(self.directions) + 3


def fit_embedding(images: Pixels, scale: Scale, dimensions: int) -> Embedding:
    """Find the principal directions of the patches of some training images.

    Args:
        images: uint8 [N, C, H, W].
        scale: its patches.
        dimensions: length of an embedded patch, at least 4; fewer where a patch has fewer values. More tell patches
            apart better, and take memory and time in proportion.

    Returns:
        The embedding. It is not centred: the first direction is close to the mean patch.

    Example:
        >>> images = np.random.default_rng(0).integers(0, 256, (4, 1, 8, 8), np.uint8)
        >>> fit_embedding(images, Scale(3), dimensions=7).dimensions
        7
    """
    means = _pad_means(_to_float(_as_tensor(images)), scale)  # [N, C, H', W']
    windows = F.unfold(means, scale.taps, dilation=scale.downscale)  # [N, D, P]
    patches = windows.transpose(1, 2).flatten(0, 1)  # [N P, D]
    moments = (patches.T @ patches / len(patches)).numpy()  # [D, D]
    _, vectors = np.linalg.eigh(moments)  # ascending
    count = min(dimensions - 3, len(moments))
    directions = vectors[:, ::-1][:, :count].T  # [d, D]
    return Embedding(scale, np.ascontiguousarray(directions).reshape(count, images.shape[1], scale.taps, scale.taps))


def embed(embedding: Embedding, images: Pixels, stride: int = 1) -> NDArray[np.float32]:
    """Embed the patches of images, at all positions of the scale.

    Args:
        embedding: from `fit_embedding`.
        images: uint8 [N, C, H, W].
        stride: a patch is taken at every `stride`-th pixel.

    Returns:
        float32 [N, P, dimensions], positions row by row.

    Example:
        >>> images = np.random.default_rng(0).integers(0, 256, (4, 1, 8, 8), np.uint8)
        >>> embed(fit_embedding(images, Scale(3), dimensions=7), images, stride=2).shape
        (4, 16, 7)
    """
    return np.asarray(embed_tensor(embedding, _as_tensor(images), stride).numpy(), np.float32)


def embed_tensor(embedding: Embedding, images: Tensor, stride: int = 1) -> Tensor:
    """Embed the patches of images where they lie: `embed` on any device.

    Args:
        embedding: from `fit_embedding`.
        images: uint8 or float16 [N, C, H, W].
        stride: as for `embed`.

    Returns:
        float32 [N, P, dimensions], on the device of the images. Computed in float64: devices differ in the last bit.
    """
    means = _pad_means(_to_float(images), embedding.scale)  # [N, C, H', W']
    coordinates = _project(embedding, means, stride)  # [N, d, h, w]
    rest = _measure_rest(embedding, means, coordinates, stride)  # [N, 1, h, w]
    return _assemble(embedding, coordinates, rest, images.shape[2:], stride)


def embed_noisy(embedding: Embedding, clean: Pixels, noisy: NDArray[np.floating]) -> NDArray[np.float32]:
    """Embed the patches of one noisy query, at all positions: its own coordinates, but the clean query's rest.

    Noise off the directions adds the same to all distances of a patch, in expectation; its norm would drown what the
    clean rest says.

    Args:
        embedding: from `fit_embedding`.
        clean: uint8 [C, H, W].
        noisy: float [C, H, W], the noisy query over its signal.

    Returns:
        float32 [P, dimensions], positions row by row.

    Example:
        >>> image = np.zeros((1, 8, 8), np.uint8)
        >>> embed_noisy(fit_embedding(image[None], Scale(3), dimensions=7), image, np.ones((1, 8, 8))).shape
        (64, 7)
    """
    means = _pad_means(_to_float(_as_tensor(clean[None])), embedding.scale)  # [1, C, H', W']
    rest = _measure_rest(embedding, means, _project(embedding, means, 1), 1)  # [1, 1, h, w]
    coordinates = _project(embedding, _pad_means(_as_tensor(noisy[None]).double(), embedding.scale), 1)
    return np.asarray(_assemble(embedding, coordinates, rest, clean.shape[1:], 1)[0].numpy(), np.float32)


def _project(embedding: Embedding, means: Tensor, stride: int) -> Tensor:
    kernel = torch.from_numpy(np.array(embedding.directions)).to(means.device)  # [d, C, taps, taps]
    return F.conv2d(means, kernel, stride=stride, dilation=embedding.scale.downscale)  # [N, d, h, w]


def _measure_rest(embedding: Embedding, means: Tensor, coordinates: Tensor, stride: int) -> Tensor:
    # float64 throughout: the norm of the rest is a difference of two large squares.
    scale = embedding.scale
    energy = means.square().sum(dim=1, keepdim=True)  # [N, 1, H', W']
    ones = torch.ones(1, 1, scale.taps, scale.taps, dtype=torch.float64, device=means.device)
    norms = F.conv2d(energy, ones, stride=stride, dilation=scale.downscale)  # [N, 1, h, w]
    return (norms - coordinates.square().sum(dim=1, keepdim=True)).clamp_min(0).sqrt()  # [N, 1, h, w]


def _assemble(embedding: Embedding, coordinates: Tensor, rest: Tensor, size: Sequence[int], stride: int) -> Tensor:
    overhangs = (_measure_overhang(side, embedding.scale, stride) for side in size)
    out = torch.stack(torch.meshgrid(*overhangs, indexing="ij")) * OVERHANG_UNIT  # [2, h, w]
    out = out.to(coordinates.device).expand(len(coordinates), -1, -1, -1)  # [N, 2, h, w]
    embedded = torch.cat([coordinates, rest, out], dim=1).flatten(2).transpose(1, 2)  # [N, P, d + 3]
    return embedded.to(torch.float32).contiguous()


def count_positions(scale: Scale, height: int, width: int, stride: int) -> int:
    """Return the number of positions that `embed` takes from an image.

    Example:
        >>> count_positions(Scale(7), 32, 32, stride=2)
        256
    """
    return len(range(0, scale.positions(height), stride)) * len(range(0, scale.positions(width), stride))


def _measure_overhang(size: int, scale: Scale, stride: int) -> Tensor:
    positions, inside = np.arange(0, scale.positions(size), stride), scale.interior(size)
    return torch.from_numpy(np.minimum(positions - inside[0], 0) + np.maximum(positions - inside[-1], 0))


def _as_tensor(pixels: NDArray[np.generic]) -> Tensor:
    return torch.from_numpy(np.require(pixels, requirements=["C", "W"]))


def _to_float(pixels: Tensor) -> Tensor:
    """Return `nda_index.images.to_float` of pixels, in float64."""
    floats = pixels.double()
    return floats / 127.5 - 1.0 if pixels.dtype == torch.uint8 else floats


def _pad_means(pixels: Tensor, scale: Scale) -> Tensor:
    """Put zeros around floats [N, C, H, W], and average them as `nda_index.scales.block_means` does."""
    r = scale.downscale
    padded = F.pad(pixels, (scale.padding,) * 4)  # [N, C, H + 2 padding, W + 2 padding]
    if r == 1:
        return padded
    height, width = padded.shape[2] - r + 1, padded.shape[3] - r + 1
    rows = padded[:, :, :height].clone()  # [N, C, H', W + 2 padding]
    for i in range(1, r):
        rows += padded[:, :, i : i + height]
    means = rows[..., :width].clone()  # [N, C, H', W']
    for j in range(1, r):
        means += rows[..., j : j + width]
    return means / r

"""What the exact stage is compared with: the published formulation, and the same sum by KeOps and by FAISS."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nda_index import Scale
from nda_index.diffusion import NoisyImage

KERNEL_BATCH = 64
MASK_VALUE = 10.0


@torch.no_grad()
def published_scores(noisy: NoisyImage, train: NDArray[np.float32], scale: Scale) -> NDArray[np.float32]:
    """The same operations, in the same order and in float32, as the paper's code (arXiv 2510.14269) on a CPU.

    Query patches are convolution kernels, 64 at a time, over all training images; the squared distance is |x|^2 + |y|^2
    - 2xy, clamped at 0; the softmax over all training patches is materialised and summed. A downscaled patch is
    projected and blown up again, so that its kernel has the full size.
    """
    k, r, stride = scale.patch, scale.downscale, scale.train_stride
    query, images = _padded(noisy, train, scale)
    channels = images.shape[1]
    patches = F.unfold(query, k, stride=scale.query_stride)[0].T.reshape(-1, channels, k, k)  # [P, C, k, k]
    means = F.avg_pool2d(patches, r)  # [P, C, k / r, k / r]
    kernels = means.repeat_interleave(r, dim=2).repeat_interleave(r, dim=3)  # [P, C, k, k]
    projected = F.avg_pool2d(images, r, stride=1) * r  # [N, C, H', W']
    ones = torch.ones(1, channels, scale.taps, scale.taps)
    y_norm = F.conv2d(projected.square(), ones, dilation=r, stride=stride)[:, 0]  # [N, rows, columns]
    parts = []
    for start in range(0, len(kernels), KERNEL_BATCH):
        batch = kernels[start : start + KERNEL_BATCH]
        x_norm = (means[start : start + KERNEL_BATCH] * r).square().sum(dim=(1, 2, 3))  # [64]
        products = F.conv2d(images, batch, stride=stride)  # [N, 64, rows, columns]
        distance = (x_norm[:, None, None, None] + y_norm[None] - 2 * products.permute(1, 0, 2, 3)).clamp(min=0)
        logits = (-distance / (2 * noisy.sigma**2)).flatten(1)  # [64, N rows columns]
        weights = torch.softmax(logits, dim=-1).view(len(batch), *y_norm.shape)  # [64, N, rows, columns]
        parts.append(weights.sum(dim=(2, 3)))  # [64, N]
    return np.asarray(torch.cat(parts).sum(dim=0).numpy())


def keops_scores(noisy: NoisyImage, train: NDArray[np.float32], scale: Scale) -> NDArray[np.float32]:
    """Symbolic matrices of KeOps: the logarithm of each normaliser, then the weights summed over query patches."""
    from pykeops.torch import LazyTensor

    query, images = _blocks(noisy, train, scale)
    x = _patches(query, scale, scale.query_stride)[0].contiguous()  # [P, D]
    y = _patches(images, scale, scale.train_stride).flatten(0, 1).contiguous()  # [N Q, D]
    logits = -((LazyTensor(x[:, None]) - LazyTensor(y[None])) ** 2).sum(-1) / (2 * noisy.sigma**2)  # [P, N Q]
    normalisers = logits.logsumexp(dim=1)  # [P, 1]
    weights = (logits - LazyTensor(normalisers[:, None])).exp().sum(dim=0)  # [N Q, 1]
    return np.asarray(weights.reshape(len(train), -1).sum(dim=1).numpy())


def faiss_neighbours(noisy: NoisyImage, train: NDArray[np.float32], scale: Scale) -> NDArray[np.float32]:
    """Squared distances of each query patch's 64 nearest training patches: FAISS's exact search, not yet a score."""
    import faiss

    query, images = _blocks(noisy, train, scale)
    x = _patches(query, scale, scale.query_stride)[0].numpy()
    y = _patches(images, scale, scale.train_stride).flatten(0, 1).numpy()
    flat = faiss.IndexFlatL2(x.shape[1])
    flat.add(np.ascontiguousarray(y))
    return np.asarray(flat.search(np.ascontiguousarray(x), 64)[0])


def _padded(noisy: NoisyImage, train: NDArray[np.float32], scale: Scale) -> tuple[Tensor, Tensor]:
    query = torch.from_numpy(noisy.pixels.astype(np.float32))[None]
    images = torch.from_numpy(train) * noisy.signal
    query, images = (F.pad(part, (scale.padding,) * 4, value=MASK_VALUE) for part in (query, images))
    return query, images


def _blocks(noisy: NoisyImage, train: NDArray[np.float32], scale: Scale) -> tuple[Tensor, Tensor]:
    r = scale.downscale
    query, images = (F.avg_pool2d(part, r, stride=1) * r for part in _padded(noisy, train, scale))
    return query, images


def _patches(images: Tensor, scale: Scale, stride: int) -> Tensor:
    return F.unfold(images, scale.taps, dilation=scale.downscale, stride=stride).transpose(1, 2)  # [N, P, D]

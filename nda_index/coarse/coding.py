"""Codes of patches, and the lists that they make, by torch on any device: what FAISS's encoders write."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nda_index.coarse.assignment import DISTANCES, Assigner, assign
from nda_index.coarse.cells import Segment
from nda_index.coarse.embedding import Embedding, embed_tensor

VALUES = 256  # of a byte


def code_images(
    images: Tensor, embedding: Embedding, stride: int, centroids: Tensor, codebook: Tensor, assigner: Assigner = assign
) -> tuple[Tensor, Tensor]:
    """Find the cells and the codes of the patches of images.

    Args:
        images: uint8 or float16 [n, C, H, W].
        embedding: of the scale.
        stride: every how many pixels a patch is taken.
        centroids: float32 [C, d].
        codebook: as for `encode`; all on one device.
        assigner: finds the cells.

    Returns:
        Cells int32 [n, P] and codes uint8 [n P, bytes], on that device.
    """
    patches = embed_tensor(embedding, images, stride)  # [n, P, d]
    flat = patches.flatten(0, 1)  # [n P, d]
    cells = assigner(flat, centroids)  # [n P]
    codes = encode(flat - centroids[cells], codebook)  # [n P, bytes]
    return cells.to(torch.int32).reshape(patches.shape[:2]), codes


def encode(residuals: Tensor, codebook: Tensor) -> Tensor:
    """Encode what is left of patches beside their centroids.

    Args:
        residuals: float32 [n, d].
        codebook: float32 [2, d] or [256, d], as `nda_index.coarse.cells.Cells.codebook`, on the same device.

    Returns:
        uint8 [n, bytes], on that device.

    Example:
        >>> encode(torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0, 0.0], [0.01, 0.01]])).tolist()
        [[0, 100]]
    """
    if len(codebook) == 2:
        span = codebook[1] * 255  # [d]
        low = codebook[0] - span * (0.5 / 255)  # [d]
        place = (residuals - low) / span.where(span > 0, torch.ones_like(span))  # [n, d]
        return (place.where(span > 0, torch.zeros_like(place)).clamp(0, 1) * 255).to(torch.uint8)
    parts, width = count_parts(codebook), codebook.shape[1] // count_parts(codebook)
    values = codebook.reshape(VALUES, parts, width).transpose(0, 1)  # [parts, 256, width]
    left = residuals.reshape(len(residuals), parts, width)  # [n, parts, width]
    codes = torch.empty(len(residuals), parts, dtype=torch.uint8, device=residuals.device)  # [n, parts]
    step = max(1, DISTANCES // (4 * VALUES * parts))
    for start in range(0, len(residuals), step):
        # Differences are squared one by one, as FAISS does: |r|^2 - 2 r.v would round, and values lie close together.
        some = left[start : start + step, :, None]  # [step, parts, 1, width]
        distances = (some[..., 0] - values[..., 0]).square_()  # [step, parts, 256]
        for i in range(1, width):
            distances += (some[..., i] - values[..., i]).square_()
        codes[start : start + step] = distances.argmin(dim=2)
    return codes


def count_parts(codebook: Tensor | NDArray[np.float32]) -> int:
    """Return the bytes of a code: one a coordinate, or with product quantisation one for two where that divides."""
    dimensions = codebook.shape[1]
    return dimensions // 2 if len(codebook) > 2 and dimensions % 2 == 0 else dimensions


def group_members(cells: Tensor, codes: Tensor, image_ids: Tensor, centroids: Tensor, codebook: Tensor) -> Segment:
    """Group encoded patches by their cells, in the order in which they come, with the moments of each cell.

    Moments are sums over how often a cell has each value of a byte: whole numbers, so they do not depend on the order
    in which a device adds.

    Args:
        cells: int32 [T].
        codes: uint8 [T, bytes].
        image_ids: int32 [T].
        centroids: float32 [C, d].
        codebook: as for `encode`; all on one device.
    """
    count, (_, dimensions) = len(centroids), codebook.shape
    order = torch.sort(cells, stable=True).indices  # [T]
    cells, codes, image_ids = cells[order].long(), codes[order], image_ids[order]
    sizes = torch.bincount(cells, minlength=count)  # [C]
    steps = torch.arange(VALUES, device=codebook.device)[:, None]  # [256, 1]
    values = codebook if len(codebook) > 2 else codebook[0] + codebook[1] * steps  # [256, d]
    values = values.double()
    width = dimensions // codes.shape[1]
    means, variances = (torch.zeros(count, dimensions, dtype=torch.float64, device=cells.device) for _ in range(2))
    shares = 1.0 / sizes.clamp_min(1).double()[:, None]  # [C, 1]
    for part in range(codes.shape[1]):
        here = slice(part * width, (part + 1) * width)
        often = torch.bincount(cells * VALUES + codes[:, part], minlength=count * VALUES).reshape(count, VALUES)
        weights = often.double() * shares  # [C, 256]
        means[:, here] = weights @ values[:, here]
        for one in range(here.start, here.stop):
            away = values[:, one] - means[:, one, None]  # [C, 256]
            variances[:, one] = (weights * away.square()).sum(dim=1)
    means = torch.where(sizes[:, None] > 0, means + centroids.double(), means)
    offsets = np.concatenate([[0], np.cumsum(sizes.cpu().numpy())]).astype(np.int64)
    return Segment(offsets, codes.cpu().numpy(), image_ids.cpu().numpy(), means.cpu().numpy(), variances.cpu().numpy())

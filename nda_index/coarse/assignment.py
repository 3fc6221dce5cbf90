"""The cell of each patch: the nearest centroid, found by torch on any device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

import torch
from torch import Tensor

DISTANCES = 1 << 28  # bytes of distances that are in memory at a time: fewer are more launches

Assigner: TypeAlias = Callable[[Tensor, Tensor], Tensor]  # patches [n, d] and centroids [C, d] to cells int64 [n]


def assign(patches: Tensor, centroids: Tensor) -> Tensor:
    """Find the nearest centroid of each patch, the first of several that are as near.

    Distances are |c|^2 - 2 x.c in float32, as in FAISS: where two centroids differ by less than its rounding, FAISS may
    name the other one.

    Args:
        patches: float32 [n, d].
        centroids: float32 [C, d], on the same device.

    Returns:
        int64 [n], on that device.

    Example:
        >>> assign(torch.tensor([[0.9], [3.0]]), torch.tensor([[0.0], [1.0], [4.0]])).tolist()
        [1, 2]
    """
    norms = centroids.square().sum(dim=1)  # [C]
    cells = torch.empty(len(patches), dtype=torch.int64, device=patches.device)  # [n]
    step = max(1, DISTANCES // (4 * len(centroids)))
    with full_precision():
        for start in range(0, len(patches), step):
            some = patches[start : start + step]
            distances = torch.addmm(norms, some, centroids.T, alpha=-2)  # [step, C]
            cells[start : start + step] = distances.argmin(dim=1)
    return cells


@contextmanager
def full_precision() -> Iterator[None]:
    """Multiply float32 as float32: a caller may have allowed TF32, whose eleven bits are too few for distances.

    Example:
        >>> with full_precision():
        ...     torch.get_float32_matmul_precision()
        'highest'
    """
    try:
        before = torch.get_float32_matmul_precision()
    except RuntimeError:  # it was set by the newer `fp32_precision`, which must not be mixed with this
        yield
        return
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)

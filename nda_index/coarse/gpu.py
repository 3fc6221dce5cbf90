"""The coarse stage on a GPU: lists that stay there, as many cells as fit. The CPU has the rest, and helps out.

What is computed is what the CPU computes, by the same rules; docs/gpu.md has the how and why.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from nda_index.coarse import gpu_cells, gpu_scan
from nda_index.coarse.cells import Cells
from nda_index.coarse.gpu_lists import ResidentLists, count_bytes, make_resident, share_budget
from nda_index.coarse.gpu_scan import TUNING, ScanTuning
from nda_index.coarse.lists import Choice, Images, InvertedLists, Rules, Sums, join_backends
from nda_index.coarse.visits import GroupedWindows, Visits, Windows
from nda_index.exact.gpu import free_bytes, has_failed

LOG = logging.getLogger(__name__)

SHARE = 0.5  # of the memory that is free on a GPU for lists; the exact stage needs some too
SCRATCH = 256 << 20  # bytes for what a step computes on the way
LEAST_SCRATCH = 4 << 20  # with less a step is left to the CPU

Result = TypeVar("Result")


@dataclass(frozen=True)
class GpuChoice:
    """`nda_index.coarse.lists.Choice` of which the table stays on the device."""

    cells: NDArray[np.int64]
    flat_total: NDArray[np.float64]
    backend: str
    _sum_flat: Callable[[NDArray[np.float64]], Sums]

    def sum_flat(self, log_weights: NDArray[np.float64]) -> Sums:
        """Sum the weight of one member of each cell over the windows for which the cell is flat: [C]."""
        return self._sum_flat(log_weights)


class GpuLists:
    """`nda_index.coarse.lists.InvertedLists` of which the first cells' members stay on a device.

    A step that the device has too little memory for is taken in smaller blocks, and left to the CPU where they do not
    fit either. After another failure of the device all is left to the CPU: it fails again in this process. Both are
    logged, and `Sums.backend` tells what computed an answer.

    Args:
        resident: what stays on the device.
        spare: the same lists on the CPU.
        tuning: how the kernels run.
    """

    def __init__(self, resident: ResidentLists, spare: InvertedLists, tuning: ScanTuning = TUNING) -> None:
        self._resident, self._spare, self._tuning = resident, spare, tuning
        self._failed = False

    @property
    def cells(self) -> Cells:
        """What they are."""
        return self._spare.cells

    def choose(self, windows: GroupedWindows, units: NDArray[np.float32], rules: Rules) -> Choice:
        """Weigh all cells for a query's windows, and choose those that each visits.

        Lists of several shards do so on the CPU: all shards must choose the same cells, also those without a GPU.
        """
        if self.cells.joint_census is not None:
            return self._spare.choose(windows, units, rules)
        resident = self._resident

        def on_device(scratch: int) -> Choice:
            chosen = gpu_cells.choose(resident, windows, units, rules, scratch)

            def sum_flat(log_weights: NDArray[np.float64]) -> Sums:
                return self._attempt(
                    lambda some: Sums(
                        gpu_cells.sum_flat(chosen, log_weights, resident.counts, some).cpu().numpy(), "gpu"
                    ),
                    lambda: self._spare.choose(windows, units, rules).sum_flat(log_weights),
                )

            return GpuChoice(chosen.cells, chosen.flat_total, "gpu", sum_flat)

        return self._attempt(on_device, lambda: self._spare.choose(windows, units, rules))

    def sum_visits(self, visits: Visits, windows: Windows, images: Images) -> Sums:
        """Sum what a cell's members weigh for the window that visits it: log masses of the visits, [V]."""
        here, others = visits.split(self._resident.kept)

        def on_device(scratch: int) -> Sums:
            return Sums(gpu_scan.sum_visits(self._resident, here, windows, images, self._tuning, scratch), "gpu")

        parts = [self._attempt(on_device, lambda: self._spare.sum_visits(here, windows, images))]
        if len(others.windows):
            parts.append(self._spare.sum_visits(others, windows, images))
        return Sums(np.concatenate([part.values for part in parts]), join_backends(part.backend for part in parts))

    def add_votes(self, visits: Visits, windows: Windows, even: NDArray[np.float32], images: Images) -> Sums:
        """Add up the members' weights for each image and row, [N, R], and what a cell gives evenly."""
        here, others = visits.split(self._resident.kept)

        def on_device(scratch: int) -> Sums:
            votes = gpu_scan.add_votes(self._resident, here, windows, even, images, self._tuning, scratch)
            return Sums(votes, "gpu")

        parts = [self._attempt(on_device, lambda: self._spare.add_votes(here, windows, even, images))]
        if len(others.cells):
            parts.append(self._spare.add_votes(others, windows, even, images))
        votes = parts[0].values if len(parts) == 1 else parts[0].values + parts[1].values
        return Sums(votes, join_backends(part.backend for part in parts))

    def _attempt(self, on_device: Callable[[int], Result], on_cpu: Callable[[], Result]) -> Result:
        """Compute on the device with less and less scratch, and then on the CPU."""
        scratch = SCRATCH
        while not self._failed and scratch >= LEAST_SCRATCH:
            try:
                return on_device(scratch)
            except torch.cuda.OutOfMemoryError:
                LOG.warning("the GPU has too little memory for a step of the coarse stage with %d MiB", scratch >> 20)
            except Exception as error:
                if not has_failed(error):
                    raise
                self._failed = True
                LOG.warning("the coarse stage goes on without the GPU: %s: %s", type(error).__name__, error)
            scratch //= 4  # here, where the error and the tensors that it held are gone
            if not self._failed and torch.cuda.is_available():
                with suppress(RuntimeError):  # of a device that another thread has seen fail
                    torch.cuda.empty_cache()
        return on_cpu()


def place_lists(
    spare: Sequence[InvertedLists], device: torch.device, budget: int | None = None, tuning: ScanTuning = TUNING
) -> tuple[InvertedLists, ...]:
    """Put the lists of several scales on a device, as far as they fit; those that do not stay as they are.

    Args:
        spare: the lists on the CPU.
        device: where they go.
        budget: bytes that members may take there, of all scales; None: half of what is free.
        tuning: how the kernels run.
    """
    if budget is None:
        budget = int(SHARE * free_bytes(device))
    parts = share_budget(budget, [count_bytes(lists.cells) for lists in spare])
    return tuple(_place(lists, device, part, tuning) for lists, part in zip(spare, parts, strict=True))


def _place(lists: InvertedLists, device: torch.device, budget: int, tuning: ScanTuning) -> InvertedLists:
    """Put lists on a device, fewer cells where its memory is too small."""
    budget = min(budget, count_bytes(lists.cells))
    while budget > 0:
        try:
            resident = make_resident(lists.cells, device, budget)
        except torch.cuda.OutOfMemoryError:
            LOG.warning("the GPU has no %d MiB for inverted lists", budget >> 20)
        else:
            return GpuLists(resident, lists, tuning) if resident.kept else lists
        budget //= 2
        torch.cuda.empty_cache()
    return lists

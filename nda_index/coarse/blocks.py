"""Work on blocks where a device can do it: in halves where its memory is too small, and on the CPU at last."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar, cast

import torch

from nda_index.device import CPU
from nda_index.exact.gpu import has_failed
from nda_index.images import Pixels

LOG = logging.getLogger(__name__)
FEWEST = 16  # images for which a device without memory is asked again

Result = TypeVar("Result")


@dataclass(frozen=True)
class Failure:
    """What a device said when it failed, without the tensors that its error would hold."""

    message: str
    lacks_memory: bool


@dataclass
class BlockRunner:
    """The device of a build, and what went wrong there.

    Attributes:
        device: where blocks are computed first.
        halved: how often a block was too large for the device's memory; all that follow are half as large.
        on_cpu: how many parts of the work were done on the CPU instead.
    """

    device: torch.device
    halved: int = 0
    on_cpu: int = 0
    _most: int = field(default=sys.maxsize, repr=False)
    _lost: bool = field(default=False, repr=False)

    def run(self, work: Callable[[Pixels, torch.device], Result], images: Pixels) -> list[Result]:
        """Do some work on a block of images; the results of its parts, in order.

        Args:
            work: takes some of the images, and the device to compute on.
            images: uint8 or float16 [n, C, H, W].

        Raises:
            Whatever `work` raises that is no failure of the device.
        """
        results, start = list[Result](), 0
        while start < len(images):
            part = images[start : start + self._most]
            done = None if self._lost else self._attempt(partial(work, part))
            if isinstance(done, Failure) and done.lacks_memory and len(part) > FEWEST:
                self._most, self.halved = len(part) // 2, self.halved + 1
                LOG.warning("%d images are too many for the GPU's memory: %d from now on", len(part), self._most)
                continue
            if isinstance(done, Failure):
                LOG.warning("the GPU is given up: the CPU computes the rest of the build")
                self._lost = True
            if self._lost:
                done, self.on_cpu = work(part, CPU), self.on_cpu + 1
            results.append(cast(Result, done))
            start += len(part)
        return results

    def run_whole(self, work: Callable[[torch.device], Result]) -> Result:
        """Do work that has no parts: on the CPU where the device fails. Errors as `run`."""
        done = None if self._lost else self._attempt(work)
        if not self._lost and not isinstance(done, Failure):
            return cast(Result, done)
        self.on_cpu += 1
        return work(CPU)

    def describe(self) -> tuple[str, ...]:
        """Say what went wrong, a sentence each."""
        found = []
        if self.halved:
            found.append(f"blocks of images were too large for the GPU's memory, and were halved {self.halved} times")
        if self.on_cpu:
            found.append(
                f"the GPU failed, and the CPU did {self.on_cpu:,} parts of the work in its place; the log says why"
            )
        return tuple(found)

    def _attempt(self, work: Callable[[torch.device], Result]) -> Result | Failure:
        """Return the result of some work, or what the device said."""
        try:
            return work(self.device)
        except Exception as error:
            if not (_lacks_memory(error) or has_failed(error)):
                raise
            failure = Failure(str(error).strip().partition("\n")[0], _lacks_memory(error))
        LOG.warning("the GPU failed: %s", failure.message)
        if failure.lacks_memory and self.device.type == "cuda":
            torch.cuda.empty_cache()  # after the error, which held the tensors of the attempt
        return failure


def _lacks_memory(error: Exception) -> bool:
    return isinstance(error, torch.cuda.OutOfMemoryError) or "out of memory" in str(error)

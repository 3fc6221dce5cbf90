"""The exact posterior on a GPU: products of windows on tensor cores, in one pass that keeps the masses of all images.

The kernels (`nda_index.exact.gpu_kernels`) compare windows of equal overhang, without `per_image_topk`, where sigma
bears the rounding of products (`gpu_launch.LARGEST_ERROR`). For all else there is `nda_index.exact.gpu_plain`: float64
on the same device, some sixty times slower. `start_masses` chooses for each query.

Weights are float32 numbers relative to a good match at each position, found in a sample of the images or known from
other blocks. It weighs 2^-`ROOM`, so that far better ones do not overflow; where they do, all images of the block are
searched for the best match, and compared again. What is below 2^-126 is 0: 2^-56 of the good match, and there are fewer
than 2^31 pairs at a position.
"""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nda_index.diffusion import NoisyImage
from nda_index.exact import gpu_plain
from nda_index.exact.borders import border_is_negligible
from nda_index.exact.gpu_launch import (
    TUNING,
    Sweep,
    Tuning,
    find_references,
    import_kernels,
    prepare,
    references_of_floors,
    sum_weights,
    to_device,
)
from nda_index.exact.gpu_numbers import code_images
from nda_index.scales import Scale

LOG = logging.getLogger(__name__)
Result = TypeVar("Result")

DEVICE = "cuda"
# Triton builds its launcher with a compiler of the machine, in a folder of the user.
TOOLCHAIN = (RuntimeError, OSError, ImportError, AssertionError, subprocess.SubprocessError)
FAILURES = ("cuda", "triton", "cublas", "cudnn", "cusolver", "faiss/gpu", "faiss::gpu")  # what errors of a GPU name
SAMPLED = (16, 512)  # images at least and at most that are searched for good matches, a hundredth of a block between
SHARED = 8  # images of a program that sums up shares


@dataclass(frozen=True)
class DeviceMasses:
    """`nda_index.exact.masses.Masses` of one query that stay on the device.

    Attributes:
        total, counted: floats [N, slots] on the device, in units of exp(log_unit).
        sums: float64 [slots], of `total` over the images.
        log_unit: float64 [slots].
        slots: int64 [P], where the query's positions are.
        left_out: what `Masses` says of it is far below its limit here.
        backend: what computed them.
    """

    total: Tensor
    counted: Tensor
    sums: NDArray[np.float64]
    log_unit: NDArray[np.float64]
    slots: NDArray[np.int64]
    left_out: float = 0.0
    backend: str = "gpu"

    @property
    def log_total(self) -> NDArray[np.float64]:
        """Log of the mass of all images together, float64 [P]; -inf where no window can match."""
        with np.errstate(divide="ignore"):
            return np.asarray((self.log_unit + np.log(self.sums))[self.slots], np.float64)

    def weights(self, log_normaliser: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the posterior weight of every image at every query position: float64 [N, P]."""
        shares = self._shares(log_normaliser)
        slots = torch.from_numpy(self.slots).to(self.counted.device)  # [P]
        return (self.counted[:, slots].double() * shares[slots]).cpu().numpy()  # [N, P]

    def scores(self, log_normaliser: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum each image's weights over the query positions: float64 [N]."""
        shares = self._shares(log_normaliser)
        if self.counted.dtype == torch.float64:
            return np.asarray((self.counted @ shares).cpu().numpy(), np.float64)
        out = torch.empty(len(self.counted), dtype=torch.float64, device=shares.device)
        import_kernels().sum_shares[-(-len(out) // SHARED),](
            self.counted.contiguous(), shares, out, len(out), len(shares), IMAGES=SHARED, BLOCK=128
        )
        return np.asarray(out.cpu().numpy(), np.float64)

    def _shares(self, log_normaliser: NDArray[np.float64]) -> Tensor:
        """Return what a mass of 1 weighs at each slot, float64 [slots]."""
        share = np.zeros_like(self.log_unit)  # [slots]
        finite = np.isfinite(log_normaliser)
        with np.errstate(over="ignore"):
            share[self.slots[finite]] = np.exp(self.log_unit[self.slots[finite]] - log_normaliser[finite])
        return to_device(share, self.counted.device)

    def fold(self, count: int) -> DeviceMasses:
        """Give an image and its mirror image, `count` places further, one mass."""
        total = self.total[:count] + self.total[count:]  # [count, slots]
        counted = total if self.counted is self.total else self.counted[:count] + self.counted[count:]
        return DeviceMasses(total, counted, self.sums, self.log_unit, self.slots)


def available() -> bool:
    """Return whether there is a CUDA device, and Triton to make kernels for it."""
    if not torch.cuda.is_available():
        return False
    try:
        import triton  # noqa: F401
    except ImportError:
        return False
    return True


def free_bytes(device: str | torch.device) -> int:
    """Return how many bytes of a device are free; without a limit where it is the CPU."""
    device = torch.device(device)
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 1 << 60


def has_failed(error: BaseException) -> bool:
    """Return whether an error says that the GPU, its driver or its compiler failed, and not the caller.

    After most of these nothing works on the GPU until the process ends.

    Example:
        >>> has_failed(RuntimeError("CUDA error: an illegal memory access was encountered")), has_failed(KeyError("x"))
        (True, False)
    """
    if isinstance(error, torch.cuda.OutOfMemoryError) or type(error).__module__.startswith("triton"):
        return True
    text = str(error).lower()
    if "same device" in text:  # tensors of ours that do not lie together
        return False
    return isinstance(error, TOOLCHAIN) and any(name in text for name in FAILURES)


def attempt(backend: str, work: Callable[[], Result]) -> Result | None:
    """Do some work on the GPU where the backend is one and it does not fail; else return None: it is the CPU's.

    Args:
        backend: "gpu"; "auto", a GPU where there is one; or another.
        work: what to do, from start to end.
    """
    if backend not in ("auto", "gpu") or not available():
        return None
    try:
        return work()
    except Exception as error:
        if not has_failed(error):
            raise
        LOG.warning("the GPU failed, and the CPU takes its part: %s", error)
        return None


def move_pixels(train: NDArray[Any] | Tensor) -> Tensor:
    """Return images [N, C, H, W] on the GPU, bytes as they are and others as float32."""
    pixels = torch.as_tensor(np.require(train, requirements=["C", "W"]) if isinstance(train, np.ndarray) else train)
    return pixels.to(DEVICE, pixels.dtype if pixels.dtype == torch.uint8 else torch.float32)  # [N, C, H, W]


def block_masses(
    queries: Sequence[NoisyImage],
    train: Tensor,
    scale: Scale,
    mask_value: float = np.inf,
    per_image_topk: int | None = None,
    floors: Sequence[NDArray[np.float64] | None] | None = None,
    tuning: Tuning = TUNING,
) -> list[DeviceMasses]:
    """Return the masses of a block of training images for several noisy queries; arguments as for `start_masses`."""
    return start_masses(queries, train, scale, mask_value, per_image_topk, floors, tuning)()


def start_masses(
    queries: Sequence[NoisyImage],
    train: Tensor,
    scale: Scale,
    mask_value: float = np.inf,
    per_image_topk: int | None = None,
    floors: Sequence[NDArray[np.float64] | None] | None = None,
    tuning: Tuning = TUNING,
) -> Callable[[], list[DeviceMasses]]:
    """Begin to compare a block of training images with several noisy queries, without waiting for the device.

    Args:
        queries: noisy images of one shape.
        train: uint8 [N, C, H, W] or floats in [-1, 1], on the device.
        scale: patch and strides.
        mask_value, per_image_topk: as for `nda_index.exact.image_scores`.
        floors: a lower bound of the log of each query's normaliser [P], from other images, or None.
        tuning: how the kernels run.

    Returns:
        What waits for the masses and returns them. Call it once; start all scales of a question before.
    """
    known = floors if floors is not None else [None] * len(queries)
    coded = code_images(train, scale) if len(train) and _all_count(train, scale, per_image_topk) else None
    started = []
    if coded is not None:
        images, coding = coded
        for sweep, chosen in prepare(queries, scale, train.device, tuning, coding):
            started.append((start_sweep(sweep, images, [known[i] for i in chosen]), chosen))

    def finish() -> list[DeviceMasses]:
        masses: dict[int, DeviceMasses] = {}
        for results, chosen in started:
            masses.update(zip(chosen, results(), strict=True))
        if not np.isinf(mask_value):
            largest = 1.0 if train.dtype == torch.uint8 else float(train.abs().amax())
            for i, part in list(masses.items()):
                if not border_is_negligible(queries[i], largest, len(train), scale, mask_value, part.log_total):
                    del masses[i]
        if len(masses) < len(queries):
            pixels = gpu_plain.as_floats(train)  # [N, C, H, W]
            for i in set(range(len(queries))) - set(masses):
                logs = gpu_plain.log_masses(queries[i], pixels, scale, mask_value, per_image_topk, tuning.budget)
                masses[i] = _as_masses(*logs)
        return [masses[i] for i in range(len(queries))]

    return finish


def start_sweep(
    sweep: Sweep, images: Tensor, floors: Sequence[NDArray[np.float64] | None] | None = None
) -> Callable[[], list[DeviceMasses]]:
    """Begin to compare a sweep's queries with images, fp16 [N, C, H', W'] from `code_images`; call what it returns."""
    slots = sweep.tiling.query.slots  # [P]
    reference = references_of_floors(sweep, floors)
    if reference is None:
        step = max(1, len(images) // min(max(SAMPLED[0], len(images) // 100), SAMPLED[1]))
        reference = find_references(sweep, images[::step])
    mass = sum_weights(sweep, images, reference)  # [V, N, slots]
    sums = _sum_images(mass, reference)  # [2, V, slots]

    def finish() -> list[DeviceMasses]:
        masses, (totals, bits) = mass, sums.cpu().numpy()
        if not np.isfinite(totals[:, slots]).all():
            exact = find_references(sweep, images)
            masses = sum_weights(sweep, images, exact)
            totals, bits = _sum_images(masses, exact).cpu().numpy()
        units = sweep.numbers.units.astype(np.float64)[:, None]  # [V, 1]
        log_units = -np.log(2) * (bits + units * sweep.numbers.squares)  # [V, slots]
        return [DeviceMasses(masses[v], masses[v], totals[v], log_units[v], slots) for v in range(sweep.views)]

    return finish


def _sum_images(mass: Tensor, reference: Tensor) -> Tensor:
    """Return the masses of all images together, and references beside them: float64 [2, V, slots]."""
    sums = torch.empty(2, *reference.shape, dtype=torch.float64, device=mass.device)  # [2, V, slots]
    torch.sum(mass, dim=1, dtype=torch.float64, out=sums[0])
    sums[1] = reference
    return sums


def _all_count(train: Tensor, scale: Scale, per_image_topk: int | None) -> bool:
    """Return whether all windows of an image count for its score."""
    if per_image_topk is None:
        return True
    rows, columns = (len(range(0, scale.positions(size), scale.train_stride)) for size in train.shape[2:])
    return per_image_topk >= rows * columns


def _as_masses(log_total: Tensor, log_counted: Tensor) -> DeviceMasses:
    """Take masses [N, P] out of their logs."""
    unit = log_total.amax(dim=0)  # [P]
    unit = unit.where(unit.isfinite(), 0.0)  # [P]
    total = (log_total - unit).exp()  # [N, P]
    counted = total if log_counted is log_total else (log_counted - unit).exp()  # [N, P]
    sums, units = torch.stack([total.sum(dim=0), unit]).cpu().numpy()
    return DeviceMasses(total, counted, sums, units, np.arange(len(units)))

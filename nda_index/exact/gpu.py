"""The exact posterior on a GPU: products of windows on tensor cores, in one pass that keeps the masses of all images.

The kernels (`nda_index.exact.gpu_kernels`) compare windows of equal overhang of images that are made of bytes, without
`per_image_topk`, where sigma bears the rounding of products (`LARGEST_ERROR`). For all else there is
`nda_index.exact.gpu_plain`: float64 on the same device, some thirty times slower. `block_masses` chooses, query by
query.

Weights are float32 numbers relative to a good match at each position, found in a sample of the images or known from
other blocks. It weighs 2^-`ROOM`, so that far better ones do not overflow; where they do, all images of the block are
searched for the best match, and compared again. What is below 2^-126 is 0: 2^-66 of the good match.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nda_index.diffusion import NoisyImage
from nda_index.errors import MissingDependencyError
from nda_index.exact import gpu_plain
from nda_index.exact.borders import border_is_negligible
from nda_index.exact.gpu_numbers import QueryNumbers, query_numbers, whole_images, window_offsets
from nda_index.exact.gpu_tiles import Side, Tiling, tile_windows
from nda_index.scales import Scale

DEVICE = "cuda"
LARGEST_ERROR = 1e-3  # of a logit, above which float64 is taken
ROOM = 60  # bits by which a match may be better than the good one of the sample, beyond those that float32 has
OVERFLOW = 2.0**100  # a mass this large may have lost terms
SAMPLED = 16  # images that are searched for good matches
KEPT_COORDINATES = 256  # of a window above which it is compared in pieces
PIECE = 64  # coordinates of a piece
PROGRAMS = 4096  # as many as keep a GPU busy to the end
UNMATCHED = 1e29  # above it a distance is that of no pair


@dataclass(frozen=True)
class Tuning:
    """How the kernels run.

    Attributes:
        query_tile, train_tile: windows of a tile; powers of 2 from 16 on.
        warps: of a program, of 32 threads each.
        stages: query tiles that are fetched ahead, that in use included.
        registers: of a thread at most; 0: as the compiler likes. Fewer let more programs run side by side.
        budget: bytes for what a launch reads and writes; images come in blocks that fit.
    """

    query_tile: int = 64
    train_tile: int = 64
    warps: int = 4
    stages: int = 2
    registers: int = 0
    budget: int = 2 << 30


TUNING = Tuning()


@dataclass(frozen=True)
class DeviceMasses:
    """`nda_index.exact.masses.Masses` of one query that stay on the device.

    Attributes:
        total, counted: floats [N, slots], in units of exp(log_unit).
        log_unit: float64 [slots].
        slots: int64 [P], where the query's positions are.
        left_out: what `Masses` says of it is far below its limit here: 2^-66 times the number of pairs at most.
        backend: what computed them.
    """

    total: Tensor
    counted: Tensor
    log_unit: Tensor
    slots: Tensor
    left_out: float = 0.0
    backend: str = "gpu"

    @property
    def log_total(self) -> NDArray[np.float64]:
        """Log of the mass of all images together, float64 [P]; -inf where no window can match."""
        logs = self.log_unit + self.total.sum(dim=0, dtype=torch.float64).log()  # [slots]
        return np.asarray(logs[self.slots].cpu().numpy(), np.float64)

    def scores(self, log_normaliser: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum each image's weights over the query positions: float64 [N]."""
        normaliser = torch.from_numpy(log_normaliser).to(self.slots.device)  # [P]
        share = torch.zeros_like(self.log_unit)  # [slots]
        share[self.slots] = (self.log_unit[self.slots] - normaliser).exp().where(normaliser.isfinite(), 0.0)
        return np.asarray((self.counted.double() @ share).cpu().numpy(), np.float64)

    def fold(self, count: int) -> DeviceMasses:
        """Give an image and its mirror image, `count` places further, one mass."""
        total = self.total[:count] + self.total[count:]  # [count, slots]
        counted = total if self.counted is self.total else self.counted[:count] + self.counted[count:]
        return DeviceMasses(total, counted, self.log_unit, self.slots)


def available() -> bool:
    """Return whether there is a CUDA device, and Triton to make kernels for it."""
    if not torch.cuda.is_available():
        return False
    try:
        import triton  # noqa: F401
    except ImportError:
        return False
    return True


def block_masses(
    queries: Sequence[NoisyImage],
    train: Tensor,
    scale: Scale,
    mask_value: float = np.inf,
    per_image_topk: int | None = None,
    floors: Sequence[NDArray[np.float64] | None] | None = None,
    tuning: Tuning = TUNING,
) -> list[DeviceMasses]:
    """Return the masses of a block of training images for several noisy queries.

    Args:
        queries: noisy images of one shape.
        train: uint8 [N, C, H, W] or floats in [-1, 1], on the device.
        scale: patch and strides.
        mask_value, per_image_topk: as for `nda_index.exact.image_scores`.
        floors: a lower bound of the log of each query's normaliser [P], from other images, or None.
        tuning: how the kernels run.
    """
    floors = floors if floors is not None else [None] * len(queries)
    masses: dict[int, DeviceMasses] = {}
    images = whole_images(train, scale) if _all_count(train, scale, per_image_topk) else None
    if images is not None:
        for sweep, chosen in prepare(queries, scale, train.device, tuning):
            results = sweep_masses(sweep, images, [floors[i] for i in chosen])
            masses.update(zip(chosen, results, strict=True))
    pixels = train.float() / 127.5 - 1.0 if train.dtype == torch.uint8 else train  # [N, C, H, W]
    for i, query in enumerate(queries):
        if i in masses and not np.isinf(mask_value):
            largest = float(pixels.abs().amax())
            if not border_is_negligible(query, largest, len(train), scale, mask_value, masses[i].log_total):
                del masses[i]
        if i not in masses:
            logs = gpu_plain.log_masses(query, pixels, scale, mask_value, per_image_topk, tuning.budget)
            masses[i] = _as_masses(*logs)
    return [masses[i] for i in range(len(queries))]


@dataclass(frozen=True)
class Sweep:
    """Some queries, ready to be compared: what the kernels are given but for the images."""

    tiling: Tiling
    numbers: QueryNumbers
    tables: dict[str, Tensor]  # int32, on the device
    count: int  # coordinates of a window
    kept: tuple[int, int]  # coordinates of a window in two parts, powers of 2; (0, 0): in pieces
    tuning: Tuning

    @property
    def views(self) -> int:
        """Number of queries."""
        return len(self.numbers.high)

    def images_at_once(self) -> int:
        """Return how many images a launch takes within the budget, a multiple of 16 that keeps slices aligned."""
        return int(max(16, self.tuning.budget // (8 * self.views * len(self.tiling.query.positions)) // 16 * 16))


def prepare(
    queries: Sequence[NoisyImage], scale: Scale, device: torch.device, tuning: Tuning = TUNING
) -> list[tuple[Sweep, list[int]]]:
    """Prepare queries that tensor cores can compare, in groups with their numbers; the others are left out."""
    channels, height, width = queries[0].pixels.shape
    tiling = tile_windows(height, width, scale, tuning.query_tile, tuning.train_tile)
    count = channels * scale.taps**2
    kept = _split_coordinates(count)
    coordinates = sum(kept) or -(-count // PIECE) * PIECE
    tables = _tables(channels, height, width, scale, tuning.query_tile, tuning.train_tile, coordinates, device)
    at_once = max(1, tuning.budget // (32 * len(tiling.query.positions) * coordinates))
    groups = []
    for begin in range(0, len(queries), at_once):
        numbers = query_numbers(queries[begin : begin + at_once], scale, tiling, coordinates, device)
        for low in (False, True):
            chosen = np.flatnonzero((numbers.needs_low == low) & (numbers.errors <= LARGEST_ERROR))
            if len(chosen):
                some = numbers.take(chosen) if len(chosen) < len(numbers.errors) else numbers
                groups.append((Sweep(tiling, some, tables, count, kept, tuning), (begin + chosen).tolist()))
    return groups


def sweep_masses(
    sweep: Sweep, images: Tensor, floors: Sequence[NDArray[np.float64] | None] | None = None
) -> list[DeviceMasses]:
    """Return the masses of training images, fp16 [N, C, H', W'] from `whole_images`, for a sweep's queries."""
    slots = sweep.tables["slots"]  # [P]
    nearest = _bound_by_floors(sweep, floors)
    if nearest is None:
        nearest = _find_nearest(sweep, images[:: max(1, len(images) // SAMPLED)][:SAMPLED])
    mass, reference = _sum_weights(sweep, images, nearest)
    if not bool((mass.amax() < OVERFLOW).all()):
        mass, reference = _sum_weights(sweep, images, _find_nearest(sweep, images))
    units = sweep.numbers.units.double()[:, None]  # [V, 1]
    log_unit = -np.log(2) * (reference.double() + units * sweep.numbers.squares)  # [V, slots]
    return [DeviceMasses(mass[v], mass[v], log_unit[v], slots) for v in range(sweep.views)]


def _sum_weights(sweep: Sweep, images: Tensor, nearest: Tensor) -> tuple[Tensor, Tensor]:
    """Return masses [V, N, slots], and the bits of weight 1 at each position, [V, slots], for good matches."""
    # Whole bits: a weight differs in its exponent alone by what it is relative to.
    reference = (nearest * sweep.numbers.units[:, None]).floor() - ROOM  # [V, slots]
    reference = reference.where(sweep.tables["possible"] > 0, 0.0)  # [V, slots]
    out = torch.zeros(sweep.views, len(images), nearest.shape[1], device=images.device)  # [V, N, slots]
    at_once = sweep.images_at_once()
    for begin in range(0, len(images), at_once):
        some = slice(begin, begin + at_once)
        _launch(sweep, images[some], reference, out[:, some], nearest=False)
    return out, reference


def _find_nearest(sweep: Sweep, images: Tensor) -> Tensor:
    """Return the smallest distance less |x|^2 at each position, float [V, slots]; 0 where nothing matches."""
    ordered = torch.full(
        (sweep.views, len(images), len(sweep.tiling.query.positions)), torch.iinfo(torch.int32).max,
        dtype=torch.int32, device=images.device,
    )  # [V, N, slots]  # fmt: skip
    _launch(sweep, images, torch.zeros_like(sweep.numbers.squares, dtype=torch.float32), ordered, nearest=True)
    bits = ordered.amin(dim=1)  # [V, slots]
    nearest = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).view(torch.float32)  # [V, slots]
    return nearest.where(nearest < UNMATCHED, 0.0)


def _bound_by_floors(sweep: Sweep, floors: Sequence[NDArray[np.float64] | None] | None) -> Tensor | None:
    """Return the distances less |x|^2 at which a single pair would sum to the floors, None if these say too little."""
    if floors is None or any(floor is None for floor in floors):
        return None
    known = torch.from_numpy(np.stack([f for f in floors if f is not None])).to(sweep.numbers.squares.device)  # [V, P]
    slots = sweep.tables["slots"]
    if not bool((known.isfinite() | (sweep.tables["possible"][slots] == 0)).all()):
        return None
    bits = torch.zeros_like(sweep.numbers.squares)  # [V, slots]
    bits[:, slots] = known.where(known.isfinite(), 0.0) / -np.log(2)
    return (bits / sweep.numbers.units.double()[:, None] - sweep.numbers.squares).float()  # [V, slots]


def _launch(sweep: Sweep, images: Tensor, reference: Tensor, out: Tensor, *, nearest: bool) -> None:
    """Compare all pairs of tiles that meet, those inside the images first, and write to `out` [V, N, slots]."""
    kernels = _import_kernels()
    tiling, numbers, tables, tuning = sweep.tiling, sweep.numbers, sweep.tables, sweep.tuning
    inside, tiles = tiling.train.inside, tiling.train.tiles
    slots = len(tiling.query.positions)
    runs = ((0, tiles, True),) if nearest else ((0, inside, False), (inside, tiles, True))
    for begin, end, masked in runs:  # one kernel less to compile for a few images
        if begin == end:
            continue
        # A program that takes all tiles of an image adds them up in one order: as long as there are enough images.
        parts = 1 if len(images) >= PROGRAMS else min(end - begin, -(-PROGRAMS // len(images)))
        each = -(-(end - begin) // parts)
        parts = -(-(end - begin) // each)
        target = out if parts == 1 else torch.empty(parts, *out.shape, dtype=out.dtype, device=out.device)
        if parts > 1:
            target.fill_(torch.iinfo(torch.int32).max if nearest else 0)
        shared = (
            images, images[0].numel(), tables["starts"], tables["train_classes"], tables["offsets"], numbers.high,
            numbers.low, tables["query_classes"], numbers.units, reference, tables["first"], tables["last"], target,
            target.stride(-3), sweep.views, slots, begin, end, each, -2.0 * numbers.divisor,
        )  # fmt: skip
        options: dict[str, Any] = {
            "BP": tuning.query_tile, "BQ": tuning.train_tile, "LOW": bool(numbers.needs_low.any()) and not nearest,
            "MASKED": masked, "NEAREST": nearest, "num_warps": tuning.warps, "num_stages": tuning.stages,
        }  # fmt: skip
        if tuning.registers:
            options["maxnreg"] = tuning.registers
        if sweep.kept[0]:
            kernels.sweep[len(images), parts](
                *shared, COUNT=sweep.count, KA=sweep.kept[0], KB=sweep.kept[1], **options
            )  # fmt: skip
        else:
            kernels.sweep_pieces[len(images), parts](*shared, numbers.high.shape[2], KC=PIECE, **options)
        if parts > 1 and nearest:
            torch.minimum(out, target.amin(dim=0), out=out)
        elif parts > 1:
            out += target.sum(dim=0)


def _split_coordinates(count: int) -> tuple[int, int]:
    """Split a window's coordinates in two powers of 2 of at least 16 that hold them; (0, 0) where they are too many.

    Example:
        >>> [_split_coordinates(count) for count in (9, 48, 147, 75, 1000)]
        [(16, 0), (32, 16), (128, 32), (64, 16), (0, 0)]
    """
    if count > KEPT_COORDINATES:
        return 0, 0
    whole = 1 << (count - 1).bit_length()
    if count <= 16 or count > whole * 3 // 4:
        return max(16, whole), 0
    rest = count - whole // 2
    return whole // 2, max(16, 1 << (rest - 1).bit_length())


@lru_cache(maxsize=64)
def _tables(
    channels: int, height: int, width: int, scale: Scale, query_tile: int, train_tile: int, coordinates: int,
    device: torch.device,
) -> dict[str, Tensor]:  # fmt: skip
    """Put a tiling on the device."""
    tiling = tile_windows(height, width, scale, query_tile, train_tile)
    offsets = np.full(coordinates, -1, np.int64)
    offsets[: channels * scale.taps**2] = window_offsets(channels, height, width, scale)
    arrays: dict[str, NDArray[Any]] = {
        "starts": tiling.train.starts, "train_classes": tiling.train.classes, "query_classes": tiling.query.classes,
        "offsets": offsets, "first": tiling.first, "last": tiling.last, "possible": tiling.possible,
    }  # fmt: skip
    tables = {name: torch.from_numpy(array.astype(np.int32)).to(device) for name, array in arrays.items()}
    return tables | {"slots": torch.from_numpy(_slots_of(tiling.query)).to(device)}


def _slots_of(side: Side) -> NDArray[np.int64]:
    """Return the slot of each position."""
    filled = np.flatnonzero(side.positions >= 0)
    return filled[np.argsort(side.positions[filled])]


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
    return DeviceMasses(total, counted, unit, torch.arange(len(unit), device=unit.device))


def _import_kernels() -> Any:
    try:
        from nda_index.exact import gpu_kernels
    except ImportError as error:
        raise MissingDependencyError(
            "the GPU backend needs Triton, which is not installed; `pip install triton`"
        ) from error
    return gpu_kernels

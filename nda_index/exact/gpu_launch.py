"""Launches of the GPU backend: queries and tables on the device, and the kernels over blocks of images.

Few launches and no wait: a shortlist is compared in two milliseconds, in which a few hundred small operations could not
even be asked for. What depends on shapes alone is kept on the device (`_tables`); what is small is computed on the CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nda_index.diffusion import NoisyImage
from nda_index.errors import ConfigError, MissingDependencyError
from nda_index.exact.gpu_numbers import BYTES, Coding, QueryNumbers, coordinate_offsets, plane_shape, query_numbers
from nda_index.exact.gpu_tiles import Tiling, tile_windows
from nda_index.scales import Scale

LARGEST_ERROR = 1e-3  # of a logit, above which float64 is taken
ROOM = 70  # bits by which a match may be better than a good one of the sample, beyond the 127 that float32 has
KEPT_COORDINATES = 256  # of a window above which it is compared in pieces
PIECE = 64  # coordinates of a piece
WIDE = 192  # coordinates above which a kernel spills unless it has more warps or all registers
PROGRAMS = 1024  # as many keep a GPU busy: with fewer images an image has several
UNMATCHED = 1e29  # above it a distance is that of no pair
# Windows. On an H200 a kernel of 128 stops with an illegal access (memcheck: "Out-of-range shared or local address").
# It is the compiler's error: ptxas 12.8, which Triton 3.6 brings along, makes that kernel, and the one that ptxas 13.0
# makes of the same code is right.
LARGEST_QUERY_TILE = 64


@dataclass(frozen=True)
class KernelTuning:
    """How a kernel runs.

    Attributes:
        tile: training windows that are compared with a tile of the query's; a power of 2 from 16 on.
        warps: of a program, of 32 threads each.
        stages: of Triton's own pipeline of fetches; besides, the kernel of whole windows fetches the next tile itself.
        registers: of a thread at most; 0: as the compiler likes. Fewer let more programs run side by side.
    """

    tile: int
    warps: int = 4
    stages: int = 2
    registers: int = 0


@dataclass(frozen=True)
class Tuning:
    """How the kernels run, as they were fastest on an H200: benchmarks/results/gpu.md has the others that were timed.

    Attributes:
        inside: the kernel of windows inside the image. Its tile is a multiple of the border's.
        border: the kernel of all others, and of the search for good matches.
        query_tile: windows of the query in a tile; at most 64, see `LARGEST_QUERY_TILE`.
        budget: bytes for what a launch reads and writes; images come in blocks that fit.

    Raises:
        ConfigError: tiles that do not fit each other, or may not be.
    """

    inside: KernelTuning = KernelTuning(128, 4, 1, 168)
    border: KernelTuning = KernelTuning(64, 4, 1, 128)
    query_tile: int = 64
    budget: int = 2 << 30

    def __post_init__(self) -> None:
        tiles = (self.query_tile, self.border.tile, self.inside.tile)
        if any(tile < 16 or tile & (tile - 1) for tile in tiles) or self.inside.tile < self.border.tile:
            raise ConfigError(f"tiles are {tiles}; they must be powers of 2 from 16 on, the border's the smaller one")
        if self.query_tile > LARGEST_QUERY_TILE:
            raise ConfigError(f"query_tile is {self.query_tile}; it must be {LARGEST_QUERY_TILE} or less")


TUNING = Tuning()


@dataclass(frozen=True)
class Sweep:
    """Some queries on the device, ready to be compared with images.

    Attributes:
        tiling: which tiles meet.
        numbers: the queries' numbers on the CPU.
        high, low: fp16 [V, slots, K'], windows of the queries: block sums divided by `divisor`, and what fp16 lacks.
        units: float32 [V], bits of a distance of 1.
        tables: int32, what depends on shapes alone.
        count: coordinates of a window.
        kept: coordinates of a window in two parts, powers of 2; (0, 0): in pieces.
        tuning: how the kernels run.
    """

    tiling: Tiling
    numbers: QueryNumbers
    high: Tensor
    low: Tensor
    units: Tensor
    tables: dict[str, Tensor]
    count: int
    kept: tuple[int, int]
    tuning: Tuning

    @property
    def views(self) -> int:
        """Number of queries."""
        return len(self.high)

    @property
    def slots(self) -> int:
        """Number of places in the query's tiles."""
        return len(self.tiling.query.positions)

    @property
    def takes_low(self) -> bool:
        """Whether the second part of the queries is multiplied."""
        return bool(self.numbers.needs_low.any())


def prepare(
    queries: Sequence[NoisyImage],
    scale: Scale,
    device: torch.device,
    tuning: Tuning = TUNING,
    coding: Coding = BYTES,
) -> list[tuple[Sweep, list[int]]]:
    """Prepare queries that tensor cores can compare, in groups with their numbers; the others are left out.

    Args:
        queries: noisy images of one shape.
        scale: patch and strides.
        device: where they will be compared.
        tuning: how the kernels run.
        coding: of the images that they will be compared with, from `code_images`.
    """
    channels, height, width = queries[0].pixels.shape
    tiling = tile_windows(height, width, scale, tuning.query_tile, tuning.border.tile)
    count = coding.coordinates(channels, scale)
    kept = split_coordinates(count)
    coordinates = sum(kept) or -(-count // PIECE) * PIECE
    tiles = tuning.query_tile, tuning.border.tile
    tables = _tables(channels, height, width, scale, coding.parts, tiles, coordinates, device)
    slots = len(tiling.query.positions)
    at_once = max(1, tuning.budget // (16 * slots * coordinates))
    groups = []
    for begin in range(0, len(queries), at_once):
        numbers = query_numbers(queries[begin : begin + at_once], scale, tiling, coding)
        for low in (False, True):
            chosen = np.flatnonzero((numbers.needs_low == low) & (numbers.errors <= LARGEST_ERROR))
            if len(chosen):
                some = numbers.take(chosen) if len(chosen) < len(numbers.errors) else numbers
                planes = to_device(some.planes[: 1 + low], device)  # [1 or 2, V, planes H' W' + 1]
                windows = planes.index_select(2, tables["windows"])  # [1 or 2, V, slots K']
                windows = windows.view(1 + low, len(chosen), slots, coordinates)
                units = to_device(some.units, device)
                sweep = Sweep(tiling, some, windows[0], windows[-1], units, tables, count, kept, tuning)
                groups.append((sweep, (begin + chosen).tolist()))
    return groups


def find_references(sweep: Sweep, images: Tensor) -> Tensor:
    """Return the bits of weight 1 at each position, float [V, slots], where the best match in images has 2^-`ROOM`."""
    kernels = import_kernels()
    ordered = torch.full(
        (sweep.views, sweep.slots), torch.iinfo(torch.int32).max, dtype=torch.int32, device=images.device
    )  # [V, slots]
    reference = torch.empty(sweep.views, sweep.slots, device=images.device)  # [V, slots]
    _launch(sweep, images, reference, ordered, inside=False, nearest=True)
    kernels.choose_references[sweep.views, -(-sweep.slots // 256)](
        ordered, sweep.units, sweep.tables["possible"], reference, sweep.slots, float(ROOM), UNMATCHED, BLOCK=256
    )
    return reference


def references_of_floors(sweep: Sweep, floors: Sequence[NDArray[np.float64] | None] | None) -> Tensor | None:
    """Return references of floors of log normalisers [P] from other images, None where these say too little."""
    if floors is None or any(floor is None for floor in floors):
        return None
    known = np.stack([floor for floor in floors if floor is not None])  # [V, P]
    finite, slots = np.isfinite(known), sweep.tiling.query.slots
    if not (finite | ~sweep.tiling.possible[slots]).all():
        return None
    bits = np.zeros_like(sweep.numbers.squares)  # [V, slots]
    bits[:, slots] = np.where(finite, known, 0.0) / -np.log(2)
    bits -= sweep.numbers.units.astype(np.float64)[:, None] * sweep.numbers.squares  # [V, slots]
    reference = np.where(sweep.tiling.possible, np.floor(bits) - ROOM, 0.0).astype(np.float32)
    return to_device(reference, sweep.high.device)


def sum_weights(sweep: Sweep, images: Tensor, reference: Tensor) -> Tensor:
    """Return masses, float [V, N, slots]; infinite where a match is far better than those of `reference`."""
    out = torch.zeros(sweep.views, len(images), sweep.slots, device=images.device)  # [V, N, slots]
    step = sweep.tuning.inside.tile // sweep.tuning.border.tile
    inside, tiles = sweep.tiling.train.inside // step, sweep.tiling.train.tiles
    at_once = max(16, sweep.tuning.budget // (8 * sweep.views * sweep.slots))  # what parts take is within the budget
    for begin in range(0, len(images), at_once):
        block = images[begin : begin + at_once]
        end = begin + len(block)
        # A program that takes all tiles of an image adds them up in one order; several have each a place of their own.
        parts = 1 if len(block) >= PROGRAMS else min(tiles, -(-PROGRAMS // len(block)))
        places = out[None, :, begin:end]  # [1, V, n, slots]
        if parts > 1:
            places = torch.zeros(parts, *places.shape[1:], device=images.device)  # [parts, V, n, slots]
        if inside:
            _launch(sweep, block, reference, places, inside=True)
        _launch(sweep, block, reference, places, inside=False)
        if parts > 1:
            torch.sum(places, dim=0, out=out[:, begin:end])
    return out


def _launch(
    sweep: Sweep, images: Tensor, reference: Tensor, out: Tensor, *, inside: bool, nearest: bool = False
) -> None:
    """Compare images with the queries: training tiles inside the images, or all others; all with `nearest`.

    Args:
        sweep: the queries.
        images: fp16 [N, C, H', W'].
        reference: float [V, slots].
        out: float [parts, V, N, slots]; with `nearest` int32 [V, slots].
        inside, nearest: what is compared, and whether the smallest distance is wanted.
    """
    kernels, tables, tuning = import_kernels(), sweep.tables, sweep.tuning
    wide = inside and sweep.kept[0] > 0  # pieces have the border's tiles everywhere
    how = spare_registers(tuning.inside if wide else tuning.border, sweep.kept, inside=wide)
    step = tuning.inside.tile // tuning.border.tile  # border's tiles in one of the inside
    whole = sweep.tiling.train.inside // step * step
    begin, end = (0, whole) if inside else (0 if nearest else whole, sweep.tiling.train.tiles)
    begin, end = begin * tuning.border.tile // how.tile, end * tuning.border.tile // how.tile
    if begin == end:
        return
    parts = min(end - begin, -(-PROGRAMS // len(images))) if nearest else len(out)
    each = -(-(end - begin) // parts)
    options: dict[str, Any] = {
        "BP": tuning.query_tile, "BQ": how.tile, "LOW": sweep.takes_low and not nearest, "MASKED": not inside,
        "NEAREST": nearest, "num_warps": how.warps, "num_stages": how.stages,
    }  # fmt: skip
    if how.registers:
        options["maxnreg"] = how.registers
    shared = (
        images, images.stride(0), tables["starts"], tables["train_classes"], tables["offsets"], sweep.high, sweep.low,
        tables["query_classes"], sweep.units, reference, tables["first"], tables["last"], out,
        0 if nearest else out.stride(1), sweep.views, sweep.slots, begin, end, each, -2.0 * sweep.numbers.divisor,
    )  # fmt: skip
    if sweep.kept[0]:
        kernels.sweep[len(images), -(-(end - begin) // each)](
            *shared, COUNT=sweep.count, KA=sweep.kept[0], KB=sweep.kept[1], **options
        )  # fmt: skip
    else:
        kernels.sweep_pieces[len(images), -(-(end - begin) // each)](*shared, sweep.high.shape[2], KC=PIECE, **options)


def spare_registers(how: KernelTuning, kept: tuple[int, int], *, inside: bool) -> KernelTuning:
    """Change a tuning for windows that would spill: those in pieces, or of many coordinates.

    Args:
        how: the tuning of usual windows.
        kept: coordinates of a window, from `split_coordinates`.
        inside: whether the kernel is that of windows inside the image, which has more warps then.

    Example:
        >>> spare_registers(KernelTuning(128, 4, 1, 168), (256, 0), inside=True)
        KernelTuning(tile=128, warps=8, stages=1, registers=0)
    """
    if 0 < sum(kept) <= WIDE:
        return how
    return replace(how, registers=0, warps=8 if inside else how.warps)


def split_coordinates(count: int) -> tuple[int, int]:
    """Split a window's coordinates in two powers of 2 of at least 16 that hold them; (0, 0) where they are too many.

    Example:
        >>> [split_coordinates(count) for count in (9, 48, 147, 75, 1000)]
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
    channels: int, height: int, width: int, scale: Scale, parts: int, tiles: tuple[int, int], coordinates: int,
    device: torch.device,
) -> dict[str, Tensor]:  # fmt: skip
    """Put a tiling on the device, after a check that nothing in it points outside of what the kernels are given."""
    tiling = tile_windows(height, width, scale, *tiles)
    query, train = tiling.query, tiling.train
    used = coordinate_offsets(channels, height, width, scale, parts)  # [K]
    offsets = np.full(coordinates, -1, np.int64)
    offsets[: len(used)] = used
    rows, columns = plane_shape(height, width, scale)
    size = (channels if parts == 1 else 2 * channels + 1) * rows * columns
    check_bounds(tiling, used, size)
    at = query.starts[:, None] + offsets  # [slots, K']
    windows = np.where((query.starts >= 0)[:, None] & (offsets >= 0), at, size)  # `size` is where the planes have a 0
    arrays: dict[str, NDArray[Any]] = {
        "starts": train.starts, "train_classes": train.classes, "query_classes": query.classes, "offsets": offsets,
        "first": tiling.first, "last": tiling.last, "possible": tiling.possible, "windows": windows.ravel(),
    }  # fmt: skip
    return {name: to_device(array.astype(np.int32), device) for name, array in arrays.items()}


def check_bounds(tiling: Tiling, offsets: NDArray[np.int64], size: int) -> None:
    """Raise an IndexError where a kernel that follows a tiling would read or write outside of its arrays.

    Args:
        tiling: which windows and tiles there are.
        offsets: of a window's coordinates, [K].
        size: number of block sums of an image.
    """
    query, train = tiling.query, tiling.train
    inside = slice(0, train.inside)
    right = {
        "tiles are whole": len(query.starts) % query.tile == 0 and len(train.starts) % train.tile == 0,
        "windows are in the image": all(side.starts.max() + offsets.max() < size for side in (query, train)),
        "tiles that meet exist": (tiling.first >= 0).all() and (tiling.last <= query.tiles).all(),
        "every tile has its range": len(tiling.first) == len(tiling.last) == train.tiles,
        "tiles inside meet the same": len({*zip(tiling.first[inside], tiling.last[inside], strict=True)}) <= 1,
    }
    broken = [rule for rule, holds in right.items() if not holds]
    if broken:
        raise IndexError(f"a tiling is broken, it must be that {', '.join(broken)}")


def to_device(array: NDArray[Any], device: torch.device) -> Tensor:
    """Copy an array to a device without waiting for what the device does: from pinned memory, which torch keeps.

    Its order in memory is the usual one, which kernels take for granted; what NumPy indexes may have another.
    """
    tensor = torch.from_numpy(np.require(array, requirements=["C", "W"]))  # of what is mapped from a file, a copy
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def import_kernels(room: str = "exact") -> Any:
    """Return a room's module of kernels, which needs Triton.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        return import_module(f"nda_index.{room}.gpu_kernels")
    except ImportError as error:
        raise MissingDependencyError(
            "the GPU backend needs Triton, which is not installed; `pip install triton`"
        ) from error

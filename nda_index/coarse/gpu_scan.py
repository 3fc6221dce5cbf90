"""The two passes over resident members: visits are prepared in torch, and the kernels are launched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nda_index.coarse.gpu_lists import ResidentLists
from nda_index.coarse.gpu_work import Work, cut_cells, cut_visits, split_visits
from nda_index.coarse.limits import CEILING, NOTHING, REST_ALIKE
from nda_index.coarse.lists import Images
from nda_index.coarse.visits import Visits, Windows
from nda_index.errors import ConfigError
from nda_index.exact.gpu_launch import import_kernels, to_device

VISIT_NUMBERS = 10  # float64 numbers of a visit and coordinate, while visits are prepared
SMALLEST_TILE, LARGEST_TILE = 16, 64  # windows: a product needs 16, and `exact/gpu_launch.py` says why not more


@dataclass(frozen=True)
class ScanTuning:
    """How the kernels over members run: chosen by registers, which `benchmarks.gpu.resources` counts without a card.

    Attributes:
        windows: of a program; a power of 2 from 16 to 64. Few windows visit a cell.
        members: of a step of a program; a power of 2 from 16 on.
        piece: members of a program.
        warps: of a program, of 32 threads each.
        stages: steps that are fetched ahead, that in use included.
        precision: of products, as Triton names it: "ieee", or "tf32x3" on tensor cores.

    Raises:
        ConfigError: a tile that may not be.
    """

    windows: int = 16
    members: int = 64
    piece: int = 4096
    warps: int = 4
    stages: int = 1
    precision: str = "ieee"

    def __post_init__(self) -> None:
        if not SMALLEST_TILE <= self.windows <= LARGEST_TILE or self.members < SMALLEST_TILE:
            raise ConfigError(
                f"tiles are of {self.windows} windows and {self.members} members; they must be of {SMALLEST_TILE} to "
                f"{LARGEST_TILE} windows, and of {SMALLEST_TILE} members or more"
            )
        if any(tile & (tile - 1) for tile in (self.windows, self.members)):
            raise ConfigError(
                f"tiles are of {self.windows} windows and {self.members} members; they must be powers of 2"
            )


TUNING = ScanTuning()


class _Prepared(NamedTuple):
    """Visits on the device: vectors float [V, K], and weights float [V, 3] of two norms and of 1."""

    vectors: Tensor
    weights: Tensor


def sum_visits(
    lists: ResidentLists, visits: Visits, windows: Windows, images: Images, tuning: ScanTuning, scratch: int
) -> NDArray[np.float64]:
    """Sum what a cell's members weigh for the window that visits it: log masses (base 2) of the visits, [V].

    Args:
        lists: the members.
        visits: to cells that are here.
        windows: of all queries.
        images: that take part.
        tuning: how the kernel runs.
        scratch: bytes for what is computed on the way; visits are taken in blocks that fit.
    """
    allowed, found = _move_mask(lists, images), []
    for some, _ in split_visits(visits, _count_together(lists, scratch)):
        work = cut_visits(some, windows.rows[some.windows], lists.offsets, tuning.windows, tuning.piece)
        prepared = _prepare(lists, some, windows)
        # A multiple of four, so that both are aligned alike and Triton compiles the kernel once.
        highest, sums = torch.empty(2, -(-work.sums // 4) * 4, device=lists.device)  # [pieces and visits]
        if len(work.items):
            import_kernels("coarse").sum_visits[len(work.items),](
                to_device(work.items, lists.device), lists.codes, lists.image_ids, lists.codebook, allowed, *prepared,
                highest, sums, images.count, **_options(lists, images, tuning),
            )  # fmt: skip
        found.append(_merge_pieces(work, highest, sums))
    return torch.cat(found).cpu().numpy() if found else np.empty(0)


def add_votes(
    lists: ResidentLists, visits: Visits, windows: Windows, even: NDArray[np.float32], images: Images,
    tuning: ScanTuning, scratch: int,
) -> NDArray[np.float64]:  # fmt: skip
    """Add up the members' weights for each image and row, [N, R], and even[c, r] for each member of a visited cell.

    Arguments as for `sum_visits`; the windows' constants hold the normalisers, even is float32 [C, R]. A cell may have
    no visitors.
    """
    kernels, allowed = import_kernels("coarse"), _move_mask(lists, images)
    votes = torch.zeros(images.count, even.shape[1], dtype=torch.int64, device=lists.device)  # [N, R]
    given = visits.cells[even[visits.cells].any(axis=1)]
    pieces = cut_cells(given, lists.offsets, tuning.piece)
    if len(pieces):
        whole = np.rint(np.minimum(even[given], 2.0**CEILING) * kernels.VOTE.value).astype(np.int64)
        kernels.add_evenly[len(pieces),](
            to_device(pieces, lists.device), lists.image_ids, allowed, to_device(whole, lists.device), votes,
            *votes.shape, MASKED=images.allowed is not None, BM=tuning.members, num_warps=tuning.warps,
        )  # fmt: skip
    for some, _ in split_visits(visits, _count_together(lists, scratch)):
        work = cut_visits(some, windows.rows[some.windows], lists.offsets, tuning.windows, tuning.piece)
        if len(work.items):
            kernels.add_votes[len(work.items),](
                to_device(work.items, lists.device), lists.codes, lists.image_ids, lists.codebook, allowed,
                *_prepare(lists, some, windows), votes, *votes.shape, **_options(lists, images, tuning),
            )  # fmt: skip
    return np.asarray((votes.double() / kernels.VOTE.value).cpu().numpy())


def pad_coordinates(dimensions: int) -> int:
    """Return the coordinates that a product takes: a power of 2 of at least 16.

    Example:
        >>> [pad_coordinates(dimensions) for dimensions in (5, 28, 32, 33)]
        [16, 32, 32, 64]
    """
    return max(16, 1 << (dimensions - 1).bit_length())


def _options(lists: ResidentLists, images: Images, tuning: ScanTuning) -> dict[str, Any]:
    rows, dimensions = lists.codebook.shape
    return {
        "D": dimensions, "K": pad_coordinates(dimensions), "BYTES": lists.codes.shape[1], "BY_COORDINATE": rows == 2,
        "MASKED": images.allowed is not None, "BW": tuning.windows, "BM": tuning.members,
        "PRECISION": tuning.precision, "num_warps": tuning.warps, "num_stages": tuning.stages,
    }  # fmt: skip


def _count_together(lists: ResidentLists, scratch: int) -> int:
    """Return how many visits may be prepared at a time."""
    return max(1, scratch // (8 * VISIT_NUMBERS * lists.codebook.shape[1]))


def _move_mask(lists: ResidentLists, images: Images) -> Tensor:
    """Return which images take part, uint8 [N]; something that is not read where all do."""
    if images.allowed is None:
        return lists.codes
    return to_device(images.allowed.view(np.uint8), lists.device)


def _prepare(lists: ResidentLists, visits: Visits, windows: Windows) -> _Prepared:
    """Put what a cell's centroid weighs into the vectors and constants of the windows that visit it, in float64.

    A logit is a constant + <v, y> - n |y|^2, with a weight n of its own for the overhang. With y the centroid c and
    what a code adds to it, r, that is (constant + <v, c> - n |c|^2) + <v - 2 n c, r> - n |r|^2.
    """
    device, dimensions = lists.device, lists.codebook.shape[1]
    chosen = visits.windows
    cells = to_device(np.repeat(visits.cells, np.diff(visits.starts)), device)  # [V]
    vectors = to_device(windows.vectors[chosen], device).double()  # [V, d + 2]
    constants = to_device(windows.constants[chosen].astype(np.float64), device)  # [V]
    centroids = lists.centroids[cells].double()  # [V, d]
    norms = vectors[:, dimensions : dimensions + 2]  # [V, 2], below 0
    vectors = vectors[:, :dimensions]  # [V, d]
    vectors[:, dimensions - 3] *= float(np.float32(REST_ALIKE))
    weights = norms[:, :1].expand(-1, dimensions - 2)  # [V, d - 2]
    scaled = centroids * torch.cat([weights, norms[:, 1:].expand(-1, 2)], dim=1)  # [V, d]
    constants = constants + ((vectors + scaled) * centroids).sum(dim=1)  # [V]
    padded = F.pad((vectors + 2 * scaled).float(), (0, pad_coordinates(dimensions) - dimensions))  # [V, K]
    return _Prepared(padded, torch.cat([norms, constants[:, None]], dim=1).float())


def _merge_pieces(work: Work, highest: Tensor, sums: Tensor) -> Tensor:
    """Merge the sums of each visit's pieces, in their order: log masses, float64 [V]; -inf where there is no mass."""
    device = highest.device
    numbers = torch.arange(max(1, int(work.pieces.max(initial=0))), device=device)  # [most pieces]
    places, steps, pieces = (to_device(part, device)[:, None] for part in (work.places, work.steps, work.pieces))
    there = numbers < pieces  # [V, most pieces]
    at = torch.where(there, places + numbers * steps, 0)  # [V, most pieces]
    if not len(highest):
        return torch.full((len(at),), -torch.inf, dtype=torch.float64, device=device)
    tops = torch.where(there, highest[at], NOTHING).double()  # [V, most pieces]
    top = tops.amax(dim=1, keepdim=True)  # [V, 1]
    total = torch.where(there, sums[at] * (tops - top).exp2(), 0.0).sum(dim=1)  # [V]
    return total.log2() + top[:, 0]

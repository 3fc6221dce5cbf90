"""The nearest codes in cells, in plain torch: the same numbers on every device.

Codes are bytes, so squared distances are whole numbers below 2^21, and float32 products of bytes less 128 are exact,
also where a card rounds their factors to 11 bits (TF32). Nothing depends on the order of a sum.

Codes of a cell lie in tiles of `TILE`. All tiles that a query looks at are compared, and of each only the smallest
distance is kept. The k tiles with the smallest of these hold the k nearest codes, so those alone are compared again,
code by code. Memory grows with the tiles, not with the pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

TILE = 64  # codes: more make both passes coarser, fewer leave more minima to sort
CENTRE = 128  # that is taken from bytes
SHARING = (16, 4, 2, 1)  # queries that are compared with a tile in one product
_TOGETHER = 1 << 15  # products of one call: above 65,535 not every library of products is right
_KEPT = 96  # bytes of a tile's smallest distance and of what sorts it
_OFFSET, _FAR = 1 << 21, 1 << 22  # that makes distances less the query's square positive; and is above them all
_SLOTS = 1 << 36  # places of codes in a rank; the distance stands before
_MISSING = 1 << 62  # a rank behind all others


@dataclass(frozen=True)
class Block:
    """Tiles of codes on a device.

    Attributes:
        codes: uint8 [tiles, TILE, d].
        norms: float32 [tiles, TILE], squares of codes less `CENTRE`; infinity where there is no code.
        owners: int32 [tiles, TILE], the picture of each, -1 where there is none.
        first: number of the first tile in the collection.
    """

    codes: Tensor
    norms: Tensor
    owners: Tensor
    first: int


@dataclass(frozen=True)
class Visits:
    """Which tiles of a block queries look at.

    Attributes:
        queries: float32 [q, d], codes less `CENTRE`.
        begin, count: int64 [q, p], the first tile of each visit to a cell, and how many.
    """

    queries: Tensor
    begin: Tensor
    count: Tensor

    def take(self, start: int, stop: int) -> Visits:
        """Return those of some queries."""
        return Visits(self.queries[start:stop], self.begin[start:stop], self.count[start:stop])


def make_block(codes: Tensor, owners: Tensor, first: int, device: str, step: int) -> Block:
    """Copy tiles to a device; codes, owners and first are as in `Block`, and `step` tiles are squared at a time."""
    codes, owners = codes.to(device), owners.to(device)
    norms = torch.empty(owners.shape, dtype=torch.float32, device=codes.device)  # [tiles, TILE]
    for start in range(0, len(codes), step):
        centred = codes[start : start + step].float() - CENTRE  # [step, TILE, d]
        norms[start : start + step] = centred.square_().sum(dim=2)
    return Block(codes, norms.masked_fill_(owners < 0, torch.inf), owners, first)


def choose_cells(queries: Tensor, centroids: Tensor, probes: int, work: int) -> Tensor:
    """Return the nearest cells of queries, int64 [q, probes] in ascending order.

    Args:
        queries: float64 [q, d].
        centroids: float64 [C, d].
        probes: how many, at most C.
        work: bytes that this may take, about.
    """
    squares = centroids.square().sum(dim=1)  # [C]
    chosen = [
        torch.addmm(squares, some, centroids.T, alpha=-2).topk(probes, dim=1, largest=False).indices
        for some in torch.split(queries, max(1, work // (32 * len(centroids))))
    ]
    return torch.cat(chosen).sort(dim=1).values


def rank_nearest(block: Block, visits: Visits, neighbours: int, may: Tensor | None, work: int) -> Tensor:
    """Return the ranks of the nearest codes in a block, int64 [q, neighbours] in ascending order.

    Args:
        block: to be searched.
        visits: to tiles of it.
        neighbours: how many, at most `TILE`.
        may: bool [N + 1], which pictures may be found, the last False; None for all.
        work: bytes that this may take, about.

    Returns:
        Ranks, for `split_ranks`. Of equally near codes the first in the collection's cells has the lower one.
    """
    totals = visits.count.sum(dim=1).tolist()
    parts = [
        _rank(block, visits.take(start, stop), neighbours, may, work)
        for start, stop in _stretches(totals, max(1, work // _KEPT))
    ]
    return torch.cat(parts)


def merge_ranks(parts: Sequence[Tensor], neighbours: int) -> Tensor:
    """Return the lowest ranks of several blocks, int64 [q, neighbours] in ascending order."""
    return torch.cat(list(parts), dim=1).topk(neighbours, dim=1, largest=False).values


def split_ranks(ranks: Tensor) -> tuple[Tensor, Tensor]:
    """Return distances less the query's square and places of ranks, int64; places are -1 where there is no code."""
    missing = ranks == _MISSING
    return (ranks // _SLOTS - _OFFSET).masked_fill(missing, _FAR), (ranks % _SLOTS).masked_fill(missing, -1)


def _stretches(sizes: Sequence[int], most: int) -> Iterator[tuple[int, int]]:
    """Cut a list into stretches [start, stop) whose sizes add up to at most `most`, or that have one element."""
    start, total = 0, 0
    for number, size in enumerate(sizes):
        if total + size > most and number > start:
            yield start, number
            start, total = number, 0
        total += size
    yield start, len(sizes)


def _rank(block: Block, visits: Visits, neighbours: int, may: Tensor | None, work: int) -> Tensor:
    tiles = _best_tiles(visits, _minima(block, visits, may, work), neighbours)  # [q, neighbours]
    inside = torch.arange(TILE, device=tiles.device)  # [TILE]
    dimensions = visits.queries.shape[1]
    step = max(1, min(work // (TILE * (6 * dimensions + 64)), _TOGETHER) // neighbours)  # queries
    parts = []
    for some, asked in zip(torch.split(tiles, step), torch.split(visits.queries, step), strict=True):
        flat = some.clamp(min=0).flatten()  # [s neighbours]
        repeated = asked.repeat_interleave(neighbours, dim=0)[:, None]  # [s neighbours, 1, d]
        keys = _compare(block, flat, repeated, may).view(*some.shape, TILE)  # [s, neighbours, TILE]
        slots = (some[:, :, None] + block.first) * TILE + inside  # [s, neighbours, TILE]
        ranks = (keys.clamp(max=_FAR).long() + _OFFSET) * _SLOTS + slots
        ranks = ranks.where(keys.isfinite() & (some >= 0)[:, :, None], _MISSING)
        parts.append(ranks.flatten(1).topk(neighbours, dim=1, largest=False).values)
    return torch.cat(parts)


def _minima(block: Block, visits: Visits, may: Tensor | None, work: int) -> Tensor:
    """Return the smallest distance, less the query's square, of each tile of each visit: float32 [m], in this order.

    Visits to one cell are compared together, in groups of `SHARING`, so that its tiles are read once for each group.
    """
    begin, count = visits.begin.flatten(), visits.count.flatten()  # [v]
    offsets = count.cumsum(0) - count  # [v]
    minima = torch.empty(int(count.sum()), dtype=torch.float32, device=begin.device)  # [m]
    if len(minima) == 0:
        return minima
    order = begin.where(count > 0, -1).argsort(stable=True)  # [v]
    order = order[int((count == 0).sum()) :]
    sorted_ = begin[order]  # [v], of which equal ones are visits to one cell
    last = torch.cat([sorted_[1:] != sorted_[:-1], torch.ones_like(order[:1], dtype=torch.bool)])  # [v]
    members = last.nonzero()[:, 0].diff(prepend=order.new_full((1,), -1))  # [cells]
    runs = members.repeat_interleave(members)  # [v], visits of the same cell
    place = torch.arange(len(order), device=order.device)  # [v]
    place -= (members.cumsum(0) - members).repeat_interleave(members)
    covered = torch.zeros_like(runs)  # [v]
    for size in SHARING:
        upto = runs // size * size  # [v]
        groups = order[(place >= covered) & (place < upto)].view(-1, size)  # [g, size]
        covered = upto
        ends = count[groups[:, 0]].cumsum(0)  # [g]
        items = int(ends[-1]) if len(ends) else 0
        dimensions = visits.queries.shape[1]
        step = max(1, min(work // (TILE * (6 * dimensions + 32) + size * (8 * dimensions + 16 * TILE)), _TOGETHER))
        for start in range(0, items, step):
            item = torch.arange(start, min(start + step, items), device=order.device)  # [b]
            group = torch.searchsorted(ends, item, right=True)  # [b]
            visit = groups[group]  # [b, size]
            tile = item - (ends[group] - count[visit[:, 0]])  # [b], in the cell
            asked = visits.queries[visit // visits.count.shape[1]]  # [b, size, d]
            keys = _compare(block, begin[visit[:, 0]] + tile, asked, may)  # [b, TILE, size]
            minima[offsets[visit] + tile[:, None]] = keys.amin(dim=1)
    return minima


def _compare(block: Block, tiles: Tensor, asked: Tensor, may: Tensor | None) -> Tensor:
    """Return |x|^2 - 2 x q of the codes x of tiles [b] and queries [b, n, d]: float32 [b, TILE, n]."""
    norms = block.norms[tiles]  # [b, TILE]
    if may is not None:
        norms = norms.where(may[block.owners[tiles].long()], torch.inf)
    codes = torch.sub(block.codes[tiles], torch.tensor(CENTRE, dtype=torch.float32))  # [b, TILE, d], float32 in one go
    return torch.baddbmm(norms[:, :, None], codes, asked.transpose(1, 2), alpha=-2)


def _best_tiles(visits: Visits, minima: Tensor, neighbours: int) -> Tensor:
    """Return the tiles with a query's smallest minima, int64 [q, neighbours]; -1 where it looks at fewer."""
    totals = visits.count.sum(dim=1)  # [q]
    if len(minima) == 0:
        return totals.new_full((len(totals), neighbours), -1)
    query = torch.arange(len(totals), device=totals.device).repeat_interleave(totals)  # [m]
    order = (query * (2 * _FAR) + minima.clamp(max=_FAR - _OFFSET).long() + _OFFSET).argsort(stable=True)  # [m]
    rank = torch.arange(neighbours, device=totals.device)  # [neighbours]
    places = (totals.cumsum(0) - totals)[:, None] + rank  # [q, neighbours]
    chosen = order[places.clamp(max=len(order) - 1)]  # [q, neighbours]
    begin, count = visits.begin.flatten(), visits.count.flatten()  # [v]
    ends = count.cumsum(0)  # [v]
    visit = torch.searchsorted(ends, chosen, right=True)  # [q, neighbours]
    tiles = begin[visit] + chosen - (ends - count)[visit]
    return tiles.where(rank < totals[:, None], -1)

"""Votes: an estimate of every image's score from the cells of the inverted lists.

For each window of the query the cells are ordered by the mass that they can hold. Flat cells, whose members weigh
nearly the same, count by their table value without a look at the members. Of the others the best are visited, until
what is left of the window's mass is under a target: each member of a visited cell adds its own weight. A broad
posterior is made of flat cells and costs a table, a sharp one costs a few visits; the method need not know which it is.

`visit_cells` sums what the members weigh here; the sums of all shards together make `CellVisit.probe` the votes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nda_index.coarse import cell_kernels
from nda_index.coarse.cells import Cells
from nda_index.coarse.member_kernels import Visits
from nda_index.coarse.scan import REST_ALIKE, Scan
from nda_index.coarse.windows import QueryWindows

# Where these come from: docs/studies/shortlist.md.
DEFAULT_PROBES = 4  # cells that a window visits at most; 16 find what 4 find
UNVISITED = 0.01  # of a window's mass may be left in cells that are neither visited nor flat
FLAT = 1.0  # standard deviation of the logits, in nats, up to which a cell is flat
FAR = 24.0  # cells whose mass is below 2^-FAR of the best one's are not looked at
SAME_VARIANCE = 1.25  # windows whose variances differ by less than this factor share a table of cells
OVERHANG_VARIANCES = 20.0  # weight of a mismatch in overhang, so that it counts at any variance


@dataclass(frozen=True)
class _Choice:
    """The cells that one query visits.

    Attributes:
        windows: of the query, by ascending variance.
        vectors: float32 [W, d + 2], what a member's coordinates and two norms are multiplied with.
        constants: float64 [W], what is added for the logarithm of a weight.
        masses, is_flat: float32 and bool [W, C], from `cell_kernels.weigh_cells`.
        cells: int64 [W, probes], from `cell_kernels.choose_cells`, -1 after the last one.
        flat_total: float64 [W], from there too: logarithm of the mass of the flat cells.
    """

    windows: QueryWindows
    vectors: NDArray[np.float32]
    constants: NDArray[np.float64]
    masses: NDArray[np.float32]
    is_flat: NDArray[np.bool_]
    cells: NDArray[np.int64]
    flat_total: NDArray[np.float64]


@dataclass(frozen=True)
class Probe:
    """The coarse stage's estimate for queries at one scale.

    Attributes:
        votes: float64 [N], the images' estimated scores: of all queries together, each times its factor. A query's
            sum to the number of its windows.
    """

    votes: NDArray[np.float64]
    _queries: tuple[QueryWindows, ...]
    _scan: Scan
    _totals: NDArray[np.float64]

    def totals_of(self, images: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Sum what some images, bool [N], weigh in the visited cells: log masses of the windows, [W]."""
        scan = replace(self._scan, allowed=images)
        return scan.sum_windows(scan.sum_visits())

    def held(self, inside: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        """Return the part of the visited cells' mass that some images hold at each query's positions.

        Args:
            inside: float64 [W], from `totals_of` these images, over all shards.

        Returns:
            [rows, columns] for each query: 0 to 1, and NaN where no cell was visited.
        """
        cuts = _cuts(self._queries)
        found = []
        for windows, *parts in zip(self._queries, np.split(inside, cuts), np.split(self._totals, cuts), strict=True):
            rows, columns = windows.shape
            merged = np.full((2, rows * columns), -np.inf)
            for out, part in zip(merged, parts, strict=True):
                np.logaddexp2.at(out, windows.owners, part)
            with np.errstate(invalid="ignore"):
                found.append(np.exp2(merged[0] - merged[1]).reshape(rows, columns))
        return found


@dataclass(frozen=True)
class CellVisit:
    """The visits of queries to cells, before the images of other shards are counted.

    Attributes:
        log_masses: float64 [V], logarithm (base 2) of what the images here weigh, for each visit of a window to a cell.
    """

    log_masses: NDArray[np.float64]
    _choices: tuple[_Choice, ...]
    _factors: tuple[float, ...]
    _scan: Scan

    def probe(self, log_masses: NDArray[np.float64]) -> Probe:
        """Estimate the images' scores, from the log masses of the images on all shards, float64 [V]."""
        largest = max(self._factors)  # kept out of the sums: members that count little beside 1 are left out
        factors = [factor / largest for factor in self._factors]
        votes = largest * _vote(self._scan, self._choices, factors, log_masses)[0]
        queries = tuple(choice.windows for choice in self._choices)
        return Probe(votes, queries, self._scan, self._scan.sum_windows(log_masses))


def probe(
    cells: Cells, windows: QueryWindows, count: int, *, probes: int = DEFAULT_PROBES, allowed: NDArray[np.bool_] | None
) -> Probe:
    """Estimate the scores of all images for one query at one scale, where all images are here.

    Arguments as for `visit_cells`.
    """
    visit = visit_cells(cells, [windows], [1.0], count, probes=probes, allowed=allowed)
    return visit.probe(visit.log_masses)


def visit_cells(
    cells: Cells,
    queries: Sequence[QueryWindows],
    factors: Sequence[float],
    count: int,
    *,
    probes: int = DEFAULT_PROBES,
    allowed: NDArray[np.bool_] | None,
) -> CellVisit:
    """Sum what the members of the cells that queries visit weigh: the first of two passes over them.

    Queries together take less time than each alone: they read a cell's members once.

    Args:
        cells: the inverted lists of the scale.
        queries: the windows of each.
        factors: what each query's votes count; above 0.
        count: number of images N.
        probes: cells that a window visits at most. More leave less of a window's mass out; time grows with them.
        allowed: bool [N], which images take part; None: all.

    Returns:
        The log masses of the images here. Its `probe` is the second pass, once those of all shards are known.
    """
    choices = tuple(_choose_cells(cells, windows, probes) for windows in queries)
    scan = _make_scan(cells, choices, [0] * len(choices), count, allowed)
    return CellVisit(scan.sum_visits(), choices, tuple(factors), scan)


def probe_several(cells: Cells, queries: Sequence[QueryWindows], count: int) -> NDArray[np.float64]:
    """Return the votes of `probe` for several queries at one scale, [Q, N], in less time: they read a cell together.

    Takes 5 bytes for each window and cell, and 4 for each query, image and thread.
    """
    choices = [_choose_cells(cells, windows, DEFAULT_PROBES) for windows in queries]
    scan = _make_scan(cells, choices, range(len(choices)), count, None)
    return _vote(scan, choices, [1.0] * len(choices), scan.sum_visits())


def _choose_cells(cells: Cells, windows: QueryWindows, probes: int) -> _Choice:
    order = np.argsort(windows.variances, kind="stable")
    windows = QueryWindows(
        windows.vectors[order], windows.variances[order], windows.weights[order], windows.owners[order], windows.shape
    )
    variances = windows.variances
    units = np.ones(windows.vectors.shape[1], np.float32)
    units[-2:] = np.sqrt(max(1.0, OVERHANG_VARIANCES * float(variances.max())))
    vectors = windows.vectors * units  # [W, d]
    rest = len(units) - 3
    census = cells.census
    means, spreads = census.means.astype(np.float32) * units, census.variances.astype(np.float32) * units**2  # [C, d]
    extra = np.float32(1 - REST_ALIKE**2) * (means[:, rest] ** 2 + spreads[:, rest])  # [C]
    means[:, rest] *= REST_ALIKE

    groups = _group_by_variance(variances)
    shared = np.array([np.exp(np.log(variances[a:b]).mean()) for a, b in zip(groups[:-1], groups[1:], strict=True)])
    masses = np.empty((len(vectors), len(means)), np.float32)
    is_flat = np.empty(masses.shape, np.bool_)
    cell_kernels.weigh_cells(
        cell_kernels.GroupedWindows(vectors, groups, shared.astype(np.float32)),
        cell_kernels.CellMoments(cell_kernels.read_only(census.counts), means, spreads, extra),
        FLAT,
        masses,
        is_flat,
    )
    chosen = np.empty((len(vectors), probes), np.int64)
    flat_total = np.empty(len(vectors))
    cell_kernels.choose_cells(masses, is_flat, FAR, UNVISITED, chosen, flat_total)

    betas = 1 / (2 * variances * np.log(2))  # [W]
    constants = -betas * (vectors.astype(np.float64) ** 2).sum(axis=1)  # [W]
    # The units are put on the windows alone: queries whose units differ can look at the same members.
    weights = [vectors * units * (2 * betas[:, None]), -betas[:, None], -betas[:, None] * units[-1] ** 2]
    scanned = np.concatenate(weights, axis=1, dtype=np.float32)  # [W, d + 2]
    return _Choice(windows, scanned, constants, masses, is_flat, chosen, flat_total)


def _make_scan(
    cells: Cells, choices: Sequence[_Choice], rows: Sequence[int], count: int, allowed: NDArray[np.bool_] | None
) -> Scan:
    return Scan(
        cells,
        count,
        allowed,
        _sort_by_cell(np.concatenate([choice.cells for choice in choices])),
        np.concatenate([choice.vectors for choice in choices]),
        np.concatenate([choice.constants for choice in choices]),
        np.repeat(rows, [len(choice.vectors) for choice in choices]),
    )


def _vote(
    scan: Scan, choices: Sequence[_Choice], factors: Sequence[float], log_masses: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Normalise each position's windows and add up the votes, [R, N], from the visits' log masses [V]."""
    counts = cell_kernels.read_only(scan.cells.census.counts)
    even = np.zeros((scan.rows.max() + 1, len(counts)))  # [R, C]
    cuts = _cuts([choice.windows for choice in choices])
    visited = np.split(scan.sum_windows(log_masses), cuts)
    log_weights = []
    for choice, factor, part, row in zip(choices, factors, visited, scan.rows[[0, *cuts]], strict=True):
        owners = choice.windows.owners
        normaliser = np.full(owners.max() + 1, -np.inf)
        np.logaddexp2.at(normaliser, owners, np.logaddexp2(part, choice.flat_total))
        log_weights.append(np.log2(choice.windows.weights) - normaliser[owners])
        flat = np.empty(len(counts))
        cell_kernels.sum_flat(choice.masses, choice.is_flat, log_weights[-1], counts, flat)
        even[row] += factor * flat
    log_factors = np.repeat(np.log2(factors), [len(part) for part in log_weights])
    return scan.add_votes(
        log_masses, np.concatenate(log_weights), log_factors, np.ascontiguousarray(even.T, np.float32)
    )


def _cuts(queries: Sequence[QueryWindows]) -> NDArray[np.int64]:
    """Return where the windows of all queries, one query after another, go from one to the next."""
    return np.cumsum([len(windows.weights) for windows in queries])[:-1]


def _group_by_variance(variances: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return where ascending variances leave the range of a factor of `SAME_VARIANCE`: the starts, and the end."""
    step = np.floor(np.log(variances / variances[0]) / np.log(SAME_VARIANCE))
    return np.concatenate([[0], np.flatnonzero(np.diff(step)) + 1, [len(variances)]])


def _sort_by_cell(chosen: NDArray[np.int64]) -> Visits:
    """Return the visits to each cell, from the cells that each window visits, int64 [W, probes]."""
    windows, _ = np.nonzero(chosen >= 0)
    cells = chosen[chosen >= 0]
    order = np.argsort(cells, kind="stable")
    visited, starts = np.unique(cells[order], return_index=True)
    return Visits(visited, np.append(starts, len(cells)), windows[order])

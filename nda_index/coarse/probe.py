"""Votes: an estimate of every image's score from the cells of the inverted lists.

For each window of the query the cells are ordered by the mass that they can hold. Flat cells, whose members weigh
nearly the same, count by their table value without a look at the members. Of the others the best are visited, until
what is left of the window's mass is under a target: each member of a visited cell adds its own weight. A broad
posterior is made of flat cells and costs a table, a sharp one of a few cells; nothing has to be told which it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numba
import numpy as np
from numpy.typing import NDArray

from nda_index.coarse import kernels
from nda_index.coarse.cells import Cells
from nda_index.coarse.windows import QueryWindows

DEFAULT_PROBES = 4  # more find little more: docs/method.md
UNVISITED = 0.01  # of a window's mass may be left in cells that are neither visited nor flat
THIN = 0.003  # votes of a window that a visited cell must be worth, all its members together, to be given
FAR = 24.0  # cells whose mass is below 2^-FAR of the best one's are not looked at
FLAT = 1.0  # standard deviation of the logits, in nats, up to which a cell is flat
REST_ALIKE = 0.6  # how alike what is left of two patches is beside their coordinates, measured: docs/method.md
SAME_VARIANCE = 1.25  # windows whose variances differ by less than this factor share a table of cells
OVERHANG_VARIANCES = 20.0  # weight of a mismatch in overhang, so that it counts at any variance


@dataclass(frozen=True)
class _Visits:
    """Which windows visit which cells: cells[a] is visited by windows[starts[a] : starts[a + 1]]."""

    cells: NDArray[np.int64]
    starts: NDArray[np.int64]
    windows: NDArray[np.int64]


@dataclass(frozen=True)
class _Choice:
    """Which cells a query visits.

    Attributes:
        windows: the query's, by ascending variance.
        vectors: float32 [W, d + 2], what a member's coordinates and two norms are multiplied with.
        constants: float64 [W], what is added for the logarithm of a weight.
        masses, is_flat: [W, C], from `kernels.cell_masses`.
        cells: int64 [W, probes], from `kernels.choose_cells`.
        flat_total: float64 [W], from there.
    """

    windows: QueryWindows
    vectors: NDArray[np.float32]
    constants: NDArray[np.float64]
    masses: NDArray[np.float32]
    is_flat: NDArray[np.bool_]
    cells: NDArray[np.int64]
    flat_total: NDArray[np.float64]


@dataclass(frozen=True)
class _Scan:
    """What the passes over the members share. The windows may be those of several queries, one after another."""

    cells: Cells
    count: int
    allowed: NDArray[np.bool_] | None
    visits: _Visits
    vectors: NDArray[np.float32]
    constants: NDArray[np.float64]

    def masses(self) -> NDArray[np.float64]:
        """Logarithm of what a cell's members weigh for the window that visits it, for each visit: [V]."""
        highest = np.full(len(self.visits.windows), kernels.NOTHING, np.float32)
        sums = np.zeros(len(self.visits.windows), np.float32)
        for arguments in self._arguments(self.visits, self.constants):
            kernels.sum_visits(*arguments, numba.get_num_threads(), highest, sums)
        with np.errstate(divide="ignore"):
            return np.asarray(np.log2(sums) + highest.astype(np.float64))

    def totals(self, masses: NDArray[np.float64]) -> NDArray[np.float64]:
        """Logarithm of what the members of all its visited cells weigh for each window, [W]."""
        out = np.full(len(self.vectors), -np.inf)
        np.logaddexp2.at(out, self.visits.windows, masses)
        return out

    def votes(
        self,
        masses: NDArray[np.float64],
        log_weights: NDArray[np.float64],
        queries: NDArray[np.int64],
        even: NDArray[np.float32],
    ) -> NDArray[np.float64]:
        """Votes of each query: [Q, N].

        Visits [V] have a mass; windows [W] have a logarithm to add and belong to a query; even [C, Q] is what each
        member gets of a cell.
        """
        counts = self.cells.counts
        held = even * counts[:, None]  # [C, Q]
        matters = (held > 1e-7 * held.sum(axis=0)).any(axis=1)
        matters[self.visits.cells] = True
        everything = np.flatnonzero(matters)
        worth = np.exp2(masses + log_weights[self.visits.windows]) > THIN  # [V]
        sizes = np.zeros(len(counts), np.int64)
        sizes[self.visits.cells] = np.add.reduceat(worth, self.visits.starts[:-1]) if len(worth) else 0
        starts = np.concatenate([[0], np.cumsum(sizes[everything])])
        found = np.zeros((numba.get_num_threads(), self.count, even.shape[1]), np.float32)
        visits = _Visits(everything, starts, self.visits.windows[worth])
        for arguments in self._arguments(visits, self.constants + log_weights):
            kernels.add_votes(*arguments, queries, even, found)
        return np.asarray(found.sum(axis=0, dtype=np.float64).T)

    def _arguments(self, visits: _Visits, constants: NDArray[np.float64]) -> list[tuple[object, ...]]:
        allowed = self.allowed if self.allowed is not None else np.empty(0, np.bool_)
        return [
            (
                segment.codes, segment.image_ids, segment.offsets, allowed, self.count, self.cells.centroids,
                self.cells.codebook, np.float32(REST_ALIKE), visits.cells, visits.starts, visits.windows, self.vectors,
                constants.astype(np.float32),
            )
            for segment in self.cells.segments
        ]  # fmt: skip


@dataclass(frozen=True)
class Probe:
    """What the coarse stage found for one query at one scale.

    Attributes:
        votes: float64 [N], the images' estimated scores at weight 1; they sum to the number of the query's windows.
    """

    votes: NDArray[np.float64]
    _windows: QueryWindows
    _scan: _Scan
    _totals: NDArray[np.float64]

    def totals_of(self, images: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Logarithm of what some images, bool [N], weigh in the visited cells for each window, [W]."""
        scan = replace(self._scan, allowed=images)
        return scan.totals(scan.masses())

    def held(self, inside: NDArray[np.float64]) -> NDArray[np.float64]:
        """Part of the mass of the visited cells that images hold at every position, [rows, columns].

        From their `totals_of`; NaN where no cell was visited.
        """
        rows, columns = self._windows.shape
        merged = np.full((2, rows * columns), -np.inf)
        for out, part in zip(merged, (inside, self._totals), strict=True):
            np.logaddexp2.at(out, self._windows.owners, part)
        with np.errstate(invalid="ignore"):
            return np.asarray(np.exp2(merged[0] - merged[1]).reshape(rows, columns))


@dataclass(frozen=True)
class CellVisit:
    """A query's visits to cells, before the images that lie on other shards are counted.

    Attributes:
        log_masses: float64 [V], logarithm (base 2) of what the images here weigh, for each visit of a window to a cell.
    """

    log_masses: NDArray[np.float64]
    _choice: _Choice
    _scan: _Scan

    def probe(self, log_masses: NDArray[np.float64]) -> Probe:
        """Estimate the images' scores, from the log masses of the images on all shards, float64 [V]."""
        votes = _votes(self._scan, [self._choice], log_masses)[0]
        return Probe(votes, self._choice.windows, self._scan, self._scan.totals(log_masses))


def summed_votes(factors: Sequence[float], probes: Sequence[Probe]) -> NDArray[np.float64]:
    """Votes of several noisy queries and scales together, float64 [N]."""
    return np.asarray(sum(factor * found.votes for factor, found in zip(factors, probes, strict=True)), np.float64)


def probe(
    cells: Cells, windows: QueryWindows, count: int, *, probes: int = DEFAULT_PROBES, allowed: NDArray[np.bool_] | None
) -> Probe:
    """Estimate the scores of all images for one query at one scale; arguments as for `visit_cells`."""
    visit = visit_cells(cells, windows, count, probes=probes, allowed=allowed)
    return visit.probe(visit.log_masses)


def visit_cells(
    cells: Cells, windows: QueryWindows, count: int, *, probes: int = DEFAULT_PROBES, allowed: NDArray[np.bool_] | None
) -> CellVisit:
    """Sum what the members of the cells that a query visits weigh: the first of two passes over them.

    Args:
        cells: the scale's inverted lists.
        windows: the query's.
        count: number of images N.
        probes: most cells that a window visits. More find images of sharper posteriors, at a cost that grows alike.
        allowed: bool [N], which images take part; all by default.

    Returns:
        The masses of the images here; its `probe` is the second pass, when those of all images are known.
    """
    choice = _choose(cells, windows, probes)
    scan = _scan(cells, [choice], count, allowed)
    return CellVisit(scan.masses(), choice, scan)


def probe_several(cells: Cells, queries: Sequence[QueryWindows], count: int) -> NDArray[np.float64]:
    """The votes of `probe` for several queries at one scale, [Q, N]: they look at a cell together, in less time.

    Needs 5 bytes for each window and cell, and 4 for each query, image and thread.
    """
    choices = [_choose(cells, windows, DEFAULT_PROBES) for windows in queries]
    scan = _scan(cells, choices, count, None)
    return _votes(scan, choices, scan.masses())


def _choose(cells: Cells, windows: QueryWindows, probes: int) -> _Choice:
    order = np.argsort(windows.variances, kind="stable")
    windows = QueryWindows(
        windows.vectors[order], windows.variances[order], windows.weights[order], windows.owners[order], windows.shape
    )
    variances = windows.variances
    units = np.ones(windows.vectors.shape[1], np.float32)
    units[-2:] = np.sqrt(max(1.0, OVERHANG_VARIANCES * float(variances.max())))
    vectors = windows.vectors * units  # [W, d]
    rest = len(units) - 3
    means, spreads = (part.astype(np.float32) for part in cells.moments)  # [C, d]
    means, spreads = means * units, spreads * units**2
    extra = (1 - REST_ALIKE**2) * (means[:, rest] ** 2 + spreads[:, rest])  # [C]
    means[:, rest] *= REST_ALIKE

    masses = np.empty((len(vectors), len(means)), np.float32)
    is_flat = np.empty(masses.shape, np.bool_)
    groups = _groups(variances)
    shared = np.array([np.exp(np.log(variances[a:b]).mean()) for a, b in zip(groups[:-1], groups[1:], strict=True)])
    kernels.cell_masses(
        vectors, groups, shared.astype(np.float32), means, spreads, cells.counts, extra, FLAT, masses, is_flat
    )
    chosen = np.empty((len(vectors), probes), np.int64)
    flat_total = np.empty(len(vectors))
    kernels.choose_cells(masses, is_flat, FAR, UNVISITED, chosen, flat_total)

    betas = 1 / (2 * variances * np.log(2))  # [W]
    constants = -betas * (vectors.astype(np.float64) ** 2).sum(axis=1)  # [W]
    # The units are put on the windows alone: queries whose units differ can look at the same members.
    weights = [vectors * units * (2 * betas[:, None]), -betas[:, None], -betas[:, None] * units[-1] ** 2]
    scanned = np.concatenate(weights, axis=1, dtype=np.float32)  # [W, d + 2]
    return _Choice(windows, scanned, constants, masses, is_flat, chosen, flat_total)


def _scan(cells: Cells, choices: Sequence[_Choice], count: int, allowed: NDArray[np.bool_] | None) -> _Scan:
    return _Scan(
        cells,
        count,
        allowed,
        _by_cell(np.concatenate([choice.cells for choice in choices])),
        np.concatenate([choice.vectors for choice in choices]),
        np.concatenate([choice.constants for choice in choices]),
    )


def _votes(scan: _Scan, choices: Sequence[_Choice], masses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Votes of each query: [Q, N]. masses [V] are of the visits of all of them."""
    even = np.empty((len(choices), len(scan.cells.counts)))  # [Q, C]
    log_weights = []
    sizes = [len(choice.vectors) for choice in choices]
    parts = np.split(scan.totals(masses), np.cumsum(sizes)[:-1])
    for choice, part, out in zip(choices, parts, even, strict=True):
        owners = choice.windows.owners
        normaliser = np.full(owners.max() + 1, -np.inf)
        np.logaddexp2.at(normaliser, owners, np.logaddexp2(part, choice.flat_total))
        log_weights.append(np.log2(choice.windows.weights) - normaliser[owners])
        kernels.flat_weights(choice.masses, choice.is_flat, log_weights[-1], scan.cells.counts, out)
    queries = np.repeat(np.arange(len(choices)), sizes)
    return scan.votes(masses, np.concatenate(log_weights), queries, np.ascontiguousarray(even.T, np.float32))


def _groups(variances: NDArray[np.float64]) -> NDArray[np.int64]:
    """Where ascending variances leave the range of a factor of `SAME_VARIANCE`: the starts, and the end."""
    step = np.floor(np.log(variances / variances[0]) / np.log(SAME_VARIANCE))
    return np.concatenate([[0], np.flatnonzero(np.diff(step)) + 1, [len(variances)]])


def _by_cell(chosen: NDArray[np.int64]) -> _Visits:
    windows, _ = np.nonzero(chosen >= 0)
    cells = chosen[chosen >= 0]
    order = np.argsort(cells, kind="stable")
    found, starts = np.unique(cells[order], return_index=True)
    return _Visits(found, np.append(starts, len(cells)), windows[order])

"""Votes: an estimate of every image's score from the cells of the inverted lists.

For each window of the query the cells are ordered by the mass that they can hold. Flat cells, whose members weigh
nearly the same, count by their table value without a look at the members. Of the others the best are visited, until
what is left of the window's mass is under a target: each member of a visited cell adds its own weight. A broad
posterior is made of flat cells and costs a table, a sharp one costs a few visits; the method need not know which it is.

`visit_cells` sums what the members weigh here; the sums of all shards together make `CellVisit.probe` the votes. The
lists that it is given know where they lie, in memory or on a GPU, and compute there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nda_index.coarse.lists import Choice, Images, InvertedLists, Rules, Sums, join_backends
from nda_index.coarse.scan import Scan
from nda_index.coarse.visits import GroupedWindows, Windows, sort_by_cell
from nda_index.coarse.windows import QueryWindows

# Where these come from: docs/studies/shortlist.md.
DEFAULT_PROBES = 4  # cells that a window visits at most; 16 find what 4 find
UNVISITED = 0.01  # of a window's mass may be left in cells that are neither visited nor flat
FLAT = 1.0  # standard deviation of the logits, in nats, up to which a cell is flat
FAR = 24.0  # cells whose mass is below 2^-FAR of the best one's are not looked at
SAME_VARIANCE = 1.25  # windows whose variances differ by less than this factor share a table of cells
OVERHANG_VARIANCES = 20.0  # weight of a mismatch in overhang, so that it counts at any variance


@dataclass(frozen=True)
class _Query:
    """One query, and the cells that it visits.

    Attributes:
        windows: of the query, by ascending variance.
        vectors: float32 [W, d + 2], what a member's coordinates and two norms are multiplied with.
        constants: float64 [W], what is added for the logarithm of a weight.
        choice: the cells.
    """

    windows: QueryWindows
    vectors: NDArray[np.float32]
    constants: NDArray[np.float64]
    choice: Choice


@dataclass(frozen=True)
class Probe:
    """The coarse stage's estimate for queries at one scale.

    Attributes:
        votes: float64 [N], the images' estimated scores: of all queries together, each times its factor. A query's
            sum to the number of its windows.
        backend: what computed them, "cpu", "gpu" or "gpu and cpu".
    """

    votes: NDArray[np.float64]
    backend: str
    _queries: tuple[QueryWindows, ...]
    _scan: Scan
    _totals: NDArray[np.float64]

    def totals_of(self, images: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Sum what some images, bool [N], weigh in the visited cells: log masses of the windows, [W]."""
        scan = replace(self._scan, images=replace(self._scan.images, allowed=images))
        return scan.sum_windows(scan.sum_visits().values)

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
        backend: what computed them.
    """

    log_masses: NDArray[np.float64]
    backend: str
    _queries: tuple[_Query, ...]
    _factors: tuple[float, ...]
    _scan: Scan

    def probe(self, log_masses: NDArray[np.float64]) -> Probe:
        """Estimate the images' scores, from the log masses of the images on all shards, float64 [V]."""
        largest = max(self._factors)  # kept out of the sums: members that count little beside 1 are left out
        factors = [factor / largest for factor in self._factors]
        votes, backend = _vote(self._scan, self._queries, factors, log_masses)
        windows = tuple(query.windows for query in self._queries)
        together = join_backends([self.backend, backend])
        return Probe(largest * votes[0], together, windows, self._scan, self._scan.sum_windows(log_masses))


def probe(
    lists: InvertedLists,
    windows: QueryWindows,
    count: int,
    *,
    probes: int = DEFAULT_PROBES,
    allowed: NDArray[np.bool_] | None,
) -> Probe:
    """Estimate the scores of all images for one query at one scale, where all images are here.

    Arguments as for `visit_cells`.
    """
    visit = visit_cells(lists, [windows], [1.0], count, probes=probes, allowed=allowed)
    return visit.probe(visit.log_masses)


def visit_cells(
    lists: InvertedLists,
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
        lists: the inverted lists of the scale: `CpuLists` or `GpuLists`.
        queries: the windows of each.
        factors: what each query's votes count; above 0.
        count: number of images N.
        probes: cells that a window visits at most. More leave less of a window's mass out; time grows with them.
        allowed: bool [N], which images take part; None: all.

    Returns:
        The log masses of the images here. Its `probe` is the second pass, once those of all shards are known.
    """
    chosen = tuple(_choose_cells(lists, windows, probes) for windows in queries)
    scan = _make_scan(lists, chosen, [0] * len(chosen), Images(count, allowed))
    log_masses, backend = scan.sum_visits()
    together = join_backends([backend, *(query.choice.backend for query in chosen)])
    return CellVisit(log_masses, together, chosen, tuple(factors), scan)


def probe_several(lists: InvertedLists, queries: Sequence[QueryWindows], count: int) -> NDArray[np.float64]:
    """Return the votes of `probe` for several queries at one scale, [Q, N], in less time: they read a cell together.

    Takes 5 bytes for each window and cell, and 4 (on a GPU 8) for each query, image and thread.
    """
    chosen = [_choose_cells(lists, windows, DEFAULT_PROBES) for windows in queries]
    scan = _make_scan(lists, chosen, range(len(chosen)), Images(count, None))
    return _vote(scan, chosen, [1.0] * len(chosen), scan.sum_visits().values).values


def _choose_cells(lists: InvertedLists, windows: QueryWindows, probes: int) -> _Query:
    order = np.argsort(windows.variances, kind="stable")
    windows = QueryWindows(
        windows.vectors[order], windows.variances[order], windows.weights[order], windows.owners[order], windows.shape
    )
    variances = windows.variances
    units = np.ones(windows.vectors.shape[1], np.float32)
    units[-2:] = np.sqrt(max(1.0, OVERHANG_VARIANCES * float(variances.max())))
    vectors = windows.vectors * units  # [W, d]
    groups = _group_by_variance(variances)
    shared = np.array([np.exp(np.log(variances[a:b]).mean()) for a, b in zip(groups[:-1], groups[1:], strict=True)])
    grouped = GroupedWindows(vectors, groups, shared.astype(np.float32))
    choice = lists.choose(grouped, units, Rules(probes, UNVISITED, FLAT, FAR))

    betas = 1 / (2 * variances * np.log(2))  # [W]
    constants = -betas * (vectors.astype(np.float64) ** 2).sum(axis=1)  # [W]
    # The units are put on the windows alone: queries whose units differ can look at the same members.
    weights = [vectors * units * (2 * betas[:, None]), -betas[:, None], -betas[:, None] * units[-1] ** 2]
    return _Query(windows, np.concatenate(weights, axis=1, dtype=np.float32), constants, choice)


def _make_scan(lists: InvertedLists, queries: Sequence[_Query], rows: Sequence[int], images: Images) -> Scan:
    windows = Windows(
        np.concatenate([query.vectors for query in queries]),
        np.concatenate([query.constants for query in queries]),
        np.repeat(rows, [len(query.vectors) for query in queries]),
    )
    return Scan(lists, images, sort_by_cell(np.concatenate([query.choice.cells for query in queries])), windows)


def _vote(scan: Scan, queries: Sequence[_Query], factors: Sequence[float], log_masses: NDArray[np.float64]) -> Sums:
    """Normalise each position's windows and add up the votes, [R, N], from the visits' log masses [V]."""
    rows, backends = scan.windows.rows, []
    even = np.zeros((rows.max() + 1, len(scan.lists.cells.centroids)))  # [R, C]
    cuts = _cuts([query.windows for query in queries])
    visited = np.split(scan.sum_windows(log_masses), cuts)
    log_weights = []
    for query, factor, part, row in zip(queries, factors, visited, rows[[0, *cuts]], strict=True):
        owners = query.windows.owners
        normaliser = np.full(owners.max() + 1, -np.inf)
        np.logaddexp2.at(normaliser, owners, np.logaddexp2(part, query.choice.flat_total))
        log_weights.append(np.log2(query.windows.weights) - normaliser[owners])
        flat, backend = query.choice.sum_flat(log_weights[-1])
        even[row] += factor * flat
        backends.append(backend)
    log_factors = np.repeat(np.log2(factors), [len(part) for part in log_weights])
    votes, backend = scan.add_votes(
        log_masses, np.concatenate(log_weights), log_factors, np.ascontiguousarray(even.T, np.float32)
    )
    return Sums(votes, join_backends([*backends, backend]))


def _cuts(queries: Sequence[QueryWindows]) -> NDArray[np.int64]:
    """Return where the windows of all queries, one query after another, go from one to the next."""
    return np.cumsum([len(windows.weights) for windows in queries])[:-1]


def _group_by_variance(variances: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return where ascending variances leave the range of a factor of `SAME_VARIANCE`: the starts, and the end."""
    step = np.floor(np.log(variances / variances[0]) / np.log(SAME_VARIANCE))
    return np.concatenate([[0], np.flatnonzero(np.diff(step)) + 1, [len(variances)]])

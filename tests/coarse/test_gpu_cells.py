"""Cells in torch against the loops on the CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nda_index.coarse import cell_kernels, gpu_cells
from nda_index.coarse.cpu_lists import CpuLists
from nda_index.coarse.gpu_lists import ResidentLists, make_resident
from nda_index.coarse.limits import NOTHING
from nda_index.coarse.lists import Rules
from nda_index.coarse.visits import GroupedWindows
from tests.coarse.lists import make_cells

CPU, PLENTY = torch.device("cpu"), 1 << 30


def grouped_windows(cells: int, dimensions: int, windows: int, groups: int, seed: int) -> GroupedWindows:
    rng = np.random.default_rng(seed)
    cuts = np.unique(np.concatenate([[0, windows], rng.integers(1, windows + 1, groups)]))
    variances = np.sort(np.exp(rng.uniform(-4, 1, len(cuts) - 1)))
    vectors = rng.normal(size=(windows, dimensions)).astype(np.float32)
    return GroupedWindows(vectors, cuts, variances.astype(np.float32))


def both(
    cells: int, dimensions: int, windows: int, seed: int
) -> tuple[CpuLists, ResidentLists, GroupedWindows, NDArray[np.float32]]:
    lists = CpuLists(make_cells(cells, dimensions, (cells * 3, cells), 20, seed=seed))
    units = np.ones(dimensions, np.float32)
    units[-2:] = 2.5
    return lists, make_resident(lists.cells, CPU, PLENTY), grouped_windows(cells, dimensions, windows, 3, seed), units


@settings(max_examples=40, deadline=None, derandomize=True)  # a tie may go either way
@given(
    cells=st.integers(1, 40), dimensions=st.integers(5, 32), windows=st.integers(1, 30), probes=st.integers(1, 6),
    flat=st.sampled_from([0.0, 1.0, 3.0]), scratch=st.sampled_from([1, 5_000, PLENTY]), seed=st.integers(0, 1000),
)  # fmt: skip
def test_the_choice_is_that_of_the_cpu(
    cells: int, dimensions: int, windows: int, probes: int, flat: float, scratch: int, seed: int
) -> None:
    rules = Rules(probes, 0.01, flat, 24.0)
    lists, resident, grouped, units = both(cells, dimensions, windows, seed)
    expected = lists.choose(grouped, units, rules)
    found = gpu_cells.choose(resident, grouped, units, rules, scratch)
    near = np.abs(expected.masses) < 1e6
    flat_masses = np.where(expected.is_flat, expected.masses, NOTHING)
    np.testing.assert_array_equal(found.flat.numpy() > NOTHING, flat_masses > NOTHING)
    np.testing.assert_allclose(found.flat.numpy()[near], flat_masses[near], rtol=2e-5, atol=2e-4)
    np.testing.assert_allclose(found.flat_total, expected.flat_total, rtol=2e-5, atol=2e-4)
    np.testing.assert_array_equal(found.cells, expected.cells)
    log_weights = np.random.default_rng(seed).normal(-expected.masses.max(axis=1).clip(-1e6), 3)
    sums = gpu_cells.sum_flat(found, log_weights, resident.counts, scratch).numpy()
    np.testing.assert_allclose(sums, expected.sum_flat(log_weights).values, rtol=1e-3, atol=1e-9)


def test_masses_are_those_of_the_cpu_also_where_cells_are_far_and_frozen() -> None:
    rules = Rules(4, 0.01, 0.5, 24.0)
    lists, resident, grouped, units = both(30, 28, 40, 3)
    expected = lists.choose(grouped, units, rules)
    moments = gpu_cells._scale_moments(resident, units)
    masses, is_flat = gpu_cells.weigh(moments, grouped, 0, 40, rules.flat)
    np.testing.assert_allclose(masses.numpy(), expected.masses, rtol=2e-5, atol=2e-4)
    np.testing.assert_array_equal(is_flat.numpy(), expected.is_flat)
    assert expected.masses.min() < -500 and 0.05 < expected.is_flat.mean() < 0.95
    assert (lists.cells.census.counts == 0).any() and (lists.cells.census.counts == 1).any()


@pytest.mark.parametrize(
    ("masses", "is_flat"),
    [
        ([0.0, -100.0, -101.0, -140.0], [False, True, True, True]),  # a promising cell, and flat ones far below
        ([NOTHING] * 4, [True] * 4),  # all cells are empty
        ([0.0, -0.5, -1.0, -2.0], [False] * 4),  # none is flat
        ([0.0, -30.0, -1.0, -8.0], [False, False, True, False]),  # one is too far, and one holds too little
    ],
)
def test_edges_of_the_choice(masses: list[float], is_flat: list[bool]) -> None:
    made = np.array([masses], np.float32), np.array([is_flat])
    chosen, flat_total = np.empty((1, 3), np.int64), np.empty(1)
    cell_kernels.choose_cells(*made, 24.0, 0.01, chosen, flat_total)
    tables = torch.from_numpy(made[0]), torch.from_numpy(made[1])
    found = gpu_cells._choose_best(*tables, Rules(3, 0.01, 1.0, 24.0)).numpy()
    assert found[0, :3].tolist() == chosen[0].tolist()
    np.testing.assert_allclose(found[0, 3], flat_total[0])

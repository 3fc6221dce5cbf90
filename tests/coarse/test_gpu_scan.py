"""The kernels over members against float64, on a CUDA device or under Triton's interpreter."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nda_index.coarse import gpu_scan
from nda_index.coarse.cells import Cells
from nda_index.coarse.gpu_lists import make_resident
from nda_index.coarse.gpu_scan import ScanTuning
from nda_index.coarse.gpu_work import cut_visits
from nda_index.coarse.limits import CEILING, FAINT
from nda_index.coarse.lists import Images
from nda_index.coarse.visits import Visits, Windows, sort_by_cell
from nda_index.errors import ConfigError
from nda_index.exact.gpu_launch import import_kernels
from tests.coarse.lists import make_cells, members_of, visit_weights

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
TUNING, PLENTY = ScanTuning(16, 16, 24), 1 << 30
IMAGES = 9


@pytest.fixture(autouse=True)
def needs_triton() -> None:
    pytest.importorskip("triton", reason="the interpreter needs Triton, which is not installed here")


def make_windows(cells: Cells, windows: int, rows: int, seed: int) -> tuple[Visits, Windows]:
    """Windows near the centroids that visit their own cell and another, some of them none."""
    rng = np.random.default_rng(seed)
    number, dimensions = cells.centroids.shape
    own = rng.integers(0, number, windows)
    near = cells.centroids[own].astype(np.float64) + rng.normal(0, 0.1, (windows, dimensions))
    betas = rng.uniform(0.2, 4, (windows, 1))
    vectors = np.concatenate([2 * betas * near, -betas, -3 * betas], axis=1).astype(np.float32)
    constants = -(vectors[:, :-2] * near).sum(axis=1) / 2 + rng.normal(0, 2, windows)
    chosen = np.stack([own, np.where(rng.random(windows) < 0.5, (own + 1) % number, -1)], axis=1)
    chosen[chosen[:, 0] == chosen[:, 1], 1] = -1
    chosen[rng.random(windows) < 0.1] = -1
    return sort_by_cell(chosen), Windows(vectors, constants, np.sort(rng.integers(0, rows, windows)))


SHAPES: dict[str, Any] = {
    "cells": st.integers(1, 6), "dimensions": st.sampled_from([(5, 0), (16, 2), (28, 0), (28, 2), (9, 1), (18, 3)]),
    "sizes": st.lists(st.integers(0, 60), min_size=1, max_size=2), "windows": st.integers(1, 24),
    "some": st.booleans(), "damaged": st.booleans(), "seed": st.integers(0, 999),
}  # fmt: skip


def make(
    cells: int, dimensions: tuple[int, int], sizes: list[int], some: bool, damaged: bool, seed: int
) -> tuple[Cells, Images, NDArray[np.bool_]]:
    lists = make_cells(cells, dimensions[0], tuple(sizes), IMAGES, width=dimensions[1], seed=seed)
    if damaged:
        wrong = [np.where(s.image_ids % 4 == 1, [IMAGES, -7, 1 << 30][seed % 3], s.image_ids) for s in lists.segments]
        segments = [replace(s, image_ids=ids.astype(np.int32)) for s, ids in zip(lists.segments, wrong, strict=True)]
        lists = replace(lists, segments=tuple(segments))
    allowed = np.arange(IMAGES) % 3 > 0 if some else np.ones(IMAGES, np.bool_)
    return lists, Images(IMAGES, allowed if some else None), allowed


@settings(max_examples=12, deadline=None, derandomize=True)
@given(**SHAPES, scratch=st.sampled_from([1, PLENTY]))
def test_the_sums_of_visits_are_those_of_the_definition(
    cells: int, dimensions: tuple[int, int], sizes: list[int], windows: int, some: bool, damaged: bool, seed: int,
    scratch: int,
) -> None:  # fmt: skip
    lists, images, allowed = make(cells, dimensions, sizes, some, damaged, seed)
    visits, windows_ = make_windows(lists, windows, 2, seed)
    resident = make_resident(lists, DEVICE, PLENTY)
    found = gpu_scan.sum_visits(resident, visits, windows_, images, TUNING, scratch)
    with np.errstate(divide="ignore"):
        expected = np.log2(visit_weights(lists, visits, windows_, allowed).sum(axis=1))
    np.testing.assert_allclose(found, expected, atol=2e-5, rtol=1e-6)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(**SHAPES, rows=st.integers(1, 3), scratch=st.sampled_from([1, PLENTY]))
def test_votes_are_the_weights_of_an_images_members_and_what_their_cells_give_evenly(
    cells: int, dimensions: tuple[int, int], sizes: list[int], windows: int, some: bool, damaged: bool, seed: int,
    rows: int, scratch: int,
) -> None:  # fmt: skip
    lists, images, allowed = make(cells, dimensions, sizes, some, damaged, seed)
    visits, windows_ = make_windows(lists, windows, rows, seed)
    even = np.random.default_rng(seed).uniform(0, 2, (cells, rows)).astype(np.float32)
    even[::2] = 0
    even[~np.isin(np.arange(cells), visits.cells)] = 0
    found = gpu_scan.add_votes(make_resident(lists, DEVICE, PLENTY), visits, windows_, even, images, TUNING, scratch)
    weights = np.minimum(visit_weights(lists, visits, windows_, allowed), 2.0**CEILING)
    places, image_ids, _ = members_of(lists)
    expected = np.zeros((IMAGES, rows))
    for member in np.flatnonzero((image_ids >= 0) & (image_ids < IMAGES)):
        if allowed[image_ids[member]]:
            expected[image_ids[member]] += even[places[member]]
            np.add.at(expected[image_ids[member]], windows_.rows[visits.windows], weights[:, member])
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-7)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a kernel that was compiled keeps its axes")
@pytest.mark.parametrize("width", [0, 2])
def test_the_axes_of_older_and_newer_versions_of_triton_give_the_same(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels = import_kernels("coarse")
    lists, images, allowed = make(3, (18, width), [50, 20], True, True, 1)
    visits, windows = make_windows(lists, 20, 1, 1)
    resident, even = make_resident(lists, DEVICE, PLENTY), np.zeros((3, 1), np.float32)
    weights = visit_weights(lists, visits, windows, allowed)
    votes = []
    for first in (False, True):
        monkeypatch.setattr(kernels, "MEMBERS_FIRST", type(kernels.FAINT)(first))
        sums = gpu_scan.sum_visits(resident, visits, windows, images, TUNING, PLENTY)
        with np.errstate(divide="ignore"):
            np.testing.assert_allclose(sums, np.log2(weights.sum(axis=1)), atol=2e-5, rtol=1e-6)
        votes.append(gpu_scan.add_votes(resident, visits, windows, even, images, TUNING, PLENTY))
    np.testing.assert_allclose(votes[0], votes[1], rtol=2e-5, atol=1e-7)


def one_member(logits: list[float]) -> tuple[list[float], float]:
    """The log masses and the vote of one image's only member for windows that give it these logits."""
    lists = make_cells(1, 5, (1,), 1)
    count = len(logits)
    visits = Visits(np.array([0]), np.array([0, count]), np.arange(count))
    windows = Windows(np.zeros((count, 7), np.float32), np.array(logits), np.zeros(count, np.int64))
    resident, images = make_resident(lists, DEVICE, PLENTY), Images(1, None)
    sums = gpu_scan.sum_visits(resident, visits, windows, images, TUNING, PLENTY)
    votes = gpu_scan.add_votes(resident, visits, windows, np.zeros((1, 1), np.float32), images, TUNING, PLENTY)
    return sums.tolist(), votes.item()


def test_faint_members_are_left_out_and_none_counts_more_than_the_ceiling() -> None:
    assert one_member([FAINT + 1, FAINT - 1]) == ([FAINT + 1, FAINT - 1], 2.0 ** (FAINT + 1))
    assert one_member([0.0, -3.0]) == ([0.0, -3.0], 1.125)
    assert one_member([CEILING + 9, 300.0])[1] == 2.0**CEILING
    assert one_member([np.nan, -1.0]) == ([-np.inf, -1.0], 0.5)


def test_results_do_not_depend_on_the_order_of_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    lists, images, _ = make(3, (9, 0), [90, 60], True, False, 5)
    visits, windows = make_windows(lists, 40, 1, 5)
    resident, even = make_resident(lists, DEVICE, PLENTY), np.full((3, 1), 1 / 3, np.float32)

    def compute() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return (
            gpu_scan.sum_visits(resident, visits, windows, images, TUNING, PLENTY),
            gpu_scan.add_votes(resident, visits, windows, even, images, TUNING, PLENTY),
        )

    before = compute()

    def shuffled(*arguments: Any) -> Any:
        work = cut_visits(*arguments)
        assert len(work.items) > 10
        return work._replace(items=np.random.default_rng(0).permutation(work.items))

    monkeypatch.setattr(gpu_scan, "cut_visits", shuffled)
    for one, other in zip(before, compute(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("windows", "members"), [(8, 128), (128, 128), (16, 8), (24, 128), (16, 100)])
def test_tiles_that_may_not_be_are_refused(windows: int, members: int) -> None:
    with pytest.raises(ConfigError, match="they must be"):
        ScanTuning(windows, members)

"""Lists on a GPU, in part and with its errors, against those of the CPU."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from nda_index.coarse import gpu, gpu_cells, gpu_scan, probe
from nda_index.coarse.cells import Cells
from nda_index.coarse.cpu_lists import CpuLists
from nda_index.coarse.gpu import GpuLists, place_lists
from nda_index.coarse.gpu_lists import count_bytes, make_resident
from nda_index.coarse.gpu_scan import ScanTuning
from nda_index.coarse.lists import InvertedLists
from nda_index.coarse.shortlist import shortlist
from nda_index.coarse.windows import QueryWindows
from tests.coarse.lists import make_cells, make_query

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
TUNING = ScanTuning(16, 64, 512)
IMAGES = 50


@pytest.fixture(autouse=True)
def needs_triton() -> None:
    pytest.importorskip("triton", reason="the interpreter needs Triton, which is not installed here")


@pytest.fixture
def cells() -> Cells:
    return make_cells(8, 10, (150, 70), IMAGES, seed=3)


def on_gpu(cells: Cells, part: float = 1.0) -> InvertedLists:
    return place_lists([CpuLists(cells)], DEVICE, int(part * count_bytes(cells)), TUNING)[0]


def make_queries(cells: Cells) -> list[QueryWindows]:
    """A sharp query, whose windows visit cells, and a broad one with flat cells."""
    return [make_query(cells, 6, seed=1, noise=(0.2, 0.3)), make_query(cells, 6, seed=2)]


def ask(lists: InvertedLists, allowed: NDArray[np.bool_] | None = None) -> probe.Probe:
    visit = probe.visit_cells(lists, make_queries(lists.cells), [1.0, 0.25], IMAGES, allowed=allowed)
    return visit.probe(visit.log_masses)


def check_alike(found: probe.Probe, expected: probe.Probe) -> None:
    np.testing.assert_allclose(found.votes, expected.votes, rtol=1e-4, atol=1e-5 * expected.votes.max())
    for count in (5, 20):
        chosen = (shortlist(one.votes, count, 1, None).tolist() for one in (found, expected))
        assert next(chosen) == next(chosen)


@pytest.mark.parametrize("width", [0, 2])
@pytest.mark.parametrize("some", [False, True])
def test_answers_are_those_of_the_cpu(width: int, some: bool) -> None:
    cells = make_cells(8, 10, (150, 70), IMAGES, width=width, seed=3)
    allowed = np.arange(IMAGES) % 4 > 0 if some else None
    expected, found = ask(CpuLists(cells), allowed), ask(on_gpu(cells), allowed)
    assert (found.backend, expected.backend) == ("gpu", "cpu")
    check_alike(found, expected)
    inside = np.arange(IMAGES) % 3 > 0 if allowed is None else allowed & (np.arange(IMAGES) % 3 > 0)
    for one, other in zip(found.held(found.totals_of(inside)), expected.held(expected.totals_of(inside)), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_the_queries_of_these_tests_visit_cells_and_have_flat_ones(cells: Cells) -> None:
    visit = probe.visit_cells(CpuLists(cells), make_queries(cells), [1.0, 1.0], IMAGES, allowed=None)
    assert len(visit.log_masses) > 6
    for query in visit._queries:
        flat = query.choice.sum_flat(-query.choice.flat_total).values
        assert flat.any() and not flat.all()


def test_several_queries_get_the_votes_of_each(cells: Cells) -> None:
    queries = [make_query(cells, 10, seed=seed) for seed in range(3)]
    found = probe.probe_several(on_gpu(cells), queries, IMAGES)
    expected = probe.probe_several(CpuLists(cells), queries, IMAGES)
    np.testing.assert_allclose(found, expected, rtol=5e-4, atol=1e-5)


@pytest.mark.parametrize("part", [0.3, 0.7])
def test_cells_beyond_the_budget_are_scanned_on_the_cpu(cells: Cells, part: float) -> None:
    found = ask(on_gpu(cells, part))
    assert found.backend == "gpu and cpu"
    check_alike(found, ask(CpuLists(cells)))


def test_lists_of_which_nothing_fits_stay_on_the_cpu(cells: Cells) -> None:
    assert isinstance(on_gpu(cells, 0.0), CpuLists)
    empty = make_cells(3, 6, (), IMAGES)
    assert isinstance(place_lists([CpuLists(empty)], DEVICE, 1 << 20)[0], CpuLists)


def test_shards_choose_the_same_cells_with_a_gpu_and_without(cells: Cells, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("cells were chosen on the device")

    monkeypatch.setattr(gpu_cells, "choose", refuse)
    joined = replace(cells, joint_census=cells.census)
    found, expected = ask(on_gpu(joined)), ask(CpuLists(cells))
    assert found.backend == "gpu and cpu"
    check_alike(found, expected)


def failing(error: Exception, times: int, work: Callable[..., Any], tried: list[int]) -> Callable[..., Any]:
    """Work that fails for the first few times, and notes with how much scratch it is tried."""

    def attempt(*arguments: Any) -> Any:
        tried.append(arguments[-1])
        if len(tried) <= times:
            raise error
        return work(*arguments)

    return attempt


@pytest.mark.parametrize(("module", "step"), [(gpu_cells, "choose"), (gpu_cells, "sum_flat"), (gpu_scan, "add_votes")])
@pytest.mark.parametrize(("times", "backend"), [(1, "gpu"), (99, "gpu and cpu")])
def test_too_little_memory_is_smaller_blocks_and_then_the_cpu(
    cells: Cells, module: Any, step: str, times: int, backend: str, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    tried: list[int] = []
    error = torch.cuda.OutOfMemoryError("no memory")
    monkeypatch.setattr(module, step, failing(error, times, getattr(module, step), tried))
    with caplog.at_level(logging.WARNING):
        found = ask(on_gpu(cells))
    assert found.backend == backend and "too little memory" in caplog.text
    assert tried[:2] == [gpu.SCRATCH, gpu.SCRATCH // 4] and min(tried) >= gpu.LEAST_SCRATCH
    check_alike(found, ask(CpuLists(cells)))


def test_after_an_error_of_the_device_all_is_left_to_the_cpu(
    cells: Cells, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried: list[int] = []
    error = RuntimeError("CUDA error: an illegal memory access was encountered")
    monkeypatch.setattr(gpu_scan, "sum_visits", failing(error, 1, gpu_scan.sum_visits, tried))
    lists = on_gpu(cells)
    with caplog.at_level(logging.WARNING):
        first, second = ask(lists), ask(lists)
    assert (first.backend, second.backend) == ("gpu and cpu", "cpu") and len(tried) == 1
    assert caplog.text.count("goes on without the GPU: RuntimeError: CUDA error: an illegal memory access") == 1
    for found in (first, second):
        check_alike(found, ask(CpuLists(cells)))


def test_errors_that_are_not_the_devices_are_raised(cells: Cells, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_scan, "add_votes", failing(IndexError("of the caller"), 1, gpu_scan.add_votes, []))
    with pytest.raises(IndexError, match="of the caller"):
        ask(on_gpu(cells))


def test_fewer_cells_are_placed_where_memory_is_short(
    cells: Cells, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried: list[int] = []
    error = torch.cuda.OutOfMemoryError("no memory")
    monkeypatch.setattr(gpu, "make_resident", failing(error, 1, make_resident, tried))
    with caplog.at_level(logging.WARNING):
        lists = on_gpu(cells)
    assert isinstance(lists, GpuLists) and tried == [count_bytes(cells), count_bytes(cells) // 2]
    assert "the GPU has no" in caplog.text
    assert ask(lists).backend == "gpu and cpu"

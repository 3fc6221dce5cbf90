from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import nda_index as nda
from nda_index.coarse import cell_kernels, limits, probe, scan
from nda_index.coarse.cells import Cells, decode
from nda_index.coarse.cpu_lists import CpuLists
from nda_index.coarse.storage import open_coarse
from nda_index.coarse.windows import QueryWindows, query_windows
from nda_index.diffusion import NoisyImage, noisy_images
from nda_index.images import to_float


def coarse_of(index: nda.Index) -> tuple[Cells, ...]:
    return open_coarse(index.path, index.manifest)


def windows_of(
    cells: Cells, query: NDArray[np.uint8], timestep: int, *, mirror: bool = False, **noise: object
) -> QueryWindows:
    noisy = noisy_images(to_float(query), timestep, **noise)[0]  # type: ignore[arg-type]
    return query_windows(cells.embedding, cells.stride, query, noisy, mirror)


def softmax_over_all_members(cells: Cells, windows: QueryWindows, count: int) -> NDArray[np.float64]:
    """What votes approximate, by its definition: every member of every cell counts with its own weight."""
    scores = np.zeros(count)
    units = np.ones(windows.vectors.shape[1])
    units[-2:] = np.sqrt(max(1.0, probe.OVERHANG_VARIANCES * windows.variances.max()))
    members, ids = [], []
    for s in cells.segments:
        members.append(
            decode(s.codes, cells.centroids[np.repeat(np.arange(len(s.means)), np.diff(s.offsets))], cells.codebook)
        )
        ids.append(s.image_ids)
    y, image = np.concatenate(members) * units, np.concatenate(ids)
    norms = (y**2).sum(axis=1)
    for owner in np.unique(windows.owners):
        mine = np.flatnonzero(windows.owners == owner)
        x = windows.vectors[mine] * units
        products = x @ y.T - (1 - limits.REST_ALIKE) * x[:, -3:-2] * y[:, -3]
        logits = (2 * products - norms - (x**2).sum(axis=1)[:, None]) / (2 * windows.variances[mine][:, None])
        weights = np.exp(logits - logits.max())
        weights *= windows.weights[mine][:, None] / weights.sum()
        scores += np.bincount(image, weights.sum(axis=0), minlength=count)
    return scores


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize(("timestep", "noise"), [(30, "draw"), (200, "none")])
def test_votes_are_the_softmax_over_all_members_where_all_cells_are_visited(
    index: nda.Index,
    pictures: NDArray[np.uint8],
    mirror: bool,
    timestep: int,
    noise: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(probe, "UNVISITED", -1.0)
    monkeypatch.setattr(scan, "THIN", 0.0)
    monkeypatch.setattr(probe, "FLAT", 0.0)
    monkeypatch.setattr(probe, "FAR", 1e9)
    query = np.ascontiguousarray(pictures[5].transpose(2, 0, 1))
    for cells in coarse_of(index):
        windows = windows_of(cells, query, timestep, mirror=mirror, noise=noise)
        found = probe.probe(CpuLists(cells), windows, 300, probes=len(cells.centroids), allowed=None).votes
        # Cells too far to matter are not visited even then.
        np.testing.assert_allclose(found, softmax_over_all_members(cells, windows, 300), rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("timestep", [100, 300, 600, 900])
def test_tables_and_few_visits_come_close_to_all_members(
    index: nda.Index, pictures: NDArray[np.uint8], timestep: int
) -> None:
    query = np.ascontiguousarray(pictures[5].transpose(2, 0, 1))
    for cells in coarse_of(index):
        windows = windows_of(cells, query, timestep, noise="none")
        found = probe.probe(CpuLists(cells), windows, 300, probes=20, allowed=None).votes
        exact = softmax_over_all_members(cells, windows, 300)
        assert found.sum() == pytest.approx(exact.sum(), rel=0.1)
        assert np.abs(found - exact).sum() < 0.1 * exact.sum()
        if timestep <= 300:  # above, all images count the same
            kept, best = (exact[np.argsort(-votes)[:20]].sum() for votes in (found, exact))
            assert kept > 0.98 * best


def test_the_source_of_a_sharp_posterior_is_found_by_few_visits(index: nda.Index, pictures: NDArray[np.uint8]) -> None:
    query = np.ascontiguousarray(pictures[5].transpose(2, 0, 1))
    for cells in coarse_of(index):
        windows = windows_of(cells, query, 10, noise="none")
        found = probe.probe(CpuLists(cells), windows, 300, allowed=None).votes
        exact = softmax_over_all_members(cells, windows, 300)
        assert found.sum() == pytest.approx(exact.sum(), rel=0.1)
        assert found.argmax() == exact.argmax() == 5
        assert found[5] == pytest.approx(exact[5], rel=0.1)


@pytest.mark.parametrize("timestep", [30, 200, 800])
def test_queries_together_get_the_votes_of_each(index: nda.Index, pictures: NDArray[np.uint8], timestep: int) -> None:
    for cells in coarse_of(index):
        queries = [windows_of(cells, np.ascontiguousarray(p.transpose(2, 0, 1)), timestep) for p in pictures[:20]]
        together = probe.probe_several(CpuLists(cells), queries, 300)
        alone = np.stack([probe.probe(CpuLists(cells), windows, 300, allowed=None).votes for windows in queries])
        np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("timestep", [30, 200])
def test_queries_that_visit_together_get_the_sum_of_their_votes(
    index: nda.Index, pictures: NDArray[np.uint8], timestep: int
) -> None:
    query, factors, mine = np.ascontiguousarray(pictures[5].transpose(2, 0, 1)), (2.0, 0.01, 0.5), np.arange(300) < 20
    for cells in coarse_of(index):
        queries = [windows_of(cells, query, timestep + step, noise="none") for step in (0, 5, 300)]
        visit = probe.visit_cells(CpuLists(cells), queries, factors, 300, allowed=None)
        together = visit.probe(visit.log_masses)
        alone = [probe.probe(CpuLists(cells), windows, 300, allowed=None) for windows in queries]
        summed = sum(factor * one.votes for factor, one in zip(factors, alone, strict=True))
        np.testing.assert_allclose(together.votes, summed, rtol=1e-4, atol=1e-4)
        for held, one in zip(together.held(together.totals_of(mine)), alone, strict=True):
            np.testing.assert_allclose(held, one.held(one.totals_of(mine))[0], rtol=1e-4, atol=1e-5)


def test_only_allowed_images_get_votes_and_they_get_all(index: nda.Index, pictures: NDArray[np.uint8]) -> None:
    query = np.ascontiguousarray(pictures[5].transpose(2, 0, 1))
    allowed = np.zeros(300, np.bool_)
    allowed[::7] = True
    cells = coarse_of(index)[0]
    windows = windows_of(cells, query, 100, noise="none")
    found = probe.probe(CpuLists(cells), windows, 300, probes=len(cells.centroids), allowed=allowed).votes
    assert not found[~allowed].any()
    assert found.sum() > 0.9 * windows.weights.sum()


def test_a_mirrored_query_gets_the_same_votes_with_mirror(index: nda.Index, pictures: NDArray[np.uint8]) -> None:
    query = np.ascontiguousarray(pictures[8].transpose(2, 0, 1))
    mirrored = np.ascontiguousarray(query[..., ::-1])
    for cells in coarse_of(index):
        one, other = (
            probe.probe(
                CpuLists(cells), windows_of(cells, q, 100, mirror=True, noise="none"), 300, probes=30, allowed=None
            ).votes
            for q in (query, mirrored)
        )
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)
        assert one.argmax() == 8


def test_windows_stand_for_all_positions_of_the_query(index: nda.Index, pictures: NDArray[np.uint8]) -> None:
    query = np.ascontiguousarray(pictures[5].transpose(2, 0, 1))
    for cells, scale in zip(coarse_of(index), index.scales, strict=True):
        for mirror in (False, True):
            windows = windows_of(cells, query, 100, mirror=mirror)
            expected = scale.query_positions(24, 20)
            shared = np.bincount(windows.owners)[windows.owners]
            assert (windows.weights / shared).sum() == pytest.approx(expected)
            assert shared.max() == (2 if mirror else 1)


def test_the_variance_of_a_window_grows_with_its_texture(index: nda.Index) -> None:
    cells = coarse_of(index)[0]
    query = np.zeros((3, 24, 20), np.uint8)
    query[:, 12:] = np.random.default_rng(0).integers(0, 256, (3, 12, 20))
    noisy = NoisyImage(to_float(query), 1.0, 0.1)
    variances = query_windows(cells.embedding, cells.stride, query, noisy, mirror=False).variances
    assert variances.min() > 0.01
    assert variances[-200:].mean() > 1.5 * variances[:100].mean()


def test_flat_cells_are_all_there_is_where_a_promising_cell_holds_nothing() -> None:
    masses = np.array([[0.0, -100.0, -101.0, -140.0]], np.float32)
    is_flat = np.array([[False, True, True, True]])
    chosen, flat_total = np.empty((1, 2), np.int64), np.empty(1)
    cell_kernels.choose_cells(masses, is_flat, probe.FAR, 0.01, chosen, flat_total)
    assert chosen.tolist() == [[0, -1]]
    np.testing.assert_allclose(flat_total, np.log2(2.0**-100 + 2.0**-101))

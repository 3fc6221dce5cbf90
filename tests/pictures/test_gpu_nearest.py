"""The nearest codes in torch are those of the definition, whatever fits in a step."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nda_index.pictures.cpu import HostLists
from nda_index.pictures.gpu import DeviceLists
from nda_index.pictures.gpu_nearest import SHARING, TILE, choose_cells

DIMENSIONS = 32
Codes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Numbers = NDArray[np.int64]


def nearest(
    codes: Codes, cells: NDArray[np.int32], asked: Codes, looked_at: Numbers, neighbours: int, open_: NDArray[np.bool_]
) -> tuple[Floats, list[set[int]]]:
    """Distances [q, neighbours], and for each query the codes that may be among its neighbours, by definition."""
    distances = np.full((len(asked), neighbours), np.inf, np.float32)
    possible = []
    for number, (query, some) in enumerate(zip(asked, looked_at, strict=True)):
        there = np.flatnonzero(np.isin(cells, some) & open_)
        squares = ((codes[there].astype(int) - query.astype(int)) ** 2).sum(axis=1)
        found = np.sort(squares)[:neighbours]
        distances[number, : len(found)] = found
        possible.append(set(there[squares <= found.max(initial=-1)].tolist()))
    return distances, possible


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1 << 30),
    count=st.sampled_from([0, 1, 40, 700, 2000]),
    cells=st.sampled_from([1, 3, 20]),
    asked=st.sampled_from([0, 1, 5, 40]),
    neighbours=st.sampled_from([1, 10]),
    probes=st.sampled_from([1, 2, 8]),
    levels=st.sampled_from([2, 20, 256]),
    share=st.sampled_from([None, 0.0, 0.1, 0.7]),
    resident=st.sampled_from([0, 10_000, 1 << 40]),
    work=st.sampled_from([1 << 16, 1 << 20, 1 << 30]),
)
def test_the_nearest_are_those_of_the_definition(
    seed: int, count: int, cells: int, asked: int, neighbours: int, probes: int, levels: int, share: float | None,
    resident: int, work: int,
) -> None:  # fmt: skip
    rng = np.random.default_rng(seed)
    centroids = rng.uniform(0, 256, (cells, DIMENSIONS)).astype(np.float32)
    codes = rng.integers(256 - levels, 256, (count, DIMENSIONS)).astype(np.uint8)  # of few levels many are equally near
    of = rng.integers(0, max(1, cells - 1), count).astype(np.int32)  # one cell is empty
    owners = np.sort(rng.integers(0, 9, count)).astype(np.int32)
    questions = rng.integers(256 - levels, 256, (asked, DIMENSIONS)).astype(np.uint8)
    allowed = None if share is None else rng.random(9) < share
    lists = DeviceLists(
        codes, of, centroids, owners, device="cpu", spare=HostLists, resident=resident, work=work
    )  # fmt: skip
    distances, numbers = lists.search(questions, neighbours, probes, allowed)
    squares = ((questions[:, None].astype(float) - centroids) ** 2).sum(axis=2)
    looked_at = np.argsort(squares, axis=1)[:, :probes]
    open_ = np.ones(count, np.bool_) if allowed is None else allowed[owners]
    expected, possible = nearest(codes, of, questions, looked_at, neighbours, open_)
    assert distances.dtype == np.float32 and numbers.dtype == np.int64
    np.testing.assert_array_equal(distances, expected)
    for query, row, near, may in zip(questions, numbers, distances, possible, strict=True):
        found = row[row >= 0]
        assert len(set(found.tolist())) == len(found) == np.isfinite(near).sum()
        assert set(found.tolist()) <= may
        np.testing.assert_array_equal(((codes[found].astype(int) - query) ** 2).sum(axis=1), near[: len(found)])


def test_ties_do_not_depend_on_steps_or_on_what_is_asked_together() -> None:
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 2, (4000, DIMENSIONS)).astype(np.uint8)
    cells = rng.integers(0, 6, 4000).astype(np.int32)
    centroids, owners = rng.uniform(0, 2, (6, DIMENSIONS)).astype(np.float32), np.zeros(4000, np.int32)
    asked = rng.integers(0, 2, (2 * SHARING[0] + 3, DIMENSIONS)).astype(np.uint8)
    made = [
        DeviceLists(codes, cells, centroids, owners, device="cpu", spare=HostLists, resident=resident, work=work)
        for resident, work in ((1 << 40, 1 << 30), (1 << 16, 1 << 20), (0, 1 << 16))
    ]
    whole = made[0].search(asked, 10, 3)
    for lists in made:
        again = lists.search(asked, 10, 3)
        alone = [lists.search(asked[number : number + 1], 10, 3) for number in range(len(asked))]
        for part in (again, tuple(np.concatenate(field) for field in zip(*alone, strict=True))):
            np.testing.assert_array_equal(part[0], whole[0])
            np.testing.assert_array_equal(part[1], whole[1])
    # Of equally near codes the first in a cell is taken.
    same = DeviceLists(
        np.full((3 * TILE, DIMENSIONS), 7, np.uint8), np.zeros(3 * TILE, np.int32), centroids[:1],
        np.zeros(3 * TILE, np.int32), device="cpu", spare=HostLists, resident=1 << 40,
    )  # fmt: skip
    assert same.search(asked[:1], 10, 1)[1].tolist() == [list(range(10))]


def test_the_farthest_codes_are_told_apart() -> None:
    """The largest distance that bytes can have, and one below it."""
    codes = np.full((70, DIMENSIONS), 255, np.uint8)
    codes[69, 0] = 254
    lists = DeviceLists(
        codes, np.zeros(70, np.int32), np.zeros((1, DIMENSIONS), np.float32), np.zeros(70, np.int32), device="cpu",
        spare=HostLists, resident=1 << 40,
    )  # fmt: skip
    distances, numbers = lists.search(np.zeros((1, DIMENSIONS), np.uint8), 2, 1)
    assert distances.tolist() == [[31 * 255**2 + 254**2, 32 * 255**2]]
    assert numbers.tolist() == [[69, 0]]


def test_cells_are_the_nearest_in_ascending_order() -> None:
    generator = torch.Generator().manual_seed(0)
    queries, centroids = (torch.rand(n, 4, generator=generator, dtype=torch.float64) for n in (9, 7))
    expected = torch.cdist(queries, centroids).argsort(dim=1)[:, :3].sort(dim=1).values
    for work in (1, 1 << 20):
        assert choose_cells(queries, centroids, 3, work).equal(expected)

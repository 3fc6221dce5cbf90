from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from nda_index.coarse.neighbours import NeighbourLists, assign_cells, train_centroids

Codes = NDArray[np.uint8]


@pytest.fixture(scope="module")
def codes() -> Codes:
    """Codes in clumps, some of them twice."""
    rng = np.random.default_rng(0)
    middles = rng.integers(30, 226, (40, 16))
    drawn = middles[rng.integers(0, 40, 3000)] + rng.normal(0, 12, (3000, 16))
    return np.concatenate([drawn, drawn[:20]]).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def centroids(codes: Codes) -> NDArray[np.float32]:
    return train_centroids(codes, len(codes))


@pytest.fixture(scope="module")
def lists(codes: Codes, centroids: NDArray[np.float32]) -> NeighbourLists:
    return NeighbourLists(codes, assign_cells(codes, centroids), centroids)


def squared(asked: Codes, codes: Codes) -> NDArray[np.int64]:
    return np.asarray(((asked[:, None].astype(np.int64) - codes[None]) ** 2).sum(axis=2))


def test_a_code_lies_in_the_cell_of_the_nearest_centroid(codes: Codes, centroids: NDArray[np.float32]) -> None:
    assert len(centroids) == 64  # a power of two near 1.5 times the root
    assert centroids.dtype == np.float32
    cells = assign_cells(codes, centroids)
    exact = ((codes[:, None].astype(float) - centroids[None]) ** 2).sum(axis=2)
    np.testing.assert_array_equal(cells, exact.argmin(axis=1))
    np.testing.assert_array_equal(centroids, train_centroids(codes, len(codes)))
    assert assign_cells(codes[:0], centroids).shape == (0,)


def test_with_all_cells_the_neighbours_are_those_of_brute_force(codes: Codes, lists: NeighbourLists) -> None:
    asked = np.random.default_rng(1).integers(0, 256, (60, 16), np.uint8)
    asked[:20] = codes[:20]
    distances, numbers = lists.search(asked, 10, 1 << 20)
    exact = squared(asked, codes)
    np.testing.assert_array_equal(distances, np.sort(exact, axis=1)[:, :10])
    np.testing.assert_array_equal(np.take_along_axis(exact, numbers, axis=1), distances)
    assert all(len(set(row)) == 10 for row in numbers.tolist())
    assert {(number, number + 3000) for number in range(20)} == {
        tuple(sorted(row[:2])) for row in numbers[:20].tolist()
    }


def test_more_cells_find_more_of_the_nearest(codes: Codes, lists: NeighbourLists) -> None:
    asked = np.random.default_rng(2).integers(0, 256, (100, 16), np.uint8)
    best = np.sort(squared(asked, codes), axis=1)[:, :5]
    recalls = [float((lists.search(asked, 5, probes)[0] <= best[:, -1:]).mean()) for probes in (1, 4, 16, 64)]
    assert recalls == sorted(recalls)
    assert recalls[0] < 0.9 < recalls[-1] == 1.0


def test_only_what_is_allowed_is_found(codes: Codes, lists: NeighbourLists) -> None:
    allowed = np.random.default_rng(3).random(len(codes)) < 0.1
    distances, numbers = lists.search(codes[:50], 8, 1 << 20, allowed)
    exact = np.where(allowed, squared(codes[:50], codes), 1 << 40)
    np.testing.assert_array_equal(distances, np.sort(exact, axis=1)[:, :8])
    assert allowed[numbers].all()


def test_where_there_are_fewer_the_rest_is_empty(codes: Codes, lists: NeighbourLists) -> None:
    allowed = np.zeros(len(codes), np.bool_)
    allowed[[5, 7, 2999]] = True
    distances, numbers = lists.search(codes[:4], 6, 1 << 20, allowed)
    assert {tuple(sorted(row[:3])) for row in numbers.tolist()} == {(5, 7, 2999)}
    assert (numbers[:, 3:] == -1).all()
    assert np.isinf(distances[:, 3:]).all()
    distances, numbers = lists.search(codes[:4], 6, 4, np.zeros(len(codes), np.bool_))
    assert (numbers == -1).all()
    assert np.isinf(distances).all()


def test_few_codes_or_none_make_lists_too(codes: Codes) -> None:
    centroids = train_centroids(codes[:1], 1)
    np.testing.assert_array_equal(centroids, codes[:1].astype(np.float32))
    for count in (0, 1, 3):
        lists = NeighbourLists(codes[:count], assign_cells(codes[:count], centroids), centroids)
        assert lists.count == count
        assert (lists.search(codes[:2], 4, 16)[1] >= 0).sum(axis=1).tolist() == [count, count]
    assert len(train_centroids(codes[:5], 1 << 20)) == 5

"""The nearest codes, against a search of everything."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from nda_index.coarse.neighbours import NeighbourLists, assign_cells, train_centroids

CODES = np.random.default_rng(0).integers(0, 256, (3000, 32), np.uint8)
ASKED = np.random.default_rng(1).integers(0, 256, (20, 32), np.uint8)


@pytest.fixture(scope="module")
def lists() -> NeighbourLists:
    centroids = train_centroids(CODES, len(CODES))
    return NeighbourLists(CODES, assign_cells(CODES, centroids), centroids)


def nearest(allowed: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    distances = ((ASKED[:, None].astype(np.float64) - CODES) ** 2).sum(axis=2)
    distances[:, ~allowed] = np.inf
    order = np.argsort(distances, axis=1, kind="stable")[:, :5]
    return np.take_along_axis(distances, order, 1), order.astype(np.int64)


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_all_cells_give_the_nearest_of_the_allowed(lists: NeighbourLists, share: float) -> None:
    allowed = np.arange(len(CODES)) < share * len(CODES)
    distances, numbers = lists.search(ASKED, 5, 1 << 20, None if share == 1 else allowed)
    expected, order = nearest(allowed)
    np.testing.assert_allclose(distances, expected, rtol=1e-6)
    np.testing.assert_array_equal(numbers, order)


def test_codes_are_assigned_to_the_nearest_centroid() -> None:
    centroids = train_centroids(CODES, len(CODES))
    distances = ((CODES[:100, None].astype(np.float64) - centroids) ** 2).sum(axis=2)
    np.testing.assert_array_equal(assign_cells(CODES[:100], centroids), distances.argmin(axis=1))


def test_where_there_are_too_few_the_rest_is_infinitely_far(lists: NeighbourLists) -> None:
    allowed = np.zeros(len(CODES), np.bool_)
    allowed[[4, 7]] = True
    distances, numbers = lists.search(ASKED, 5, 1 << 20, allowed)
    assert (np.sort(numbers[:, :2]) == [4, 7]).all()
    assert np.isinf(distances[:, 2:]).all() and (numbers[:, 2:] == -1).all()


def test_no_codes_at_all() -> None:
    centroids = train_centroids(np.zeros((1, 32), np.uint8), 1)
    assert NeighbourLists(CODES[:0], assign_cells(CODES[:0], centroids), centroids).count == 0

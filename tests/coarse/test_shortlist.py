from __future__ import annotations

import numpy as np
import pytest

import nda_index as nda
from nda_index.coarse.shortlist import Neighbours, count_votes, find_neighbours, shortlist


def test_votes_are_a_softmax_over_each_windows_neighbours() -> None:
    found = Neighbours(
        image_ids=np.array([[0, 1, 1], [2, -1, -1], [-1, -1, -1]]),
        distances=np.array([[0.0, 0.5, 0.5], [9.0, 3e38, 3e38], [3e38] * 3], np.float32),
        weights=np.array([1.0, 2.0, 5.0]),
    )
    votes = count_votes([found], 4, signal=1.0, sigma=0.5)
    near = np.exp(-0.5 / 0.5)
    np.testing.assert_allclose(votes, [1 / (1 + 2 * near), 2 * near / (1 + 2 * near), 2.0, 0.0], rtol=1e-6)


def test_the_weights_of_a_query_stand_for_all_its_windows(index: nda.Index) -> None:
    query = index._corpus.pixels(np.array([5]))[0]
    for coarse, scale in zip(index._coarse, index.scales, strict=True):
        found = find_neighbours(coarse, query, mirror=False, allowed=None)
        assert found.weights.sum() == pytest.approx(scale.query_positions(24, 20))
        # Every window that was indexed finds itself: an image is its own nearest neighbour.
        nearest = found.image_ids[np.arange(len(found.image_ids)), found.distances.argmin(axis=1)]
        assert (nearest == 5).mean() > 0.2


def test_neighbours_are_only_among_the_allowed(index: nda.Index) -> None:
    query = index._corpus.pixels(np.array([5]))[0]
    allowed = np.zeros(300, np.bool_)
    allowed[[7, 200]] = True
    found = find_neighbours(index._coarse[0], query, mirror=True, allowed=allowed)
    assert set(np.unique(found.image_ids)) <= {-1, 7, 200}
    assert (found.image_ids >= 0).any(axis=1).mean() > 0.5


def test_border_windows_find_only_those_that_stick_out_alike(index: nda.Index) -> None:
    query = index._corpus.pixels(np.array([5]))[0]
    found = find_neighbours(index._coarse[0], query, mirror=False, allowed=None)
    corner_is_first = found.distances[0]
    in_reach = np.isfinite(corner_is_first) & (corner_is_first < 16)  # one pixel of overhang adds 16
    ids = found.image_ids[0][in_reach]
    assert len(np.unique(ids)) == len(ids) > 0  # an image has one upper left corner


def test_a_shortlist_is_ascending_and_long_enough() -> None:
    votes = np.array([0.0, 5.0, 1.0, 4.0, 0.0])
    np.testing.assert_array_equal(shortlist(votes, 2, 1, None), [1, 3])
    np.testing.assert_array_equal(shortlist(votes, 1, 3, None), [1, 2, 3])
    allowed = np.array([True, False, True, True, False])
    np.testing.assert_array_equal(shortlist(votes, None, 1, allowed), [0, 2, 3])
    concentrated, even = np.zeros(10_000), np.ones(10_000)
    concentrated[:5] = 1.0
    assert len(shortlist(concentrated, None, 10, None)) == 256
    assert len(shortlist(even, None, 10, None)) == 1000

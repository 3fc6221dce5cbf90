from __future__ import annotations

import numpy as np

from nda_index.coarse.shortlist import shortlist


def test_a_shortlist_is_ascending_and_long_enough() -> None:
    votes = np.array([0.0, 5.0, 1.0, 4.0, 0.0])
    np.testing.assert_array_equal(shortlist(votes, 2, 1, None), [1, 3])
    np.testing.assert_array_equal(shortlist(votes, 1, 3, None), [1, 2, 3])
    allowed = np.array([True, False, True, True, False])
    np.testing.assert_array_equal(shortlist(votes, None, 1, allowed), [0, 2, 3])


def test_it_grows_with_the_width_of_the_votes() -> None:
    lengths = []
    for width in (5, 500, 1000, 50_000):
        votes = np.zeros(50_000)
        votes[:width] = 1.0
        lengths.append(len(shortlist(votes, None, 10, None)))
    assert lengths == [256, 450, 900, 1500]


def test_of_equal_votes_the_first_images_are_taken() -> None:
    votes = np.array([1.0, 3.0, 2.0, 2.0, 3.0, 2.0])
    np.testing.assert_array_equal(shortlist(votes, 3, 1, None), [1, 2, 4])
    np.testing.assert_array_equal(shortlist(votes, 4, 1, None), [1, 2, 3, 4])

from __future__ import annotations

import numpy as np
import pytest

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


@pytest.mark.parametrize("kind", ["spread", "rounded", "mostly zero", "few differ", "sorted", "rare", "every 32nd"])
@pytest.mark.parametrize("count", [1, 256, 1500])
def test_of_many_images_the_best_are_those_of_a_sort(kind: str, count: int) -> None:
    rng = np.random.default_rng(0)
    votes = np.exp(rng.normal(0, 3, 100_000))
    if kind == "rounded":
        votes = votes.round()
    if kind == "mostly zero":
        votes[rng.random(len(votes)) < 0.99] = 0
    if kind == "few differ":
        votes[:] = 1
        votes[rng.integers(0, len(votes), 20)] = 2
    if kind == "sorted":
        votes.sort()
    if kind == "rare":  # where no 32nd is
        votes[:] = 0
        votes[1::32] = rng.random(len(votes[1::32]))
    if kind == "every 32nd":  # where only those are that are looked at
        votes[::32] += 1e6
    expected = np.sort(np.argsort(-votes, kind="stable")[:count])
    np.testing.assert_array_equal(shortlist(votes, count, 1, None), expected)

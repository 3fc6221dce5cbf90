from __future__ import annotations

import numba
import numpy as np
import pytest
from numpy.typing import NDArray

from nda_index.coarse import member_kernels
from nda_index.coarse.cells import decode
from nda_index.coarse.limits import NOTHING
from nda_index.coarse.member_kernels import Lists, freeze
from nda_index.coarse.visits import Visits, Windows

MEMBERS, CELLS, IMAGES, WINDOWS, ALIKE = 70, 3, 20, 5, np.float32(0.6)


def make_lists(dimensions: int, code_bytes: int, by_coordinate: bool) -> tuple[Lists, Visits, Windows]:
    """Lists, visits and windows: cell 1 is empty, cell 2 has no visitor."""
    rng = np.random.default_rng(dimensions)
    lists = Lists(
        codes=rng.integers(0, 256, (MEMBERS, code_bytes), np.uint8),
        image_ids=rng.integers(0, IMAGES, MEMBERS).astype(np.int32),
        offsets=np.array([0, 41, 41, MEMBERS]),
        centroids=rng.normal(size=(CELLS, dimensions)).astype(np.float32),
        codebook=(rng.normal(size=(2 if by_coordinate else 256, dimensions)) * 0.01).astype(np.float32),
        alike=ALIKE,
        allowed=np.empty(0, np.bool_),
        images=IMAGES,
    )
    windows = Windows(
        vectors=(rng.normal(size=(WINDOWS, dimensions + 2)) / 4).astype(np.float32),
        constants=rng.normal(size=WINDOWS).astype(np.float32),
        rows=np.array([0, 0, 1, 1, 1]),
    )
    return lists, Visits(np.array([0, 1, 2]), np.array([0, 4, 5, 5]), np.array([0, 1, 2, 4, 3])), windows


def logits_of(lists: Lists, windows: Windows) -> NDArray[np.float64]:
    """Of all members and windows by the definition: [T, W]."""
    places = np.repeat(np.arange(CELLS), np.diff(lists.offsets))
    rows = decode(lists.codes, lists.centroids[places], lists.codebook).astype(np.float64)
    norms = (rows[:, :-2] ** 2).sum(axis=1), (rows[:, -2:] ** 2).sum(axis=1)
    rows[:, -3] *= ALIKE
    return np.asarray(np.column_stack([rows, *norms]) @ windows.vectors.T + windows.constants)


KINDS = [(12, 12, True), (9, 9, True), (12, 6, False), (9, 9, False), (12, 4, False), (28, 14, False), (40, 20, False)]


def test_lists_of_files_and_of_memory_are_compiled_once() -> None:
    lists = make_lists(12, 12, True)[0]
    frozen = freeze(lists)
    kinds = [numba.typeof(each) for each in (lists, frozen, freeze(frozen))]  # type: ignore[no-untyped-call]
    assert kinds[0] != kinds[1] == kinds[2]
    assert frozen.codes.base is lists.codes


@pytest.mark.parametrize(("dimensions", "code_bytes", "by_coordinate"), KINDS)
@pytest.mark.parametrize("some", [False, True])
def test_the_sums_of_visits_are_those_of_the_definition(
    dimensions: int, code_bytes: int, by_coordinate: bool, some: bool
) -> None:
    lists, visits, windows = make_lists(dimensions, code_bytes, by_coordinate)
    takes_part = np.arange(IMAGES) % 3 > 0 if some else np.ones(IMAGES, np.bool_)
    if some:
        lists = lists._replace(allowed=takes_part)
    highest, total = np.full(5, NOTHING, np.float32), np.zeros(5, np.float32)
    member_kernels.sum_visits(freeze(lists), visits, windows, 2, highest, total)
    weights = np.where(takes_part[lists.image_ids][:, None], np.exp2(logits_of(lists, windows)), 0)[:41]
    np.testing.assert_allclose((total * np.exp2(highest))[:4], weights.sum(axis=0)[[0, 1, 2, 4]], rtol=1e-4)
    assert total[4] == 0  # an empty cell


@pytest.mark.parametrize(("dimensions", "code_bytes", "by_coordinate"), KINDS)
def test_votes_are_weights_summed_over_each_querys_windows_and_what_a_cell_gives_evenly(
    dimensions: int, code_bytes: int, by_coordinate: bool
) -> None:
    lists, visits, windows = make_lists(dimensions, code_bytes, by_coordinate)
    even = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], np.float32)
    lists.image_ids[3] = IMAGES + 5  # a damaged file
    votes = np.zeros((2, IMAGES, 2), np.float32)
    member_kernels.add_votes(freeze(lists), visits, windows, even, votes)
    weights, expected = np.exp2(np.minimum(logits_of(lists, windows), 16)), np.zeros((IMAGES, 2))
    for member, image in enumerate(lists.image_ids.tolist()):
        cell = 0 if member < 41 else 2
        if image < IMAGES:
            expected[image] += even[cell]
            if cell == 0:
                expected[image] += [weights[member, [0, 1]].sum(), weights[member, [2, 4]].sum()]
    np.testing.assert_allclose(votes.sum(axis=0), expected, rtol=1e-4)

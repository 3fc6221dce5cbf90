from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from nda_index.coarse.gpu_work import MOST_PIECES, cut_cells, cut_visits, split_visits
from nda_index.coarse.visits import Visits, sort_by_cell


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 30), min_size=1, max_size=8), windows=st.integers(1, 20), rows=st.integers(1, 3),
    tile=st.sampled_from([2, 4, 16]), piece=st.sampled_from([1, 4, 100]), seed=st.integers(0, 99),
)  # fmt: skip
def test_every_visit_meets_every_member_of_its_cell_once(
    sizes: list[int], windows: int, rows: int, tile: int, piece: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    offsets = np.cumsum([0, *sizes])
    chosen = np.stack([rng.permutation(max(len(sizes), 3))[:3] for _ in range(windows)])
    visits = sort_by_cell(np.where(chosen < len(sizes), chosen, -1))
    row_of = np.sort(rng.integers(0, rows, windows))[visits.windows]
    work = cut_visits(visits, row_of, offsets, tile, piece)
    cell_of = np.repeat(visits.cells, np.diff(visits.starts))
    met = np.zeros((len(cell_of), offsets[-1]), np.int64)
    written = np.zeros(work.sums, np.int64)
    for first, count, row, begin, end, place in work.items.tolist():
        assert 0 < count <= tile and begin < end
        assert {*row_of[first : first + count]} == {row} and len({*cell_of[first : first + count]}) == 1
        met[first : first + count, begin:end] += 1
        written[place : place + count] += 1
        for visit in range(first, first + count):
            assert place + visit - first in work.places[visit] + work.steps[visit] * np.arange(work.pieces[visit])
    expected = np.repeat(np.arange(len(sizes)), sizes) == cell_of[:, None]
    np.testing.assert_array_equal(met, expected)
    assert (written == 1).all()


def test_a_huge_cell_is_cut_into_few_pieces() -> None:
    visits = Visits(np.array([0]), np.array([0, 1]), np.array([0]))
    work = cut_visits(visits, np.zeros(1, np.int64), np.array([0, 100_001]), 16, 4)
    assert len(work.items) == work.pieces[0] == MOST_PIECES
    assert work.items[:, 4].max() == 100_001


def test_every_member_of_some_cells_is_cut_once() -> None:
    items = cut_cells(np.array([0, 1, 3]), np.array([0, 5, 5, 9, 12]), 2)
    assert items.tolist() == [[0, 0, 2], [0, 2, 4], [0, 4, 5], [2, 9, 11], [2, 11, 12]]
    assert cut_cells(np.empty(0, np.int64), np.array([0, 1]), 2).shape == (0, 3)


def test_visits_are_split_between_cells() -> None:
    visits = Visits(np.array([1, 4, 5, 8]), np.array([0, 1, 5, 6, 7]), np.arange(10, 17))
    blocks = list(split_visits(visits, 2))
    assert [some.cells.tolist() for some, _ in blocks] == [[1], [4], [5, 8]]
    assert [some.starts.tolist() for some, _ in blocks] == [[0, 1], [0, 4], [0, 1, 2]]
    assert [visits.windows[which].tolist() for _, which in blocks] == [some.windows.tolist() for some, _ in blocks]
    assert len(list(split_visits(visits, 7))) == 1
    assert list(split_visits(Visits(*np.zeros((3, 0), np.int64)), 7)) == []

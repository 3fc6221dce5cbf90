"""What each program of a GPU gets: a piece of a cell's members, and a tile of the windows that visit the cell."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nda_index.coarse.visits import Visits

MOST_PIECES = 64  # of a cell, so that the sums of its pieces are few


class Work(NamedTuple):
    """Work on visits, and where its sums are: that of a visit's piece j at places[v] + j * steps[v].

    Attributes:
        items: int32 [programs, 6]: first visit, visits (of one row), row, first member, end of the members, and the
            place of the first visit's sums.
        places, steps, pieces: int64 [V].
        sums: number of places.
    """

    items: NDArray[np.int32]
    places: NDArray[np.int64]
    steps: NDArray[np.int64]
    pieces: NDArray[np.int64]
    sums: int


def cut_visits(visits: Visits, rows: NDArray[np.int64], offsets: NDArray[np.int64], tile: int, piece: int) -> Work:
    """Cut visits into work.

    Args:
        visits: to cells that are here.
        rows: int64 [V], the row of votes of each visit; ascending in a cell.
        offsets: int64 [cells + 1], where each cell's members start.
        tile: windows of a program.
        piece: members of a program; more where a cell has too many of such pieces.

    Example:
        >>> visits = Visits(np.array([1]), np.array([0, 3]), np.arange(3))
        >>> work = cut_visits(visits, np.zeros(3), np.array([0, 2, 7]), 2, 4)
        >>> work.items[:, [0, 1, 3, 4, 5]].tolist()
        [[0, 2, 2, 6, 0], [0, 2, 6, 7, 3], [2, 1, 2, 6, 2], [2, 1, 6, 7, 5]]
    """
    begins, ends = offsets[visits.cells], offsets[visits.cells + 1]  # [A]
    piece = max(piece, -(-int((ends - begins).max(initial=0)) // MOST_PIECES))
    several, pieces = np.diff(visits.starts), -(-(ends - begins) // piece)  # [A]
    places = np.cumsum(several * pieces) - several * pieces  # [A]
    owners = np.repeat(np.arange(len(several)), several)  # [V]
    numbers = np.arange(len(owners))  # [V]
    begins_group = np.ones(len(owners), np.bool_)  # [V]
    begins_group[1:] = (np.diff(owners) != 0) | (np.diff(rows) != 0)
    rank = numbers - np.maximum.accumulate(np.where(begins_group, numbers, 0))  # [V]
    firsts = np.flatnonzero(rank % tile == 0)  # [tiles]
    counts = np.diff(np.append(firsts, len(owners)))  # [tiles]
    repeats = pieces[owners[firsts]]  # [tiles]
    tiles = np.repeat(np.arange(len(firsts)), repeats)  # [programs]
    number = np.arange(len(tiles)) - np.repeat(np.cumsum(repeats) - repeats, repeats)  # [programs]
    first, owner = firsts[tiles], owners[firsts[tiles]]  # [programs]
    begin = begins[owner] + number * piece  # [programs]
    place = places[owner] + number * several[owner] + first - visits.starts[owner]  # [programs]
    columns = [first, counts[tiles], rows[first], begin, np.minimum(begin + piece, ends[owner]), place]
    at = places[owners] + numbers - visits.starts[owners]  # [V]
    items = np.stack(columns, axis=1).astype(np.int32)
    return Work(items, at, several[owners], pieces[owners], int((several * pieces).sum()))


def cut_cells(cells: NDArray[np.int64], offsets: NDArray[np.int64], piece: int) -> NDArray[np.int32]:
    """Cut the members of cells into work, int32 [programs, 3]: number in `cells`, first member, end of the members.

    Example:
        >>> cut_cells(np.array([0, 2]), np.array([0, 3, 3, 4]), 2).tolist()
        [[0, 0, 2], [0, 2, 3], [1, 3, 4]]
    """
    begins, ends = offsets[cells], offsets[cells + 1]
    pieces = -(-(ends - begins) // piece)
    numbers = np.repeat(np.arange(len(cells)), pieces)
    begin = begins[numbers] + piece * (np.arange(len(numbers)) - np.repeat(np.cumsum(pieces) - pieces, pieces))
    return np.stack([numbers, begin, np.minimum(begin + piece, ends[numbers])], axis=1).astype(np.int32)


def split_visits(visits: Visits, most: int) -> Iterator[tuple[Visits, slice]]:
    """Split visits into blocks of at most so many, or of one cell; and say which of all they are."""
    begin = 0
    while begin < len(visits.cells):
        end = int(np.searchsorted(visits.starts, visits.starts[begin] + most, side="right")) - 1
        end = max(end, begin + 1)
        which = slice(int(visits.starts[begin]), int(visits.starts[end]))
        starts = visits.starts[begin : end + 1] - which.start
        yield Visits(visits.cells[begin:end], starts, visits.windows[which]), which
        begin = end

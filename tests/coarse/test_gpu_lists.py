from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nda_index.coarse import gpu_lists
from nda_index.coarse.gpu_lists import ID_BYTES, count_bytes, make_resident
from tests.coarse.lists import make_cells


@settings(max_examples=40, deadline=None)
@given(
    cells=st.integers(1, 12), sizes=st.lists(st.integers(0, 40), min_size=1, max_size=4), width=st.integers(0, 2),
    part=st.floats(0, 1), copied=st.sampled_from([3, 1000]), seed=st.integers(0, 99),
)  # fmt: skip
def test_the_cells_that_fit_hold_the_members_of_all_segments(
    cells: int, sizes: list[int], width: int, part: float, copied: int, seed: int
) -> None:
    lists = make_cells(cells, 6, tuple(sizes), 20, width=width, seed=seed)
    budget = int(part * count_bytes(lists))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu_lists, "COPIED", copied)
        resident = make_resident(lists, torch.device("cpu"), budget)
    assert resident.codes.nbytes + resident.image_ids.nbytes <= budget
    if resident.kept < len(resident.centroids):
        more = sum(int(segment.offsets[resident.kept + 1]) for segment in lists.segments)
        assert more * (lists.segments[0].codes.shape[1] + ID_BYTES) > budget
    for cell in range(resident.kept):
        mine = slice(resident.offsets[cell], resident.offsets[cell + 1])
        there = [slice(segment.offsets[cell], segment.offsets[cell + 1]) for segment in lists.segments]
        for found, parts in (
            (resident.codes, [segment.codes[at] for segment, at in zip(lists.segments, there, strict=True)]),
            (resident.image_ids, [segment.image_ids[at] for segment, at in zip(lists.segments, there, strict=True)]),
        ):
            np.testing.assert_array_equal(found[mine].numpy(), np.concatenate(parts))
    assert len(resident.codes) == resident.offsets[-1]


def test_moments_are_those_of_all_segments() -> None:
    lists = make_cells(5, 6, (30, 10), 20)
    resident = make_resident(lists, torch.device("cpu"), 0)
    assert resident.kept < 5  # empty cells take no room
    np.testing.assert_allclose(resident.counts, lists.census.counts)
    np.testing.assert_allclose(resident.means, lists.census.means, rtol=1e-6)
    np.testing.assert_allclose(resident.spreads, lists.census.variances, rtol=1e-6)

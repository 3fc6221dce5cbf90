"""An index whose lists lie on a GPU answers as it does without one; here Triton's interpreter is the GPU."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import nda_index as nda
from nda_index.coarse.cpu_lists import CpuLists
from nda_index.coarse.gpu import GpuLists, place_lists
from nda_index.coarse.gpu_scan import ScanTuning
from nda_index.coarse.lists import InvertedLists
from nda_index.exact import gpu
from nda_index.query import shard
from nda_index.query.shard import Shard

FEW = 150_000  # bytes: the interpreter is slow, and the CPU scans what does not fit


@pytest.fixture
def with_lists_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists go to the device, and the exact stage stays on the CPU, where it takes less time than the interpreter."""
    if not torch.cuda.is_available():
        pytest.importorskip("triton", reason="the interpreter needs Triton, which is not installed here")
        monkeypatch.setattr(gpu, "DEVICE", "cpu")
        monkeypatch.setattr(gpu, "available", lambda: True)
        monkeypatch.setattr("nda_index.index.choose_device", lambda *_, **__: torch.device("cuda"))
        few_steps = partial(place_lists, tuning=ScanTuning(16, 2048, 1 << 20))  # the interpreter counts these
        monkeypatch.setattr(shard, "place_lists", few_steps)
    monkeypatch.setattr(shard, "LIST_BYTES", FEW)
    monkeypatch.setitem(shard.BACKENDS_BY_DEVICE, "auto", "cpu")


@pytest.mark.usefixtures("with_lists_on_a_gpu")
def test_answers_say_that_lists_were_on_a_gpu_in_part_and_are_the_same(
    index: nda.Index, pictures: NDArray[np.uint8]
) -> None:
    with nda.open_index(index.path) as opened, nda.open_index(index.path, device="cpu") as plain:
        found, answer = (i.attribute(pictures[5], timestep=100, candidates=200) for i in (opened, plain))
        assert (found.settings["coarse_backend"], answer.settings["coarse_backend"]) == ("gpu and cpu", "cpu")
        np.testing.assert_array_equal(found.image_ids, answer.image_ids)
        np.testing.assert_allclose(found.scores, answer.scores, rtol=1e-3)
        assert "coarse_backend" not in plain.attribute(pictures[5], timestep=100, mode="exact").settings


@pytest.mark.usefixtures("with_lists_on_a_gpu")
def test_lists_go_to_the_gpu_at_the_first_question_and_again_after_a_join(index: nda.Index) -> None:
    one = Shard(index.path, "auto")
    first = one.lists
    assert all(isinstance(lists, GpuLists) for lists in first) and one.lists is first
    one.join(one.census())
    joined: tuple[InvertedLists, ...] = one.lists
    assert joined is not first and all(lists.cells.joint_census is not None for lists in joined)
    one.close()


def test_without_a_gpu_lists_stay_where_they_are(index: nda.Index) -> None:
    one = Shard(index.path, "cpu")
    assert all(isinstance(lists, CpuLists) for lists in one.lists)
    one.close()

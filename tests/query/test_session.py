"""A question on a shard whose GPU fails: the CPU answers it, and all that follow."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import nda_index as nda
from nda_index.exact import gpu, gpu_plain, gpu_weights, posterior
from nda_index.query import shard


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, pictures: NDArray[np.uint8]) -> nda.Index:
    """Forty pictures of 14 x 12 pixels."""
    folder = tmp_path_factory.mktemp("small") / "small.nda"
    return nda.build_index(pictures[:40, :14, :12], folder, image_size=(14, 12), scales=[nda.Scale(5)], null=0)


@pytest.fixture
def query(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return pictures[3, :14, :12]


@pytest.fixture
def on_gpu(index: nda.Index, monkeypatch: pytest.MonkeyPatch) -> nda.Index:
    """An index whose shards take the CPU for a GPU, and float64 for its kernels."""
    monkeypatch.setattr(gpu, "DEVICE", "cpu")
    monkeypatch.setattr(gpu, "available", lambda: True)
    monkeypatch.setattr("nda_index.index.choose_device", lambda *_, **__: torch.device("cuda"))
    monkeypatch.setattr(gpu, "code_images", lambda *_: None)
    monkeypatch.setattr(shard, "place_lists", lambda lists, *_: lists)  # the interpreter of their kernels is slow
    return nda.open_index(index.path)


def fail(*_: Any, **__: Any) -> Any:
    raise RuntimeError("CUDA error: an illegal memory access was encountered")


def test_a_gpu_that_fails_leaves_the_question_to_the_cpu(
    index: nda.Index,
    on_gpu: nda.Index,
    query: NDArray[np.uint8],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    expected = index.attribute(query, timestep=500, top=3)
    before = on_gpu.attribute(query, timestep=500, top=3)
    assert before.settings["backend"] == "gpu" and not on_gpu.concurrent
    monkeypatch.setattr(gpu_plain, "log_masses", fail)
    monkeypatch.setattr(gpu_weights, "sum_both_ways", fail)
    with caplog.at_level(logging.WARNING):
        answer = on_gpu.attribute(query, timestep=500, top=3)
    assert "go on on the CPU: CUDA error" in caplog.text
    assert answer.settings["backend"] == "cpu"
    for some in (answer, before):
        np.testing.assert_array_equal(some.image_ids, expected.image_ids)
        np.testing.assert_allclose(some.scores, expected.scores, rtol=1e-4)
    caplog.clear()
    assert on_gpu.attribute(query, timestep=500, top=3).settings["backend"] == "cpu"
    assert "GPU failed" not in caplog.text


def test_a_gpu_that_fails_in_the_second_pass_leaves_both_to_the_cpu(
    index: nda.Index, on_gpu: nda.Index, query: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = index.attribute(query, timestep=500, top=3)
    monkeypatch.setattr(gpu.DeviceMasses, "scores", fail)
    answer = on_gpu.attribute(query, timestep=500, top=3)
    assert answer.settings["backend"] == "cpu"
    np.testing.assert_allclose(answer.scores, expected.scores, rtol=1e-5)  # normalisers of the first pass


def test_a_mean_is_made_by_the_cpu_when_the_gpu_fails(
    index: nda.Index, on_gpu: nda.Index, query: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = index.denoise(query, timestep=100).image
    monkeypatch.setattr(gpu_plain, "log_masses", fail)
    np.testing.assert_allclose(on_gpu.denoise(query, timestep=100).image, expected, atol=1e-6)


def test_a_question_that_the_memory_does_not_hold_leaves_the_next_to_the_gpu(
    index: nda.Index, on_gpu: nda.Index, query: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = index.attribute(query, timestep=500, top=3)

    def run_out(*_: Any) -> Any:
        raise torch.cuda.OutOfMemoryError("no memory")

    with monkeypatch.context() as patch:
        patch.setattr(gpu.DeviceMasses, "scores", run_out)
        answer = on_gpu.attribute(query, timestep=500, top=3)
    assert answer.settings["backend"] == "cpu"
    np.testing.assert_allclose(answer.scores, expected.scores, rtol=1e-5)
    assert on_gpu.attribute(query, timestep=500, top=3).settings["backend"] == "gpu"


def test_an_error_that_is_not_the_gpus_is_raised(
    on_gpu: nda.Index, query: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any) -> Any:
        raise KeyError("not the GPU's")

    monkeypatch.setattr(posterior, "_score_block", stop)
    with pytest.raises(KeyError, match="not the GPU's"):
        on_gpu.attribute(query, timestep=500, top=3)

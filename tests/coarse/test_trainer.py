from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nda_index as nda
from nda_index.coarse.assignment import assign
from nda_index.coarse.cells import decode
from nda_index.coarse.ivf import Codec
from nda_index.coarse.storage import read_quantizer, read_segment
from nda_index.coarse.trainer import (
    faiss_has_gpu,
    find_assigner,
    load_faiss,
    read_encoder,
    time_assignment,
    train_encoder,
    write_encoder,
)

PATCHES = np.random.default_rng(0).normal(size=(5000, 12)).astype(np.float32)


@pytest.mark.parametrize("codec", ["sq8", "pq"])
def test_segments_hold_what_faiss_encoded(tmp_path: Path, codec: Codec) -> None:
    encoder = train_encoder(PATCHES, codec, 32)
    encoder.add(PATCHES, np.arange(5000))
    encoder.index.set_direct_map_type(load_faiss().DirectMap.Hashtable)
    expected = np.stack([encoder.index.reconstruct(i) for i in range(5000)])
    encoder.index.set_direct_map_type(load_faiss().DirectMap.NoMap)
    encoder.write(tmp_path / "lists-00000.arrow")
    segment = read_segment(tmp_path / "lists-00000.arrow", 12)
    cell = np.repeat(np.arange(32), np.diff(segment.offsets))
    vectors = decode(segment.codes, encoder.centroids[cell], encoder.codebook)
    np.testing.assert_allclose(vectors, expected[segment.image_ids], atol=1e-5)
    assert sorted(segment.image_ids.tolist()) == list(range(5000))
    for c in range(32):
        np.testing.assert_allclose(segment.means[c], vectors[cell == c].mean(axis=0), atol=1e-5)
        np.testing.assert_allclose(segment.variances[c], vectors[cell == c].var(axis=0), atol=1e-5)


@pytest.mark.parametrize("codec", ["sq8", "pq"])
def test_an_encoder_that_was_read_encodes_as_the_one_that_was_trained(tmp_path: Path, codec: Codec) -> None:
    encoder = train_encoder(PATCHES, codec, 16)
    write_encoder(tmp_path, encoder)
    again = read_encoder(tmp_path)
    for each in (encoder, again):
        each.add(PATCHES[:700], np.arange(700))
    one, other = encoder.segment(), again.segment()
    np.testing.assert_array_equal(one.offsets, other.offsets)
    np.testing.assert_array_equal(one.image_ids, other.image_ids)
    assert (one.codes != other.codes).mean() < 1e-3  # a coordinate on the edge of a step may round to either side
    assert (again.codec, again.code_size) == (codec, encoder.code_size)
    centroids, kept, codebook = read_quantizer(tmp_path)
    assert (kept, centroids.shape, codebook.shape[1]) == (codec, (16, 12), 12)


def test_a_written_encoder_is_empty(tmp_path: Path) -> None:
    encoder = train_encoder(PATCHES[:500], "sq8", 4)
    for number in range(2):
        encoder.add(PATCHES[:10], np.arange(10))
        encoder.write(tmp_path / f"{number}.arrow")
    assert len(read_segment(tmp_path / "1.arrow", 12).image_ids) == 10


def test_the_time_to_find_a_cell_is_that_of_one_patch(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([10.0, 14.096])
    monkeypatch.setattr("time.perf_counter", lambda: next(ticks))
    assert time_assignment(PATCHES, 8) == pytest.approx(4.096 / 4096)  # the search takes at most 4,096 of them


class Card:
    """FAISS's functions for a GPU, on the CPU; counts what is copied there."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.copied: list[Any] = []
        faiss = load_faiss()
        monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1)
        monkeypatch.setattr(faiss, "StandardGpuResources", object, raising=False)
        monkeypatch.setattr(faiss, "index_cpu_to_gpu", self.copy, raising=False)

    def copy(self, resources: object, number: int, index: Any) -> Any:
        assert number == 0
        copied = load_faiss().clone_index(index)
        self.copied.append(copied)
        return copied


@pytest.mark.parametrize("codec", ["sq8", "pq"])
def test_faiss_trains_on_a_gpu_where_it_can(monkeypatch: pytest.MonkeyPatch, codec: Codec) -> None:
    patches = PATCHES[:700, :4].copy()
    expected = train_encoder(patches, codec, 8, gpu=True)  # without a card
    assert not faiss_has_gpu()
    card = Card(monkeypatch)
    assert faiss_has_gpu()
    train_encoder(patches, codec, 8)
    assert card.copied == []
    trained = train_encoder(patches, codec, 8, gpu=True)
    (clustering,) = card.copied
    assert clustering.ntotal == 8  # the last cells of the training were put there
    np.testing.assert_allclose(trained.centroids, expected.centroids, atol=1e-5)
    np.testing.assert_allclose(trained.codebook, expected.codebook, atol=1e-5)
    trained.add(patches, np.arange(700))
    assert len(trained.segment().image_ids) == 700


def test_faiss_assigns_on_a_gpu_where_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_assigner() is assign
    card, patches = Card(monkeypatch), torch.from_numpy(PATCHES)
    find = find_assigner()
    for centroids in (patches[:20], patches[20:30]):
        for _ in range(2):
            np.testing.assert_array_equal(find(patches, centroids), assign(patches, centroids))
    assert [index.ntotal for index in card.copied] == [20, 10]  # once for each set of cells


def test_a_faiss_that_lacks_its_libraries_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, *_: Any, **__: Any) -> Any:
        if name == "faiss":
            raise RuntimeError("faiss-gpu: failed to load libcublas.so.12\nmore")
        return real(name, *_, **__)

    real = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", load)
    with pytest.raises(nda.MissingDependencyError, match="FAISS cannot be loaded: faiss-gpu: failed to load lib"):
        load_faiss()


def test_faiss_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with pytest.raises(nda.MissingDependencyError, match=r"nda-index\[cpu\]"):
        load_faiss()

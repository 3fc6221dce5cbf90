from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import nda_index as nda
from nda_index.coarse.cells import decode
from nda_index.coarse.ivf import Codec
from nda_index.coarse.storage import read_quantizer, read_segment
from nda_index.coarse.trainer import load_faiss, read_encoder, time_assignment, train_encoder, write_encoder

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


def test_faiss_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with pytest.raises(nda.MissingDependencyError, match=r"nda-index\[cpu\]"):
        load_faiss()

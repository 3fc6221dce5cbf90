from __future__ import annotations

import numpy as np
import pytest
import torch

from nda_index.coarse import coding
from nda_index.coarse.cells import decode
from nda_index.coarse.coding import count_parts, encode, group_members
from nda_index.coarse.ivf import Codec
from nda_index.coarse.trainer import load_faiss, train_encoder

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(("codec", "dimensions", "size"), [("sq8", 28, 28), ("pq", 28, 14), ("pq", 9, 9)])
def test_codes_are_those_that_faiss_makes(
    monkeypatch: pytest.MonkeyPatch, codec: Codec, dimensions: int, size: int
) -> None:
    monkeypatch.setattr(coding, "DISTANCES", 4 * 256 * size * 300)
    patches = RNG.normal(size=(1200, dimensions)).astype(np.float32)
    patches[:, 3] = 0.5  # a coordinate that never changes has no span
    encoder = train_encoder(patches[:600], codec, 4)
    cells, codebook = np.arange(1200) % 4, torch.from_numpy(encoder.codebook)
    ours = encode(torch.from_numpy(patches - encoder.centroids[cells]), codebook).numpy()
    assert ours.shape == (1200, size) and count_parts(codebook) == size
    faiss, theirs = load_faiss(), np.empty((1200, size), np.uint8)
    encoder.index.encode_vectors(1200, faiss.swig_ptr(patches), faiss.swig_ptr(cells), faiss.swig_ptr(theirs))
    different = ours != theirs
    assert different.mean() < 1e-3
    assert (np.abs(ours.astype(int) - theirs)[different] == 1).all() if codec == "sq8" else not different.any()


def test_a_patch_far_outside_has_the_outermost_codes() -> None:
    codebook = torch.tensor([[0.002, 0.002], [1 / 255, 1 / 255]])
    assert encode(torch.tensor([[-7.0, 7.0]]), codebook).tolist() == [[0, 255]]


@pytest.mark.parametrize("rows", [2, 256])
def test_members_are_grouped_in_order_with_the_moments_of_what_their_codes_say(rows: int) -> None:
    centroids = torch.from_numpy(RNG.normal(size=(6, 4)).astype(np.float32))
    codebook = torch.from_numpy(RNG.normal(size=(rows, 4)).astype(np.float32))
    cells = torch.tensor([4, 1, 4, 0, 1, 4, 3, 4], dtype=torch.int32)
    codes = torch.from_numpy(RNG.integers(0, 256, (8, count_parts(codebook)), np.uint8))
    ids = torch.tensor([9, 8, 7, 6, 5, 4, 3, 2], dtype=torch.int32)
    segment = group_members(cells, codes, ids, centroids, codebook)
    assert segment.offsets.tolist() == [0, 1, 3, 3, 4, 8, 8]
    assert segment.image_ids.tolist() == [6, 8, 5, 3, 9, 7, 4, 2]
    for cell, (begin, end) in enumerate(zip(segment.offsets[:-1], segment.offsets[1:], strict=True)):
        here = segment.codes[begin:end]
        np.testing.assert_array_equal(here, codes[cells == cell].numpy())
        if begin == end:
            assert not segment.means[cell].any() and not segment.variances[cell].any()
            continue
        members = decode(here, centroids[cell].numpy(), codebook.numpy()).astype(np.float64)
        np.testing.assert_allclose(segment.means[cell], members.mean(axis=0), rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(segment.variances[cell], members.var(axis=0), rtol=1e-5, atol=1e-4)

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from nda_index import Scale
from nda_index.embedding import embed, fit_embedding, positions_inside
from nda_index.scales import block_means


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    taps=st.integers(1, 5),
    downscale=st.sampled_from([1, 2]),
    channels=st.sampled_from([1, 3]),
    dimensions=st.integers(2, 30),
    smooth=st.booleans(),
)
def test_embedded_distances_never_exceed_those_of_the_patches(
    seed: int, taps: int, downscale: int, channels: int, dimensions: int, smooth: bool
) -> None:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (3, channels, 12, 11), np.uint8)
    if smooth:
        images = np.sort(images, axis=3)
    scale = Scale(taps * downscale, downscale)
    embedded = embed(fit_embedding(images[:2], scale, dimensions), images)
    vectors = torch.from_numpy(embedded.reshape(-1, embedded.shape[2]).astype(np.float64))
    means = torch.from_numpy(block_means(images / 127.5 - 1.0, downscale))
    patches = F.unfold(means, taps, dilation=downscale).transpose(1, 2).flatten(0, 1)
    assert (torch.cdist(vectors, vectors) <= torch.cdist(patches, patches) + 1e-5).all()


def test_enough_dimensions_keep_distances() -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 1, 8, 8), np.uint8)
    embedded = embed(fit_embedding(images, Scale(3), dimensions=10), images)[0].astype(np.float64)
    patches = F.unfold(torch.from_numpy(images[:1] / 127.5 - 1.0), 3)[0].T.numpy()
    np.testing.assert_allclose(
        np.linalg.norm(embedded[0] - embedded[1:], axis=1), np.linalg.norm(patches[0] - patches[1:], axis=1), rtol=1e-5
    )


def test_stride_takes_every_other_position_of_a_rectangle() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 9, 14), np.uint8)
    scale = Scale(4, 2)
    embedding = fit_embedding(images, scale, dimensions=6)
    dense = embed(embedding, images).reshape(2, 6, 11, -1)
    sparse = embed(embedding, images, stride=2)
    assert sparse.shape[1] == positions_inside(scale, 9, 14, 2) == 18
    np.testing.assert_allclose(sparse.reshape(2, 3, 6, -1), dense[:, ::2, ::2], atol=1e-6)

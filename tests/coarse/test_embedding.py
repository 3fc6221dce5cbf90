from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nda_index import Scale
from nda_index.coarse.embedding import count_positions, embed, fit_embedding
from nda_index.scales import block_means


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    taps=st.integers(1, 5),
    downscale=st.sampled_from([1, 2]),
    channels=st.sampled_from([1, 3]),
    dimensions=st.integers(4, 30),
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
    patches = true_patches(images, scale)
    overhang = vectors[:, -2:]
    same = (overhang[:, None] == overhang).all(dim=2)
    assert (torch.cdist(vectors, vectors)[same] <= torch.cdist(patches, patches)[same] + 1e-5).all()
    assert same.sum() > len(vectors)


def true_patches(images: NDArray[np.uint8], scale: Scale) -> torch.Tensor:
    """Block means of every window, 0 outside the image."""
    padded = np.pad(images / 127.5 - 1.0, ((0, 0), (0, 0), (scale.padding,) * 2, (scale.padding,) * 2))
    means = torch.from_numpy(block_means(padded, scale.downscale))
    return F.unfold(means, scale.taps, dilation=scale.downscale).transpose(1, 2).flatten(0, 1)


def test_enough_dimensions_keep_distances() -> None:
    images = np.random.default_rng(0).integers(0, 256, (1, 1, 8, 8), np.uint8)
    embedded = embed(fit_embedding(images, Scale(3), dimensions=12), images)[0].astype(np.float64)
    inside = (embedded[:, -2:] == 0).all(axis=1)
    assert inside.sum() == 36
    patches = true_patches(images, Scale(3))[inside].numpy()
    found = np.linalg.norm(embedded[inside][0] - embedded[inside][1:], axis=1)
    np.testing.assert_allclose(found, np.linalg.norm(patches[0] - patches[1:], axis=1), rtol=1e-5)


def test_windows_that_stick_out_differently_are_far_apart() -> None:
    images = np.zeros((1, 3, 8, 9), np.uint8)
    embedded = embed(fit_embedding(images, Scale(5), dimensions=6), images)[0].reshape(8, 9, -1)
    np.testing.assert_array_equal(embedded[:, 4, -2], np.array([-2, -1, 0, 0, 0, 0, 1, 2]) * 4.0)
    np.testing.assert_array_equal(embedded[4, :, -1], np.array([-2, -1, 0, 0, 0, 0, 0, 1, 2]) * 4.0)


def test_stride_takes_every_other_position_of_a_rectangle() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 9, 14), np.uint8)
    scale = Scale(4, 2)
    embedding = fit_embedding(images, scale, dimensions=8)
    dense = embed(embedding, images).reshape(2, 8, 13, -1)
    sparse = embed(embedding, images, stride=2)
    assert sparse.shape[1] == count_positions(scale, 9, 14, 2) == 28
    np.testing.assert_allclose(sparse.reshape(2, 4, 7, -1), dense[:, ::2, ::2], atol=1e-6)

from __future__ import annotations

import numpy as np

import nda_index as nda
from nda_index.coarse.embedding import fit_embedding
from nda_index.coarse.windows import query_windows
from nda_index.diffusion import noisy_images
from nda_index.images import to_float


def test_windows_are_broadened_by_what_the_index_does_not_know() -> None:
    image = np.random.default_rng(0).integers(0, 256, (3, 12, 10), np.uint8)
    (noisy,) = noisy_images(to_float(image), 100, "none")
    embedding = fit_embedding(image[None], nda.Scale(3), 12)
    known = query_windows(embedding, 2, image, noisy, mirror=False, train_stride=4)
    np.testing.assert_allclose(known.variances, noisy.sigma**2 / noisy.signal**2)
    for mirror, train_stride in ((False, 1), (False, 3), (True, 4)):  # the exact stage sees windows that are not here
        some = query_windows(embedding, 2, image, noisy, mirror=mirror, train_stride=train_stride)
        assert (some.variances > known.variances[0]).all()
    missed = query_windows(embedding, 2, image, noisy, mirror=False)
    assert (missed.variances > known.variances).all()
    sparser = query_windows(embedding, 4, image, noisy, mirror=False)
    inside = sparser.weights.argmax()  # the same window of both: at the border they are taken on other grids
    place = np.flatnonzero(missed.owners == sparser.owners[inside])[0]
    added = sparser.variances[inside] - known.variances[0], missed.variances[place] - known.variances[0]
    assert added[0] > added[1] > 0
    np.testing.assert_array_equal(missed.vectors, known.vectors)

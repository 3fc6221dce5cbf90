"""Our scores against those that the published code computed on real images, in float64."""

from __future__ import annotations

import ast
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nda_index import Scale
from nda_index.diffusion import draw_noise, noisy_images
from nda_index.exact import image_scores
from nda_index.exact.masses import LEFT_OUT_BITS
from nda_index.images import to_float
from tests.shared_data import shared_file

CASES = [("cifar", case) for case in range(8)] + [("gray", case) for case in range(2)]


def load(name: str) -> tuple[Any, NDArray[np.float32], NDArray[np.float32]]:
    archive = np.load(shared_file(f"reference/nda_reference_{name}.npz"))
    if name == "gray":
        return archive, archive["train"], archive["query"]
    train, query = (to_float(archive[part].transpose(0, 3, 1, 2)) for part in ("train_uint8", "query_uint8"))
    return archive, train, query


@pytest.mark.parametrize(("name", "case"), CASES)
@pytest.mark.parametrize(("backend", "query"), [("reference", 0), ("cpu", 0), ("cpu", 1)])  # the definition is slow
def test_scores_of_the_published_code(name: str, case: int, backend: str, query: int) -> None:
    archive, train, queries = load(name)
    kind, patch, timestep, topk, mask_value = ast.literal_eval(str(archive["cases"][case]))
    noisy = noisy_images(queries[query], timestep)[0]
    scores = image_scores(
        noisy.pixels,
        train,
        Scale(patch, downscale=2 if kind == "down" else 1),
        signal=noisy.signal,
        sigma=noisy.sigma,
        mask_value=mask_value,
        per_image_topk=None if topk == -1 else topk,
        backend=backend,
    )
    expected = archive[f"score_{case}_q{query}_f64"]
    # A position's weights that are left out are together below 2^-LEFT_OUT_BITS: scores far below that may vanish.
    left_out = 0.0 if backend == "reference" else 2.0**-LEFT_OUT_BITS * Scale(patch).query_positions(*queries.shape[2:])
    np.testing.assert_allclose(scores, expected, rtol=1e-4 if backend == "cpu" else 1e-5, atol=left_out)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize(("name", "timestep"), [("cifar", t) for t in (50, 100, 300, 500)] + [("gray", 100)])
def test_noise_of_the_published_code(name: str, timestep: int) -> None:
    archive, train, _ = load(name)
    channels, height, width = train.shape[1:]
    drawn = draw_noise((channels, height, width), timestep, seed=0)
    np.testing.assert_array_equal(drawn, archive[f"noise_t{timestep}_q0"])

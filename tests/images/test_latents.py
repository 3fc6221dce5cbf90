from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from nda_index.images import fit_latent
from nda_index.images.values import UnfitValues


def test_any_float_of_a_latents_shape_is_kept_in_half_precision() -> None:
    values = np.random.default_rng(0).integers(-40, 40, (1, 7, 2, 3)) / 16.0
    for given in (values, values[0], values.astype(np.float16), torch.tensor(values, dtype=torch.bfloat16)):
        latent = fit_latent(given, (7, 2, 3))
        assert latent.dtype == np.float16
        np.testing.assert_array_equal(latent, values[0])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((2, 4, 8, 8)), r"shape \[2, 4, 8, 8\]"),
        (np.zeros((4, 0, 8)), r"shape \[4, 0, 8\]"),
        (np.zeros((4, 8, 8), np.int32), "latents are floats"),
        (np.full((4, 8, 8), -np.inf), "infinity"),
        (np.full((4, 8, 8), -65600.0), "up to 6.56e\\+04, and float16 ends at 65504"),
        ("text", "is no picture"),
    ],
)
def test_what_a_latent_cannot_be_is_told(values: Any, message: str) -> None:
    with pytest.raises(UnfitValues, match=message):
        fit_latent(values)

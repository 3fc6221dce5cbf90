from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nda_index import ConfigError, Scale
from nda_index.scales import block_means, parse_scale


@given(st.integers(1, 40), st.integers(1, 40))
def test_every_position_overlaps_the_image_and_interior_ones_lie_inside(patch: int, size: int) -> None:
    scale = Scale(patch)
    starts = [position - scale.padding for position in range(scale.positions(size))]
    assert len(starts) == (size if patch % 2 else size - 1)
    assert all(start < size and start + patch > 0 for start in starts)
    inside = [p for p, start in enumerate(starts) if start >= 0 and start + patch <= size]
    assert list(scale.interior(size)) == inside


def test_strides_thin_the_query_positions() -> None:
    assert Scale(7).query_positions(32, 20) == 32 * 20
    assert Scale(14, 2).query_positions(32, 20) == 31 * 19
    assert Scale(7, query_stride=3).query_positions(32, 20) == 11 * 7


def test_block_means_are_means_times_the_block() -> None:
    image = np.random.default_rng(0).uniform(-1, 1, (2, 7, 6))
    means = block_means(image, 2)
    assert means.shape == (2, 6, 5)
    assert means[1, 3, 2] == pytest.approx(2 * image[1, 3:5, 2:4].mean())


@pytest.mark.parametrize(
    ("text", "scale"), [("7", Scale(7)), ("14/2", Scale(14, 2)), ("16/4*0.5", Scale(16, 4, weight=0.5))]
)
def test_short_forms(text: str, scale: Scale) -> None:
    assert parse_scale(text) == scale


@pytest.mark.parametrize("text", ["", "x", "7/2", "0", "-3", "7*0", "7*nan", "7/2/1"])
def test_wrong_short_forms_are_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_scale(text)


def test_a_patch_larger_than_the_image_is_refused() -> None:
    Scale(8).check_fits(8, 9)
    with pytest.raises(ConfigError, match="does not fit an image of 8 x 9"):
        Scale(9).check_fits(8, 9)

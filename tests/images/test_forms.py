from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nda_index import ImageDecodeError, read_picture
from nda_index.images import decode_image, measure_side
from nda_index.images.forms import arrange_axes
from nda_index.images.values import UnfitValues
from tests.conftest import encoded

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
FIRST = np.ascontiguousarray(PIXELS.transpose(2, 0, 1))  # [C, H, W]


def shape_of(array: Any, axes: int, channels_first: bool = False) -> tuple[int, ...]:
    return arrange_axes(np.zeros(array, np.uint8), axes, channels_first).shape


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((9, 7), (9, 7, 1)), ((9, 7, 3), (9, 7, 3)), ((3, 9, 7), (9, 7, 3)), ((1, 9, 7), (9, 7, 1)),
        ((9, 7, 4), (9, 7, 4)), ((4, 9, 7), (9, 7, 4)), ((3, 7, 3), (3, 7, 3)), ((3, 4, 4), (4, 4, 3)),
        ((4, 4, 3), (4, 4, 3)),
    ],
)  # fmt: skip
def test_channels_are_found_first_or_last(given: tuple[int, ...], expected: tuple[int, ...]) -> None:
    assert shape_of(given, 3) == expected
    assert shape_of((5, *given), 4) == (5, *expected)


def test_where_both_are_possible_tensors_have_their_channels_first() -> None:
    assert (shape_of((3, 8, 3), 3), shape_of((3, 8, 3), 3, channels_first=True)) == ((3, 8, 3), (8, 3, 3))


@pytest.mark.parametrize("given", [(9,), (9, 7, 2), (0, 7), (9, 0, 3), (2, 9, 7, 3), ()])
def test_other_shapes_are_refused(given: tuple[int, ...]) -> None:
    with pytest.raises(UnfitValues, match="has shape"):
        shape_of(given, 3)


FORMS: dict[str, Any] = {
    "array": PIXELS,
    "channels first": FIRST,
    "a batch of one": FIRST[None],
    "not contiguous": np.asfortranarray(PIXELS),
    "uint16": PIXELS.astype(np.uint16) * 257,
    "tensor": torch.tensor(FIRST),
    "tensor, channels last": torch.tensor(PIXELS),
    "tensor with a gradient": torch.tensor(FIRST.astype(np.float32) / 255, requires_grad=True),
    "floats": FIRST.astype(np.float32) / 255,
    "half floats": torch.tensor(FIRST.astype(np.float32) / 255).half(),
    "floats of brain": torch.tensor(FIRST.astype(np.float32) / 255).bfloat16(),
    "PIL": Image.fromarray(PIXELS),
    "bytes": encoded(PIXELS),
    "an open file": io.BytesIO(encoded(PIXELS)),
    "a dictionary of bytes": {"bytes": encoded(PIXELS), "path": None},
    "with alpha": np.dstack([PIXELS, np.full((9, 7), 255, np.uint8)]),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_read_alike(form: str) -> None:
    seen = np.asarray(read_picture(FORMS[form], value_range="0..1")).astype(int)
    tolerance = {"half floats": 1, "floats of brain": 1}.get(form, 0)
    assert np.abs(seen - PIXELS).max() <= tolerance


def test_paths_are_read_as_text_and_in_dictionaries(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(PIXELS))
    for form in (path, str(path), {"bytes": None, "path": str(path)}):
        np.testing.assert_array_equal(decode_image(form, (9, 7), 3), FIRST)
        assert measure_side(form) == 7
    np.save(tmp_path / "a.npy", FIRST)
    np.testing.assert_array_equal(np.asarray(read_picture(tmp_path / "a.npy")), PIXELS)


def test_what_is_refused_says_what_it_is_and_what_would_do() -> None:
    things: list[tuple[Any, str]] = [(17, "the int"), ([PIXELS], "the list"), (object(), "the object")]
    for thing, what in things:
        with pytest.raises(ImageDecodeError, match=f"{what} is no picture; give a path, bytes"):
            read_picture(thing)
    with pytest.raises(ImageDecodeError, match=r"the tensor \[3, 9, 7\] has numbers of type float32"):
        read_picture(torch.zeros(3, 9, 7))
    with pytest.raises(ImageDecodeError, match=r"the tensor \[2, 3, 9, 7\] has shape \[2, 3, 9, 7\]"):
        read_picture(torch.zeros((2, 3, 9, 7), dtype=torch.uint8))


def test_the_shorter_side_of_what_cannot_be_read_is_nothing() -> None:
    things: list[Any] = [PIXELS, FIRST, Image.new("L", (5, 8)), b"broken", None, {}]
    assert [measure_side(thing) for thing in things] == [7, 7, 5, 0, 0, 0]

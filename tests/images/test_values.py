from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nda_index import ConfigError
from nda_index.images.values import UnfitValues, as_bytes, check_values, parse_value_range


@pytest.mark.parametrize(
    ("given", "expected"),
    [("0..1", (0, 1)), ("-1..1", (-1, 1)), (" 0..255", (0, 255)), ((0, 65535), (0, 65535)), (None, None)],
)
def test_a_range_is_two_numbers(given: Any, expected: Any) -> None:
    assert parse_value_range(given) == expected


@pytest.mark.parametrize("given", ["", "1", "0-1", "0..1..2", "a..b", "1..0", "1..1", "0..nan", "0..inf", (1,), 7])
def test_what_is_no_range_is_refused(given: Any) -> None:
    with pytest.raises(ConfigError, match="value_range is"):
        parse_value_range(given)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
def test_integers_count_by_the_range_of_their_type(dtype: Any) -> None:
    top = np.iinfo(dtype).max
    values = np.array([0, top // 4, top // 2, top], dtype)
    assert as_bytes(values, None).tolist() == [0, 63, 127, 255]
    assert as_bytes(values, (0, 1)).tolist() == [0, 63, 127, 255]  # a range is of floats
    assert as_bytes(values[:1], None).tolist() == [0]


def test_truth_values_are_black_and_white() -> None:
    assert as_bytes(np.array([True, False]), None).tolist() == [255, 0]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_count_by_the_range_that_is_stated(dtype: Any) -> None:
    for low, high in ((0, 1), (-1, 1), (0, 255)):
        levels = np.arange(256)
        values = (low + levels / 255 * (high - low)).astype(dtype)
        assert np.abs(as_bytes(values, (low, high)).astype(int) - levels).max() <= (dtype == np.float16)
    assert as_bytes(np.array([-0.2, 1.2], dtype), (0, 1)).tolist() == [0, 255]  # overshoots


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64, np.uint64])
def test_signed_integers_count_by_the_range_that_is_stated(dtype: Any) -> None:
    values = np.array([0, 51, 100], dtype)
    assert as_bytes(values, (0, 100)).tolist() == [0, 130, 255]
    with pytest.raises(UnfitValues, match=r"whose range is not known; make them uint8 where they are 0..255, or say"):
        as_bytes(values, None)
    with pytest.raises(UnfitValues, match=r"has integers from 0 to 100, and value_range says 0..1; give their own"):
        as_bytes(values, (0, 1))


def test_integers_of_a_file_count_by_its_bits() -> None:
    assert as_bytes(np.array([0, 2**30, 2**31 - 1], np.int32), None, bits=31).tolist() == [0, 128, 255]


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_what_is_no_number_is_refused(number: float) -> None:
    with pytest.raises(UnfitValues, match="has NaN or infinite values; every value must be a finite number"):
        as_bytes(np.array([number, 0.5]), (0, 1))


@pytest.mark.parametrize("values", [[0.0, 255.0], [-1.0, 1.0]])
def test_floats_of_another_range_are_refused(values: list[float]) -> None:
    with pytest.raises(UnfitValues, match=r"value_range says 0..1; give their own range"):
        as_bytes(np.array(values), (0, 1))


@pytest.mark.parametrize("dtype", [complex, object, "U1", "datetime64[s]"])
def test_types_that_say_nothing_of_brightness_are_refused(dtype: Any) -> None:
    with pytest.raises(UnfitValues, match="they must be uint8, uint16 or uint32, or floats"):
        check_values(np.dtype(dtype), (0, 1))

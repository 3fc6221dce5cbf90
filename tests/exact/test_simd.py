from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pytest
from numpy.typing import NDArray

from nda_index.exact.simd import LANES, any_below, exp2, fma, larger, load, smaller, splat, store, transpose


@numba.njit
def arithmetic(a: Any, b: Any, out: Any) -> None:
    x, y = load(a, 1), load(b, 0)
    store(out, 0, x + y)
    store(out, LANES, x - y)
    store(out, 2 * LANES, x * y)
    store(out, 3 * LANES, fma(x, y, splat(a[0])))
    store(out, 4 * LANES, smaller(x, y))
    store(out, 5 * LANES, larger(x, y))


@numba.njit
def powers(x: Any, out: Any) -> None:
    for i in range(0, len(x), LANES):
        store(out, i, exp2(load(x, i)))


@numba.njit
def below(a: Any, b: Any) -> bool:
    return any_below(load(a, 0), load(b, 0))  # type: ignore[no-any-return]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arithmetic_is_that_of_numpy_at_any_alignment(dtype: Any) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=LANES + 1).astype(dtype), rng.normal(size=LANES).astype(dtype)
    out = np.zeros(6 * LANES, dtype)
    arithmetic(a, b, out)
    x: NDArray[Any] = a[1:]
    expected = [x + b, x - b, x * b, x * b + a[0], np.minimum(x, b), np.maximum(x, b)]
    np.testing.assert_allclose(out.reshape(6, LANES), expected, rtol=4 * np.finfo(dtype).eps, atol=1e-7)


@numba.njit
def transposed(a: Any, stride: int, out: Any) -> None:
    transpose(a, stride, out)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("stride", [LANES, 3 * LANES])
def test_transpose_turns_rows_into_columns(stride: int, dtype: Any) -> None:
    rows = np.arange(LANES * stride).reshape(LANES, stride).astype(dtype)
    out = np.zeros(LANES * stride, dtype)
    transposed(rows.reshape(-1), stride, out)
    np.testing.assert_array_equal(out.reshape(stride, LANES), rows.T)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exp2_is_exact_to_three_units_in_the_last_place(dtype: Any) -> None:
    x = np.linspace(-126, 126, 40_000).astype(dtype)
    out = np.zeros_like(x)
    powers(x, out)
    np.testing.assert_allclose(out, np.exp2(x.astype(np.longdouble)).astype(dtype), rtol=3 * np.finfo(dtype).eps)


def test_exp2_holds_at_its_ends() -> None:
    x = np.repeat(np.array([-np.inf, -1e30, -127, 127, 1e30, np.inf], np.float32), LANES)
    out = np.zeros_like(x)
    powers(x, out)
    np.testing.assert_allclose(out[::LANES], np.exp2(np.array([-126.0] * 3 + [126.0] * 3)), rtol=4e-7)


def test_any_below_sees_a_single_lane() -> None:
    a, b = np.zeros(LANES, np.float32), np.zeros(LANES, np.float32)
    assert not below(a, b)
    a[11] = -1
    assert below(a, b)

"""Sixteen floats as one value inside Numba functions, so that a kernel says itself what stays in registers.

`kernel` and `parallel_kernel` compile functions that use them. Numba keeps what it compiled until the file of the
function that Python calls changes: after a change to a function that is called from another file, remove
`__pycache__`.

`load`, `store`, `splat`, `+`, `-`, `*`, `fma`, `smaller`, `larger`, `any_below` and `exp2` become one or a few
instructions on the machine's widest registers; LLVM splits the sixteen lanes where registers are narrower.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from math import factorial, log
from typing import Any, cast

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

from nda_index.exact.compiling import Kernel, compile_kernel

LANES = 16

# Sums keep their order, which "reassoc" would change: `exp2` rounds by adding and taking away a large number.
_OPTIONS: dict[str, Any] = {
    "fastmath": {"nnan", "nsz", "contract", "arcp"},
    "nogil": True,
    "error_model": "numpy",
}
_UNCOUNTED: dict[str, Any] = {**_OPTIONS, "_nrt": False}  # Numba's own name for it; no release documents another


def kernel(function: Kernel) -> Kernel:
    """Compile a function that makes no arrays and returns none.

    It counts no references to its arrays, which its caller holds. Counting takes up to a third of the time of a
    function that is called often: each count is an atomic operation.
    """
    return compile_kernel(function, **_UNCOUNTED)


def allocating_kernel(function: Kernel) -> Kernel:
    """Compile a function that makes arrays."""
    return compile_kernel(function, **_OPTIONS)


def parallel_kernel(function: Kernel) -> Kernel:
    """Compile a function whose `numba.prange` loops share the cores."""
    return compile_kernel(function, parallel=True, **_OPTIONS)


def _intrinsic(function: Callable[..., Any]) -> Callable[..., Any]:
    return cast(Callable[..., Any], intrinsic(function))


class Vector(types.Type):
    """Numba type of `LANES` floats of one type."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        super().__init__(name=f"Vector({dtype})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, vector: Vector) -> None:
        super().__init__(manager, vector, ir.VectorType(_element(vector.dtype), LANES))  # type: ignore[no-untyped-call]


def _element(dtype: Any) -> Any:
    return ir.DoubleType() if dtype == types.float64 else ir.FloatType()


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    address = builder.gep(data, [index])
    return builder.bitcast(address, ir.VectorType(_element(array_type.dtype), LANES).as_pointer())


@_intrinsic
def load(_typing: Any, array: Any, index: Any) -> Any:
    """Elements index .. index + 15 of a flat array."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _pointer(context, builder, signature.args[0], *arguments)
        return builder.load(address, align=array.dtype.bitwidth // 8)

    return Vector(array.dtype)(array, types.intp), code


@_intrinsic
def store(_typing: Any, array: Any, index: Any, vector: Any) -> Any:
    """Put a vector at elements index .. index + 15 of a flat array."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _pointer(context, builder, signature.args[0], *arguments[:2])
        builder.store(arguments[2], address, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), code


@_intrinsic
def splat(_typing: Any, value: Any) -> Any:
    """The same float in every lane."""

    def code(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return _splat(builder, arguments[0], LANES)

    return Vector(value)(value), code


def _splat(builder: Any, value: Any, lanes: int) -> Any:
    empty = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
    first = builder.insert_element(empty, value, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), None)
    return builder.shuffle_vector(first, empty, zeros)


def _constant(dtype: Any, value: float) -> Any:
    return ir.Constant(ir.VectorType(_element(dtype), LANES), [value] * LANES)


def _overload_operator(python_operator: Any, instruction: str) -> None:
    @_intrinsic
    def operation(_typing: Any, a: Any, _b: Any) -> Any:
        def code(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            return getattr(builder, instruction)(*arguments)

        return a(a, a), code

    @overload(python_operator)
    def by_type(a: Any, b: Any) -> Any:
        def elementwise(a: Any, b: Any) -> Any:
            return operation(a, b)

        return elementwise if isinstance(a, Vector) and a == b else None


_overload_operator(operator.add, "fadd")
_overload_operator(operator.sub, "fsub")
_overload_operator(operator.mul, "fmul")


@_intrinsic
def fma(_typing: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c, rounded once where the machine has an instruction for it."""

    def code(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return _fused(builder, *arguments)

    return a(a, a, a), code


def _fused(builder: Any, a: Any, b: Any, c: Any) -> Any:
    return builder.fadd(builder.fmul(a, b, flags=("contract",)), c, flags=("contract",))


def _select(comparison: str) -> Any:
    @_intrinsic
    def select(_typing: Any, a: Any, b: Any) -> Any:
        def code(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            return builder.select(builder.fcmp_ordered(comparison, *arguments), *arguments)

        return a(a, a), code

    return select


smaller, larger = _select("<"), _select(">")


@_intrinsic
def any_below(_typing: Any, a: Any, b: Any) -> Any:
    """Whether a < b in any lane."""

    def code(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        bits = builder.bitcast(builder.fcmp_ordered("<", *arguments), ir.IntType(LANES))
        return builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0))

    return types.boolean(a, a), code


@_intrinsic
def transpose(_typing: Any, source: Any, stride: Any, target: Any) -> Any:
    """Of a flat array's sixteen rows, `stride` elements apart, each sixteen columns into sixteen elements of another.

    The element at row * stride + column, column < stride, goes to column * 16 + row; stride is a multiple of 16.
    """

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        integer = arguments[1].type
        align = source.dtype.bitwidth // 8

        def address(array_type: Any, array: Any, index: Any) -> Any:
            return _pointer(context, builder, array_type, array, index)

        with cgutils.for_range_slice(
            builder, ir.Constant(integer, 0), arguments[1], ir.Constant(integer, LANES), integer
        ) as (column, _):
            rows = [
                builder.load(
                    address(
                        signature.args[0],
                        arguments[0],
                        builder.add(builder.mul(arguments[1], ir.Constant(integer, row)), column),
                    ),
                    align=align,
                )
                for row in range(LANES)
            ]
            for half in (1, 2, 4, 8):  # swap the off-diagonal halves of blocks twice as large
                low = [lane if not lane & half else LANES + lane - half for lane in range(LANES)]
                high = [lane + half if not lane & half else LANES + lane for lane in range(LANES)]
                masks = [ir.Constant(ir.VectorType(ir.IntType(32), LANES), mask) for mask in (low, high)]
                for row in range(LANES):
                    if not row & half:
                        pair = rows[row], rows[row + half]
                        rows[row], rows[row + half] = (builder.shuffle_vector(*pair, mask) for mask in masks)
            for lane, row in enumerate(rows):
                index = builder.mul(builder.add(column, ir.Constant(integer, lane)), ir.Constant(integer, LANES))
                builder.store(row, address(signature.args[2], arguments[2], index), align=align)
        return context.get_dummy_value()

    return types.void(source, types.intp, target), code


@_intrinsic
def exp2(_typing: Any, x: Any) -> Any:
    """2 ** x for x in [-126, 126], and the value at the nearer end outside; relative error 3 units in the last place.

    Adding 1.5 * 2^23 (1.5 * 2^52 in float64) rounds to an integer and leaves it in the low bits; the rest f is in
    [-1/2, 1/2], where 2^f is its Taylor polynomial, and the integer is added to the exponent.
    """
    double = x.dtype == types.float64
    mantissa, degree = (52, 13) if double else (23, 6)
    coefficients = [log(2) ** n / factorial(n) for n in range(degree + 1)]
    integer = ir.VectorType(ir.IntType(64 if double else 32), LANES)

    def code(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        low, high, shift = (_constant(x.dtype, value) for value in (-126.0, 126.0, 1.5 * 2.0**mantissa))
        value = builder.select(builder.fcmp_ordered(">", arguments[0], low), arguments[0], low)
        value = builder.select(builder.fcmp_ordered("<", value, high), value, high)
        shifted = builder.fadd(value, shift)
        rest = builder.fsub(value, builder.fsub(shifted, shift))
        power = _constant(x.dtype, coefficients[-1])
        for coefficient in coefficients[-2::-1]:
            power = _fused(builder, power, rest, _constant(x.dtype, coefficient))
        places = ir.Constant(integer, [mantissa] * LANES)
        exponent = builder.shl(builder.bitcast(shifted, integer), places)
        return builder.bitcast(builder.add(builder.bitcast(power, integer), exponent), power.type)

    return x(x), code

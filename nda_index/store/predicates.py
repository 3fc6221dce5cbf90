"""What a condition means: its tests on Arrow columns, joined by SQL's logic of true, false and unknown.

A number is compared as it is written, whatever the column's type: `year > 5.5` and `level < 300` are right for integers
of any width, and `price = 1.10` for decimals.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timezone
from decimal import Decimal
from fractions import Fraction
from functools import reduce
from typing import Any, Protocol, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

Value: TypeAlias = "Decimal | str | bool | date | datetime"

_ACTS: dict[str, Callable[[Any, Any], Any]] = {
    "=": pc.equal, "<": pc.less, "<=": pc.less_equal, ">": pc.greater, ">=": pc.greater_equal,
}  # fmt: skip
_UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}  # of a timestamp, in a second
_LARGEST = 80  # digits: more than any column's type holds


class Predicate(Protocol):
    """A condition that was read."""

    def evaluate(self, rows: pa.RecordBatch) -> pa.BooleanArray:
        """Tell for each row whether it is fulfilled, or null where that is unknown."""

    def names(self) -> set[str]:
        """Return the columns that it looks at."""


@dataclass(frozen=True)
class Comparison:
    """A column beside a value: `sign` is =, !=, <, <=, > or >=."""

    column: str
    sign: str
    value: Value

    def evaluate(self, rows: pa.RecordBatch) -> pa.BooleanArray:
        """Compare; a missing value is unknown."""
        values = rows[self.column]
        if self.sign == "!=":
            return pc.invert(_compare(values, "=", self.value))
        return _compare(values, self.sign, self.value)

    def names(self) -> set[str]:
        """Return its column."""
        return {self.column}


@dataclass(frozen=True)
class Membership:
    """A column that holds one of several values."""

    column: str
    values: tuple[Value, ...]

    def evaluate(self, rows: pa.RecordBatch) -> pa.BooleanArray:
        """Look each value up; a missing value is unknown."""
        column = rows[self.column]
        if isinstance(self.values[0], str):
            found = pc.is_in(column, pa.array(self.values, column.type))
            return _where_known(column, found)
        if pa.types.is_integer(column.type):
            low, high = _range(column.type)
            whole = [_fraction(value) for value in self.values if isinstance(value, Decimal)]
            held = [int(value) for value in whole if value.denominator == 1 and low <= value <= high]
            return _where_known(column, pc.is_in(column, pa.array(held, column.type)))
        return reduce(pc.or_kleene, (_compare(column, "=", value) for value in self.values))

    def names(self) -> set[str]:
        """Return its column."""
        return {self.column}


@dataclass(frozen=True)
class Likeness:
    """A column of text that fits a pattern: % is any text, _ any character."""

    column: str
    pattern: str

    def evaluate(self, rows: pa.RecordBatch) -> pa.BooleanArray:
        """Match; a missing value is unknown."""
        return pc.match_like(rows[self.column], self.pattern)

    def names(self) -> set[str]:
        """Return its column."""
        return {self.column}


@dataclass(frozen=True)
class Missing:
    """A column without a value."""

    column: str

    def evaluate(self, rows: pa.RecordBatch) -> pa.BooleanArray:
        """Tell which values are missing; NaN is a value."""
        return pc.is_null(rows[self.column])

    def names(self) -> set[str]:
        """Return its column."""
        return {self.column}


@dataclass(frozen=True)
class Negation:
    """What is true where another condition is false; what is unknown stays so."""

    part: Predicate

    def evaluate(self, rows: pa.RecordBatch) -> pa.BooleanArray:
        """Turn the condition round."""
        return pc.invert(self.part.evaluate(rows))

    def names(self) -> set[str]:
        """Return the columns of the condition."""
        return self.part.names()


@dataclass(frozen=True)
class Junction:
    """Several conditions joined by "and" or "or"."""

    word: str
    parts: tuple[Predicate, ...]

    def evaluate(self, rows: pa.RecordBatch) -> pa.BooleanArray:
        """Join the conditions."""
        join = {"and": pc.and_kleene, "or": pc.or_kleene}[self.word]
        return reduce(join, (part.evaluate(rows) for part in self.parts))

    def names(self) -> set[str]:
        """Return the columns of all of them."""
        return reduce(operator.or_, (part.names() for part in self.parts))


def _compare(column: pa.Array, sign: str, value: Value) -> pa.BooleanArray:
    kind = column.type
    if isinstance(value, datetime):  # before `date`, of which it is a kind
        moment = value if value.tzinfo else value.replace(tzinfo=timezone.utc)
        since = moment - datetime(1970, 1, 1, tzinfo=timezone.utc)
        microseconds = (since.days * 86_400 + since.seconds) * 10**6 + since.microseconds
        return _compare_whole(column.view(pa.int64()), sign, Fraction(microseconds * _UNITS[kind.unit], 10**6))
    if isinstance(value, bool):
        return _ACTS[sign](column.cast(pa.uint8()), pa.scalar(int(value), pa.uint8()))
    if not isinstance(value, Decimal):
        return _ACTS[sign](column, pa.scalar(value, kind))
    if pa.types.is_floating(kind):
        return _compare_float(column, sign, float(value))
    return _compare_whole(column, sign, _fraction(value))


def _compare_float(column: pa.Array, sign: str, value: float) -> pa.BooleanArray:
    """Compare as numbers of the column's precision; NaN counts as above all numbers."""
    if pa.types.is_float16(column.type):
        column = column.cast(pa.float32())
    result = _ACTS[sign](column, pa.scalar(value, column.type))
    return pc.or_kleene(result, pc.is_nan(column)) if sign in (">", ">=") else result


def _compare_whole(column: pa.Array, sign: str, value: Fraction) -> pa.BooleanArray:
    """Compare integers, or decimals, which are integers of their last digit, with any number."""
    kind = column.type
    digits = kind.scale if pa.types.is_decimal(kind) else 0
    value *= Fraction(10) ** digits
    low, high = _range(kind)
    least, most = value, value
    if sign in ("<", "<="):
        least, most = Fraction(low), Fraction(math.ceil(value) - 1 if sign == "<" else math.floor(value))
    if sign in (">", ">="):
        least, most = Fraction(math.floor(value) + 1 if sign == ">" else math.ceil(value)), Fraction(high)
    if least > high or most < low or least.denominator != 1:
        return _where_known(column, False)

    def scalar(number: Fraction) -> pa.Scalar:
        return pa.scalar(Decimal((number < 0, _digits(abs(int(number))), -digits)) if digits else int(number), kind)

    if sign == "=":
        return pc.equal(column, scalar(least))
    if least > low:
        return pc.greater_equal(column, scalar(least))
    return pc.less_equal(column, scalar(most)) if most < high else _where_known(column, True)


def _range(kind: pa.DataType) -> tuple[int, int]:
    if pa.types.is_decimal(kind):
        return 1 - 10**kind.precision, 10**kind.precision - 1
    if pa.types.is_unsigned_integer(kind):
        return 0, 2**kind.bit_width - 1
    return -(2 ** (kind.bit_width - 1)), 2 ** (kind.bit_width - 1) - 1


def _fraction(value: Decimal) -> Fraction:
    """Return a number exactly, but for those beyond the range of all columns, or closer to 0 than all but 0."""
    if not value:
        return Fraction(0)
    sign = -1 if value < 0 else 1
    if value.adjusted() > _LARGEST:
        return Fraction(sign * 10**_LARGEST)
    return Fraction(value) if value.adjusted() > -_LARGEST else Fraction(sign, 10**_LARGEST)


def _digits(number: int) -> tuple[int, ...]:
    return tuple(map(int, str(number)))


def _where_known(column: pa.Array, value: Any) -> pa.BooleanArray:
    return pc.if_else(pc.is_valid(column), value, pa.scalar(None, pa.bool_()))

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nda_index.errors import ConfigError
from nda_index.sources.metadata import (
    Unheld,
    clean_text,
    make_table,
    name_columns,
    read_values,
    select_columns,
    stored_type,
)


@given(st.lists(st.text("ab._`\ud800") | st.sampled_from(["key", "sha256", "source_key", "_rowid", ""]), unique=True))
def test_stored_names_differ_and_can_be_kept(names: list[str]) -> None:
    stored = name_columns(names)
    assert list(stored) == names
    assert len(set(stored.values())) == len(names)
    for name, own in stored.items():
        assert own and not set(own) & set(".`\ud800") and own not in ("key", "sha256", "_rowid")
        assert name_columns([own])[own] == own or own in ("key",)
        assert own == name or name not in stored.values()  # no column takes the place of another


def test_columns_may_be_chosen_by_either_name() -> None:
    schema = pa.schema([("license.name", pa.string()), ("license_name", pa.string()), ("key", pa.string())])
    assert select_columns(schema, None) == {
        "license.name": "license_name_2", "license_name": "license_name", "key": "source_key",
    }  # fmt: skip
    assert select_columns(schema, ["license.name"]) == {"license.name": "license_name_2"}
    assert select_columns(schema, ["source_key", "license_name_2"]) == {
        "license.name": "license_name_2", "key": "source_key",
    }  # fmt: skip
    with pytest.raises(ConfigError, match=r"columns is 'key', one text; give a sequence of names, as \['key'\]"):
        select_columns(schema, "key")
    with pytest.raises(ConfigError, match="the column 'mask' holds pictures; leave it out"):
        select_columns(schema, ["mask"], {"mask": "holds pictures"})


@pytest.mark.parametrize(
    ("column", "kind", "values"),
    [
        (pa.array([1, 2**64 - 1, None], pa.uint64()), pa.uint64(), [1, 2**64 - 1, None]),
        (pa.array(["a", None]).dictionary_encode(), pa.string(), ["a", None]),
        (pa.array(["a"], pa.string_view()), pa.string(), ["a"]),
        (pa.array(["a"], pa.large_string()), pa.large_string(), ["a"]),
        (pa.array([0.5], pa.float16()), pa.float32(), [0.5]),
        (pa.array([Decimal("1.10")]), pa.decimal128(3, 2), [Decimal("1.10")]),
        (pa.array([1_001], pa.timestamp("ns")), pa.timestamp("us"), [datetime(1970, 1, 1, 0, 0, 0, 1)]),
        (
            pa.array([0], pa.timestamp("ms", "Asia/Tokyo")), pa.timestamp("ms", "UTC"),
            [datetime(1970, 1, 1, tzinfo=timezone.utc)],
        ),
        (pa.array([1_001], pa.duration("ns")), pa.duration("us"), [timedelta(microseconds=1)]),
        (pa.array([3], pa.duration("s")), pa.duration("s"), [timedelta(seconds=3)]),
        (pa.array([[1], [], None]), pa.list_(pa.int64()), [[1], [], None]),
        (pa.array([[1]], pa.list_view(pa.int64())), pa.list_(pa.int64()), [[1]]),
        (pa.array([[1, 2]], pa.list_(pa.int8(), 2)), pa.list_(pa.int8(), 2), [[1, 2]]),
        (
            pa.array([[{"at": 1_500}]], pa.list_(pa.struct([("at", pa.timestamp("ns"))]))),
            pa.list_(pa.struct([("at", pa.timestamp("us"))])), [[{"at": datetime(1970, 1, 1, 0, 0, 0, 1)}]],
        ),
        (pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())), pa.map_(pa.string(), pa.int64()), [[("a", 1)]]),
        (pa.nulls(2), pa.null(), [None, None]),
    ],
)  # fmt: skip
def test_columns_are_kept_as_they_are_where_that_can_be(column: pa.Array, kind: pa.DataType, values: list[Any]) -> None:
    assert stored_type(column.type) == kind
    assert read_values(column, kind) == values
    assert pa.array(read_values(column, kind), kind).to_pylist() == values


@pytest.mark.parametrize(
    "kind",
    [
        pa.binary(), pa.large_binary(), pa.binary(16), pa.list_(pa.binary()), pa.struct([("bytes", pa.binary())]),
        pa.month_day_nano_interval(), pa.uuid(), pa.map_(pa.string(), pa.binary()),
    ],
)  # fmt: skip
def test_bytes_and_what_has_no_plain_value_are_not_kept(kind: pa.DataType) -> None:
    assert stored_type(kind) is None


def test_a_value_that_python_or_its_column_cannot_hold_is_the_problem_of_its_row() -> None:
    moments = read_values(pa.array([0, 2**60, None], pa.timestamp("s")), pa.timestamp("s"))
    assert (moments[0], moments[2]) == (datetime(1970, 1, 1), None)
    assert isinstance(moments[1], Unheld)
    rows: list[dict[str, Any]] = [
        {"at": moment, "n": n, "text": text}
        for moment, n, text in zip([*moments, None], [1, 2, 2**70, None], ["a", "b", "c", "d\ud800"], strict=True)
    ]
    schema = pa.schema([("at", pa.timestamp("s")), ("n", pa.int64()), ("text", pa.string())])
    table, problems = make_table(rows, schema)
    assert table.schema == schema
    assert table.to_pylist() == [
        {"at": datetime(1970, 1, 1), "n": 1, "text": "a"}, {"at": None, "n": None, "text": "d\ufffd"},
    ]  # fmt: skip
    assert list(problems) == [1, 2]
    assert "1152921504606846976>, which timestamp[s] cannot hold" in problems[1]


@given(st.lists(st.fixed_dictionaries({"n": st.none() | st.integers(), "s": st.none() | st.text("a\ud800\udc00é")})))
def test_every_row_is_kept_or_named(rows: list[dict[str, Any]]) -> None:
    table, problems = make_table(rows, pa.schema([("n", pa.int16()), ("s", pa.string())]))
    assert {place for place, row in enumerate(rows) if not -(2**15) <= (row["n"] or 0) < 2**15} == set(problems)
    kept = [row for place, row in enumerate(rows) if place not in problems]
    assert table.to_pylist() == [{"n": row["n"], "s": row["s"] and clean_text(row["s"])} for row in kept]

from __future__ import annotations

import operator
from datetime import datetime, timezone
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nda_index.errors import QueryError
from nda_index.store.conditions import column_kind, column_kinds, parse_condition, quote_name
from nda_index.store.predicates import Comparison

COLUMNS = {
    "key": "string", "label": "string", "year": "number", "cc0": "boolean", "day": "date", "at": "timestamp",
    "odd name": "string", "tags": "other", "tick`": "string", "order": "number",
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("label = 'cat'", "(`label` = 'cat')"),
        ("label='it''s' OR label!='--'", "((`label` = 'it''s') OR (`label` != '--'))"),
        ("year <> -1.5e3", "(`year` <> -1.5e3)"),
        ("year>=+2 and not year<3", "((`year` >= 2) AND (NOT (`year` < 3)))"),
        ("label IN ('a','b') or cc0 = TRUE", "((`label` IN ('a', 'b')) OR (`cc0` = true))"),
        ("label not in ('a')", "(`label` NOT IN ('a'))"),
        ("label like '%a_'", "(`label` LIKE '%a_')"),
        ("label not like 'a'", "(`label` NOT LIKE 'a')"),
        ("year is not null", "(`year` IS NOT NULL)"),
        ("day < '2024-05-31'", "(`day` < date '2024-05-31')"),
        ("at >= '2024-05-31 10:00:00'", "(`at` >= timestamp '2024-05-31T10:00:00')"),
        ("\"odd name\" = 'x' AND `order` = 1", "((`odd name` = 'x') AND (`order` = 1))"),
        ("((year = 1)) OR year = 2 AND year = 3", "((`year` = 1) OR ((`year` = 2) AND (`year` = 3)))"),
        ("label = '; DROP TABLE images; --'", "(`label` = '; DROP TABLE images; --')"),
        ("NOT NOT NOT year = 1", "(NOT (`year` = 1))"),
        ("NOT " * 200 + "year = 1", "(`year` = 1)"),
        ("label = 'a\nb'", "(`label` = 'a\nb')"),
        ("year between 1 AND 2 and cc0 = true", "((`year` BETWEEN 1 AND 2) AND (`cc0` = true))"),
        ("tags IS NULL", "(`tags` IS NULL)"),
        ("`tick``` = 'a'", "(`tick``` = 'a')"),
        ("at > '2300-01-01'", "(`at` > timestamp '2300-01-01T00:00:00')"),
    ],
)
def test_conditions_are_rewritten(text: str, written: str) -> None:
    assert parse_condition(text, COLUMNS).text == written
    assert parse_condition(written, COLUMNS).text == written  # the condition in an answer's settings can be sent again


REFUSED = [
    "",
    "label",
    "label = ",
    "label = 'cat",
    "label = cat",
    "label = \"cat\"",
    "year = 'cat'",
    "label = 5",
    "year = 1; DROP TABLE images",
    "year = 1 -- ",
    "year = 1 /* */",
    "year = 1 UNION SELECT * FROM images",
    "1 = 1",
    "TRUE",
    "year = year",
    "year = (SELECT 1)",
    "year IN (SELECT image_id FROM images)",
    "year IN ()",
    "pixels IS NOT NULL",
    "image_id = 3",
    "sha256 IS NULL",
    "_rowid = 1",
    "upper(label) = 'CAT'",
    "regexp_match(label, '(a+)+$')",
    "label || 'x' = 'y'",
    "year + 1 = 2",
    "CAST(year AS STRING) = '1'",
    "year BETWEEN 1",
    "year BETWEEN 1 OR 2",
    "year > 26; year < 28",
    "year > 26, year < 28",
    "year > 5 LIMIT 2",
    "tags = 1",
    "NOT year",
    "label LIKE 'a' ESCAPE 'b'",
    "year LIKE '1'",
    "label ILIKE 'a'",
    "CASE WHEN TRUE THEN TRUE END",
    "EXISTS (SELECT 1)",
    "label = X'41'",
    "label = E'\\x41'",
    "label = $$cat$$",
    "year = 0x10",
    "year = 1e",
    "year = NaN",
    "year = 1 year = 2",
    "NOT",
    "(year = 1",
    "year = 1)",
    "year NOT = 1",
    "year IS 1",
    "images.year = 1",
    "label = 'a' COLLATE x",
    "day = '2024-13-01'",
    "day = '2024-01-01'' OR 1=1'",
    "(" * 100 + "year = 1" + ")" * 100,
    "at > '2300-01-32'",
    "year = \u0661",
    "label = '\x00" ,
    "year\u037e = 1",
]  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_all_else_is_refused(text: str) -> None:
    with pytest.raises(QueryError, match="where"):
        parse_condition(text, COLUMNS)


@given(st.text(max_size=60) | st.text("'\"`()=<>,;-*/ \nyearlbANDORNOT01%_\\", max_size=60))
def test_accepted_conditions_are_made_of_known_names_and_literals(text: str) -> None:
    """Read the rewritten condition again: without its literals only known names, words and signs are left."""
    try:
        written = parse_condition(text, COLUMNS).text
    except QueryError:
        return
    outside, inside = "", False
    for character in written:
        inside ^= character == "'"
        outside += "" if inside else character
    assert not inside
    words = set(outside.replace("'", " ").replace("(", " ").replace(")", " ").replace(",", " ").split())
    names = {quote_name(name) for name in COLUMNS}
    rest = (
        words
        - names
        - {"AND", "OR", "NOT", "IN", "LIKE", "IS", "NULL", "true", "false", "date", "timestamp", "BETWEEN"}
    )
    assert all(word in ("=", "!=", "<>", "<", "<=", ">", ">=") or float(word) == float(word) for word in rest)


MOMENTS = [datetime(2020, 1, day, 10, 0, 1, tzinfo=timezone.utc) for day in (1, 2, 3)] + [None]
ROWS = pa.record_batch(
    {
        "key": ["it's", "a`b", "a%b", "A"],
        "large": pa.array(["x", None, "", "y"], pa.large_string()),
        "i8": pa.array([-3, 5, None, 127], pa.int8()),
        "u64": pa.array([0, 5, None, 2**64 - 1], pa.uint64()),
        "i64": pa.array([2**62 + 1, 5, None, -(2**63)], pa.int64()),
        "f32": pa.array([0.1, float("nan"), None, -1e30], pa.float32()),
        "f16": pa.array([0.5, float("nan"), None, 2], pa.float16()),
        "price": pa.array([Decimal("1.10"), Decimal("-2"), None, Decimal("99999999.99")], pa.decimal128(10, 2)),
        "cc0": [True, False, None, True],
        "day": pa.array([moment and moment.date() for moment in MOMENTS]),
        "second": pa.array(MOMENTS, pa.timestamp("s")),
        "nano": pa.array(MOMENTS, pa.timestamp("ns", "Europe/Berlin")),
        "odd `name`": ["p", "q", None, "p"],
        "": [1, 2, 3, 4],
        "tags": [["a"], [], None, ["b"]],
    }
)


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("key = 'it''s' OR key LIKE 'a`%'", [0, 1]),
        ("key LIKE 'a\\%b'", [2]),
        ("key < 'a'", [3]),
        ("large != 'x'", [2, 3]),
        ("large IN ('x', 'y', 'z')", [0, 3]),
        ("large NOT IN ('x')", [2, 3]),
        ("large IS NULL", [1]),
        ("NOT large IS NULL AND NOT large = ''", [0, 3]),
        ("i8 > 4.5", [1, 3]),
        ("i8 >= 4.5 AND i8 <= 5.5", [1]),
        ("i8 < 300", [0, 1, 3]),
        ("i8 = 300 OR i8 = 4.5", []),
        ("i8 != 300", [0, 1, 3]),
        ("i8 > -1e999999", [0, 1, 3]),
        ("i8 IN (5, 300, 127.0)", [1, 3]),
        ("i8 NOT BETWEEN -3 AND 5.0", [3]),
        ("i8 > -1e-999999 AND i8 < 1e3", [1, 3]),
        ("u64 = 18446744073709551615", [3]),
        ("u64 > -1", [0, 1, 3]),
        ("u64 <= 9223372036854775808", [0, 1]),
        ("i64 = 4611686018427387905", [0]),
        ("i64 = 4611686018427387904", []),
        ("i64 < -9223372036854775807", [3]),
        ("f32 = 0.1", [0]),
        ("f32 > 0", [0, 1]),
        ("f32 <= 0.1", [0, 3]),
        ("f16 >= 2", [1, 3]),
        ("f16 != 2", [0, 1]),
        ("price = 1.1", [0]),
        ("price < 1.105 AND price > -2.005", [0, 1]),
        ("price >= 99999999.99", [3]),
        ("price < 1e30", [0, 1, 3]),
        ("price IN (1.10, -2, 1.105)", [0, 1]),
        ("cc0 = TRUE", [0, 3]),
        ("cc0 != true or cc0 is null", [1, 2]),
        ("day >= '2020-01-02'", [1, 2]),
        ("second = '2020-01-02 10:00:01'", [1]),
        ("second > '2020-01-01 10:00:00.5'", [0, 1, 2]),
        ("second >= '2020-01-01 10:00:01.5'", [1, 2]),
        ("second < '9999-01-01'", [0, 1, 2]),
        ("second <= '2020-01-02T12:00:01+02:00'", [0, 1]),
        ("nano = '2020-01-02 10:00:01'", [1]),
        ("nano < '0001-01-01'", []),
        ("`odd ``name``` = 'p' AND \"odd `name`\" = 'p'", [0, 3]),
        ("`` > 2", [2, 3]),
        ("tags IS NOT NULL", [0, 1, 3]),
        ("large = 'x' OR i8 = 5 OR price IS NULL", [0, 1, 2]),
        ("NOT (large = 'x' AND i8 = 5)", [0, 2, 3]),
    ],
)
def test_a_condition_means_what_it_says(text: str, places: list[int]) -> None:
    columns = {name: column_kind(ROWS.schema.field(name).type) for name in ROWS.schema.names}
    for condition in (parse_condition(text, columns), parse_condition(parse_condition(text, columns).text, columns)):
        rows = pa.array(range(4)).filter(condition.predicate.evaluate(ROWS))
        assert rows.to_pylist() == places
        assert condition.predicate.names() <= set(columns)


NUMBERS = st.integers(-(2**70), 2**70).map(Decimal) | st.decimals(allow_nan=False, allow_infinity=False)
KINDS = {kind: (0 if kind == "uint8" else -(2**63) if kind == "int64" else -128) for kind in ("int8", "uint8", "int64")}


@given(NUMBERS, st.sampled_from(sorted(KINDS)), st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), st.data())
def test_numbers_are_compared_as_they_are_written(number: Decimal, kind: str, sign: str, data: st.DataObject) -> None:
    most = {"int8": 127, "uint8": 255, "int64": 2**63 - 1}[kind]
    value = data.draw(st.integers(KINDS[kind], most) | st.sampled_from([KINDS[kind], most]))
    column = pa.record_batch({"n": pa.array([value], kind)})
    compare = {"=": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}[sign]
    assert Comparison("n", sign, number).evaluate(column).to_pylist() == [getattr(operator, compare)(value, number)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("year > 26; year < 28", "at character 10, ';"),
        (
            "yeer = 1",
            "at character 1, 'yeer' is not a column; the columns are key, label, .*`odd name`, .*`tick```",
        ),
        ("year = 'a'", "at character 8, \"'a'\" does not fit 'year', which holds numbers, as 3"),
        ("label = cat", "at character 9, 'cat' does not fit 'label', which holds text, in single quotes"),
        ("tags = 1", "'tags' cannot be compared, since it holds no plain values; only IS NULL fits"),
        ("year = 1 year = 2", "at character 10, 'year' follows where it should end, or go on with AND"),
        ("  ", "where is empty; give a condition"),
    ],
)
def test_a_message_names_the_place_and_what_would_do(text: str, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        parse_condition(text, COLUMNS)


def test_kinds_of_columns() -> None:
    assert column_kinds(pa.schema([("year", pa.int16())])) == {"key": "string", "year": "number"}
    kinds = {
        pa.string(): "string", pa.large_string(): "string", pa.int8(): "number", pa.float32(): "number",
        pa.decimal128(5, 2): "number",
        pa.bool_(): "boolean", pa.date32(): "date", pa.timestamp("us"): "timestamp", pa.binary(): "other",
        pa.list_(pa.string()): "other",
    }  # fmt: skip
    assert {kind: column_kind(kind) for kind in kinds} == kinds

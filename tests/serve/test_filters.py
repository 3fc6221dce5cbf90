from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import nda_index as nda
from nda_index.serve.filters import column_kind, column_kinds, parse_condition
from nda_index.serve.refusal import Refusal
from tests.conftest import encoded
from tests.serve.conftest import Served

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
    ],
)
def test_conditions_are_rewritten(text: str, written: str) -> None:
    assert parse_condition(text, COLUMNS) == written
    assert parse_condition(written, COLUMNS) == written  # the condition in an answer's settings can be sent again


INJECTIONS = [
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
    "year BETWEEN 1 AND 2",
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
    "tags IS NULL",
    "`tick``` = 'a'",
    "images.year = 1",
    "label = 'a' COLLATE x",
    "day = '2024-13-01'",
    "day = '2024-01-01'' OR 1=1'",
    "(" * 100 + "year = 1" + ")" * 100,
    "at > '2300-01-01'",
    "at > '1600-01-01'",
    "year = \u0661",
    "year = 1 OR " * 300 + "year = 1",
    "label = '\x00" ,
    "year\u037e = 1",
]  # fmt: skip


@pytest.mark.parametrize("text", INJECTIONS)
def test_all_else_is_refused(text: str) -> None:
    with pytest.raises(Refusal) as refused:
        parse_condition(text, COLUMNS)
    assert (refused.value.status, refused.value.code) == (400, "where")


@pytest.mark.parametrize("text", INJECTIONS)
def test_the_service_refuses_them_too(served: Served, upload: bytes, text: str) -> None:
    response = served.ask(upload, where=text)
    if text == "":  # as in a form that was left empty
        assert response.json()["settings"]["where"] is None
    else:
        assert response.status_code == 400


@given(st.text(max_size=60) | st.text("'\"`()=<>,;-*/ \nyearlbANDORNOT01%_\\", max_size=60))
def test_accepted_conditions_are_made_of_known_names_and_literals(text: str) -> None:
    """Read the rewritten condition again: without its literals only known names, words and signs are left."""
    try:
        written = parse_condition(text, COLUMNS)
    except Refusal:
        return
    outside, inside = "", False
    for character in written:
        inside ^= character == "'"
        outside += "" if inside else character
    assert not inside
    words = set(outside.replace("'", " ").replace("(", " ").replace(")", " ").replace(",", " ").split())
    names = {f"`{name}`" for name in COLUMNS}
    rest = words - names - {"AND", "OR", "NOT", "IN", "LIKE", "IS", "NULL", "true", "false", "date", "timestamp"}
    assert all(word in ("=", "!=", "<>", "<", "<=", ">", ">=") or float(word) == float(word) for word in rest)


def test_an_index_answers_every_kind_of_condition(tmp_path: Path, pictures: NDArray[np.uint8]) -> None:
    table = pa.table(
        {
            "image": [encoded(pictures[i]) for i in range(6)],
            "label": ["it's", "a`b", "a%b", "A", None, 'a"b'],
            "odd name": ["x"] * 6,
            "size": pa.array([1.5, 2, 3, 4, 5, 6]),
            "cc0": [True, False, None, True, True, True],
            "day": pa.array([18000 + i for i in range(6)], pa.date32()),
            "at": pa.array([i * 86_400_000 for i in range(6)], pa.timestamp("ms")),
            "tags": pa.array(range(6), pa.time32("s")),
        }
    )
    pq.write_table(table, tmp_path / "x.parquet")
    index = nda.build_index(tmp_path / "x.parquet", tmp_path / "x.nda", image_size=16, scales=[nda.Scale(5)], null=0)
    columns = column_kinds(index.metadata_schema())
    assert columns["tags"] == "other"
    for text, ids in (
        ("label = 'it''s'", {0}),
        ("label LIKE 'a`%' OR label = 'a\"b'", {1, 5}),
        ("label IS NULL", {4}),
        ("label IS NOT NULL AND NOT label IN ('A', 'it''s')", {1, 2, 5}),
        ("\"odd name\" = 'x' AND size < 2.5", {0, 1}),
        ("cc0 = TRUE AND size >= 4", {3, 4, 5}),
        ("cc0 = false OR cc0 is null", {1, 2}),
        (f"day > '{table['day'][3].as_py()}'", {4, 5}),
        ("at <= '1970-01-02 00:00:00'", {0, 1}),
        ("at = '1970-01-03'", {2}),
    ):
        answer = index.attribute(pictures[0], top=len(ids), mode="exact", where=parse_condition(text, columns))
        assert (set(answer.image_ids.tolist()), answer.collection) == (ids, len(ids)), text


def test_kinds_of_columns() -> None:
    kinds = {
        pa.string(): "string", pa.large_string(): "string", pa.int8(): "number", pa.float32(): "number",
        pa.bool_(): "boolean", pa.date32(): "date", pa.timestamp("us"): "timestamp", pa.binary(): "other",
        pa.list_(pa.string()): "other",
    }  # fmt: skip
    assert {kind: column_kind(kind) for kind in kinds} == kinds

"""What an answer says in rows of one table over many questions: one for each strong region, or the best image."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from nda_index.answer.data import AnswerData
from nda_index.answer.region import Region

SCHEMA = pa.schema(
    [
        pa.field("question", pa.string()),
        pa.field("error", pa.string()),
        pa.field("key", pa.string()),
        pa.field("image_id", pa.int64()),
        pa.field("strong", pa.bool_()),
        pa.field("share", pa.float64()),
        pa.field("evidence", pa.float64()),
        pa.field("percentile", pa.float64()),
        *(pa.field(name, pa.int32()) for name in ("left", "top", "right", "bottom")),
        *(pa.field(f"source_{name}", pa.int32()) for name in ("left", "top", "right", "bottom")),
        pa.field("mirrored", pa.bool_()),
        pa.field("zoom", pa.float64()),
        pa.field("turn", pa.float64()),
    ]
)
TABLES = ("csv", "parquet")  # endings of files that hold a table
Row = dict[str, Any]  # by names of `SCHEMA`; what is left out is null


def rows_of(question: str, answer: AnswerData) -> list[Row]:
    """Return the rows of an answer: its strong regions, or where there are none its best image.

    Args:
        question: the picture's name.
        answer: about it.
    """
    strong = [region for region in answer.regions if region.strong]
    if strong:
        return [_row_of_region(question, region) for region in strong]
    known = not np.isnan(answer.percentiles[0])
    return [
        {
            "question": question,
            "key": answer.keys[0],
            "image_id": int(answer.image_ids[0]),
            "strong": answer.verdict(0).strong if known else None,
            "share": float(answer.shares[0]),
            "evidence": None if np.isnan(answer.evidence[0]) else float(answer.evidence[0]),
            "percentile": float(answer.percentiles[0]) if known else None,
        }
    ]


def rows_of_error(question: str, error: Exception | str) -> list[Row]:
    """Return the row of a question that has no answer, with the reason."""
    return [{"question": question, "error": str(error)}]


def table_bytes(rows: Sequence[Row], form: str, facts: Mapping[str, Any]) -> bytes:
    """Return the file of a table.

    Args:
        rows: its lines.
        form: one of `TABLES`.
        facts: JSON values that say where it comes from; a Parquet file holds them, each as "nda_index.NAME".

    Example:
        >>> table_bytes(rows_of_error("a.png", "is no picture"), "csv", {}).splitlines()[1][:24]
        b'"a.png","is no picture",'
    """
    table, buffer = pa.Table.from_pylist(list(rows), SCHEMA), io.BytesIO()
    if form == "csv":
        pa.csv.write_csv(table, buffer)
    else:
        metadata = {f"nda_index.{name}": json.dumps(value) for name, value in facts.items()}
        pq.write_table(table.replace_schema_metadata(metadata), buffer)
    return buffer.getvalue()


def _row_of_region(question: str, region: Region) -> Row:
    edges = ("left", "top", "right", "bottom")
    return {
        "question": question,
        "key": region.key,
        "image_id": region.image_id,
        "strong": True,
        "evidence": region.evidence,
        "percentile": region.percentile,
        **dict(zip(edges, region.box, strict=True)),
        **{f"source_{edge}": value for edge, value in zip(edges, region.source_box, strict=True)},
        "mirrored": region.mirrored,
        "zoom": region.zoom,
        "turn": region.turn,
    }

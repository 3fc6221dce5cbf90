"""The forms of an answer as a file, by the ending of its name."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import pyarrow.parquet as pq

from nda_index.answer.arrow import answer_bytes
from nda_index.answer.data import AnswerData
from nda_index.answer.picture import as_png
from nda_index.answer.report import as_html


def as_json(answer: AnswerData) -> bytes:
    """Write all numbers and settings, without pixels."""
    return (strict_json(answer.to_dict()) + "\n").encode()


def strict_json(values: dict[str, Any], indent: int | None = 1) -> str:
    """Write JSON that any parser reads: dates become text, and NaN, which metadata may hold, null.

    Example:
        >>> strict_json({"a": float("nan")})
        '{\\n "a": null\\n}'
    """
    return json.dumps(json.loads(json.dumps(values, default=str), parse_constant=lambda _: None), indent=indent)


def as_parquet(answer: AnswerData) -> bytes:
    """Write the table of images; index hash, version and settings are in the file's metadata."""
    facts = {"index_hash": answer.index_hash, "version": answer.version, "settings": json.dumps(answer.settings)}
    table = answer.to_table()
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({f"nda_index.{name}": value for name, value in facts.items()}), buffer)
    return buffer.getvalue()


FORMS: dict[str, Callable[[AnswerData], bytes]] = {
    "arrow": answer_bytes,
    "html": as_html,
    "json": as_json,
    "parquet": as_parquet,
    "png": as_png,
}

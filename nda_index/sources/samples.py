"""Metadata of samples: values of JSON, classes and captions, and the types of their columns."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from nda_index.sources.metadata import clean_text

METADATA_ENDINGS = (".json", ".cls", ".txt")
_INTEGERS = range(-(2**63), 2**63)  # that a column holds


def read_metadata(members: dict[str, bytes]) -> tuple[dict[str, Any], str | None]:
    """Read the metadata of a sample, given its members' contents by ending.

    Returns:
        The values by column, and what is wrong with the contents, or None.

    Example:
        >>> read_metadata({".json": b'{"year": 1999}', ".cls": b"7", ".txt": b"a cat"})
        ({'year': 1999, 'cls': 7, 'txt': 'a cat'}, None)
    """
    row: dict[str, Any] = {}
    problem = None
    if ".json" in members:
        try:
            values = json.loads(members[".json"])
        except (ValueError, RecursionError):
            values = None
        if isinstance(values, dict):
            row |= {clean_text(name): plain_value(value) for name, value in values.items() if _is_plain(value)}
        else:
            problem = "is not a JSON object; the picture has no values of it"
    if ".cls" in members:
        text = members[".cls"].decode(errors="replace").strip()
        try:
            row["cls"] = plain_value(int(text))
        except ValueError:
            problem = f"is not a whole number: {text[:40]!r}; the picture has no class"
    if ".txt" in members:
        row["txt"] = members[".txt"].decode(errors="replace")
    return row, problem


def plain_value(value: Any) -> Any:
    """Return a value as a column can hold it: whole numbers beyond 64 bits as text, and text that can be written.

    Example:
        >>> plain_value(2**64), plain_value(7)
        ('18446744073709551616', 7)
    """
    if isinstance(value, int) and value not in _INTEGERS:
        return str(value)
    return clean_text(value) if isinstance(value, str) else value


def choose_type(types: set[type]) -> pa.DataType:
    """Choose the Arrow type that holds a column's values; values of several kinds become text.

    Example:
        >>> choose_type({int, float})
        DataType(double)
    """
    if types == {bool}:
        return pa.bool_()
    if types == {int}:
        return pa.int64()
    return pa.float64() if types <= {int, float} else pa.string()


def _is_plain(value: Any) -> bool:
    return isinstance(value, bool | int | float | str)

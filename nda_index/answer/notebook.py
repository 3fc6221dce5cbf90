"""Small tables of HTML, as notebooks show an index and an answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

CHARACTERS = 200  # of a cell: what is longer is cut


def show_table(title: str, heads: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Return a table whose every text is escaped and short.

    Example:
        >>> show_table("A & B", (), [("key", "<b>")])
        '<table><caption>A &amp; B</caption><tr><td>key</td><td>&lt;b&gt;</td></tr></table>'
    """
    head = "<tr>" + "".join(f"<th>{_cell(text)}</th>" for text in heads) + "</tr>" if heads else ""
    body = "".join("<tr>" + "".join(f"<td>{_cell(text)}</td>" for text in row) + "</tr>" for row in rows)
    return f"<table><caption>{_cell(title)}</caption>{head}{body}</table>"


def _cell(value: object) -> str:
    text = str(value)
    return escape(text if len(text) <= CHARACTERS else text[: CHARACTERS - 1] + "…")

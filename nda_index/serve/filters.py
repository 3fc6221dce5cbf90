"""Conditions on metadata: a small part of SQL, parsed against the columns and rewritten for the index.

    condition  = conjunction {"OR" conjunction}
    conjunction = negation {"AND" negation}
    negation   = ["NOT"] ( "(" condition ")" | test )
    test       = column ("=" | "!=" | "<>" | "<" | "<=" | ">" | ">=") literal
               | column ["NOT"] "IN" "(" literal {"," literal} ")"
               | column ["NOT"] "LIKE" text
               | column "IS" ["NOT"] "NULL"
    literal    = number | ["DATE" | "TIMESTAMP"] text in single quotes, a quote in it doubled | TRUE | FALSE

NaN counts as above all numbers. The index gets a text made of names of its columns and of literals of their types; no
part of the sent text is copied into it unread.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

import pyarrow as pa

from nda_index.serve.refusal import Refusal
from nda_index.serve.settings import CONDITION_CHARACTERS

ColumnKind = Literal["string", "number", "boolean", "date", "timestamp", "other"]

DEPTH = 60  # of parentheses inside one another; a rewritten condition can have twice as many
YEARS = range(1678, 2262)  # of timestamps: what 64 bits of nanoseconds hold, others would wrap around
COMPARISONS = ("=", "!=", "<>", "<", "<=", ">", ">=")

_TOKENS = re.compile(
    r"""\s*(?:(?P<number>[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)(?![\w.])
    |(?P<text>'(?:[^']|'')*')|(?P<quoted>"[^"]+"|`[^`]+`)|(?P<word>[^\W\d]\w*)|(?P<sign><=|>=|<>|!=|[=<>(),]))""",
    re.VERBOSE,
)
_KINDS: tuple[tuple[ColumnKind, Callable[[pa.DataType], bool]], ...] = (
    ("string", pa.types.is_string), ("string", pa.types.is_large_string), ("boolean", pa.types.is_boolean),
    ("number", pa.types.is_integer), ("number", pa.types.is_floating), ("date", pa.types.is_date),
    ("timestamp", pa.types.is_timestamp),
)  # fmt: skip
_WORDS = {"and", "or", "not", "in", "like", "is", "null", "true", "false"}


def column_kind(kind: pa.DataType) -> ColumnKind:
    """Return what a column of an Arrow type holds, as a person would say it."""
    return next((name for name, fits in _KINDS if fits(kind)), "other")


def column_kinds(metadata: pa.Schema) -> dict[str, ColumnKind]:
    """Return the columns that a condition may name, with their kinds: the key and all metadata columns."""
    return {"key": "string", **{field.name: column_kind(field.type) for field in metadata}}


def parse_condition(text: str, columns: Mapping[str, str]) -> str:
    """Parse a condition and return it as the index takes it.

    Args:
        text: as it was sent.
        columns: kind of each column that it may name, from `column_kinds`.

    Raises:
        Refusal: it is not a condition of this grammar on these columns.

    Example:
        >>> parse_condition("year>=2001 and label in ('cat')", {"year": "number", "label": "string"})
        "((`year` >= 2001) AND (`label` IN ('cat')))"
    """
    if len(text) > CONDITION_CHARACTERS:
        raise _wrong(f"it has {len(text)} characters, at most {CONDITION_CHARACTERS} are read")
    parser = _Parser(_tokenize(text), columns)
    condition = parser.condition(0)
    parser.expect_end()
    return condition


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str

    def is_word(self, word: str) -> bool:
        return self.kind == "word" and self.text.lower() == word


_END = _Token("end", "its end")


def _tokenize(text: str) -> list[_Token]:
    tokens, place = [], 0
    while text[place:].strip():
        match = _TOKENS.match(text, place)
        if match is None:
            raise _wrong(f"{text[place:].strip()[:20]!r} is not understood")
        kind = str(match.lastgroup)
        tokens.append(_Token(kind, match[kind]))
        place = match.end()
    return tokens


class _Parser:
    """Recursive descent over the grammar above; each method returns what it has read, rewritten."""

    def __init__(self, tokens: list[_Token], columns: Mapping[str, str]) -> None:
        self._tokens = tokens
        self._columns = columns
        self._place = 0

    def condition(self, depth: int) -> str:
        return self._joined("or", lambda: self._joined("and", lambda: self._negation(depth)))

    def expect_end(self) -> None:
        if self._next() is not _END:
            raise _wrong(f"{self._next().text!r} follows where it should end, or go on with AND or OR")

    def _joined(self, word: str, part: Callable[[], str]) -> str:
        parts = [part()]
        while self._accept(word):
            parts.append(part())
        return parts[0] if len(parts) == 1 else "(" + f" {word.upper()} ".join(parts) + ")"

    def _negation(self, depth: int) -> str:
        if depth > DEPTH:
            raise _wrong(f"it is nested deeper than {DEPTH}")
        negations = 0
        while self._accept("not"):  # two cancel out; the index cannot read many
            negations += 1
        if negations % 2:
            return f"(NOT {self._negation(depth)})"
        if self._accept("("):
            inner = self.condition(depth + 1)
            self._expect(")")
            return inner
        return self._test()

    def _test(self) -> str:
        name = self._column()
        kind = self._columns[name]
        quoted = f"`{name}`"
        if self._accept("is"):
            negated = "NOT " if self._accept("not") else ""
            self._expect("null")
            return f"({quoted} IS {negated}NULL)"
        negated = "NOT " if self._accept("not") else ""
        if self._accept("in"):
            self._expect("(")
            values = [self._literal(name, kind)]
            while self._accept(","):
                values.append(self._literal(name, kind))
            self._expect(")")
            return f"({quoted} {negated}IN ({', '.join(values)}))"
        if self._accept("like"):
            if kind != "string":
                raise _wrong(f"LIKE takes a column of text, and {name} holds {kind}s")
            return f"({quoted} {negated}LIKE {self._literal(name, kind)})"
        sign = self._next().text
        if negated or self._next().kind != "sign" or sign not in COMPARISONS:
            raise _wrong(f"{sign!r} follows {name}, where =, <, IN, LIKE or IS NULL is expected")
        self._place += 1
        return f"({quoted} {sign} {self._literal(name, kind)})"

    def _column(self) -> str:
        token = self._next()
        name = token.text[1:-1] if token.kind == "quoted" else token.text
        if token.kind not in ("word", "quoted") or (token.kind == "word" and name.lower() in _WORDS):
            raise _wrong(f"there is {token.text!r} where a column is expected")
        if name not in self._columns:
            raise _wrong(f"{name!r} is not a column; there are {', '.join(self._columns)}")
        if "`" in name or self._columns[name] == "other":
            raise _wrong(f"the column {name!r} cannot be compared")
        self._place += 1
        return name

    def _literal(self, name: str, kind: str) -> str:
        if kind in ("date", "timestamp"):
            self._accept(kind)  # as a rewritten condition has it
        token = self._next()
        self._place += 1
        if kind == "number" and token.kind == "number":
            return token.text.removeprefix("+")
        if kind == "boolean" and (token.is_word("true") or token.is_word("false")):
            return token.text.lower()
        if kind == "string" and token.kind == "text":
            return token.text
        if kind in ("date", "timestamp") and token.kind == "text":
            try:
                moment = (date if kind == "date" else datetime).fromisoformat(token.text[1:-1])
            except ValueError:
                raise _wrong(f"{token.text} is not a {kind}, as '2024-05-31'") from None
            if kind == "timestamp" and moment.year not in YEARS:
                raise _wrong(f"{token.text} is outside the years {YEARS.start} to {YEARS.stop - 1}")
            return f"{kind} '{moment.isoformat()}'"
        raise _wrong(f"{token.text!r} does not fit {name}, which holds {kind}s")

    def _next(self) -> _Token:
        return self._tokens[self._place] if self._place < len(self._tokens) else _END

    def _accept(self, text: str) -> bool:
        token = self._next()
        fits = token.is_word(text) or (token.kind == "sign" and token.text == text)
        self._place += fits
        return fits

    def _expect(self, text: str) -> None:
        if not self._accept(text):
            raise _wrong(f"there is {self._next().text!r} where {text.upper()!r} is expected")


def _wrong(why: str) -> Refusal:
    message = f"where cannot be answered: {why}; write comparisons of columns with values, as \"license = 'CC0'\""
    return Refusal(400, "where", message)

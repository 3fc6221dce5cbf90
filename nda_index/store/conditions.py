"""Conditions on metadata: a small part of SQL, read to its end against the columns of an index, or refused.

    condition  = conjunction {"OR" conjunction}
    conjunction = negation {"AND" negation}
    negation   = ["NOT"] ( "(" condition ")" | test )
    test       = column ("=" | "!=" | "<>" | "<" | "<=" | ">" | ">=") literal
               | column ["NOT"] "IN" "(" literal {"," literal} ")"
               | column ["NOT"] "BETWEEN" literal "AND" literal
               | column ["NOT"] "LIKE" text
               | column "IS" ["NOT"] "NULL"
    column     = word | text in double quotes or in back-quotes, such a quote in it doubled
    literal    = number | ["DATE" | "TIMESTAMP"] text in single quotes, a quote in it doubled | TRUE | FALSE

The index looks at columns of Arrow (`nda_index.store.predicates`); no text is handed on to another reader of SQL.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Literal

import pyarrow as pa

from nda_index.errors import QueryError
from nda_index.sources.metadata import clean_text
from nda_index.store.predicates import Comparison, Junction, Likeness, Membership, Missing, Negation, Predicate, Value

ColumnKind = Literal["string", "number", "boolean", "date", "timestamp", "other"]

DEPTH = 60  # of parentheses inside one another
COMPARISONS = ("=", "!=", "<>", "<", "<=", ">", ">=")

_TOKENS = re.compile(
    r"""\s*(?:(?P<number>[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,9})?)(?![\w.])
    |(?P<text>'(?:[^']|'')*')|(?P<quoted>"(?:[^"]|"")*"|`(?:[^`]|``)*`)
    |(?P<word>[^\W\d]\w*)|(?P<sign><=|>=|<>|!=|[=<>(),]))""",
    re.VERBOSE,
)
_KINDS: tuple[tuple[ColumnKind, Callable[[pa.DataType], bool]], ...] = (
    ("string", pa.types.is_string), ("string", pa.types.is_large_string), ("boolean", pa.types.is_boolean),
    ("number", pa.types.is_integer), ("number", pa.types.is_floating), ("number", pa.types.is_decimal),
    ("date", pa.types.is_date), ("timestamp", pa.types.is_timestamp),
)  # fmt: skip
_NOUNS = {
    "string": "text, in single quotes as 'cat'", "number": "numbers, as 3 or 1.5", "boolean": "TRUE or FALSE",
    "date": "dates, as '2024-05-31'", "timestamp": "times, as '2024-05-31 10:00:00'",
}  # fmt: skip
_WORDS = {"and", "or", "not", "in", "like", "is", "null", "true", "false", "between"}


@dataclass(frozen=True)
class Condition:
    """A condition that was read.

    Attributes:
        text: it in full, as it can be read again: (`column` = 1).
        predicate: what it means.
    """

    text: str
    predicate: Predicate


def column_kind(kind: pa.DataType) -> ColumnKind:
    """Return what a column of an Arrow type holds, as a person would say it."""
    return next((name for name, fits in _KINDS if fits(kind)), "other")


def column_kinds(metadata: pa.Schema) -> dict[str, ColumnKind]:
    """Return the columns that a condition may name, with their kinds: the key and all metadata columns."""
    return {"key": "string", **{field.name: column_kind(field.type) for field in metadata}}


def parse_condition(text: str, columns: Mapping[str, str]) -> Condition:
    """Read a condition: the whole text, or none of it.

    Args:
        text: as it was given.
        columns: kind of each column that it may name, from `column_kinds`.

    Raises:
        QueryError: it is not a condition of this grammar on these columns; the message says where.

    Example:
        >>> parse_condition("year>=2001 and label in ('cat')", {"year": "number", "label": "string"}).text
        "((`year` >= 2001) AND (`label` IN ('cat')))"
    """
    if not isinstance(text, str):
        raise QueryError(f"where is {text!r}; it must be a condition as text, as \"license = 'CC0'\", or None")
    return _Parser(clean_text(text), columns).parse()


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    place: int

    def is_word(self, word: str) -> bool:
        return self.kind == "word" and self.text.lower() == word


class _Parser:
    """Recursive descent over the grammar above; each method returns what it has read."""

    def __init__(self, text: str, columns: Mapping[str, str]) -> None:
        self._text = text
        self._columns = columns
        self._tokens = self._tokenize()
        self._end = _Token("end", "its end", len(text))
        self._place = 0

    def parse(self) -> Condition:
        if not self._tokens:
            raise QueryError(
                "where is empty; give a condition, as \"license = 'CC0'\", or None where all images are meant"
            )
        condition = self._condition(0)
        if self._next() is not self._end:
            raise self._wrong(f"{self._next().text!r} follows where it should end, or go on with AND or OR")
        return condition

    def _tokenize(self) -> list[_Token]:
        tokens, place = list[_Token](), 0
        while self._text[place:].strip():
            match = _TOKENS.match(self._text, place)
            if match is None:
                left = self._text[place:].lstrip()
                raise self._wrong(f"{left[:20]!r} is not understood", len(self._text) - len(left))
            kind = str(match.lastgroup)
            tokens.append(_Token(kind, match[kind], match.start(kind)))
            place = match.end()
        return tokens

    def _condition(self, depth: int) -> Condition:
        return self._joined("or", lambda: self._joined("and", lambda: self._negation(depth)))

    def _joined(self, word: str, part: Callable[[], Condition]) -> Condition:
        parts = [part()]
        while self._accept(word):
            parts.append(part())
        if len(parts) == 1:
            return parts[0]
        text = f" {word.upper()} ".join(each.text for each in parts)
        return Condition(f"({text})", Junction(word, tuple(each.predicate for each in parts)))

    def _negation(self, depth: int) -> Condition:
        if depth > DEPTH:
            raise self._wrong(f"it is nested deeper than {DEPTH}")
        negations = 0
        while self._accept("not"):  # two cancel out
            negations += 1
        if negations % 2:
            return _negate(self._negation(depth))
        if self._accept("("):
            inner = self._condition(depth + 1)
            self._expect(")")
            return inner
        return self._test()

    def _test(self) -> Condition:
        name = self._column()
        kind = self._columns[name]
        quoted = quote_name(name)
        if self._accept("is"):
            negated = self._accept("not")
            self._expect("null")
            missing = Missing(name)
            return Condition(f"({quoted} IS {'NOT ' * negated}NULL)", Negation(missing) if negated else missing)
        if kind == "other":
            raise self._wrong(f"{name!r} cannot be compared, since it holds no plain values; only IS NULL fits it")
        negated = self._accept("not")
        if self._accept("in"):
            return self._membership(name, kind, negated)
        if self._accept("between"):
            low, least = self._literal(name, kind)
            self._expect("and")
            high, most = self._literal(name, kind)
            between = Junction("and", (Comparison(name, ">=", least), Comparison(name, "<=", most)))
            text = f"({quoted} {'NOT ' * negated}BETWEEN {low} AND {high})"
            return Condition(text, Negation(between) if negated else between)
        if self._accept("like"):
            if kind != "string":
                raise self._wrong(f"LIKE fits text, and {name!r} holds {_NOUNS[kind]}")
            text, pattern = self._literal(name, kind)
            like = Likeness(name, str(pattern))
            return Condition(f"({quoted} {'NOT ' * negated}LIKE {text})", Negation(like) if negated else like)
        sign = self._next().text
        if negated or self._next().kind != "sign" or sign not in COMPARISONS:
            raise self._wrong(f"{sign!r} follows {name!r}, where =, <, IN, BETWEEN, LIKE or IS NULL is expected")
        self._place += 1
        text, value = self._literal(name, kind)
        return Condition(f"({quoted} {sign} {text})", Comparison(name, "!=" if sign == "<>" else sign, value))

    def _membership(self, name: str, kind: str, negated: bool) -> Condition:
        self._expect("(")
        literals = [self._literal(name, kind)]
        while self._accept(","):
            literals.append(self._literal(name, kind))
        self._expect(")")
        text = f"({quote_name(name)} {'NOT ' * negated}IN ({', '.join(text for text, _ in literals)}))"
        membership = Membership(name, tuple(value for _, value in literals))
        return Condition(text, Negation(membership) if negated else membership)

    def _column(self) -> str:
        token = self._next()
        name = _unquote(token.text) if token.kind == "quoted" else token.text
        if token.kind not in ("word", "quoted") or (token.kind == "word" and name.lower() in _WORDS):
            raise self._wrong(
                f"there is {token.text!r} where a column is expected, such as {next(iter(self._columns))}"
            )
        if name not in self._columns:
            there = ", ".join(map(quote_if_needed, self._columns))
            raise self._wrong(f"{name!r} is not a column; the columns are {there}")
        self._place += 1
        return name

    def _literal(self, name: str, kind: str) -> tuple[str, Value]:
        """Read a literal: it as it is written in full, and its value."""
        if kind in ("date", "timestamp"):
            self._accept(kind)  # as a condition in full has it
        token = self._next()
        self._place += 1
        if kind == "number" and token.kind == "number":
            return token.text.removeprefix("+"), Decimal(token.text)
        if kind == "boolean" and (token.is_word("true") or token.is_word("false")):
            return token.text.lower(), token.is_word("true")
        if kind == "string" and token.kind == "text":
            return token.text, _unquote(token.text)
        if token.kind == "text" and kind in ("date", "timestamp"):
            try:
                moment = (date if kind == "date" else datetime).fromisoformat(token.text[1:-1])
            except ValueError:
                moment = None
            if moment is not None:
                return f"{kind} '{moment.isoformat()}'", moment
        self._place -= 1
        if token is self._end:
            raise self._wrong(f"a value is missing; {name!r} holds {_NOUNS[kind]}")
        if token.text == "=":
            raise self._wrong("there is a second '='; write one")
        raise self._wrong(f"{token.text!r} does not fit {name!r}, which holds {_NOUNS[kind]}")

    def _next(self) -> _Token:
        return self._tokens[self._place] if self._place < len(self._tokens) else self._end

    def _accept(self, text: str) -> bool:
        token = self._next()
        fits = token.is_word(text) or (token.kind == "sign" and token.text == text)
        self._place += fits
        return fits

    def _expect(self, text: str) -> None:
        if not self._accept(text):
            raise self._wrong(f"there is {self._next().text!r} where {text.upper()!r} is expected")

    def _wrong(self, why: str, place: int | None = None) -> QueryError:
        place = self._next().place if place is None else place
        return QueryError(
            f"where cannot be answered: at character {place + 1}, {why}; write comparisons of columns with values, "
            f"joined by AND and OR, as \"license = 'CC0'\""
        )


def quote_name(name: str) -> str:
    """Write a column's name so that a condition can have it.

    Example:
        >>> quote_name("odd name")
        '`odd name`'
    """
    return "`" + name.replace("`", "``") + "`"


def quote_if_needed(name: str) -> str:
    """Write a column's name as a condition must have it: as it is, where that is a word of its own.

    Example:
        >>> quote_if_needed("year"), quote_if_needed("odd name"), quote_if_needed("in")
        ('year', '`odd name`', '`in`')
    """
    plain = re.fullmatch(r"[^\W\d]\w*", name) and name.lower() not in _WORDS
    return name if plain else quote_name(name)


def _unquote(text: str) -> str:
    return text[1:-1].replace(text[0] * 2, text[0])


def _negate(condition: Condition) -> Condition:
    return Condition(f"(NOT {condition.text})", Negation(condition.predicate))

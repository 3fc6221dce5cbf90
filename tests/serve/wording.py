"""Finds texts for people in the page's modules and in its HTML.

It reads JavaScript as far as is needed to tell strings from comments and patterns, and to know whose argument a string
is. A single small word that goes through a variable looks like a name; tests/browser/test_texts.py sees it on the page.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from html.parser import HTMLParser

FILLED = "\0"  # stands for what is filled in with ${...}
TEXT_FROM = {
    "announce": 0, "append": 0, "element": 2, "error": 0, "Error": 0, "fileLink": 3, "name": 0, "prepend": 0,
    "prompt": 0, "refuse": 0, "replaceChildren": 0, "runVisibly": 0, "setCustomValidity": 0, "span": 1, "work": 0,
}  # fmt: skip
"""By function: from which of its arguments on they are texts."""
SELECTING = {"closest", "matchMedia", "matches", "querySelector", "querySelectorAll"}
ATTRIBUTES = "alt|aria-label|aria-valuetext|placeholder|title"
TEXT_BEFORE = re.compile(
    rf"""\b(textContent|innerText)\b[^;]*=|\b({ATTRIBUTES})"?(:| =)[^,]*$|setAttribute\("({ATTRIBUTES})",.*$"""
)
NAMES_BEFORE = re.compile(r"""\b(class|className|aria-controls)"?( =|:)[^,]*$|^import|\bfrom $""")
PATTERN_AFTER = "(,=:[!&|?{};\n"
MACHINE = {
    "AbortError", "Authorization", "Bearer \0", "Content-Type", "End", "Enter", "Escape", "Files", "Home",
    "Retry-After",
}  # fmt: skip
"""What reads as words and is none: names of keys, of headers and of errors."""


@dataclass(frozen=True)
class Literal:
    """A string of a module.

    Attributes:
        text: what it holds, with `FILLED` for each part that is filled in.
        before: the code before it on its line.
        call: the function whose argument it is, as it is called; empty: none.
        argument: which of its arguments, from 0.
    """

    text: str
    before: str
    call: str = ""
    argument: int = 0


def texts_of_module(source: str) -> list[str]:
    """Return the strings of a JavaScript module that read as words."""
    return [one.text for one in read_literals(source) if _reads_as_words(one)]


def _reads_as_words(one: Literal) -> bool:
    if one.text in MACHINE:
        return False
    function = one.call.rpartition(".")[2]
    shown = one.call != "form.append" and one.argument >= TEXT_FROM.get(function, 1_000)
    if (shown or TEXT_BEFORE.search(one.before)) and re.search(r"[^\W\d_]", one.text):
        return True
    if function in SELECTING or NAMES_BEFORE.search(one.before) or (function == "span" and one.argument == 0):
        return False
    pieces = one.text.split()
    several = len(pieces) > 1 and any(re.search(r"[a-z]{2}", piece) for piece in pieces)
    sentence = re.search(r"^\W*[A-Z][a-z]|[A-Za-z]{2}[.!?…]$|[^\W\d_a-zA-Z]", one.text)
    return several or sentence is not None


def read_literals(source: str) -> list[Literal]:
    """Return the strings of a JavaScript module."""
    found = list[Literal]()
    _read_code(source, 0, found)
    return found


def _read_code(source: str, place: int, found: list[Literal]) -> int:
    """Read code up to the end, or to the bracket that closes a part of a template; return where that is."""
    calls = [("", 0)]
    last = "\n"  # the last character that is no blank
    while place < len(source):
        letter = source[place]
        if source.startswith("//", place):
            place = source.index("\n", place)
        elif source.startswith("/*", place):
            place = source.index("*/", place) + 2
        elif letter == "/" and last in PATTERN_AFTER:
            place = _end_of_pattern(source, place)
            last = "/"
        elif letter in "\"'`":
            before = source[source.rfind("\n", 0, place) + 1 : place]
            text, place = _read_string(source, place, found)
            found.append(Literal(text, before, *calls[-1]))
            last = letter
        else:
            if letter == "}" and len(calls) == 1:
                return place
            _follow_brackets(source, place, calls)
            last = letter if not letter.isspace() else last
            place += 1
    return place


def _follow_brackets(source: str, place: int, calls: list[tuple[str, int]]) -> None:
    letter = source[place]
    if letter in "([{":
        named = re.search(r"(\w+\.)*\w+$", source[max(0, place - 80) : place])
        if letter == "(" and named:
            calls.append((named[0], 0))
        else:  # what is grouped, or in a list, is given to the same function
            calls.append(("", 0) if letter == "{" or named else calls[-1])
    elif letter in ")]}":
        calls.pop()
    elif letter == ",":
        calls[-1] = (calls[-1][0], calls[-1][1] + 1)


def _read_string(source: str, place: int, found: list[Literal]) -> tuple[str, int]:
    """Return a string's text and where the code goes on."""
    quote, text = source[place], ""
    place += 1
    while source[place] != quote:
        if quote == "`" and source.startswith("${", place):
            place = _read_code(source, place + 2, found) + 1
            text += FILLED
        else:
            size = 2 if source[place] == "\\" else 1
            text += source[place : place + size]
            place += size
    return text, place + 1


def _end_of_pattern(source: str, place: int) -> int:
    inside = False  # of [...], where a slash is a letter as any other
    place += 1
    while inside or source[place] != "/":
        inside = source[place] == "[" or (inside and source[place] != "]")
        place += 2 if source[place] == "\\" else 1
    return place + 1


class _Page(HTMLParser):
    """Collects the texts of a page."""

    ALLOWED = ("title", "noscript", "brand")  # before there are texts, or without them; a name

    def __init__(self) -> None:
        super().__init__()
        self.texts = list[str]()
        self._around = list[str]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.texts += [value for name in ATTRIBUTES.split("|") if (value := given.get(name))]
        if tag not in ("meta", "link", "img", "input"):
            self._around.append("brand" if given.get("class") == "brand" else tag)

    def handle_endtag(self, tag: str) -> None:
        self._around.pop()

    def handle_data(self, data: str) -> None:
        if data.strip() and not set(self.ALLOWED).intersection(self._around):
            self.texts.append(data.strip())


def texts_of_page(source: str) -> list[str]:
    """Return the texts of an HTML page that stand in it."""
    page = _Page()
    page.feed(source)
    return page.texts

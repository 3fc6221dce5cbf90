from __future__ import annotations

from typing import Any

import pytest

from nda_index.sources.samples import choose_type, read_metadata


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({".cls": b" 12\n"}, {"cls": 12}),
        ({".cls": b"-3"}, {"cls": -3}),
        ({".cls": b"cat"}, {}),
        ({".cls": "\u00b2".encode()}, {}),
        ({".cls": b"--5"}, {}),
        ({".cls": b"9" * 5000}, {}),
        ({".cls": str(2**64).encode()}, {"cls": str(2**64)}),
        ({".json": b"[" * 100_000}, {}),
        ({".json": b'{"a": "\\ud800", "b": 9223372036854775808}'}, {"a": "\ufffd", "b": "9223372036854775808"}),
        ({".txt": "caf\u00e9".encode()}, {"txt": "caf\u00e9"}),
        ({".txt": b"caf\xe9"}, {"txt": "caf\ufffd"}),
        ({".json": b"{broken"}, {}),
        ({".json": b"[1, 2]"}, {}),
        ({".json": b'{"a": null, "b": [1], "c": {"d": 1}, "e": false}'}, {"e": False}),
        ({".json": b'{"txt": "json", "cls": 1}', ".txt": b"txt", ".cls": b"2"}, {"txt": "txt", "cls": 2}),
        ({".png": b"7", ".caption": b"x"}, {}),
    ],
)
def test_metadata_of_a_sample(members: dict[str, bytes], expected: dict[str, Any]) -> None:
    assert read_metadata(members)[0] == expected


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ({".cls": b"cat"}, "is not a whole number: 'cat'; the picture has no class"),
        ({".json": b"[1]"}, "is not a JSON object; the picture has no values of it"),
        ({".cls": b"1", ".json": b"{}", ".txt": b"caf\xe9"}, None),
    ],
)
def test_what_is_wrong_with_metadata_is_told(members: dict[str, bytes], problem: str | None) -> None:
    assert read_metadata(members)[1] == problem


def test_values_of_several_kinds_become_text() -> None:
    kinds: list[set[type]] = [{bool}, {int}, {int, float}, {int, bool}, {str, int}]
    assert [str(choose_type(types)) for types in kinds] == ["bool", "int64", "double", "string", "string"]

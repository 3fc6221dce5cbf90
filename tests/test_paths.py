from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nda_index import ConfigError
from nda_index.paths import as_path, is_address


@pytest.mark.parametrize(
    ("thing", "expected"),
    [
        ("https://example.org/a.png", True),
        (Path("gs://bucket/a"), True),
        ("file:///a", True),
        ("C:/a", False),
        ("a:b", False),
        ("a b%20c.nda", False),
        ("/a/http:/b", False),
        (b"https://example.org", False),
        (None, False),
    ],
)
def test_an_address_is_told_from_a_path(thing: Any, expected: bool) -> None:
    assert is_address(thing) == expected


def test_a_path_is_taken_as_it_is() -> None:
    assert as_path("a b%20c.nda", "the index") == Path("a b%20c.nda")


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        (None, "the index is None; it must be a path as text"),
        (b"a", "the index is b'a'; it must be a path as text"),
        ("", "the index is '', which is no path"),
        ("s3://a", "the index is 's3://a', an address; give a path on this machine"),
    ],
)
def test_what_is_no_path_is_refused(thing: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        as_path(thing, "the index")

from __future__ import annotations

import re

import nda_index
from nda_index import errors
from nda_index.errors import NdaIndexError


def test_the_tree_in_the_docstring_is_that_of_the_classes() -> None:
    written: dict[str, str] = {}
    path: list[str] = []
    for indent, name in re.findall(r"^( *)- `(\w+)`: .+", str(errors.__doc__), re.MULTILINE):
        path = [*path[: len(indent) // 4], name]
        written[name] = path[-2] if len(path) > 1 else "Exception"
    classes = [each for each in vars(errors).values() if isinstance(each, type)]
    assert {each.__name__: each.__bases__[0].__name__ for each in classes} == written


def test_every_error_is_public() -> None:
    classes = [each for each in vars(errors).values() if isinstance(each, type)]
    assert all(issubclass(each, NdaIndexError) for each in classes)
    assert {each.__name__ for each in classes} <= set(nda_index.__all__)

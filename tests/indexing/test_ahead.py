from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from threading import Event, current_thread

import pytest

from nda_index.indexing.ahead import read_ahead


def test_the_next_item_is_taken_while_the_caller_works() -> None:
    taken = [Event() for _ in range(4)]
    threads = set()

    def items() -> Iterator[int]:
        for number, event in enumerate(taken):
            threads.add(current_thread())
            event.set()
            yield number

    found = []
    for number in read_ahead(items()):
        found.append(number)
        assert taken[min(number + 1, 3)].wait(10)  # before the caller asks for it
        assert not any(event.is_set() for event in taken[number + 2 :])  # and no more than that
    assert found == [0, 1, 2, 3]
    assert current_thread() not in threads


def test_an_error_comes_where_its_item_would() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("the disk is gone")

    found = []
    with pytest.raises(OSError, match="the disk is gone"):
        for number in read_ahead(items()):
            found.append(number)
    assert found == [1]


def test_a_caller_may_stop() -> None:
    with closing(read_ahead(iter(range(1_000)))) as numbers:
        assert next(numbers) == 0
    assert list(numbers) == []

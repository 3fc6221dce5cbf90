"""Reading ahead: a thread takes the next of some items while the caller works on the one before."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def read_ahead(items: Iterator[Item]) -> Generator[Item, None, None]:
    """Yield what an iterator yields, while a thread takes the next one. Its errors come where their item would.

    Example:
        >>> list(read_ahead(iter([1, 2])))
        [1, 2]
    """

    def take() -> list[Item]:
        return [item for item in (next(items, end),) if item is not end]

    end: Item = object()  # type: ignore[assignment]
    with ThreadPoolExecutor(1, "read ahead") as pool:
        coming = pool.submit(take)
        while found := coming.result():
            coming = pool.submit(take)
            yield from found

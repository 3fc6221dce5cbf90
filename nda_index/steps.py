"""Coroutines that compute in steps: each yields what it has of its own, and is sent what there is of it everywhere."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar

Result = TypeVar("Result")


def returned(steps: Generator[Any, Any, Result], message: Any) -> Result:
    """What a coroutine returns when it is sent its last message.

    Example:
        >>> def doubled():
        ...     number = yield
        ...     return 2 * number
        >>> steps = doubled()
        >>> next(steps)
        >>> returned(steps, 4)
        8
    """
    try:
        steps.send(message)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    raise RuntimeError("the coroutine was not at its last step")

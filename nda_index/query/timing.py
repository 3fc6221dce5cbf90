"""Where the time of a question goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Seconds by stage; time of a stage inside another counts for the inner one only."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def including(self, other: dict[str, float]) -> dict[str, float]:
        """Seconds here and elsewhere together."""
        return {stage: self.seconds.get(stage, 0.0) + other.get(stage, 0.0) for stage in {**self.seconds, **other}}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        before = sum(self.seconds.values())
        start = time.perf_counter()
        try:
            yield
        finally:
            inner = sum(self.seconds.values()) - before
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start - inner

"""Where the time of a question goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class StageTimer:
    """Seconds by stage; time of a stage inside another counts for the inner one only.

    Example:
        >>> timer = StageTimer()
        >>> with timer.stage("outer"), timer.stage("inner"):
        ...     pass
        >>> list(timer.seconds)
        ['inner', 'outer']
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def add(self, seconds: dict[str, float]) -> dict[str, float]:
        """Return the seconds here and elsewhere together, by stage."""
        stages = {**self.seconds, **seconds}
        return {stage: self.seconds.get(stage, 0.0) + seconds.get(stage, 0.0) for stage in stages}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time of a block for a stage."""
        before = sum(self.seconds.values())
        start = time.perf_counter()
        try:
            yield
        finally:
            inner = sum(self.seconds.values()) - before
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start - inner

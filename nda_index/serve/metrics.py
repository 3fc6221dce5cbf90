"""What the service counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)

Made = TypeVar("Made")


class Metrics:
    """The counters of one service."""

    def __init__(self) -> None:
        """All begin at zero."""
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)  # memory, CPU time, open files
        self.stages = Histogram(
            "nda_index_stage_seconds",
            "Time of a stage of a question, or of making a response (render).",
            ["stage"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.requests = Counter(
            "nda_index_requests_total", "Requests by route and status.", ["route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "nda_index_request_seconds", "Time of a request.", ["route"], buckets=SECONDS, registry=self.registry
        )
        self.batches = Histogram(
            "nda_index_batch_queries", "Questions asked at once.", buckets=(1, 2, 4, 8, 16, 32), registry=self.registry
        )
        self.stored = Counter(
            "nda_index_results_total", "Questions whose answer was there (hit) or not (miss).", ["outcome"],
            registry=self.registry,
        )  # fmt: skip
        self.ended = Counter(
            "nda_index_questions_ended_total", "Questions ended early: queue full, deadline, cancelled.", ["reason"],
            registry=self.registry,
        )  # fmt: skip
        self.reloads = Counter(
            "nda_index_reloads_total", "Times that the index was opened again.", ["outcome"], registry=self.registry
        )

    def rendered(self, make: Callable[..., Made], *arguments: Any) -> Made:
        """What a function makes for a response; its time is that of the stage "render"."""
        with self.stages.labels("render").time():
            return make(*arguments)

    def watch(self, name: str, description: str, value: Callable[[], float]) -> None:
        """Show a number as it is when somebody looks."""
        Gauge(name, description, registry=self.registry).set_function(value)

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self.registry)

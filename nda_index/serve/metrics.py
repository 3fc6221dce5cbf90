"""What the service counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)  # half decades, from a PNG to a deadline
BATCHES = (1, 2, 4, 8, 16, 32)  # questions; the default of --batch is 8

Result = TypeVar("Result")


class Metrics:
    """The counters of one service."""

    def __init__(self) -> None:
        """Start all counters at zero."""
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
            "nda_index_batch_queries", "Questions of a batch.", buckets=BATCHES, registry=self.registry
        )
        self.lookups = Counter(
            "nda_index_results_total", "Questions whose answer was stored (hit) or not (miss).", ["outcome"],
            registry=self.registry,
        )  # fmt: skip
        self.ended = Counter(
            "nda_index_questions_ended_total", "Questions without an answer: refused, deadline, cancelled.", ["reason"],
            registry=self.registry,
        )  # fmt: skip
        self.job_pictures = Counter(
            "nda_index_job_pictures_total", "Pictures of jobs that have a result: answered, failed.", ["outcome"],
            registry=self.registry,
        )  # fmt: skip
        self.reloads = Counter(
            "nda_index_reloads_total", "Times that a changed index was opened (done) or could not be (failed).",
            ["outcome"], registry=self.registry,
        )  # fmt: skip

    def time_render(self, make: Callable[..., Result], *arguments: Any) -> Result:
        """Return what a function makes for a response, and count its time as the stage "render"."""
        with self.stages.labels("render").time():
            return make(*arguments)

    def watch(self, name: str, description: str, value: Callable[[], float]) -> None:
        """Add a gauge whose value is read at each scrape."""
        Gauge(name, description, registry=self.registry).set_function(value)

    def text(self) -> bytes:
        """Return all counters in Prometheus' text format."""
        return generate_latest(self.registry)

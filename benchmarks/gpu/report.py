"""What a run measures: sizes, rows, errors and the table."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True)
class Sizes:
    """How much of everything.

    Attributes:
        images, shortlist: of a question; 32 x 32 pixels with `channels`.
        draws: of each noisy term.
        checked: images that are compared with float64.
        published: numbers of images that the published formulation scores.
        coarse, coarse_query: images and query windows of the coarse stage.
        large: pixels of a side, stride and number of larger images.
        matmul: of a square matrix.
        scales, others: that are timed, and that are checked besides.
        timesteps: that are checked.
        repeats: of which the median is taken.
        built: images that are encoded as a build does.
        cells: of inverted lists, in questions and builds.
        photographs: pictures of a catalogue, windows of each, cells of each kind, windows of a question and of each
            kind, and questions of a batch.
    """

    images: int = 50_000
    shortlist: int = 1_500
    size: int = 32
    channels: int = 3
    draws: int = 16
    checked: int = 24
    published: tuple[int, ...] = (2_000, 10_000)
    coarse: int = 1_000_000
    coarse_query: int = 1_024
    large: tuple[tuple[int, int, int], ...] = ((64, 1, 2_000), (64, 2, 10_000), (128, 2, 500))
    matmul: int = 8_192
    scales: tuple[str, ...] = ("7", "14/2")
    others: tuple[str, ...] = ("3", "4", "20")
    timesteps: tuple[int, ...] = (20, 100, 400)
    repeats: int = 5
    built: int = 131_072
    cells: int = 8_192
    photographs: tuple[int, int, int, int, int] = (20_000, 1_250, 4_096, 1_500, 8)


SIZES = Sizes()
TINY = Sizes(
    3, 2, 10, 1, 1, 2, (3,), 4, 32, ((8, 2, 2),), 64, ("3", "4/2"), ("5",), (100,), 1, 40, 8, (6, 100, 4, 20, 2)
)


@dataclass
class Report:
    """What was measured, and until when a section may begin."""

    deadline: float
    rows: list[dict[str, Any]] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, **values: Any) -> None:
        """Keep a row, and print it."""
        self.rows.append({"name": name, **values})
        shown = ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in values.items())
        print(f"{name:<42} {shown}", flush=True)

    def write(self, folder: str | None, name: str) -> None:
        """Write rows and errors to a file in a folder; nowhere where there is no folder."""
        if folder:
            text = json.dumps({"device": describe_device(), "rows": self.rows, "errors": self.errors}, indent=1)
            Path(folder).mkdir(parents=True, exist_ok=True)
            Path(folder, name).write_text(text + "\n")

    def section(self, name: str, work: Callable[[], None]) -> None:
        """Do some work; print its error where it fails, and leave it out where the time is over."""
        if time.monotonic() > self.deadline:
            self.errors[name] = "left out: the time is over"
            print(f"{name}: left out, the time is over", flush=True)
            return
        begin = time.monotonic()
        try:
            work()
            if DEVICE.type == "cuda":
                torch.cuda.empty_cache()
        except Exception as error:  # a card that has failed fails in all that follows, and says so in every section
            self.errors[name] = f"{type(error).__name__}: {error}"
            print(f"{name} FAILED: {self.errors[name][:500]}", flush=True)
            traceback.print_exc(limit=-4)
        print(f"  [{name}: {time.monotonic() - begin:.1f} s]", flush=True)


def time_it(work: Callable[[], Any], repeats: int) -> float:
    """Return the median of some runs in seconds, after one that compiles; under the interpreter of one run."""
    if DEVICE.type == "cuda":
        work()
    seconds = []
    for _ in range(repeats if DEVICE.type == "cuda" else 1):
        wait()
        begin = time.perf_counter()
        work()
        wait()
        seconds.append(time.perf_counter() - begin)
    return median(seconds)


def time_asking(work: Callable[[], Any]) -> float:
    """Return the seconds until work is asked for that the device may not have done, the median of five runs."""
    seconds = []
    for _ in range(5 if DEVICE.type == "cuda" else 1):
        wait()
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return median(seconds)


def wait() -> None:
    """Wait for the device."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def describe_device() -> str:
    """Name the card."""
    return torch.cuda.get_device_name() if DEVICE.type == "cuda" else "CPU, by Triton's interpreter"


def print_table(report: Report) -> None:
    """Print the rows that have a time, and what failed."""
    print(f"\n{'':<44}{'ms':>10}{'target':>8}{'TFLOP/s':>9}")
    for row in report.rows:
        if "ms" in row:
            target, tflops = row.get("target"), row.get("tflops")
            print(f"{row['name']:<44}{row['ms']:>10.3f}{target or '':>8}{f'{tflops:.0f}' if tflops else '':>9}")
    for name, error in report.errors.items():
        print(f"{name}: {error[:300]}")

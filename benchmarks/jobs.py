"""Single questions beside a running job: how long they take with and without it, and how fast the job is.

    python -m benchmarks.jobs photos.nda

A service runs in a process of its own. One client asks about collages of two random images each, no question twice, and
pauses between questions for a random time, so that they come at any moment of a job's picture. It asks by turns without
a job and beside one, so that a machine that becomes slower is the same for both. Then the job goes on alone. Writes
benchmarks/results/jobs.md; exits with 1 if the 99th percentile beside the job is more than twice that without.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

import nda_index as nda
from benchmarks.machine import RESULTS, describe_machine
from benchmarks.serve import Load, make_collages, send, serving
from nda_index.client.requests import pack

BATCH = 8  # the default of --batch
PICTURES = 300  # of the job, more than it answers in half a round, or alone
TIMES = 2.0  # the most that the 99th percentile may grow
SETTLED = 2.0  # seconds after a job was cancelled
ALONE = 20.0  # seconds for which the job goes on alone


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("index", type=Path)
    parser.add_argument("--rounds", type=int, default=10, help="each of questions without and beside a job")
    parser.add_argument("--questions", type=int, default=10, help="of each half of a round")
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between two questions at most")
    parser.add_argument("--side", type=int, help="of the pictures, enlarged so that regions of them are looked for")
    parser.add_argument("--quiet", action="store_true", help="do not write the results page")
    arguments = parser.parse_args()
    load = f"{os.getloadavg()[0]:.1f}"
    text, times = asyncio.run(measure(arguments))
    with nda.open_index(arguments.index) as index:
        of = f"{len(index):,} images of {index.shape[1]} x {index.shape[2]}"
    made = f"`python -m benchmarks.jobs` on {describe_machine()}, load {load} before it began. {of}."
    page = f"# Questions beside a job\n\n{made}\n\n{text}\n"
    print(page)
    if not arguments.quiet:
        (RESULTS / "jobs.md").write_text(page)
    sys.exit(times > TIMES)


async def measure(arguments: argparse.Namespace) -> tuple[str, float]:
    """Return the page's text, and how many times as long the 99th percentile is beside the job."""
    collages, rng = enlarge(make_collages(arguments.index), arguments.side), np.random.default_rng(2)
    without, beside, busy, answered = Load(), Load(), 0.0, 0
    with tempfile.TemporaryDirectory() as results:
        async with serving(arguments.index, Path(results), BATCH) as (_, http):
            await send(http, next(collages), Load())
            for _ in range(arguments.rounds):
                await ask(http, collages, without, arguments, rng)
                job = await begin_job(http, collages)
                start, before = time.perf_counter(), (await read(http, job))["done"]
                await ask(http, collages, beside, arguments, rng)
                busy, answered = busy + time.perf_counter() - start, answered + (await read(http, job))["done"] - before
                await http.delete(f"/v1/jobs/{job}")
                await asyncio.sleep(SETTLED)  # its last picture ends at its next report
            job = await begin_job(http, collages)
            start, before = time.perf_counter(), (await read(http, job))["done"]
            await asyncio.sleep(ALONE)
            alone = ((await read(http, job))["done"] - before) / (time.perf_counter() - start)
    lines = ["| questions | number | p50 s | p90 s | p99 s | longest s |", "|---|---|---|---|---|---|"]
    for name, load in (("without a job", without), ("beside a job", beside)):
        if set(load.statuses) != {200} or load.lost:
            raise SystemExit(f"questions {name} met {dict(load.statuses)} and {load.lost} lost connections")
        figures = " | ".join(f"{value:.2f}" for value in np.percentile(load.seconds, (50, 90, 99, 100)))
        lines.append(f"| {name} | {len(load.seconds)} | {figures} |")
    times = float(np.percentile(beside.seconds, 99) / np.percentile(without.seconds, 99))
    median = float(np.median(beside.seconds) / np.median(without.seconds))
    lines.append(
        f"\nBeside the job the median is {median:.2f} times and the 99th percentile {times:.2f} times that without. "
        f"The job answers {60 * answered / busy:.0f} pictures a minute beside the questions, {60 * alone:.0f} alone."
    )
    return "\n".join(lines), times


async def ask(
    http: httpx.AsyncClient,
    collages: Iterator[bytes],
    load: Load,
    arguments: argparse.Namespace,
    rng: np.random.Generator,
) -> None:
    """Send questions, one after the other, with pauses."""
    for _ in range(arguments.questions):
        await asyncio.sleep(rng.uniform(0, arguments.pause))
        await send(http, next(collages), load)


def enlarge(pictures: Iterator[bytes], side: int | None) -> Iterator[bytes]:
    """Yield files of pictures at this side, or as they are."""
    for data in pictures:
        buffer = io.BytesIO(data)
        if side is not None:
            picture = Image.open(buffer).resize((side, side), Image.Resampling.BICUBIC)
            picture.save(buffer := io.BytesIO(), "JPEG")
        yield buffer.getvalue()


async def begin_job(http: httpx.AsyncClient, collages: Iterator[bytes]) -> str:
    """Send a job, and return its name once it is worked on."""
    archive = b"".join(pack({f"{number}.png": next(collages) for number in range(PICTURES)}))
    response = await http.post("/v1/jobs", content=archive, headers={"Content-Type": "application/x-tar"})
    job = str(response.raise_for_status().json()["id"])
    while (await read(http, job))["done"] == 0:
        await asyncio.sleep(0.05)
    return job


async def read(http: httpx.AsyncClient, job: str) -> dict[str, int]:
    """Return how far a job has come."""
    return dict((await http.get(f"/v1/jobs/{job}")).raise_for_status().json())


if __name__ == "__main__":
    main()

"""The service under load: throughput and latency, ten times too many requests, and kill -9.

    python -m benchmarks.serve photos.nda

Clients ask about collages of two random images each, no question twice. The page gives the rate for each number of
clients, its ratio to the rate of the same index in process, one question after the other, and how much the questions
of a batch can share: what their shortlists have in common. Then requests arrive at ten times the measured rate: each
must be answered or refused, memory must stay bounded, and the service must recover. Last, the process is killed with
SIGKILL under load and started again, several times: every answer that a client has seen must be readable. Writes
benchmarks/results/serve.md; exits with 1 if a promise was broken.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

import nda_index as nda
from benchmarks.machine import RESULTS, describe_machine

CLIENTS = (1, 4, 16, 64)
BATCHES = (1, 8)  # micro-batching off and on
OVERLOAD = 10
MINUTE = 60.0  # that the overload lasts
PATIENCE = 120.0  # seconds after which a question without an answer counts as out of time
PAIRS = 40  # of the same question in process and over HTTP
COMPARED = 12  # questions whose shortlists are compared


@dataclass
class Load:
    """Outcomes of requests: seconds of each answer, statuses, ids of answers, connections that failed."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    answers: list[str] = field(default_factory=list)
    lost: int = 0


def main() -> None:
    """Run all parts and write the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("index", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each measurement")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--quiet", action="store_true", help="do not write the results page")
    arguments = parser.parse_args()
    collages = make_collages(arguments.index)
    alone = measure_in_process(arguments.index, collages, arguments.seconds)
    common = compare_shortlists(arguments.index, collages)
    page, problems = asyncio.run(measure(arguments.index, collages, alone, arguments.seconds, arguments.kills))
    with nda.open_index(arguments.index) as index:
        of = f"{len(index):,} images of {index.shape[1]} x {index.shape[2]}, {len(index.scales)} scales"
    made = f"`python -m benchmarks.serve` on {describe_machine()}. {of}."
    page = f"# The service under load\n\n{made}\n\n{page}\n{common}\n"
    print(page)
    for problem in problems:
        print("PROBLEM:", problem, file=sys.stderr)
    if not arguments.quiet:
        (RESULTS / "serve.md").write_text(page)
    sys.exit(bool(problems))


def make_collages(folder: Path) -> Iterator[bytes]:
    """Return files of pictures, each of two random images of an index, without end."""
    with nda.open_index(folder) as index:
        ids = index.image_ids
        images = index.pixels(np.sort(np.random.default_rng(0).choice(ids, min(2000, len(ids)), replace=False)))

    def collages() -> Iterator[bytes]:
        rng, width = np.random.default_rng(1), images.shape[3]
        while True:
            left, right = images[rng.integers(len(images), size=2)]
            cut = rng.integers(width // 4, 3 * width // 4 + 1)
            both = np.concatenate([left[..., :cut], right[..., cut:]], axis=2)
            both = both ^ rng.integers(0, 2, both.shape, np.uint8)  # so that no two are the same
            buffer = io.BytesIO()
            Image.fromarray(both.transpose(1, 2, 0).squeeze()).save(buffer, "PNG")
            yield buffer.getvalue()

    return collages()


def measure_in_process(folder: Path, collages: Iterator[bytes], seconds: float) -> float:
    """Return questions a second without a service."""
    with nda.open_index(folder) as index:
        index.attribute(next(collages))
        start, count = time.perf_counter(), 0
        while time.perf_counter() < start + seconds:
            index.attribute(next(collages))
            count += 1
        return count / (time.perf_counter() - start)


def compare_shortlists(folder: Path, collages: Iterator[bytes]) -> str:
    """Say how many images the shortlists of two questions have in common."""
    with nda.open_index(folder) as index:
        shortlists = index.scores([next(collages) for _ in range(COMPARED)], mode="ann") > 0  # bool [Q, N]
    pairs = [(first, second) for row, second in enumerate(shortlists) for first in shortlists[:row]]
    shares = [(first & second).sum() / min(first.sum(), second.sum()) for first, second in pairs]
    return (
        f"\n**What batches can share.** Shortlists of {COMPARED} questions hold {shortlists.sum(axis=1).mean():,.0f} "
        f"images each; two of them have {np.mean(shares):.0%} in common, at most {max(shares):.0%}."
    )


async def measure(
    folder: Path, collages: Iterator[bytes], alone: float, seconds: float, kills: int
) -> tuple[str, list[str]]:
    """Return the page's text and what went wrong."""
    problems: list[str] = []
    lines = [
        f"In process, one question after the other: {alone:.2f} questions a second.\n",
        "| clients | batch | questions/s | of in process | p50 s | p95 s | p99 s |",
        "|---|---|---|---|---|---|---|",
    ]
    capacity = 0.0
    for batch in BATCHES:
        with tempfile.TemporaryDirectory() as results:
            async with serving(folder, Path(results), batch) as (_, http):
                for clients in CLIENTS:
                    load = Load()
                    start = time.perf_counter()
                    await asyncio.gather(*(client(http, collages, load, start + seconds) for _ in range(clients)))
                    rate = load.statuses[200] / (time.perf_counter() - start)
                    capacity = max(capacity, rate)
                    p50, p95, p99 = np.percentile(load.seconds, (50, 95, 99))
                    lines.append(
                        f"| {clients} | {batch} | {rate:.2f} | {rate / alone:.2f} | {p50:.2f} | {p95:.2f} | {p99:.2f} |"
                    )
                    if set(load.statuses) != {200} or load.lost:
                        problems.append(f"{clients} clients met {dict(load.statuses)} and {load.lost} lost connections")
    with tempfile.TemporaryDirectory() as results:
        async with serving(folder, Path(results), BATCHES[-1]) as (_, http):
            lines += await measure_overhead(folder, http, collages)
            lines += await measure_overload(http, collages, OVERLOAD * capacity, MINUTE, problems)
    with tempfile.TemporaryDirectory() as results:
        lines += await measure_kills(folder, Path(results), collages, kills, problems)
    return "\n".join(lines), problems


async def measure_overhead(folder: Path, http: httpx.AsyncClient, collages: Iterator[bytes]) -> list[str]:
    """Measure what the service adds to a question: the same pictures by turns in process and over HTTP."""
    inside, over = [], Load()
    with nda.open_index(folder) as index:
        index.attribute(next(collages))
        for _ in range(PAIRS):
            picture = next(collages)
            start = time.perf_counter()
            index.attribute(picture)
            inside.append(time.perf_counter() - start)
            await send(http, picture, over)
    difference = 1000 * (np.array(over.seconds) - inside)
    low, middle, high = np.percentile(difference, (25, 50, 75))
    return [
        f"\n**Overhead.** {PAIRS} pictures, each in process and then over HTTP: median {np.median(inside):.3f} s "
        f"and {np.median(over.seconds):.3f} s; the difference is {middle:.0f} ms at the median, half of them from "
        f"{low:.0f} to {high:.0f} ms."
    ]


async def measure_overload(
    http: httpx.AsyncClient, collages: Iterator[bytes], rate: float, seconds: float, problems: list[str]
) -> list[str]:
    """Send requests at a fixed rate, whatever becomes of the earlier ones."""
    load, memory, tasks = Load(), [await read_memory(http)], set[asyncio.Task[None]]()
    start, sent = time.perf_counter(), 0
    while (now := time.perf_counter()) < start + seconds:
        while sent < (now - start) * rate:
            tasks.add(asyncio.create_task(send(http, next(collages), load)))
            sent += 1
        if len(memory) < now - start:
            memory.append(await read_memory(http))
        await asyncio.sleep(0.01)
    await asyncio.gather(*tasks)
    memory.append(await read_memory(http))
    recovering = Load()
    await send(http, next(collages), recovering)
    if load.lost or not set(load.statuses) <= {200, 429, 503}:
        problems.append(f"overload met {dict(load.statuses)} and {load.lost} lost connections")
    if set(recovering.statuses) != {200}:
        problems.append(f"after the overload a question met {dict(recovering.statuses)}")
    return [
        f"\n**Overload.** {sent:,} requests in {seconds:g} s, {rate:.1f} a second: {load.statuses[200]:,} answered, "
        f"{load.statuses[429]:,} refused (429), {load.statuses[503]:,} out of time (503), "
        f"{load.lost} without a response. "
        f"Memory before {memory[0]:.2f} GiB, at most {max(memory):.2f}, after {memory[-1]:.2f}. "
        f"The next question alone took {recovering.seconds[0]:.2f} s."
    ]


async def measure_kills(
    folder: Path, results: Path, collages: Iterator[bytes], kills: int, problems: list[str]
) -> list[str]:
    """Collect answers before each SIGKILL, and read them after the restart."""
    load, missing = Load(), 0
    for _ in range(kills):
        async with serving(folder, results, BATCHES[-1]) as (process, http):
            enough = len(load.answers) + 10
            clients = [
                asyncio.create_task(client(http, collages, load, time.perf_counter() + PATIENCE)) for _ in range(8)
            ]
            while len(load.answers) < enough and not all(task.done() for task in clients):
                await asyncio.sleep(0.01)
            process.send_signal(signal.SIGKILL)
            process.wait()
            for task in clients:
                task.cancel()
            await asyncio.gather(*clients, return_exceptions=True)
        async with serving(folder, results, BATCHES[-1]) as (_, http):
            for identity in load.answers:
                missing += (await http.get(f"/v1/results/{identity}")).status_code != 200
    if missing:
        problems.append(f"{missing} answers could not be read after a kill")
    return [
        f"\n**Kills.** {kills} times killed under load of 8 clients and started again: {len(load.answers)} answers had "
        f"been given, {missing} could not be read afterwards."
    ]


async def client(http: httpx.AsyncClient, collages: Iterator[bytes], load: Load, end: float) -> None:
    """Send one question after the other."""
    while time.perf_counter() < end:
        await send(http, next(collages), load)
        if load.lost:
            return


async def send(http: httpx.AsyncClient, picture: bytes, load: Load) -> None:
    """Send one question."""
    start = time.perf_counter()
    try:
        response = await http.post("/v1/attribute", files={"image": ("a.png", picture)})
    except httpx.TransportError:
        load.lost += 1
        return
    load.statuses[response.status_code] += 1
    if response.status_code == 200:
        load.seconds.append(time.perf_counter() - start)
        load.answers.append(response.json()["id"])


async def read_memory(http: httpx.AsyncClient) -> float:
    """Return the memory of the service in GiB."""
    lines = (await http.get("/metrics")).text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("process_resident_memory_bytes")) / 2**30


@asynccontextmanager
async def serving(
    folder: Path, results: Path, batch: int
) -> AsyncIterator[tuple[subprocess.Popen[str], httpx.AsyncClient]]:
    """Run a service in a process of its own until the block ends."""
    command = [sys.executable, "-c", "from nda_index.cli.app import main; main()", "serve", str(folder), "--port", "0"]
    command += ["--results", str(results), "--batch", str(batch), "--deadline", str(PATIENCE)]
    # A file, not a pipe: a pipe that nobody reads fills up, and the service waits.
    with tempfile.NamedTemporaryFile("r") as output, open(output.name, "w") as log:
        process = subprocess.Popen(command, stderr=log, text=True, env=os.environ)
        while " at " not in (line := output.read()) and process.poll() is None:
            await asyncio.sleep(0.05)
            output.seek(0)
        url = line.split(" at ")[1].split()[0]
        limits = httpx.Limits(max_connections=None)
        try:
            async with httpx.AsyncClient(base_url=url, timeout=2 * PATIENCE, limits=limits) as http:
                while (await http.get("/readyz")).status_code != 200:
                    await asyncio.sleep(0.1)
                yield process, http
        finally:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()

"""Removals under load and kills: after the deadline no byte of a removed image is found, and no question is lost.

    python -m benchmarks.removal --removals 200 --kills 100

A writer adds, removes and compacts. Two services and two processes that open the index read it; clients ask both
services all the time. In a part of the rounds the writer, a service or a reader is killed with SIGKILL at a random
moment and started again, and a writer does the round again. After each round every file of the index, and of the stored
answers, is searched for the removed images' keys, pixels and files. Every question must be answered in the end, by one
of the services, with the image that it is a copy of; every answer of a reader must name the images of one state. Writes
benchmarks/results/removal.md; exits with 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

import nda_index as nda
from benchmarks.crash import OPTIONS
from benchmarks.killed import DEADLINE, SPAWN, Services, Writer
from benchmarks.machine import RESULTS, describe_machine

START, CHANGED = 60, 5  # images of the build; that a round adds, and removes
PATIENCE = 120.0  # seconds until a question must be answered, by whichever service
PAUSE = 0.5  # seconds between questions of a client, and openings of a reader, so that two cores do for all


@dataclass
class Watch:
    """What the parts of a run know of one another.

    Attributes:
        kept: keys of images that will not be removed in this round.
        problems: what was wrong.
        asked: questions that were answered.
        refused: times that a question had to be sent again, by reason.
        ended: whether clients stop.
    """

    kept: list[str]
    problems: list[str] = field(default_factory=list)
    asked: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    ended: bool = False


def main() -> None:
    """Remove, kill, search, and write the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--removals", type=int, default=200)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quiet", action="store_true", help="do not write the results page")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        page, problems = measure(Path(folder), arguments.removals, arguments.kills, arguments.seed)
    page = (
        f"# Removals under load\n\n`python -m benchmarks.removal --removals {arguments.removals} --kills "
        f"{arguments.kills}` on {describe_machine()}.\n\n{page}\n"
    )
    print(page)
    if not arguments.quiet:
        (RESULTS / "removal.md").write_text(page)
    sys.exit(bool(problems))


def measure(work: Path, removals: int, kills: int, seed: int) -> tuple[str, list[str]]:
    """Run all rounds; the page's text and what went wrong."""
    rng, index = np.random.default_rng(seed), work / "x.nda"
    keys = make_source(work / "0.parquet", range(START))
    nda.build_index(work / "0.parquet", index, **OPTIONS).close()
    states, removed, killed = [keys], list[str](), Counter[str]()
    services, writer = Services(index, work), Writer(index)
    watch = Watch(list(keys))
    clients = [threading.Thread(target=ask, args=(watch, services.ports, number), daemon=True) for number in range(2)]
    kill_rounds = set(rng.choice(removals, min(kills, removals), replace=False).tolist())
    waits: list[float] = []
    usual = 2.0
    for client in clients:
        client.start()
    while watch.asked < 10 and not watch.problems:
        time.sleep(0.1)
    check_search(work, keys)
    readers = [start_reader(work, number) for number in range(2)]
    for number in range(removals):
        added = make_source(work / "more.parquet", range(START + number * CHANGED, START + (number + 1) * CHANGED))
        gone = rng.choice(states[-1], CHANGED, replace=False).tolist()
        watch.kept = [key for key in states[-1] if key not in gone]
        time.sleep(rng.uniform(0, 0.2))  # so that questions of before are in flight
        states += [[*states[-1], *added], [*watch.kept, *added]]
        victim = rng.choice(["writer", "writer", "service", "reader"]) if number in kill_rounds else None
        start = time.monotonic()
        task = work / "more.parquet", added, gone
        writer.begin(task)
        if victim:
            time.sleep(rng.uniform(0, 1.2 * usual))
            killed[victim] += kill(victim, writer, services, readers, work, rng)
        if problem := writer.finish(task):
            watch.problems.append(f"round {number}: {problem}")
        if not victim:
            usual = time.monotonic() - start
        waits.append(wait_until_gone(work, gone, watch.problems))
        removed += gone
        watch.kept = states[-1]
    watch.ended = True
    for client in clients:
        client.join()
    found = search(work, removed)
    watch.problems += [f"{what} of a removed image at the end" for what in found]
    answers = end_readers(readers, work, states, watch.problems)
    services.kill_all()
    writer.kill()
    text = (
        f"{removals} removals of {CHANGED} images and as many compactions, two services, two processes that open the "
        f"index, two clients; {killed.total()} kills ({', '.join(f'{name} {n}' for name, n in sorted(killed.items()))})"
        f".\n\nSearched for keys, pixels and files of {len(removed):,} removed images, in the index and the stored "
        f"answers: {len(found)} found. The last of it was gone {np.median(waits):.1f} s after the writer had ended "
        f"(median; at most {max(waits):.1f}). {watch.asked:,} questions were answered, "
        f"{', '.join(f'{n} times sent again: {why}' for why, n in watch.refused.most_common()) or 'none sent again'}. "
        f"Readers gave {answers:,} answers. {len(watch.problems)} problems.\n"
    )
    return text + "".join(f"\n- {problem}" for problem in watch.problems[:20]), watch.problems


def kill(
    victim: str, writer: Writer, services: Services, readers: list[BaseProcess], work: Path, rng: np.random.Generator
) -> int:
    """Kill a part, and start it again unless it is the writer; 1, for the count."""
    number = int(rng.integers(2))
    if victim == "writer":
        writer.kill()
    elif victim == "service":
        services.kill(number)
    else:
        readers[number].kill()
        readers[number].join()
        readers[number] = start_reader(work, number)
    return 1


def start_reader(work: Path, number: int) -> BaseProcess:
    """Start to open, ask and close the index in a process, until it is killed or a file `stop` is there."""
    reader = SPAWN.Process(target=read, args=(work, number), daemon=True)
    reader.start()
    return reader


def read(work: Path, number: int) -> None:
    """Ask until a file tells to stop; a line for each answer: its keys, or what was wrong."""
    asked = 0
    with (work / f"reader-{number}.jsonl").open("a") as lines:
        while not (work / "stop").exists():
            try:
                with nda.open_index(work / "x.nda") as index:
                    for _ in range(2):
                        answer = index.attribute(picture(asked), timestep=50, top=len(index), mode="exact")
                        asked += 1
                        wrong = [
                            key
                            for key, image in zip(answer.keys, answer.images, strict=True)
                            if not np.array_equal(image, picture(number_of(key)))
                        ]
                        lines.write(json.dumps({"keys": answer.keys, "wrong": wrong}) + "\n")
            except nda.NdaIndexError as error:
                lines.write(json.dumps({"keys": [], "wrong": [f"{type(error).__name__}: {error}"]}) + "\n")
            lines.flush()
            time.sleep(PAUSE)


def end_readers(readers: list[BaseProcess], work: Path, states: list[list[str]], problems: list[str]) -> int:
    """Let the readers end, and look at what they saw; the number of answers."""
    (work / "stop").touch()
    for reader in readers:
        reader.join()
    known, answers = set(map(frozenset, states)), 0
    for file in work.glob("reader-*.jsonl"):
        for line in file.read_text().splitlines():
            try:
                seen: dict[str, Any] = json.loads(line)
            except ValueError:  # its writer was killed
                continue
            answers += 1
            problems += [f"a reader met {wrong}" for wrong in seen["wrong"]]
            if not seen["wrong"] and frozenset(seen["keys"]) not in known:
                problems.append(
                    f"an answer of a reader named {len(seen['keys'])} images that are no state of the index"
                )
    return answers


def ask(watch: Watch, ports: list[int], seed: int) -> None:
    """Ask about images that stay, until the end; each question until it is answered."""
    rng = np.random.default_rng(seed)
    with httpx.Client(timeout=PATIENCE) as http:
        while not watch.ended:
            time.sleep(rng.uniform(0, PAUSE))
            key = str(rng.choice(watch.kept))
            file = {"image": ("a.png", as_png(picture(number_of(key))))}
            end, port = time.monotonic() + PATIENCE, ports[rng.integers(2)]
            while True:
                try:
                    response = http.post(
                        f"http://127.0.0.1:{port}/v1/attribute", data={"timestep": 50, "top": 1}, files=file
                    )
                    why = (
                        ""
                        if response.status_code == 200
                        else f"{response.status_code} {response.json()['error']['code']}"
                    )
                except httpx.TransportError as error:
                    why = type(error).__name__
                if not why:
                    break
                watch.refused[why] += 1
                port = ports[1 - ports.index(port)]
                if time.monotonic() > end:
                    watch.problems.append(f"a question has no answer after {PATIENCE:g} s: {why}")
                    break
                time.sleep(0.05)
            if not why:
                watch.asked += 1
                first = response.json()["images"][0]["key"]
                if first != key and key in watch.kept:  # it may have been removed since it was asked about
                    watch.problems.append(f"a question about {key} was answered with {first}")


def wait_until_gone(work: Path, keys: list[str], problems: list[str]) -> float:
    """Wait until nothing of images is found; the seconds that this took."""
    start = time.monotonic()
    while found := search(work, keys):
        if time.monotonic() - start > DEADLINE:
            problems += [f"{what} of a removed image after {DEADLINE:g} s" for what in found]
            break
        time.sleep(0.05)
    return time.monotonic() - start


def search(work: Path, keys: list[str]) -> list[str]:
    """Search the index, and the stored answers, for images; what was found, and where."""
    marks = [(key, what, mark) for key in keys for what, mark in marks_of(key).items()]
    found = []
    for file in sorted(work.rglob("*")):
        if not file.is_file() or file.parent == work or file.suffix == ".log":
            continue
        try:
            data = file.read_bytes()
        except FileNotFoundError:  # it has just been erased
            continue
        found += [f"{what} of {key} in {file.relative_to(work)}" for key, what, mark in marks if mark in data]
    return found


def check_search(work: Path, keys: list[str]) -> None:
    """Make sure that the search finds what is there: of images that are kept, in the index and in stored answers."""
    found = {what.split(" of ")[0] for what in search(work, keys)}
    if not {"the key", "planes", "pixels"} <= found:
        raise AssertionError(
            f"the search finds only {sorted(found)} of images that are in the index, so it proves nothing"
        )


def marks_of(key: str) -> dict[str, bytes]:
    """What an image is known by on disk."""
    pixels = picture(number_of(key))
    return {
        "the key": key.encode(),
        "pixels": pixels.tobytes(),
        "planes": np.ascontiguousarray(pixels.transpose(2, 0, 1)).tobytes(),
        "the file": as_png(pixels),
    }


def picture(number: int) -> NDArray[np.uint8]:
    """One picture, like no other: uint8 [16, 16, 3]."""
    return np.random.default_rng(number).integers(0, 256, (16, 16, 3), np.uint8)


def as_png(pixels: NDArray[np.uint8]) -> bytes:
    """The file of a picture."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def name_of(number: int) -> str:
    """The key of a picture, which no other bytes are like."""
    return f"picture-{number:06d}-of-an-artist"


def number_of(key: str) -> int:
    """The number of a key."""
    return int(key.split("-")[1])


def make_source(path: Path, numbers: range) -> list[str]:
    """Make a Parquet file of pictures; their keys."""
    keys = [name_of(number) for number in numbers]
    files = [as_png(picture(number)) for number in numbers]
    pq.write_table(pa.table({"key": keys, "image": pa.array(files, pa.binary())}), path)
    return keys


if __name__ == "__main__":
    main()

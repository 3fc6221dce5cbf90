"""Two readers and one writer on one index: no error, and no answer from a mixed state.

    python -m benchmarks.readers --minutes 10

The writer adds, removes and compacts without a pause. Each reader opens the index, asks about all of it twice, about
other pictures, and closes it. Every answer must name exactly the images of one state that the writer committed, each
with its own pixels. Writes benchmarks/results/readers.md; exits with 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np

import nda_index as nda
from benchmarks.crash import ADDED, OPTIONS, START, make_source, picture
from benchmarks.machine import RESULTS, describe_machine

READERS = 2


def main() -> None:
    """Run readers and writer, then compare what they saw and did."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--quiet", action="store_true", help="do not write the results page")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        make_source(work / "0.parquet", range(START))
        nda.build_index(work / "0.parquet", work / "x.nda", **OPTIONS).close()
        seconds, context = 60 * arguments.minutes, get_context("spawn")
        jobs = [context.Process(target=write, args=(work, seconds))]
        jobs += [context.Process(target=read, args=(work, number, seconds)) for number in range(READERS)]
        for job in jobs:
            job.start()
        for job in jobs:
            job.join()
        states = [frozenset(keys) for keys in json.loads((work / "states.json").read_text())]
        seen = [json.loads((work / f"reader-{number}.json").read_text()) for number in range(READERS)]
    problems = [f"a process ended with {job.exitcode}" for job in jobs if job.exitcode]
    problems += [problem for reader in seen for problem in reader["problems"]]
    problems += [
        f"an answer named {len(keys)} images that are no state of the index"
        for reader in seen
        for keys in reader["answers"]
        if frozenset(keys) not in set(states)
    ]
    answers = sum(len(reader["answers"]) for reader in seen)
    page = (
        f"# Two readers and one writer\n\n`python -m benchmarks.readers --minutes {arguments.minutes:g}` on "
        f"{describe_machine()}.\n\n{len(states) - 1} changes were committed and {answers} answers given; "
        f"{len(set(map(frozenset, (keys for reader in seen for keys in reader['answers']))))} states were seen. "
        f"{len(problems)} problems.\n" + "".join(f"\n- {problem}" for problem in problems[:20])
    )
    print(page)
    if not arguments.quiet:
        (RESULTS / "readers.md").write_text(page)
    sys.exit(bool(problems) or answers == 0)


def write(work: Path, seconds: float) -> None:
    """Change the index for some time, at least once, and keep what it held after each change."""
    stop = time.time() + seconds  # from here on, not before: a process takes seconds to start
    rng, following = np.random.default_rng(0), START
    keys = [str(number) for number in range(START)]
    states = [list(keys)]
    (work / "states.json").write_text(json.dumps(states))
    while len(states) == 1 or time.time() < stop:
        keys = keys + make_source(work / "more.parquet", range(following, following + ADDED))
        following += ADDED
        nda.add_images(work / "x.nda", work / "more.parquet")
        states.append(list(keys))
        gone = rng.choice(keys, ADDED, replace=False).tolist()
        keys = [key for key in keys if key not in gone]
        nda.remove_images(work / "x.nda", keys=gone)
        states.append(list(keys))
        (work / "states.json").write_text(json.dumps(states))
        nda.compact(work / "x.nda")


def read(work: Path, number: int, seconds: float) -> None:
    """Ask for some time, at least once, and keep which images each answer named."""
    stop = time.time() + seconds
    answers: list[list[str]] = []
    problems: list[str] = []
    while not (answers or problems) or time.time() < stop:
        try:
            with nda.open_index(work / "x.nda") as index:
                for _ in range(2):
                    answer = index.attribute(picture(len(answers)), timestep=50, top=len(index), mode="exact")
                    answers.append(list(answer.keys))
                    for key, image in zip(answer.keys, answer.images, strict=True):
                        if not np.array_equal(image, picture(int(key))):
                            problems.append(f"{key} has other pixels")
        except nda.NdaIndexError as error:
            problems.append(f"{type(error).__name__}: {error}")
    (work / f"reader-{number}.json").write_text(json.dumps({"answers": answers, "problems": problems}))


if __name__ == "__main__":
    main()

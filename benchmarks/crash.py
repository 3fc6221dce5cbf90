"""Kill -9 at random moments of builds, adds, removals and compactions: does every index open, with what was committed?

    python -m benchmarks.crash --kills 200

After each kill another process looks at the index: it must open with the images of before or of after, every picture
must be the one that was put in and be found, and no file may be damaged; an interrupted build must be resumed to its
end.
A process that only imports is forked for each step, so that a step takes no time to start. Writes
benchmarks/results/crash.md; exits with 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

import nda_index as nda
from benchmarks.machine import RESULTS, describe_machine
from nda_index.indexing.pipeline import build
from nda_index.store.verify import verify

OPTIONS: dict[str, Any] = {"image_size": 16, "scales": [nda.Scale(5)], "null": 3}
START, ADDED = 40, 12  # images of a build, and of an add
PATIENCE = 120  # seconds that a look may take


def main() -> None:
    """Kill, look, and say what was found."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quiet", action="store_true", help="do not write the results page")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", "lancedb fork support")  # nothing of Lance runs in the process that is forked
    with tempfile.TemporaryDirectory() as folder:
        found = trials(Path(folder), arguments.kills, np.random.default_rng(arguments.seed))
    page = as_markdown(found, arguments.kills)
    print(page)
    if not arguments.quiet:
        (RESULTS / "crash.md").write_text(page)
    sys.exit(any(outcome.startswith("WRONG") for _, outcome in found))


def trials(work: Path, kills: int, rng: np.random.Generator) -> Counter[tuple[str, str]]:
    """Kill that many times; how often each operation ended in which way."""
    found: Counter[tuple[str, str]] = Counter()
    index = work / "x.nda"
    keys = make_source(work / "0.parquet", range(START))
    in_child(partial(build, work / "0.parquet", index, **OPTIONS))
    following, names = START, ["build", "add", "remove", "compact"]
    seconds = {name: 0.3 for name in names}
    for number in range(kills):
        name = names[number % 4] if len(keys) > 20 else "add"
        after = list(keys)
        if name == "add":
            after = keys + make_source(work / "more.parquet", range(following, following + ADDED))
            following += ADDED
            step: Callable[[], object] = partial(nda.add_images, index, work / "more.parquet")
        elif name == "remove":
            gone = rng.choice(keys, 5, replace=False).tolist()
            after = [key for key in keys if key not in gone]
            step = partial(nda.remove_images, index, keys=gone)
        elif name == "compact":
            step = partial(nda.compact, index)
        else:
            step = partial(build, work / "0.parquet", work / "y.nda", resume=True, **OPTIONS)
        killed, lasted = killed_child(step, rng.uniform(0, 1.2 * seconds[name]))
        if not killed:
            seconds[name] = lasted
        if name == "build":
            outcome = in_child(partial(look_at_build, work))
        else:
            outcome = in_child(partial(look, index, keys, after, number))
            keys = after if outcome == "after" else keys
        found[name, f"{outcome}{'' if killed else ', ended before'}"] += 1
    return found


def look(index: Path, before: list[str], after: list[str], seed: int) -> str:
    """Whether an index has the images of before or of after, all of them whole."""
    problems = [str(finding) for finding in verify(index) if finding.kind == "damage"]
    if problems:
        return f"WRONG: {problems[0]}"
    opened = nda.open_index(index)
    answer = opened.attribute(picture(int(before[0])), timestep=50, top=len(opened), mode="exact")
    keys = sorted(answer.keys)
    state = "after" if keys == sorted(after) else "before" if keys == sorted(before) else "WRONG: other images"
    for key, image in zip(answer.keys, answer.images, strict=True):
        if not np.array_equal(image, picture(int(key))):
            return f"WRONG: {key} has other pixels"
    key = keys[seed % len(keys)]
    if opened.attribute(picture(int(key)), timestep=20, top=1).keys != (key,):
        return f"WRONG: {key} is not found"
    return state


def look_at_build(work: Path) -> str:
    """Whether an interrupted build does not open, and is resumed to what it should be."""
    folder, state = work / "y.nda", "complete"
    try:
        nda.open_index(folder).close()
    except nda.NotAnIndexError:
        state = "resumed"
        build(work / "0.parquet", folder, resume=True, **OPTIONS)
    keys = [f"{number}" for number in range(START)]
    found = look(folder, keys, keys, 0)
    for path in sorted(folder.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    return state if found == "after" else found


def picture(number: int) -> NDArray[np.uint8]:
    """One picture, like no other: uint8 [16, 16, 3]."""
    coarse = np.random.default_rng(number).integers(0, 256, (4, 4, 3))
    return np.asarray(np.repeat(np.repeat(coarse, 4, axis=0), 4, axis=1), np.uint8)


def make_source(path: Path, numbers: range) -> list[str]:
    """A Parquet file of pictures, with their numbers as keys."""
    files = []
    for number in numbers:
        buffer = io.BytesIO()
        Image.fromarray(picture(number)).save(buffer, "PNG")
        files.append(buffer.getvalue())
    keys = [str(number) for number in numbers]
    pq.write_table(pa.table({"key": keys, "image": pa.array(files, pa.binary())}), path)
    return keys


def killed_child(step: Callable[[], object], delay: float) -> tuple[bool, float]:
    """Do a step in a child and kill it after some time; whether it was killed, and how long it lasted."""
    start = time.perf_counter()
    child = os.fork()
    if child == 0:
        try:
            step()
        finally:
            os._exit(0)
    while time.perf_counter() - start < delay:
        if os.waitpid(child, os.WNOHANG)[0]:
            return False, time.perf_counter() - start
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True, delay


def in_child(step: Callable[[], object]) -> str:
    """What a step returns, from a child; an error is WRONG."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(PATIENCE)
        try:
            text = str(step())
        except BaseException as error:
            text = f"WRONG: {type(error).__name__}: {error}"
        os.write(writer, text.encode()[:2000])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return text or f"WRONG: no answer within {PATIENCE} s"


def as_markdown(found: Counter[tuple[str, str]], kills: int) -> str:
    """The results page."""
    wrong = sum(count for (_, outcome), count in found.items() if outcome.startswith("WRONG"))
    lines = [
        "# Kill -9 at random moments",
        "",
        f"`python -m benchmarks.crash --kills {kills}` on {describe_machine()}.",
    ]
    lines += [f"{kills} kills, {wrong} wrong.", "", "| operation | what was found | times |", "|---|---|---|"]
    lines += [f"| {name} | {outcome} | {count} |" for (name, outcome), count in sorted(found.items())]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

"""Ask an index of a set's collection all queries of the set, and judge it by its own verdicts.

    python -m benchmarks.pictures.index FOLDER [--keep] [--every 9] [--sample 20 --seed 0]
    python -m benchmarks.pictures.index FOLDER --fill PARQUET --images 20000 --every 9

Prints a table and writes it to FOLDER/index.md (index-fill.md, index-sample-SEED.md), with what `estimate_build` said
beside the time of the build, bytes a picture, memory, and the rate of many questions beside single ones. `--fill` has
images of a Parquet file in the index too, none of which any query is about. `--sample` takes some of the pictures only,
and the queries that have a piece of these or of none. `--every` asks a part of the queries.
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import track

import nda_index as nda
from benchmarks.machine import describe_machine, peak_gib
from benchmarks.pictures.composites import Query
from benchmarks.pictures.judge import Answer, Candidate, as_markdown, judge, read_queries
from nda_index.query.many import ask_many

TOGETHER = 32  # questions that are asked together

console = Console()


def main() -> None:
    """Build, ask, judge."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--fill", type=Path)
    parser.add_argument("--images", type=int, default=20_000, help="of the index, with --fill")
    parser.add_argument("--sample", type=int, help="pictures of the collection that are taken")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="ask the index of the last run, do not build")
    options = parser.parse_args()
    name = "index-fill" if options.fill else f"index-sample-{options.seed}" if options.sample else "index"
    folder = options.folder / f"{name}.nda"
    files = sorted((options.folder / "collection").iterdir())
    queries = read_queries(options.folder)
    if options.sample:
        files = random.Random(options.seed).sample(files, options.sample)
        queries = [query for query in queries if query.key is None or query.key in {file.name for file in files}]
    queries = queries[:: options.every]
    lines = [] if options.keep and folder.exists() else build(files, folder, options.fill, options.images)
    with nda.open_index(folder) as index:
        index.attribute(options.folder / "queries" / queries[0].query)  # opens the windows, which takes its time
        answers = [ask(index, options.folder, query) for query in track(queries, "queries", console=console)]
        lines.append(compare_rates(index, [options.folder / "queries" / query.query for query in queries[:TOGETHER]]))
    lines.append(f"Memory of the questions: {peak_gib():.2f} GiB at most.")
    table = as_markdown(judge(queries, [answer for answer, _ in answers]))
    whole = statistics.median(answer.seconds for answer, _ in answers)
    regions = statistics.median(seconds for _, seconds in answers)
    lines.append(f"A question: {whole:.2f} s (median); its regions {regions:.2f} s, found beside the shares.")
    text = f"{describe_machine()}\n\n{table}\n" + "\n".join(lines) + "\n"
    (options.folder / f"{name}.md").write_text(text)
    console.print(text, markup=False)


def build(files: Sequence[Path], folder: Path, fill: Path | None, images: int) -> list[str]:
    """Build the index; lines that say what it took."""
    shutil.rmtree(folder, ignore_errors=True)
    spent: dict[str, float] = {}
    last = [time.perf_counter()]

    def note(stage: str, done: int, total: int) -> None:
        now = time.perf_counter()
        spent[stage] = spent.get(stage, 0.0) + now - last[0]
        last[0] = now

    def read() -> Iterator[tuple[str, Any]]:
        pictures: list[tuple[str, Any]] = [(file.name, file) for file in files]
        if fill is not None:
            rows = pq.read_table(fill, columns=["image"])["image"].slice(0, images - len(files))
            pictures += ((f"fill-{number:06d}", row.as_py()) for number, row in enumerate(rows))
            random.Random(0).shuffle(pictures)  # the estimate looks at the first
        yield from pictures

    estimate = nda.estimate_build(read, pictures=True)
    last[0] = started = time.perf_counter()
    with nda.build_index(read, folder, pictures=True, progress=note) as index:
        count = len(index)
    seconds = time.perf_counter() - started
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    null = sum(spent.get(stage, 0.0) for stage in ("null", "null of regions"))
    return [
        f"Build: {count} pictures in {seconds:.0f} s, {null:.0f} s of them for the nulls, which do not grow with the "
        f"collection; {count / (seconds - null):.1f} pictures/s without them. {size / count / 1000:.1f} KB a picture.",
        f"Estimated before: {estimate.seconds:.0f} s, {estimate.disk_bytes / count / 1000:.1f} KB a picture.",
    ]


def compare_rates(index: nda.Index, pictures: Sequence[Path]) -> str:
    """Ask several questions one by one and in a table together; a line that says what each took."""
    start = time.perf_counter()
    for picture in pictures:
        index.attribute(picture)
    middle = time.perf_counter()
    with TemporaryDirectory() as folder:
        questions = ((picture.name, picture) for picture in pictures)
        ask_many(questions, Path(folder) / "found.csv", {}, index.query, index.attribute_batch, lambda done: None)
    alone, together = middle - start, time.perf_counter() - middle
    return (
        f"{len(pictures)} questions: {alone / len(pictures):.2f} s each one by one, {together / len(pictures):.2f} s "
        f"together, {alone / together:.2f} times the rate."
    )


def ask(index: nda.Index, folder: Path, query: Query) -> tuple[Answer, float]:
    """Ask a query; the answer, and the seconds that its regions took."""
    started = time.perf_counter()
    answer = index.attribute(folder / "queries" / query.query)
    seconds = time.perf_counter() - started
    candidates: dict[str, Candidate] = {}
    for region in answer.regions:
        candidates.setdefault(region.key, Candidate(region.key, region.evidence, region.box))
    strong = bool(answer.regions) and answer.regions[0].strong
    return Answer(tuple(candidates.values()), strong, seconds), answer.seconds["regions"]


if __name__ == "__main__":
    main()

"""Ask an index of a set's collection all queries of the set, and judge it by its own verdicts.

    python -m benchmarks.pictures.index FOLDER [--fill PARQUET ...]

Prints a table and writes it to FOLDER/index.md, with the time of the build, bytes a picture, and memory. `--fill` adds
the images of Parquet files to the index, none of which any query is about.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import time
from pathlib import Path

from rich.console import Console
from rich.progress import track

import nda_index as nda
from benchmarks.machine import describe_machine, peak_gib
from benchmarks.pictures.composites import Query
from benchmarks.pictures.judge import Answer, Candidate, as_markdown, judge, read_queries

console = Console()


def main() -> None:
    """Build, ask, judge."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--fill", type=Path, nargs="*", default=[])
    parser.add_argument("--keep", action="store_true", help="ask the index of the last run, do not build")
    options = parser.parse_args()
    folder = options.folder / "index.nda"
    lines = [] if options.keep and folder.exists() else build(options.folder / "collection", folder, options.fill)
    queries = read_queries(options.folder)
    with nda.open_index(folder) as index:
        index.attribute(options.folder / "queries" / queries[0].query)  # opens the windows, which takes its time
        answers = [ask(index, options.folder, query) for query in track(queries, "queries", console=console)]
    lines.append(f"Memory of the questions: {peak_gib():.2f} GiB at most.")
    table = as_markdown(judge(queries, [answer for answer, _ in answers]))
    regions = statistics.median(seconds for _, seconds in answers)
    lines.append(f"A question: {regions:.2f} s (median) for its regions; the table has whole answers, shares too.")
    text = f"{describe_machine()}\n\n{table}\n" + "\n".join(lines) + "\n"
    (options.folder / "index.md").write_text(text)
    console.print(text, markup=False)


def build(collection: Path, folder: Path, fill: list[Path]) -> list[str]:
    """Build the index; lines that say what it took."""
    shutil.rmtree(folder, ignore_errors=True)
    spent: dict[str, float] = {}
    last = [time.perf_counter()]

    def note(stage: str, done: int, total: int) -> None:
        now = time.perf_counter()
        spent[stage] = spent.get(stage, 0.0) + now - last[0]
        last[0] = now

    started = time.perf_counter()
    with nda.build_index(collection, folder, progress=note) as index:
        count = len(index)
    seconds = time.perf_counter() - started
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    null = sum(spent.get(stage, 0.0) for stage in ("null", "null of regions"))
    lines = [
        f"Build: {count} pictures in {seconds:.0f} s, {null:.0f} s of them for the nulls, which do not grow with the "
        f"collection; {count / (seconds - null):.1f} pictures/s without them. {size / count / 1000:.1f} KB a picture.",
    ]
    for source in fill:
        nda.add_images(folder, source)
    return lines


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

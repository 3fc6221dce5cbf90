"""Ask a baseline all queries of a set, and judge it.

    python -m benchmarks.pictures.baseline FOLDER --with sift

Prints a table and writes it to FOLDER/sift.md. A baseline is a module with `build(collection)` and
`ask(state, picture)`; it has no verdict of its own, and is strong where it scores above the unrelated queries.
"""

from __future__ import annotations

import argparse
import importlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console
from rich.progress import track

from benchmarks.pictures.composites import Query
from benchmarks.pictures.judge import Answer, Candidate, as_markdown, from_null, judge, read_queries

BASELINES = ("sift", "thumbnail")

console = Console()


def main() -> None:
    """Judge the baseline that the command line names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--with", dest="name", choices=BASELINES, required=True)
    options = parser.parse_args()
    module = importlib.import_module(f"benchmarks.pictures.{options.name}")
    started = time.perf_counter()
    state = module.build(options.folder / "collection")
    console.print(f"built in {time.perf_counter() - started:.0f} s")
    queries = read_queries(options.folder)
    answers = ask_all(module.ask, state, options.folder, queries)
    table = as_markdown(judge(queries, from_null(queries, answers)))
    (options.folder / f"{options.name}.md").write_text(table)
    console.print(table, markup=False)


def ask_all(
    ask: Callable[[Any, Image.Image], list[Candidate]], state: Any, folder: Path, queries: list[Query]
) -> list[Answer]:
    """Ask all queries; the time leaves out how long a query's file takes to read."""
    answers = []
    for query in track(queries, "queries", console=console):
        with Image.open(folder / "queries" / query.query) as opened:
            picture = opened.convert("RGB")
        started = time.perf_counter()
        candidates = tuple(ask(state, picture))
        answers.append(Answer(candidates, False, time.perf_counter() - started))
    return answers


if __name__ == "__main__":
    main()

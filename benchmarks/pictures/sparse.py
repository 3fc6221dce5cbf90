"""The cells that a window looks at against all cells: what the sparse search leaves out of the evidence.

    python -m benchmarks.pictures.sparse FOLDER [--queries 60]

Asks the index that `benchmarks.pictures.index` built in FOLDER: its windows look for neighbours in 8 cells of their
inverted file, and then in all of them, which is the posterior's own definition. Prints a table and writes it to
FOLDER/sparse.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any
from unittest.mock import patch

import faiss
import numpy as np
from rich.console import Console
from rich.progress import track

from benchmarks.machine import describe_machine
from benchmarks.pictures.judge import read_queries
from nda_index.images import open_upright
from nda_index.pictures import placements
from nda_index.pictures.placements import find_placements
from nda_index.pictures.windows import ASKED, find_windows
from nda_index.query.shard import Shard

SEED = 0

console = Console()


def main() -> None:
    """Ask twice, compare."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--queries", type=int, default=60)
    options = parser.parse_args()
    catalogue = Shard(options.folder / "index.nda", "cpu").catalogue
    assert catalogue is not None
    queries = read_queries(options.folder)
    chosen = np.random.default_rng(SEED).choice(len(queries), min(options.queries, len(queries)), replace=False)
    globals_: Any = faiss.cvar
    statistics = globals_.indexIVF_stats  # counts the pairs that are compared
    ratios, same, shares, compared = [], [], [], np.zeros(2)
    for number in track(sorted(chosen.tolist()), "queries", console=console):
        windows = find_windows(open_upright(options.folder / "queries" / queries[number].query), ASKED)
        statistics.reset()
        few = find_placements([catalogue], windows)
        compared[0] += statistics.ndis
        with patch.object(placements, "PROBES", 1 << 30):
            statistics.reset()
            every = find_placements([catalogue], windows)
            compared[1] += statistics.ndis
        if not few or not every:
            continue
        ratios.append(few[0].odds / every[0].odds)
        same.append(few[0].picture == every[0].picture)
        shares.append(queries[number].key is not None)
    ratio, pieces = np.array(ratios), np.array(shares)
    rows = [("queries with a piece", pieces), ("unrelated queries", ~pieces)]
    lines = [
        describe_machine(),
        "",
        "| queries | number | same first picture | evidence, of that in all cells: median | lowest | highest |",
        "|---|---|---|---|---|---|",
    ]
    for name, these in rows:
        if these.any():
            part = ratio[these]
            lines.append(
                f"| {name} | {these.sum()} | {np.array(same)[these].mean():.2f} | {np.median(part):.3f} | "
                f"{part.min():.3f} | {part.max():.3f} |"
            )
    share = compared[0] / compared[1]
    lines += ["", f"Pairs of a window of the question and one of the collection that are compared: {share:.1%}."]
    text = "\n".join(lines) + "\n"
    (options.folder / "sparse.md").write_text(text)
    console.print(text, markup=False)


if __name__ == "__main__":
    main()

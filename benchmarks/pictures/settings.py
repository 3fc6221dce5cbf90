"""Ask a set with other settings of windows and search: what is found, and what the parts cost.

    python -m benchmarks.pictures.settings FOLDER [--indexed 320] [--asked 512] [--probes 8] [--points 1500]

Only placements are looked for, without shares, pixels and nulls, so that a setting is judged in minutes: a source is
strong where its evidence is above all but one of the unrelated queries. Times are of one core. Choose on the set
`choosing`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import cv2
import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track

from benchmarks.pictures.composites import AREAS, Query
from benchmarks.pictures.judge import read_queries
from nda_index.coarse.neighbours import assign_cells, train_centroids
from nda_index.images import open_upright
from nda_index.pictures import placements
from nda_index.pictures.catalogue import Catalogue, Members
from nda_index.pictures.cpu import HostLists
from nda_index.pictures.record import IndexedPicture
from nda_index.pictures.windows import ASKED, INDEXED, KINDS, Sampling, find_windows

console = Console()


class Found(NamedTuple):
    """The first placement of a query: its picture's key and evidence."""

    query: Query
    key: str | None
    odds: float


def main() -> None:
    """Index, ask, judge."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--indexed", type=int, default=INDEXED.side, help="pixels of an indexed picture's shorter side")
    parser.add_argument("--asked", type=int, default=ASKED.side, help="pixels of a question's shorter side")
    parser.add_argument("--points", type=int, default=ASKED.points, help="of a question")
    parser.add_argument("--grid", type=int, default=ASKED.quotas[0], help="grid windows of each width, of a question")
    parser.add_argument("--probes", type=int, default=placements.PROBES)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    sampling = replace(ASKED, side=options.asked, points=options.points, quotas=(options.grid,) * len(ASKED.quotas))
    files = sorted((options.folder / "collection").iterdir())
    start = time.process_time()
    catalogue = make_catalogue(files, replace(INDEXED, side=options.indexed))
    console.print(f"{(time.process_time() - start) / len(files) * 1000:.0f} ms for the windows of a picture, decoded")
    with patch.object(placements, "PROBES", options.probes):
        found = list(ask(catalogue, [file.name for file in files], options.folder, sampling))
    judge(found)


def make_catalogue(files: Sequence[Path], sampling: Sampling) -> Catalogue:
    """Put the windows of pictures into cells."""
    sizes, windows = [], []
    for file in track(files, "pictures", console=console):
        picture = open_upright(file).convert("RGB")
        sizes.append(picture.size)
        windows.append(find_windows(picture, sampling))
    members = {}
    for kind in KINDS:
        codes, frames = (
            np.concatenate([getattr(each[kind], name) for each in windows]) for name in ("codes", "frames")
        )
        owners = np.repeat(np.arange(len(windows), dtype=np.int32), [len(each[kind].codes) for each in windows])
        centroids = train_centroids(codes, len(codes))
        members[kind] = Members(HostLists(codes, assign_cells(codes, centroids), centroids, owners), owners, frames)

    def read(image_ids: Sequence[int]) -> list[IndexedPicture]:
        raise NotImplementedError("placements look at windows only")

    return Catalogue(np.array(sizes, np.int32), members, read)


def ask(catalogue: Catalogue, keys: Sequence[str], folder: Path, sampling: Sampling) -> Iterator[Found]:
    """Ask all queries, and print what a question's parts take."""
    spent = np.zeros(2)
    queries = read_queries(folder)
    for query in track(queries, "queries", console=console):
        picture = Image.open(folder / "queries" / query.query).convert("RGB")
        marks = [time.process_time()]
        windows = find_windows(picture, sampling)
        marks.append(time.process_time())
        best = next(iter(placements.find_placements([catalogue], windows)), None)
        spent += np.diff([*marks, time.process_time()])
        yield Found(query, keys[best.picture], best.odds) if best else Found(query, None, 0.0)
    of_windows, of_placements = spent / len(queries) * 1000
    console.print(f"{of_windows:.0f} ms for the windows of a question, {of_placements:.0f} ms for placements")


def judge(found: Sequence[Found]) -> None:
    """Print the share of sources that come first, and that are strong."""
    bound = sorted(one.odds for one in found if one.query.key is None)[-2]
    for area in (*AREAS, 1.0):
        group = [one for one in found if one.query.key is not None and abs(one.query.area - area) < 1e-3]
        right = [one for one in group if one.key == one.query.key]
        strong = sum(one.odds > bound for one in right)
        name = "whole pictures" if area == 1 else f"{area:.0%} of the area"
        console.print(
            f"{name}: {len(group)} queries, first {len(right) / len(group):.3f}, strong {strong / len(group):.3f}"
        )


if __name__ == "__main__":
    main()

"""The coarse stage beside nearest neighbours: FAISS's, and those of LanceDB's own vector index, on the same windows.

    python -m benchmarks.neighbours --index INDEX --tables FOLDER [--queries 4]

INDEX is one of cifar10_train.parquet or of its first images. LanceDB's tables are kept in the folder, and a run goes on
from what is there. Each scale by itself: its windows and its exact scores. Writes benchmarks/results/neighbours.md and
.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from lancedb.index import IvfSq
from numpy.typing import NDArray
from rich.console import Console

import nda_index as nda
from benchmarks.machine import RESULTS, SHARED, describe_machine, peak_gib
from benchmarks.recall import SHARES, TARGET, TIMESTEPS, kept
from nda_index.coarse.cells import Cells, decode
from nda_index.coarse.cpu_lists import CpuLists
from nda_index.coarse.ivf import POINTS_PER_LIST
from nda_index.coarse.probe import probe
from nda_index.coarse.storage import open_coarse, write_segment
from nda_index.coarse.trainer import KMEANS_ITERATIONS, train_encoder
from nda_index.coarse.windows import QueryWindows, query_windows
from nda_index.diffusion import NoiseSetting, noisy_images
from nda_index.exact.posterior import PosteriorSettings, score_views
from nda_index.exact.views import View
from nda_index.images import decode_image, to_float

NEIGHBOURS = (64, 256)  # of each window of the query
PROBED = 20  # cells in which neighbours are looked for: LanceDB's default
NOISES: tuple[NoiseSetting, ...] = ("none", "draw")

Search = Callable[[NDArray[np.float32], int], tuple[NDArray[np.float32], NDArray[np.int64]]]

console = Console(width=200)


@dataclass(frozen=True)
class Case:
    """The windows of a query as all ways look them up, the variance of its noise, and the exact scores."""

    timestep: int
    noise: str
    windows: QueryWindows
    variance: float
    exact: NDArray[np.float64]


def main() -> None:
    """Measure, then write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--index", type=Path, required=True)
    parser.add_argument("--tables", type=Path, required=True)
    parser.add_argument("--queries", type=int, default=4)
    arguments = parser.parse_args()
    index = nda.open_index(arguments.index)
    results: dict[str, Any] = {"machine": describe_machine(), "images": len(index), "queries": arguments.queries}
    results |= {"shares": list(SHARES), "probed": PROBED, "scales": {}}
    for scale, cells in zip(index.scales, open_coarse(index.path, index.manifest), strict=True):
        results["scales"][scale.name] = of_scale(index, scale, cells, arguments.tables / scale.name, arguments.queries)
    results["peak_gib"] = peak_gib()
    (RESULTS / "neighbours.json").write_text(json.dumps(results, indent=1) + "\n")
    (RESULTS / "neighbours.md").write_text(as_markdown(results))
    console.print(as_markdown(results))


def of_scale(index: nda.Index, scale: nda.Scale, cells: Cells, tables: Path, queries: int) -> dict[str, Any]:
    """Builds, recall and time at one scale."""
    cases = list(known_cases(index, scale, cells, queries))
    vectors, image_ids = all_windows(cells)
    lists, builds = len(cells.centroids), {}
    faiss_search, builds["FAISS IVF_SQ8"] = build_faiss(vectors, image_ids, lists)
    searches: dict[str, Search] = {"FAISS IVF_SQ8": faiss_search}
    searches["LanceDB IVF_SQ"], builds["LanceDB IVF_SQ"] = build_lancedb(vectors, image_ids, lists, tables)
    of_lists = builds["FAISS IVF_SQ8"]
    written = sum(file.stat().st_size for file in (index.path / "scales" / scale.name).iterdir())
    builds["coarse stage"] = {"seconds": of_lists["seconds"] + of_lists.pop("write_seconds"), "disk_bytes": written}
    rows = measure(cases, cells, searches, len(index))
    return {"windows": len(vectors), "dimensions": vectors.shape[1], "builds": builds, "rows": rows}


def known_cases(index: nda.Index, scale: nda.Scale, cells: Cells, queries: int) -> Iterator[Case]:
    """The first test images at every timestep, without noise and with one draw."""
    pixels = index.pixels(index.image_ids)
    table = pq.read_table(SHARED / "data" / "cifar10_test.parquet", columns=["image"])["image"]
    for row in table.slice(0, queries).to_pylist():
        query = decode_image(row["bytes"], (32, 32), 3)
        for timestep in TIMESTEPS:
            for noise in NOISES:
                noisy = noisy_images(to_float(query), timestep, noise)[0]
                windows = query_windows(cells.embedding, cells.stride, query, noisy, False)
                found = score_views(
                    [View(noisy, scale, 1.0)],
                    lambda: (to_float(pixels[i : i + 1024]) for i in range(0, len(pixels), 1024)),
                    len(pixels),
                    PosteriorSettings(backend="cpu"),
                    lambda done, total: None,
                )
                yield Case(timestep, noise, windows, noisy.sigma**2 / noisy.signal**2, found.scores)


def all_windows(cells: Cells) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The windows that the index holds, float32 [T, d], as its codes tell them, and their images."""
    total = int(cells.census.counts.sum())
    vectors, image_ids = np.empty((total, cells.centroids.shape[1]), np.float32), np.empty(total, np.int64)
    first = 0
    for segment in cells.segments:
        owners = np.repeat(np.arange(len(cells.centroids)), np.diff(segment.offsets))
        for i in range(0, len(owners), 1 << 18):
            some = slice(i, i + (1 << 18))
            part = decode(segment.codes[some], cells.centroids[owners[some]], cells.codebook)
            vectors[first : first + len(part)] = part
            image_ids[first : first + len(part)] = segment.image_ids[some]
            first += len(part)
    return vectors, image_ids


def build_faiss(
    vectors: NDArray[np.float32], image_ids: NDArray[np.int64], lists: int
) -> tuple[Search, dict[str, float]]:
    """The FAISS index that the coarse stage's lists are written from."""
    start = time.perf_counter()
    some = np.random.default_rng(0).choice(len(vectors), min(len(vectors), POINTS_PER_LIST * lists), replace=False)
    encoder = train_encoder(vectors[some], "sq8", lists)
    for i in range(0, len(vectors), 1 << 18):
        encoder.add(vectors[i : i + (1 << 18)], image_ids[i : i + (1 << 18)])
    built = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        write_segment(Path(folder) / "lists.arrow", encoder.segment())
    cost = {"seconds": built - start, "write_seconds": time.perf_counter() - built}
    cost["memory_bytes"] = len(vectors) * (vectors.shape[1] + 8)
    encoder.index.nprobe = PROBED
    return lambda queries, k: encoder.index.search(queries, k), cost


def build_lancedb(
    vectors: NDArray[np.float32], image_ids: NDArray[np.int64], lists: int, folder: Path
) -> tuple[Search, dict[str, float]]:
    """A table of the windows with an index of one byte a coordinate. All windows of a query are looked up in one call.

    `refine_factor`, which computes the neighbours' distances again from the table's vectors, finds no more for four to
    six times the time, and is left out.
    """
    width = vectors.shape[1]
    schema = pa.schema({"vector": pa.list_(pa.float32(), width), "image_id": pa.int32()})

    def batches() -> Iterator[pa.RecordBatch]:
        for i in range(0, len(vectors), 1 << 18):
            flat = pa.array(vectors[i : i + (1 << 18)].reshape(-1))
            ids = pa.array(image_ids[i : i + (1 << 18)].astype(np.int32))
            yield pa.record_batch([pa.FixedSizeListArray.from_arrays(flat, width), ids], schema=schema)

    database, kept_cost = lancedb.connect(folder), folder / "cost.json"
    if kept_cost.exists():
        table, cost = database.open_table("windows"), json.loads(kept_cost.read_text())
    else:
        config = IvfSq(num_partitions=lists, max_iterations=KMEANS_ITERATIONS, sample_rate=POINTS_PER_LIST)
        start = time.perf_counter()
        table = database.create_table("windows", batches(), schema=schema, mode="overwrite")
        inserted = time.perf_counter()
        table.create_index("vector", config=config)
        cost = {"seconds": time.perf_counter() - inserted, "insert_seconds": inserted - start}
        files = [file for file in folder.rglob("*") if file.is_file()]
        cost["disk_bytes"] = sum(file.stat().st_size for file in files if "_indices" in file.parts)
        cost["table_bytes"] = sum(file.stat().st_size for file in files if "_indices" not in file.parts)
        kept_cost.write_text(json.dumps(cost))

    def search(queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        request: Any = table.search(queries, vector_column_name="vector").select(["image_id", "_distance"])
        found = request.nprobes(PROBED).limit(k).to_arrow()
        distances, ids = np.full((len(queries), k), np.inf, np.float32), np.zeros((len(queries), k), np.int64)
        owners = found["query_index"].to_numpy()
        order = np.argsort(owners, kind="stable")
        owners = owners[order]
        column = np.arange(len(owners)) - np.searchsorted(owners, owners)
        distances[owners, column] = found["_distance"].to_numpy()[order]
        ids[owners, column] = found["image_id"].to_numpy()[order]
        return distances, ids

    return search, cost


def measure(cases: list[Case], cells: Cells, searches: dict[str, Search], count: int) -> list[dict[str, Any]]:
    """Recall and time of all ways, side by side for each case."""
    for search in searches.values():
        search(cases[0].windows.vectors, NEIGHBOURS[0])  # opens
    probe(CpuLists(cells), cases[0].windows, count, allowed=None)  # compiles
    rows = []
    for case in cases:
        windows = case.windows
        label = {"timestep": case.timestep, "noise": case.noise}
        start = time.perf_counter()
        votes = probe(CpuLists(cells), windows, count, allowed=None).votes
        seconds = time.perf_counter() - start
        rows.append({"way": "coarse stage", "seconds": seconds} | label | kept(case.exact, votes))
        for name, search in searches.items():
            for k in NEIGHBOURS:
                start = time.perf_counter()
                distances, ids = search(windows.vectors, k)
                votes = neighbour_votes(distances, ids, windows.weights, case.variance, count)
                seconds = time.perf_counter() - start
                way = f"{name}, {k} neighbours"
                rows.append({"way": way, "seconds": seconds} | label | kept(case.exact, votes))
    return rows


def neighbour_votes(
    distances: NDArray[np.float32],
    ids: NDArray[np.int64],
    weights: NDArray[np.float64],
    variance: float,
    count: int,
) -> NDArray[np.float64]:
    """Softmax over each window's neighbours [W, k], summed per image."""
    nearest = distances.min(axis=1, keepdims=True).astype(np.float64)
    masses = np.exp(-(distances - nearest) / (2 * variance))  # [W, k]
    masses *= (weights / masses.sum(axis=1))[:, None]
    votes = np.bincount(np.maximum(ids, 0).reshape(-1), np.where(ids < 0, 0.0, masses).reshape(-1), minlength=count)
    return np.asarray(votes, np.float64)


def as_markdown(results: dict[str, Any]) -> str:
    """The results page."""
    lines = ["# The coarse stage and nearest neighbours", ""]
    lines += [f"`python -m benchmarks.neighbours` on {results['machine']}. {results['images']:,} CIFAR-10 images,"]
    lines += [
        f"{results['queries']} queries that are not among them. All ways look up the same windows of the query and"
    ]
    lines += [
        "are compared with the exact scores of all images, at each scale by itself. Neighbours: softmax weights of"
    ]
    lines += ["each window's nearest windows, summed per image, from"]
    lines += [f"{results['probed']} cells of as many as the coarse stage has; a query in one call.", ""]
    for name, scale in results["scales"].items():
        lines += of_scale_lines(name, scale)
    lines += ["Builds are from embedded windows on, training included. The coarse stage's lists are those that FAISS"]
    lines += ["builds, written to disk with the moments of the cells. All train k-means with 64 windows a cell, 10"]
    lines += ["iterations.", "", "## All figures", ""]
    lines += ["Recall of the exact top 100 by share of the images kept, then of the top 10.", ""]
    shares = "".join(f" {share:.1%} |" for share in results["shares"])
    lines += [f"| scale | way | t | noise |{shares} top 10:{shares}", "|---" * (4 + 2 * len(results["shares"])) + "|"]
    for name, scale in results["scales"].items():
        for way in ways_of(scale["rows"]):
            for noise in NOISES:
                for t in TIMESTEPS:
                    both = [mean(scale["rows"], key, way, noise, t) for key in ("recall_100", "recall_10")]
                    cells = " | ".join(f"{value:.2f}" for value in np.concatenate(both))
                    lines.append(f"| {name} | {way} | {t} | {noise} | {cells} |")
    return "\n".join(lines) + "\n"


def of_scale_lines(name: str, scale: dict[str, Any]) -> Iterator[str]:
    """The page's part on one scale."""
    rows = scale["rows"]
    yield from (f"## Scale {name}", "", f"{scale['windows']:,} windows of {scale['dimensions']} dimensions.", "")
    for noise in NOISES:
        yield from (f"Recall of the exact top 100 with 5% of the images kept, by timestep. Noise: {noise}.", "")
        yield "| way |" + "".join(f" t = {t} |" for t in TIMESTEPS) + " median s |"
        yield "|---" * (len(TIMESTEPS) + 2) + "|"
        for way in ways_of(rows):
            recall = " | ".join(f"{mean(rows, 'recall_100', way, noise, t)[TARGET]:.2f}" for t in TIMESTEPS)
            seconds = np.median([row["seconds"] for row in rows if row["way"] == way and row["noise"] == noise])
            yield f"| {way} | {recall} | {seconds:.2f} |"
        yield ""
    yield from ("| what | build, s | size |", "|---|---|---|")
    for what, cost in scale["builds"].items():
        place = "memory" if "memory_bytes" in cost else "disk"
        size = f"{cost[f'{place}_bytes'] / 2**20:,.0f} MiB " + ("in memory" if place == "memory" else "on disk")
        if "table_bytes" in cost:
            size += f", and the windows themselves {cost['table_bytes'] / 2**20:,.0f} MiB"
        yield f"| {what} | {cost['seconds']:.0f} | {size} |"
    yield ""


def ways_of(rows: list[dict[str, Any]]) -> list[str]:
    """The ways that were measured, in order."""
    return list(dict.fromkeys(row["way"] for row in rows))


def mean(rows: list[dict[str, Any]], key: str, way: str, noise: str, timestep: int) -> NDArray[np.float64]:
    """A figure of each share kept, mean over queries."""
    label = (way, noise, timestep)
    mine = [row[key] for row in rows if (row["way"], row["noise"], row["timestep"]) == label]
    return np.asarray(np.mean(mine, axis=0), np.float64)


if __name__ == "__main__":
    main()

"""Latents: the shortlist against exact scores, and what a build and a question cost.

    python -m benchmarks.latents [--images 5000] [--queries 6]

The latents are made of Tiny ImageNet, 64 x 64, by a fixed random linear map of its 2 x 2 blocks to four channels of
deviation about 1: they have a picture's neighbourhoods, and are not those of a trained encoder. Queries are of the
validation set. Reads ../shared/data; writes benchmarks/results/latents.md.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

import nda_index as nda
from benchmarks.machine import RESULTS, SHARED, describe_machine
from nda_index.images import decode_image

CHANNELS = 4
BLOCK = 2  # pixels of a side that become one place
DEVIATION = 0.5  # of the blocks along an axis: the scaling factor of this encoder is one over it
TOP = 100
SETTINGS: dict[str, dict[str, Any]] = {
    "recipe `models`": {"recipe": "models"},
    "`timestep=100`": {"timestep": 100},
    "`timestep=400`": {"timestep": 400},
}

console = Console(width=160)


def main() -> None:
    """Measure, then write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=5_000)
    parser.add_argument("--queries", type=int, default=6)
    arguments = parser.parse_args()
    latents = encode(read_tiny("train", arguments.images))
    queries = encode(read_tiny("val", arguments.queries))
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        index = nda.build_index(latents, Path(folder, "latents.nda"), latents=True)
        built = time.perf_counter() - start
        rows = [measure(index, queries, name, options) for name, options in SETTINGS.items()]
    page = as_markdown(latents.shape, float(latents.std(dtype=np.float64)), built, len(queries), rows)
    console.print(page)
    (RESULTS / "latents.md").write_text(page)


def read_tiny(part: str, count: int) -> NDArray[np.uint8]:
    """Read pictures of a part of Tiny ImageNet from all over the file: uint8 [count, 64, 64, 3]."""
    column = pq.read_table(SHARED / "data" / f"tinyimagenet50_{part}.parquet", columns=["image"])["image"]
    chosen = np.linspace(0, len(column) - 1, count).astype(int)
    rows = column.take(chosen).to_pylist()
    return np.stack([decode_image(data, (64, 64), 3).transpose(1, 2, 0) for data in rows])


def encode(pictures: NDArray[np.uint8]) -> NDArray[np.float16]:
    """Map pictures uint8 [N, H, W, 3] to latents float16 [N, 4, H / 2, W / 2], whose deviation is about 1."""
    count, height, width, colours = pictures.shape
    blocks = pictures.reshape(count, height // BLOCK, BLOCK, width // BLOCK, BLOCK, colours) / np.float32(
        127.5
    ) - np.float32(1)
    blocks = blocks.transpose(0, 1, 3, 2, 4, 5).reshape(count, height // BLOCK, width // BLOCK, -1)  # [N, h, w, 12]
    rng = np.random.default_rng(0)
    axes, _ = np.linalg.qr(rng.normal(size=(blocks.shape[-1], CHANNELS)))  # [12, 4]
    return np.asarray((blocks @ axes / DEVIATION).transpose(0, 3, 1, 2), np.float16)


def measure(index: nda.Index, queries: NDArray[np.float16], name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Compare the shortlist with exact scores, and time both."""
    index.attribute(queries[0], **options)  # compiles
    recalls, kept, errors, fast, slow = [], [], [], [], []
    for query in track(queries, name, console=console):
        start = time.perf_counter()
        exact = index.scores([query], **options)[0]
        slow.append(time.perf_counter() - start)
        start = time.perf_counter()
        answer = index.attribute(query, top=10, **options)
        fast.append(time.perf_counter() - start)
        scored = index.scores([query], mode="ann", **options)[0] > 0
        best = np.argsort(-exact)[:TOP]
        recalls.append(scored[best].mean())
        kept.append(answer.scored)
        truth = exact[scored].sum() / exact.sum()
        errors.append(abs(answer.mass_covered - truth) <= 1.96 * answer.mass_error + 0.005)
    return {
        "name": name, "recall": np.mean(recalls), "kept": np.median(kept), "covered": np.mean(errors),
        "seconds": np.median(fast), "exact": np.median(slow),
    }  # fmt: skip


def as_markdown(
    shape: tuple[int, ...], deviation: float, built: float, queries: int, rows: list[dict[str, Any]]
) -> str:
    """Write the page."""
    kind = " x ".join(map(str, shape[1:]))
    lines = [
        "# Latents",
        "",
        f"`python -m benchmarks.latents`: {describe_machine()}. The machine did other work at the same time, so times "
        "are",
        "upper bounds.",
        "",
        f"{shape[0]:,} latents of {kind}, standard deviation {deviation:.2f}, made of Tiny ImageNet by a fixed random",
        "linear map of 2 x 2 blocks. These are not the latents of a trained encoder. "
        f"{queries} queries are made of its validation set.",
        f"The build took {built:.0f} s.",
        "",
        "| question | kept, median | recall of the exact top 100 | `mass_covered` within 1.96 of its errors | seconds, "
        "median | scoring all, seconds |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['name']} | {row['kept']:,.0f} | {row['recall']:.3f} | {row['covered']:.0%} | {row['seconds']:.2f} | "
        f"{row['exact']:.1f} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

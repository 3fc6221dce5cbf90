"""Hidden sources: pictures of other classes among CIFAR-10, and how well each recipe finds those of a query's class.

    python -m benchmarks.retrieval [--images 5000] [--classes 10] [--each 40] [--queries 3]

A second judge beside the models of benchmarks.lds: the training images of a class of Tiny-ImageNet are hidden among
CIFAR-10 images, and pictures of that class from its validation set are the queries. Average precision and recall at as
many images as are hidden of all classes together. Every image is scored exactly. Reads ../shared/data; writes
benchmarks/results/retrieval.md and .json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.machine import RESULTS, SHARED, describe_machine
from benchmarks.setting import read_pictures
from nda_index.evaluate.lds import mean_with_interval
from nda_index.evaluate.methods import Method, embedding_cosine, pixel_cosine, random_scores, recipe_scores
from nda_index.images import decode_image
from nda_index.recipe import RECIPES

console = Console(width=160)


def main() -> None:
    """Measure, then write."""
    parser = argparse.ArgumentParser()
    for name, default in {"images": 5000, "classes": 10, "each": 40, "queries": 3}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    hidden, labels = read_classes("train", options.classes, options.each)
    queries, wanted = read_classes("val", options.classes, options.queries)
    collection = np.concatenate([read_pictures("train", 0, options.images), hidden])
    of_class = np.concatenate([np.full(options.images, -1), labels])
    methods: dict[str, Method] = {f"recipe {name}": partial(recipe_scores, recipe=name) for name in RECIPES}
    methods |= {
        "cosine of the pixels": pixel_cosine,
        "cosine of 16 x 16 colours": small_cosine,
        "random": random_scores,
    }
    rows = {name: judge(method, collection, of_class, queries, wanted) for name, method in methods.items()}
    results = {"machine": describe_machine(), **vars(options), "rows": rows}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "retrieval.json").write_text(json.dumps(results, indent=1) + "\n")
    (RESULTS / "retrieval.md").write_text(as_markdown(results))
    console.print(as_markdown(results))


def read_classes(part: str, classes: int, each: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read the first pictures of the first classes, uint8 [n, 32, 32, 3], and their labels."""
    table = pq.read_table(SHARED / "data" / f"tinyimagenet50_{part}.parquet", columns=["image", "label"])
    labels = table["label"].to_numpy()
    chosen = np.concatenate([np.flatnonzero(labels == label)[:each] for label in np.unique(labels)[:classes]])
    rows = table["image"].take(chosen).to_pylist()
    pictures = [decode_image(row if isinstance(row, bytes) else row["bytes"], (32, 32), 3) for row in rows]
    return np.stack(pictures).transpose(0, 2, 3, 1), labels[chosen]


def small_cosine(train: NDArray[np.uint8], queries: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Score by the cosine of colours averaged over 2 x 2 pixels, less each channel's mean."""
    return embedding_cosine(train, queries, _shrink)


def _shrink(pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
    small = pictures.reshape(len(pictures), 16, 2, 16, 2, 3).mean(axis=(2, 4))  # [n, 16, 16, 3]
    return np.asarray((small - small.mean(axis=(1, 2), keepdims=True)).reshape(len(pictures), -1), np.float64)


def judge(
    method: Callable[[NDArray[np.uint8], NDArray[np.uint8]], NDArray[np.float64]],
    collection: NDArray[np.uint8],
    of_class: NDArray[np.int64],
    queries: NDArray[np.uint8],
    wanted: NDArray[np.int64],
) -> dict[str, Any]:
    """Rank the collection for every query."""
    start = time.perf_counter()
    scores = method(collection, queries)
    seconds = time.perf_counter() - start
    depth = int((of_class >= 0).sum())
    precision, recall = [], []
    for row, label in zip(scores, wanted, strict=True):
        right = (of_class == label)[np.argsort(-row, kind="stable")]
        precision.append(float((np.cumsum(right) / np.arange(1, len(right) + 1))[right].mean()))
        recall.append(float(right[:depth].sum() / right.sum()))
    return {
        "average precision": str(mean_with_interval(np.array(precision))),
        f"recall@{depth}": str(mean_with_interval(np.array(recall))),
        "seconds": round(seconds, 1),
    }


def as_markdown(results: dict[str, Any]) -> str:
    """Write the results page."""
    hidden = results["classes"] * results["each"]
    lines = ["# Hidden sources", ""]
    options = " ".join(f"--{name} {results[name]}" for name in ("images", "classes", "each", "queries"))
    lines += [
        f"`python -m benchmarks.retrieval {options}` on {results['machine']}.",
        f"{hidden} images of {results['classes']} classes of Tiny-ImageNet among {results['images']:,} CIFAR-10",
        f"images, all at 32 x 32; {results['queries']} queries a class, from its validation set. An image is right if",
        "it is of the query's class. 95% bootstrap intervals over queries. The two sets differ in their JPEG quality,",
        "which any method may use.",
        "",
    ]
    columns = list(next(iter(results["rows"].values())))
    lines += ["| method | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(str(row[c]) for c in columns) + " |" for name, row in results["rows"].items()]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()

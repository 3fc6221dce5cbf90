"""A question from the picture to its answer, about 1,000,000 images: all that an open index does, but reading files.

    python -m benchmarks.gpu.question            # some two minutes on a card
    python -m benchmarks.gpu.question --tiny     # on the CPU, kernels by Triton's interpreter

The collection is made up and lies in memory: its pixels, and lists of the default recipe's scales whose patches the
card has encoded. Answers come from the code of `Index.attribute`, which needs Numba, PyArrow and OpenCV, but neither
LanceDB nor FAISS. First a few images are asked about on the card and on the CPU, and the answers compared.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import time
import types
from collections.abc import Sequence
from functools import partial
from statistics import median
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from benchmarks.gpu.bare import interpret_without_card

interpret_without_card()
if importlib.util.find_spec("lancedb") is None:
    sys.modules["lancedb"] = types.ModuleType("lancedb")  # what reads tables is imported, and not used

from benchmarks.gpu.build import SCALES, SEGMENT, STRIDE, choose_cells  # noqa: E402
from benchmarks.gpu.pictures import make_pictures  # noqa: E402
from benchmarks.gpu.report import (  # noqa: E402
    DEVICE,
    SIZES,
    TINY,
    Report,
    Sizes,
    describe_device,
    print_table,
    time_it,
    wait,
)
from nda_index.answer.attribution import Attribution  # noqa: E402
from nda_index.coarse.block_encoder import BlockEncoder  # noqa: E402
from nda_index.coarse.blocks import BlockRunner  # noqa: E402
from nda_index.coarse.cells import Cells  # noqa: E402
from nda_index.coarse.probe import DEFAULT_PROBES  # noqa: E402
from nda_index.exact import gpu  # noqa: E402
from nda_index.exact.resident import ResidentPixels  # noqa: E402
from nda_index.images import Pixels  # noqa: E402
from nda_index.query.attribute import attribute  # noqa: E402
from nda_index.query.conversation import Collection  # noqa: E402
from nda_index.query.local import LocalShards  # noqa: E402
from nda_index.query.shard import HOST_BYTES, Shard, pixel_budget  # noqa: E402
from nda_index.question import Query, as_question  # noqa: E402
from nda_index.scales import parse_scale  # noqa: E402
from nda_index.trust.null import Null, choose_evidence_scales  # noqa: E402

BLOCK = 4096  # images that are encoded at a time
SHOWN = 10  # images of an answer
COMPARED = 2_000  # images of the collection that the CPU is asked about too
PARTS = {"coarse": (("embed", "probe"), 30.0), "pixels": (("fetch",), 15.0)}  # stages, and milliseconds for them
OTHERS = ("exact", "coverage", "maps", "verdict")  # stages that have no target of their own
MILLISECONDS = 100.0  # of an answer
OPTIONS: dict[str, dict[str, Any]] = {  # of questions that are compared; all but the first on a card only
    "": {},
    ", mirror images": {"mirror": True},
    ", two draws": {"timestep": 100, "noise": "average", "draws": 2},
    ", four windows of an image": {"timestep": 100, "per_image_topk": 4},
}
LARGEST_ERROR = 2e-3  # of a score, as everywhere


class MemoryCorpus:
    """Images in memory, with their numbers as keys."""

    def __init__(self, images: Pixels) -> None:
        self._images, self.count = images, len(images)
        self.shape = (images.shape[1], images.shape[2], images.shape[3])
        self.schema = self.metadata_schema = pa.schema([])

    def pixels(self, image_ids: NDArray[np.int64]) -> Pixels:
        """Return the pixels of some images."""
        return np.asarray(self._images[image_ids])

    def rows(self, image_ids: NDArray[np.int64]) -> tuple[tuple[str, ...], pa.Table]:
        """Return the keys of some images, and a table without columns."""
        rows = pa.table({"none": np.empty(len(image_ids))}).select([])
        return tuple(str(number) for number in image_ids.tolist()), rows

    def pictures(self, image_ids: NDArray[np.int64]) -> list[bytes | None]:
        """Return no pictures."""
        return [None] * len(image_ids)


class MemoryShard(Shard):
    """A shard without a folder; all of its images are where they are scored."""

    shows_pictures = False

    def __init__(self, images: Pixels, coarse: tuple[Cells, ...], backend: str) -> None:
        """Take images uint8 [N, C, H, W] and their lists; with the backend "gpu" put both on the card."""
        self.corpus = MemoryCorpus(images)  # type: ignore[assignment]
        self.scales, self.coarse, self.backend = tuple(parse_scale(name) for name in SCALES), coarse, backend
        self.present = np.ones(len(images), np.bool_)
        self._opening, self._lists, self._resident = Lock(), None, None
        if backend == "gpu":
            read, shape = self.corpus.pixels, self.corpus.shape
            budgets = pixel_budget(gpu.DEVICE), HOST_BYTES
            self._resident = ResidentPixels(read, len(images), shape, gpu.DEVICE, *budgets)
            for ids in np.array_split(np.arange(len(images)), -(-len(images) // BLOCK)):
                self.pixels(ids, on_gpu=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make a collection, compare, ask, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.question", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, for the interpreter")
    parser.add_argument("--images", type=int, help="instead of 1,000,000")
    parser.add_argument("--seconds", type=float, default=240.0, help="begin no section after so many seconds")
    parser.add_argument("--out", default=os.environ.get("OUT"), help="folder for question.json")
    options = parser.parse_args(arguments)
    sizes = TINY if options.tiny else SIZES
    report = Report(time.monotonic() + options.seconds)
    print(f"{describe_device()}, torch {torch.__version__}")
    if DEVICE.type == "cpu":  # let it pass for a card
        gpu.DEVICE, gpu.available = "cpu", lambda: True
    count = options.images or (sizes.built if options.tiny else sizes.coarse)
    side = 10 if options.tiny else sizes.size
    pictures = make_pictures(count + sizes.repeats, 3, side).cpu().numpy()
    images, queries = pictures[:count], pictures[count:]
    report.section("compare", lambda: compare(report, sizes, images[:COMPARED], queries[0]))
    report.section("ask", lambda: ask_many(report, sizes, images, queries))
    print_table(report)
    report.write(options.out, "question.json")
    return 1 if report.errors else 0


def compare(report: Report, sizes: Sizes, images: Pixels, query: Pixels) -> None:
    """Ask the card and the CPU about a few images, and compare the answers.

    The shortlist has half of the images, so that both sample the same of the rest, and 2,000 have more than a sample.
    """
    coarse = make_lists(images, min(sizes.cells, 256))
    collections = [make_collection(MemoryShard(images, coarse, name)) for name in ("cpu", "gpu")]
    candidates = max(SHOWN, min(1_000, len(images) // 2))
    for label, options in OPTIONS.items() if DEVICE.type == "cuda" else list(OPTIONS.items())[:1]:
        here, there = (ask(collection, query, candidates=candidates, **options) for collection in collections)
        compare_answers(report, f"the card beside the CPU, {len(images):,} images{label}", here, there)
    if DEVICE.type == "cuda":  # the interpreter's times say nothing
        cpu, card = (time_it(partial(ask, collection, query), 3) for collection in collections)
        report.add(f"a question to {len(images):,} images", ms=card * 1e3, on_the_cpu=cpu * 1e3, cores=os.cpu_count())


def compare_answers(report: Report, name: str, here: Attribution, there: Attribution) -> None:
    """Compare the answers of the CPU and of the card."""
    scores = dict(zip(here.image_ids.tolist(), here.scores.tolist(), strict=True))
    both = [(score, scores[i]) for i, score in zip(there.image_ids.tolist(), there.scores.tolist(), strict=True)
            if i in scores]  # fmt: skip
    error = max((abs(a - b) / max(b, 1.0) for a, b in both), default=np.inf)
    covered = abs(there.mass_covered - here.mass_covered)
    report.add(
        name,
        error=error,
        mass_covered=covered,
        mass_error=there.mass_error,
        alike=len(both),
        of=len(scores),
        **backends(there),
    )
    if set(backends(there).values()) != {"gpu"}:
        report.errors[f"{name}, by"] = f"the card has not computed all of it: {backends(there)}"
    if not (error < LARGEST_ERROR and covered < LARGEST_ERROR and len(both) >= 0.9 * len(scores)):
        report.errors[name] = f"{len(both)} images of {len(scores)} are the same, and scores differ by {error:.2g}"


def ask_many(report: Report, sizes: Sizes, images: Pixels, queries: Pixels) -> None:
    """Time questions about all images, and their stages."""
    begin = time.perf_counter()
    shard = MemoryShard(images, make_lists(images, sizes.cells), "gpu")
    collection = make_collection(shard)
    report.add("the collection", seconds=time.perf_counter() - begin)
    if DEVICE.type == "cuda":
        ask(collection, queries[0])  # the first call is slower than any other
    seconds, answers = [], []
    for query in queries:
        wait()
        begin = time.perf_counter()
        answers.append(ask(collection, query))
        seconds.append(time.perf_counter() - begin)
    name, last = f"a question to {len(images):,} images", answers[-1]
    stages = {stage: median(a.seconds.get(stage, 0.0) for a in answers) * 1e3 for stage in OTHERS}
    report.add(
        name, ms=median(seconds) * 1e3, target=MILLISECONDS, scored=last.scored, mass_covered=last.mass_covered,
        **stages, **backends(last),
    )  # fmt: skip
    for part, (names, target) in PARTS.items():
        spent = [sum(answer.seconds.get(stage, 0.0) for stage in names) for answer in answers]
        report.add(f"  {part}", ms=median(spent) * 1e3, target=target)
    if any(set(backends(answer).values()) != {"gpu"} for answer in answers):
        report.errors[name] = f"the card has not computed all of it: {[backends(answer) for answer in answers]}"


def ask(collection: Collection, query: Pixels, **options: Any) -> Attribution:
    """Answer a question with the default recipe, and options of `Index.attribute`."""
    return attribute(collection, Query(query, as_question(**options), top=SHOWN))


def backends(answer: Attribution) -> dict[str, object]:
    """Return what computed an answer."""
    return {name: answer.settings[name] for name in ("backend", "coarse_backend")}


def make_collection(shard: MemoryShard) -> Collection:
    """Open a shard for questions, with a null that is made up."""
    null = Null(np.linspace(0.0, 0.3, 199), choose_evidence_scales(shard.corpus.shape[1:], shard.scales))
    return Collection(LocalShards([shard]), shard.scales, null, np.empty(0), DEFAULT_PROBES, None, "")


def make_lists(images: Pixels, cells: int) -> tuple[Cells, ...]:
    """Encode the patches of images uint8 [N, C, H, W] on the card, in segments as a build writes them."""
    made = []
    for name in SCALES:
        trained = choose_cells(torch.from_numpy(images[:BLOCK]), name, min(cells, len(images)))
        centroids, codebook = trained.centroids.cpu().numpy(), trained.codebook.cpu().numpy()
        runner = BlockRunner(DEVICE)
        segments = []
        for begin in range(0, len(images), SEGMENT):
            encoder = BlockEncoder(trained.embedding, STRIDE, centroids, codebook, runner)
            for first in range(begin, min(begin + SEGMENT, len(images)), BLOCK):
                ids = np.arange(first, min(first + BLOCK, begin + SEGMENT, len(images)))
                encoder.add_images(images[ids[0] : ids[-1] + 1], ids)
            segments.append(encoder.segment())
        if runner.on_cpu:
            raise RuntimeError(f"the card has not encoded all patches: {runner.describe()}")
        made.append(Cells(trained.embedding, STRIDE, centroids, codebook, tuple(segments)))
    return tuple(made)


if __name__ == "__main__":
    sys.exit(main())

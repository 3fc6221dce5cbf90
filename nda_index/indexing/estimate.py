"""What a build is expected to need: time, memory and disk, from a sample of the source that is timed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from nda_index.coarse.embedding import embed, fit_embedding
from nda_index.coarse.ivf import POINTS_PER_LIST, list_count
from nda_index.coarse.trainer import KMEANS_ITERATIONS, time_assignment
from nda_index.images import Pixels
from nda_index.indexing.missing import list_first
from nda_index.indexing.plan import EMBEDDED_DIMENSIONS, SEGMENT_BYTES, ScalePlan, describe_plan
from nda_index.pictures.null import WAYS
from nda_index.pictures.record import RECORD
from nda_index.sources import Describe, Failure, OpenSource, RawImage, read_batches
from nda_index.trust.duplicates import find_best_unrelated
from nda_index.trust.null import BEST, choose_evidence_scales

SAMPLE = 512  # images that are read, at most
ROUND = 64  # images of a pass over the whole source
IN_PLACE = ("array", "folder", "images", "npy", "npz")  # kinds of sources that give an image without reading others
SAMPLE_PICTURES = 8  # that are read at a time where each is described; all images at once otherwise
SAMPLE_SECONDS = 5.0  # after which no more are read
ROW_BYTES = 100  # of an image in the table, apart from its pixels: key, hashes and what Lance adds
PROCESS_BYTES = 600 << 20  # Python, torch, FAISS and Lance without any image
ASKED_COST = 3.0  # of asking a picture for its regions, beside reading one


@dataclass(frozen=True)
class Estimate:
    """What a build is expected to need.

    Attributes:
        images: number of images in the source.
        patches: number of patches over all scales.
        disk_bytes: size of the index.
        memory_bytes: peak memory of the build.
        served_bytes: of lists that an open index maps to memory.
        seconds: time of the build, from a sample that was timed on this machine.
        scales: for each scale, how patches are taken and kept.
        notes: columns that are kept under another name, or not at all.
        sampled: images that were read to find this.
        failures: images among these that could not be read.
        left_out: number of other things of the source that an index of it would lack, as far as that is known.
        missing: key and reason of the first of both.
    """

    images: int
    patches: int
    disk_bytes: int
    memory_bytes: int
    served_bytes: int
    seconds: float
    scales: dict[str, str]
    notes: tuple[str, ...] = ()
    sampled: int = 0
    failures: int = 0
    left_out: int = 0
    missing: tuple[tuple[str, str], ...] = ()


class _Sample(NamedTuple):
    """Some images of a source.

    Attributes:
        images: uint8 [n, C, H, W], of latents float16.
        seconds: that one takes.
        record_bytes: of what is kept of a picture.
        read: number of images, whatever became of them.
        failures, left_out: what an index would lack.
    """

    images: Pixels
    seconds: float
    record_bytes: float
    read: int
    failures: list[Failure]
    left_out: list[Failure]


def estimate_need(
    opened: OpenSource,
    size: tuple[int, int],
    channels: int,
    plans: Sequence[ScalePlan],
    null: int,
    describe: Describe | None = None,
) -> Estimate:
    """Estimate what a build will need, from a sample of the source.

    Args:
        opened: the source.
        size: (height, width).
        channels: 3 or 1.
        plans: of the scales.
        null: number of pictures that verdicts are set against.
        describe: makes the record of a picture, where regions of pictures are to be found.
    """
    sample = _read_sample(opened, size, channels, describe)
    seconds = opened.count * sample.seconds
    if describe is not None:
        seconds += min(null, opened.count * len(WAYS)) * ASKED_COST * sample.seconds
    if len(sample.images) and null:
        judged_at = choose_evidence_scales(size, [plan.scale for plan in plans])
        seconds += min(null, opened.count) * _time(
            lambda: find_best_unrelated(sample.images[0], sample.images[:BEST], judged_at)
        )
    if len(sample.images):
        seconds += sum(_encoding_seconds(sample.images, plan, opened.count) for plan in plans)
    left_out = [*opened.left_out, *sample.left_out]
    records = round(opened.count * sample.record_bytes)
    lists = [list_count(plan.per_image * opened.count) for plan in plans]
    training = max(POINTS_PER_LIST * count * EMBEDDED_DIMENSIONS * 8 for count in lists)
    served = sum(plan.per_image * plan.patch_bytes for plan in plans) * opened.count
    return Estimate(
        images=opened.count,
        patches=sum(plan.per_image for plan in plans) * opened.count,
        disk_bytes=opened.count * (channels * size[0] * size[1] * sample.images.itemsize + ROW_BYTES)
        + served
        + records,
        memory_bytes=PROCESS_BYTES + max(4 * SEGMENT_BYTES, 2 * training, 2 * records),
        served_bytes=served,
        seconds=seconds,
        scales={plan.scale.name: describe_plan(plan, opened.count) for plan in plans},
        notes=opened.notes,
        sampled=sample.read,
        failures=len(sample.failures),
        left_out=len(left_out),
        missing=list_first(sample.failures, left_out),
    )


def _read_sample(opened: OpenSource, size: tuple[int, int], channels: int, describe: Describe | None) -> _Sample:
    start = time.perf_counter()
    images, records = [np.zeros((0, channels, *size), np.float16 if opened.latents else np.uint8)], []
    failures, left_out = list[Failure](), list[Failure]()
    read, marks = 0, []
    batches = read_batches(
        _spread(opened), size, channels, SAMPLE if describe is None else SAMPLE_PICTURES, describe=describe
    )
    with closing(batches):
        for batch in batches:
            images.append(batch.images)
            records += batch.pictures
            failures += batch.failures
            left_out += [*batch.absent, *batch.left_out]
            read += batch.read
            marks.append((read, time.perf_counter() - start))
            if read >= SAMPLE or marks[-1][1] > SAMPLE_SECONDS:
                break
    # Threads read ahead of the first batch: where reading goes on, the time after it is that of the images after it.
    before, since = marks[0] if read < opened.count and len(marks) > 1 else (0, 0.0)
    seconds = (marks[-1][1] - since) / (read - before)
    kind = pa.binary() if opened.latents else RECORD
    record_bytes = pa.array(records, kind).nbytes / len(records) if records else 0.0
    return _Sample(np.concatenate(images), seconds, record_bytes, read, failures, left_out)


def _spread(opened: OpenSource) -> OpenSource:
    """Read a source in passes over all of it, where nothing is read of what lies between: its parts may differ."""
    stride = max(1, opened.count // ROUND)
    passes = min(stride, SAMPLE // ROUND)

    def read() -> Iterator[RawImage]:
        for number in range(passes):
            yield from islice(opened.read(), number * stride // passes, None, stride)

    return replace(opened, read=read) if opened.kind in IN_PLACE else opened


def _time(work: Callable[[], object]) -> float:
    """Time the second call of a function: the first is slower than any other."""
    work()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _encoding_seconds(sample: Pixels, plan: ScalePlan, images: int) -> float:
    """Seconds to embed and encode all images, with as many cells as there will be."""
    lists = list_count(images * plan.per_image)
    embedding = fit_embedding(sample[:64], plan.scale, EMBEDDED_DIMENSIONS)
    embed(embedding, sample[:8], plan.stride)  # the first call is slower than any other
    start = time.perf_counter()
    patches = embed(embedding, sample, plan.stride).reshape(-1, embedding.dimensions)  # [n, d]
    embedding_one = (time.perf_counter() - start) / len(sample)
    assigning_one = time_assignment(patches, lists)
    training = KMEANS_ITERATIONS * POINTS_PER_LIST * lists
    return images * embedding_one + (images * plan.per_image + training) * assigning_one

"""The search for windows of photographs: checked against its definition, then timed for one question and a batch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.gpu.others import find_faiss
from benchmarks.gpu.report import DEVICE, Report, Sizes, time_it
from nda_index.pictures.gpu import DeviceLists, usable_bytes
from nda_index.pictures.gpu_nearest import CENTRE, choose_cells

DIMENSIONS = 32
NEIGHBOURS, PROBES = 10, 8  # as `nda_index.pictures.placements` asks; what that imports is not here
CHECKED = 3_000  # windows of the check
KINDS = 2


def time_search(report: Report, sizes: Sizes) -> None:
    """Check the search, and time it over both kinds of a catalogue's windows."""
    check(report)
    pictures, windows, cells, asked, together = sizes.photographs
    kinds = [make_lists(pictures, pictures * windows // KINDS, cells, seed) for seed in range(KINDS)]
    held = torch.cuda.memory_allocated() if DEVICE.type == "cuda" else 0
    for count in (1, together):
        questions = [make_questions(codes, count * asked, PROBES) for _, codes, _ in kinds]
        pairs = sum(
            count_pairs(lists, question, centroids)
            for (lists, _, centroids), question in zip(kinds, questions, strict=True)
        )
        allowed = np.arange(pictures) % 2 == 0
        for label, may in (("", None), (", half of them allowed", allowed)):
            seconds = time_it(partial(ask, [lists for lists, _, _ in kinds], questions, may), sizes.repeats)
            report.add(
                f"{count} of {pictures} photographs{label}", ms=seconds * 1e3, ms_a_question=seconds * 1e3 / count,
                pairs=pairs, bytes_on_card=held,
            )  # fmt: skip


def time_faiss(report: Report, sizes: Sizes) -> None:
    """Time FAISS's search on the card for the windows of one kind and one question, beside ours, and compare both."""
    faiss = find_faiss()
    if faiss is None:
        return
    pictures, windows, cells, asked, _ = sizes.photographs
    codes, of, centroids, owners = draw_windows(pictures, pictures * windows // KINDS, cells, 0)
    quantizer = faiss.IndexFlatL2(DIMENSIONS)
    quantizer.add(centroids)
    index = faiss.IndexIVFScalarQuantizer(
        quantizer, DIMENSIONS, cells, faiss.ScalarQuantizer.QT_8bit_direct, faiss.METRIC_L2, False
    )
    index.is_trained = True  # bytes are kept as they are, as by `NeighbourLists`, which needs PyArrow
    arrays = codes.astype(np.float32), np.arange(len(codes)), of.astype(np.int64)  # kept while FAISS reads them
    index.add_core(len(codes), *map(faiss.swig_ptr, arrays))
    theirs = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)
    theirs.nprobe = PROBES
    room = usable_bytes(str(DEVICE))
    ours = DeviceLists(codes, of, centroids, owners, device=str(DEVICE), spare=refuse, resident=room)
    question = make_questions(codes, asked, PROBES)
    floats = question.astype(np.float32)
    differ = float((theirs.search(floats, NEIGHBOURS)[0] != ours.search(question, NEIGHBOURS, PROBES)[0]).mean())
    report.add(
        f"one kind of {pictures} photographs, FAISS's lists on the card",
        ms=time_it(partial(theirs.search, floats, NEIGHBOURS), sizes.repeats) * 1e3,
        ours=time_it(partial(ours.search, question, NEIGHBOURS, PROBES), sizes.repeats) * 1e3,
        distances_that_differ=differ,
    )


def ask(
    lists: Sequence[DeviceLists], questions: Sequence[NDArray[np.uint8]], allowed: NDArray[np.bool_] | None
) -> None:
    """Find the neighbours of questions of each kind."""
    for some, question in zip(lists, questions, strict=True):
        some.search(question, NEIGHBOURS, PROBES, allowed)


def check(report: Report) -> None:
    """Hold a small search against the definition, and against the same search on the CPU: not a tie may differ."""
    codes, cells, centroids, owners = draw_windows(8, CHECKED, 16, 0)
    question = make_questions(codes, 40, 3)
    found: list[NDArray[np.float32]] = []
    alike = True
    for may in (None, np.arange(8) % 2 == 0):
        made = [
            DeviceLists(codes, cells, centroids, owners, device=device, spare=refuse, resident=room)
            for device, room in ((str(DEVICE), 1 << 30), (str(DEVICE), 20_000), ("cpu", 1 << 30))
        ]
        answers = [lists.search(question, NEIGHBOURS, 3, may) for lists in made]
        found.append(answers[0][0])
        alike &= all(
            np.array_equal(answer[0], answers[-1][0]) and np.array_equal(answer[1], answers[-1][1])
            for answer in answers
        )
    squares = ((question[:, None].astype(np.float64) - centroids) ** 2).sum(axis=2)  # [q, C]
    looked_at = np.argsort(squares, axis=1)[:, :3]
    wrong = 0
    for may, distances in zip((np.ones(CHECKED, np.bool_), owners % 2 == 0), found, strict=True):
        for query, some, row in zip(question, looked_at, distances, strict=True):
            there = codes[np.isin(cells, some) & may]
            expected = np.sort(((there.astype(np.int64) - query) ** 2).sum(axis=1))[:NEIGHBOURS]
            wrong += not np.array_equal(row[: len(expected)], expected)
    report.add("check photographs", wrong=wrong, alike=alike)
    if wrong or not alike:
        report.errors["check photographs"] = f"{wrong} rows are wrong; as on the CPU: {alike}"


def make_lists(
    pictures: int, count: int, cells: int, seed: int
) -> tuple[DeviceLists, NDArray[np.uint8], NDArray[np.float32]]:
    """Make lists on the device; with them their codes and centroids."""
    codes, of, centroids, owners = draw_windows(pictures, count, cells, seed)
    lists = DeviceLists(
        codes, of, centroids, owners, device=str(DEVICE), spare=refuse, resident=usable_bytes(str(DEVICE))
    )
    return lists, codes, centroids


def draw_windows(
    pictures: int, count: int, cells: int, seed: int
) -> tuple[NDArray[np.uint8], NDArray[np.int32], NDArray[np.float32], NDArray[np.int32]]:
    """Draw codes about centroids: codes uint8 [count, d], cells, centroids float32 [C, d] and owners."""
    generator = torch.Generator(device=DEVICE).manual_seed(seed)
    centroids = torch.randn(cells, DIMENSIONS, device=DEVICE, generator=generator) * 12 + CENTRE  # [C, d]
    of = torch.randint(cells, (count,), device=DEVICE, generator=generator).sort().values  # [count]
    owners = torch.randint(pictures, (count,), device=DEVICE, generator=generator, dtype=torch.int32)
    parts = []
    for some in torch.split(of, 1 << 22):
        noise = torch.randn(len(some), DIMENSIONS, device=DEVICE, generator=generator) * 10
        parts.append((centroids[some] + noise).round_().clamp_(0, 255).to(torch.uint8).cpu())
    codes: Tensor = torch.cat(parts)
    return codes.numpy(), of.to(torch.int32).cpu().numpy(), centroids.cpu().numpy(), owners.cpu().numpy()


def make_questions(codes: NDArray[np.uint8], count: int, noise: int) -> NDArray[np.uint8]:
    """Make windows like some of the collection, and as many like no one's, as mirror images are: [2 count, d]."""
    rng = np.random.default_rng(count)
    some, others = (codes[rng.integers(0, len(codes), count)] for _ in range(2))
    near = some.astype(np.int64) + rng.integers(-noise, noise + 1, some.shape)
    return np.concatenate([near.clip(0, 255).astype(np.uint8), rng.permuted(others, axis=1)])


def count_pairs(lists: DeviceLists, question: NDArray[np.uint8], centroids: NDArray[np.float32]) -> int:
    """Count the pairs of windows that a question needs, with what fills tiles up."""
    queries, middles = (torch.tensor(part, device=DEVICE).double() for part in (question, centroids))
    cells = choose_cells(queries, middles, min(PROBES, len(middles)), 1 << 28)
    return int(lists.cell_places()[cells.cpu().numpy()].sum())


def refuse(*arrays: object) -> NoReturn:
    """Stand for lists on the CPU, which need FAISS."""
    raise RuntimeError("the device's memory does not suffice")

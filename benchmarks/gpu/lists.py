"""The coarse stage's lists on the card: made up, checked against float64, and timed step by step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.gpu.report import DEVICE, Report, Sizes, time_it
from nda_index.coarse import gpu_scan
from nda_index.coarse.cells import Cells, Segment
from nda_index.coarse.embedding import Embedding
from nda_index.coarse.gpu import SCRATCH, GpuLists
from nda_index.coarse.gpu_lists import ResidentLists, make_resident
from nda_index.coarse.gpu_scan import TUNING, ScanTuning
from nda_index.coarse.limits import REST_ALIKE
from nda_index.coarse.probe import DEFAULT_PROBES, Probe, _choose_cells, visit_cells
from nda_index.coarse.shortlist import shortlist
from nda_index.coarse.visits import Visits, Windows
from nda_index.coarse.windows import QueryWindows
from nda_index.scales import Scale

COORDINATES, WINDOWS = 28, 64  # of a window, and windows of an image
WIDTHS = {"bytes": 1, "pq": 2}  # coordinates that a byte stands for
NOISE = {"sharp": 0.02, "broad": 0.3}  # variance of a query
SHORTLIST_MILLISECONDS = 30.0
LARGEST_ERROR = 1e-4  # of the logarithm of a mass, and of a vote beside the largest
OTHERS = {
    "128 members, 8 warps": ScanTuning(16, 128, 4096, 8, 1),
    "32 windows": ScanTuning(32, 64, 4096, 4, 1),
    "tf32x3": ScanTuning(16, 64, 4096, 4, 2, "tf32x3"),
}


@dataclass(frozen=True)
class NoCpu:
    """Lists of which all members are on the card: what is left to the CPU is an error."""

    cells: Cells

    def choose(self, *_: object) -> NoReturn:
        """Refuse."""
        raise RuntimeError("a step was left to the CPU")

    sum_visits = add_votes = choose


def make_lists(images: int, cells: int, width: int) -> ResidentLists:
    """Make lists of random members on the device: cells of many sizes, the images of each in their order."""
    generator = torch.Generator(device=DEVICE).manual_seed(0)
    deviations = 1.5 / torch.arange(1, COORDINATES + 1, device=DEVICE) ** 0.8  # [d], as of principal coordinates
    centroids = torch.randn(cells, COORDINATES, device=DEVICE, generator=generator) * deviations
    members = 0.5 * deviations  # [d], standard deviations
    if width == 1:
        step = members * (12 / 65535) ** 0.5  # [d]
        codebook = torch.stack([-127.5 * step, step])
    else:
        codebook = torch.randn(256, COORDINATES, device=DEVICE, generator=generator) * members
    shares = torch.randn(cells, device=DEVICE, generator=generator).exp()
    total = images * WINDOWS
    counts = (shares / shares.sum() * total).long()  # [C]
    counts[0] += total - counts.sum()
    offsets = torch.cat([counts.new_zeros(1), counts.cumsum(dim=0)])  # [C + 1]
    codes = torch.empty(total, COORDINATES // width, dtype=torch.uint8, device=DEVICE)
    codes.random_(0, 256, generator=generator)
    cell = torch.repeat_interleave(counts)  # [T]
    image_ids = ((torch.arange(total, device=DEVICE) - offsets[cell]) * images // counts[cell]).int()
    decoded = codebook[1] * torch.arange(256, device=DEVICE)[:, None] + codebook[0] if width == 1 else codebook
    spreads = decoded.var(dim=0, correction=0).expand(cells, -1).contiguous()  # [C, d]
    means = centroids + decoded.mean(dim=0)
    return ResidentLists(
        cells, offsets.cpu().numpy(), codes, image_ids, codebook.contiguous(), centroids, counts.float(), means, spreads
    )


def wrap(lists: ResidentLists) -> GpuLists:
    """Return lists as questions see them."""
    none = np.empty((0, 1), np.uint8), np.empty(0, np.int32)
    means, spreads = (part.double().cpu().numpy() for part in (lists.means, lists.spreads))
    segment = Segment(lists.offsets, *none, means, spreads)
    embedding = Embedding(Scale(7), np.zeros((COORDINATES - 3, 1, 7, 7)))
    centroids, codebook = lists.centroids.cpu().numpy(), lists.codebook.cpu().numpy()
    return GpuLists(lists, NoCpu(Cells(embedding, 1, centroids, codebook, (segment,))))


def make_query(lists: ResidentLists, windows: int, variance: float) -> QueryWindows:
    """Make windows near the means of cells, of which large ones have more."""
    rng = np.random.default_rng(1)
    counts = lists.counts.cpu().numpy().astype(np.float64)
    chosen = torch.from_numpy(rng.choice(len(counts), windows, p=counts / counts.sum())).to(DEVICE)
    near = lists.means[chosen].double().cpu().numpy()
    near += rng.normal(size=near.shape) * lists.spreads[chosen].double().sqrt().cpu().numpy()
    variances = variance * np.exp(rng.normal(0, 0.5, windows))
    return QueryWindows(near.astype(np.float32), variances, np.ones(windows), np.arange(windows), (windows, 1))


def check_lists(report: Report, sizes: Sizes) -> None:
    """Compare a small collection with float64, the choice of cells with the CPU's, and two runs with each other."""
    images, cells = min(sizes.coarse, 1_000), min(sizes.cells, 64)
    for coding, width in WIDTHS.items():
        lists = make_lists(images, cells, width)
        moved: dict[str, Any] = {name: value.cpu() for name, value in vars(lists).items() if isinstance(value, Tensor)}
        on_cpu = replace(lists, **moved)
        for noise, variance in NOISE.items():
            row = f"lists against float64, {coding}, {noise}"
            visit = visit_cells(wrap(lists), [make_query(lists, 32, variance)], [1.0], images, allowed=None)
            scan, query = visit._scan, visit._queries[0]
            logits = compute_logits(on_cpu, scan.visits, scan.windows)  # [V, T]
            error = np.abs(visit.log_masses - torch.logsumexp(logits * np.log(2), dim=1).numpy() / np.log(2)).max()
            normalised = scan.windows._replace(constants=scan.windows.constants - scan.sum_windows(visit.log_masses))
            even = np.random.default_rng(2).random((cells, 1)).astype(np.float32)
            votes = [
                gpu_scan.add_votes(lists, scan.visits, normalised, even, scan.images, TUNING, SCRATCH) for _ in range(2)
            ]
            weights = compute_logits(on_cpu, scan.visits, normalised).exp2().sum(dim=0)  # [T]
            places = np.repeat(np.arange(cells), np.diff(lists.offsets))
            given = np.where(np.isin(places, scan.visits.cells), even[places, 0], 0)
            expected = np.bincount(on_cpu.image_ids.numpy(), weights.numpy() + given, images)
            off = np.abs(votes[0][:, 0] - expected).max() / expected.max()
            report.add(row, error=float(error), votes=float(off), visits=len(visit.log_masses), by=visit.backend)
            if not (error < LARGEST_ERROR and off < LARGEST_ERROR and visit.backend == "gpu"):
                report.errors[row] = f"errors are {error:.2g} and {off:.2g}, by {visit.backend}"
            if not np.array_equal(votes[0], votes[1]):
                report.errors[f"{row}, twice"] = "two runs differ"
            check_choice(report, on_cpu, query.choice.cells, query.windows, row)
        check_copied(report, lists, on_cpu, images, coding)


def check_copied(report: Report, lists: ResidentLists, on_cpu: ResidentLists, images: int, coding: str) -> None:
    """Copy lists to the card as an index does, and ask about half of the images, as a condition does."""
    row = f"lists copied to the card, {coding}, half of the images"
    files = wrap(lists).cells
    whole = replace(files.segments[0], codes=on_cpu.codes.numpy(), image_ids=on_cpu.image_ids.numpy())
    copied = make_resident(replace(files, segments=(whole,)), DEVICE, 1 << 40)
    if not (torch.equal(copied.codes, lists.codes) and torch.equal(copied.image_ids, lists.image_ids)):
        report.errors[row] = "the copy differs"
    allowed = np.arange(images) % 2 == 0
    visit = visit_cells(
        wrap(copied), [make_query(lists, 32, NOISE["broad"])], [1.0], images, allowed=allowed
    )  # fmt: skip
    logits = compute_logits(on_cpu, visit._scan.visits, visit._scan.windows)  # [V, T]
    logits = logits.where(torch.from_numpy(allowed)[on_cpu.image_ids.long()], -torch.inf)
    expected = torch.logsumexp(logits * np.log(2), dim=1).numpy() / np.log(2)  # [V]
    finite = np.isfinite(expected)
    error = float(np.abs(visit.log_masses - expected)[finite].max(initial=0.0))
    report.add(row, error=error, by=visit.backend)
    if not (error < LARGEST_ERROR and visit.backend == "gpu"):
        report.errors[row] = f"the error is {error:.2g}, by {visit.backend}"


def check_choice(
    report: Report, on_cpu: ResidentLists, chosen: NDArray[np.int64], windows: QueryWindows, row: str
) -> None:
    """Compare the cells that a card chose with those that the same operations choose on the CPU, but for ties."""
    again = _choose_cells(wrap(on_cpu), windows, DEFAULT_PROBES).choice.cells
    differing = float((chosen != again).any(axis=1).mean())
    report.add(f"{row}, cells", windows_that_differ=differing)
    if differing > 0.02:
        report.errors[f"{row}, cells"] = f"{differing:.1%} of the windows visit other cells than on the CPU"


def compute_logits(lists: ResidentLists, visits: Visits, windows: Windows) -> Tensor:
    """Compute logits (base 2) of all members by the definition, float64 [V, T]; -inf where a cell is not visited."""
    place = torch.from_numpy(np.repeat(np.arange(lists.kept), np.diff(lists.offsets)))  # [T]
    width = COORDINATES // lists.codes.shape[1]
    codes = lists.codes.long().repeat_interleave(width, dim=1)  # [T, d]
    book = lists.codebook.double()
    rest = book[0] + book[1] * codes if len(book) == 2 else book.gather(0, codes)  # [T, d]
    members = lists.centroids[place].double() + rest  # [T, d]
    norms = [members[:, part].square().sum(dim=1, keepdim=True) for part in (slice(0, -2), slice(-2, None))]
    members[:, -3] *= float(np.float32(REST_ALIKE))
    vectors = torch.from_numpy(windows.vectors[visits.windows]).double()  # [V, d + 2]
    constants = torch.from_numpy(windows.constants[visits.windows]).double()[:, None]  # [V, 1]
    cells = torch.from_numpy(np.repeat(visits.cells, np.diff(visits.starts)))  # [V]
    logits = vectors @ torch.cat([members, *norms], dim=1).T + constants
    return logits.where(cells[:, None] == place, -torch.inf)


def time_lists(report: Report, sizes: Sizes) -> None:
    """Time one question of many windows about many images, step by step and as a whole."""
    for coding, width in WIDTHS.items():
        lists = make_lists(sizes.coarse, sizes.cells, width)
        wrapped = wrap(lists)
        size = (lists.codes.nbytes + lists.image_ids.nbytes) / 2**20
        for noise, variance in NOISE.items():
            time_question(report, sizes, wrapped, lists, variance, f"lists, {coding}, {noise}", size)
        del lists, wrapped


def time_question(
    report: Report, sizes: Sizes, wrapped: GpuLists, lists: ResidentLists, variance: float, row: str, size: float
) -> None:
    """Time the steps of one question, and other tunings of its first pass."""
    query = make_query(lists, sizes.coarse_query, variance)

    def ask() -> Probe:
        visit = visit_cells(wrapped, [query], [1.0], sizes.coarse, allowed=None)
        return visit.probe(visit.log_masses)

    visit = visit_cells(wrapped, [query], [1.0], sizes.coarse, allowed=None)
    scan, found = visit._scan, ask()
    normalised = scan.windows._replace(constants=scan.windows.constants - scan.sum_windows(visit.log_masses))
    even = np.full((sizes.cells, 1), 1e-6, np.float32)
    everywhere = Visits(np.arange(sizes.cells), np.zeros(sizes.cells + 1, np.int64), np.empty(0, np.int64))
    add = partial(gpu_scan.add_votes, lists, windows=normalised, images=scan.images, tuning=TUNING, scratch=SCRATCH)
    steps = {
        "visit": lambda: visit_cells(wrapped, [query], [1.0], sizes.coarse, allowed=None),
        "first_pass": scan.sum_visits,
        "second_pass": lambda: add(visits=scan.visits, even=0 * even),
        "evenly": lambda: add(visits=everywhere, even=even),
        "flat": lambda: visit._queries[0].choice.sum_flat(np.zeros(sizes.coarse_query)),
        "choose_images": lambda: shortlist(found.votes, None, 1, None),
    }
    times = {name: time_it(work, sizes.repeats) * 1e3 for name, work in steps.items()}
    whole = time_it(lambda: shortlist(ask().votes, None, 1, None), sizes.repeats) * 1e3
    report.add(
        f"{row}, {sizes.coarse} images", ms=whole, target=SHORTLIST_MILLISECONDS, mib=size, by=found.backend,
        visits=len(visit.log_masses), **times,
    )  # fmt: skip
    for name, tuning in OTHERS.items() if DEVICE.type == "cuda" else ():
        first = partial(gpu_scan.sum_visits, lists, scan.visits, scan.windows, scan.images, tuning, SCRATCH)
        error = float(np.abs(first() - visit.log_masses).max())
        report.add(f"  first pass, {name}", ms=time_it(first, sizes.repeats) * 1e3, differs=error)

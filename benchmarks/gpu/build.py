"""What a build does on the card: embed patches, find their cells, encode them, group them; FAISS's cells beside it.

Nothing is decoded or written here. A build waits for the decoding of files, the table of images and the disk besides.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu.others import find_faiss
from benchmarks.gpu.pictures import make_pictures
from benchmarks.gpu.report import DEVICE, Report, Sizes, time_it, wait
from nda_index.coarse.assignment import assign
from nda_index.coarse.coding import code_images, encode, group_members
from nda_index.coarse.embedding import Embedding, embed_tensor, fit_embedding
from nda_index.scales import parse_scale

SCALES, STRIDE, DIMENSIONS = ("4", "10/2"), 4, 28  # of an index of 1,000,000 images by default, product-quantised
PROJECTED, TARGET = 1_000_000, 180.0  # images, and seconds of a build of them
BLOCK = 1024  # images that are encoded at a time
SEGMENT = 229_376  # images of a segment of that index
LARGEST_DIFFERENCE = 1e-3  # of the cells and the codes: those on an edge may fall to either side


@dataclass(frozen=True)
class Trained:
    """Cells of a scale that stand for trained ones: patches, and what is left of others beside them."""

    embedding: Embedding
    centroids: Tensor
    codebook: Tensor

    def to(self, device: torch.device) -> Trained:
        return Trained(self.embedding, self.centroids.to(device), self.codebook.to(device))

    def code(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return code_images(images, self.embedding, STRIDE, self.centroids, self.codebook)


def time_build(report: Report, sizes: Sizes) -> None:
    """Time the encoding of images that come from the machine's memory and go back as codes, and check some of them."""
    side = 32 if sizes.size == 32 else 12
    pictures = make_pictures(sizes.built, sizes.channels, side).cpu()
    total = 0.0
    for name in SCALES:
        trained = choose_cells(pictures, name, sizes.cells)
        check(report, pictures[: 2 * sizes.checked], trained, name)
        time_parts(report, pictures[:BLOCK].to(DEVICE), trained, name)
        total += time_whole(report, pictures, trained, name)
    report.add(
        f"build: {PROJECTED:,} images, projected", ms=total * PROJECTED * 1e3, target=TARGET * 1e3,
        images_a_second=1 / total,
    )  # fmt: skip


def choose_cells(pictures: Tensor, name: str, cells: int) -> Trained:
    """Make cells and a codebook of patches of the pictures."""
    embedding = fit_embedding(pictures[:256].numpy(), parse_scale(name), DIMENSIONS)
    parts = [
        embed_tensor(embedding, some.to(DEVICE), STRIDE).flatten(0, 1) for some in torch.split(pictures[:4096], BLOCK)
    ]
    patches = torch.cat(parts)  # [n, d]
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(patches), generator=generator).to(DEVICE)
    centroids = patches[order[:cells]].contiguous()  # [cells, d]
    others = patches[torch.randint(len(patches), (256,), generator=generator).to(DEVICE)]  # [256, d]
    return Trained(embedding, centroids, (others - centroids[assign(others, centroids)]).contiguous())


def check(report: Report, some: Tensor, trained: Trained, name: str) -> None:
    """Compare cells and codes of a few images with those that the CPU finds, and their moments."""
    there, here = trained.code(some.to(DEVICE)), trained.to(torch.device("cpu")).code(some)
    cells, codes = (float((a.cpu() != b).double().mean()) for a, b in zip(there, here, strict=True))
    ids = torch.arange(len(some), dtype=torch.int32)[:, None].expand(here[0].shape).flatten()
    one = group_members(
        here[0].flatten().to(DEVICE), here[1].to(DEVICE), ids.to(DEVICE), trained.centroids, trained.codebook
    )
    other = group_members(here[0].flatten(), here[1], ids, trained.centroids.cpu(), trained.codebook.cpu())
    same = bool((one.image_ids == other.image_ids).all() and (one.codes == other.codes).all())
    error = max(float(np.abs(a - b).max()) for a, b in ((one.means, other.means), (one.variances, other.variances)))
    report.add(f"check build {name}", cells_that_differ=cells, codes_that_differ=codes, moments=error, grouped=same)
    if not (max(cells, codes) < LARGEST_DIFFERENCE and same and error < 1e-6):
        report.errors[f"check build {name}"] = f"{cells:.2g} of the cells, {codes:.2g} of the codes, {error:.2g}"


def time_parts(report: Report, images: Tensor, trained: Trained, name: str) -> None:
    """Time what is done with a block of images, and FAISS's way to find their cells."""
    patches = embed_tensor(trained.embedding, images, STRIDE).flatten(0, 1)  # [n P, d]
    cells = assign(patches, trained.centroids)
    left = patches - trained.centroids[cells]
    parts = {
        "embed": time_it(lambda: embed_tensor(trained.embedding, images, STRIDE), 3),
        "assign": time_it(lambda: assign(patches, trained.centroids), 3),
        "encode": time_it(lambda: encode(left, trained.codebook), 3),
    }
    row = f"build {name}: {len(images)} images"
    report.add(row, ms=sum(parts.values()) * 1e3, **{key: value * 1e3 for key, value in parts.items()})
    faiss = find_faiss()
    if faiss is None:
        return
    index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, flat_index(faiss, trained))
    given = patches.cpu().numpy()
    theirs = index.search(given, 1)[1][:, 0]
    differ = float((theirs != cells.cpu().numpy()).mean())
    report.add(f"{row}, FAISS's cells", ms=time_it(lambda: index.search(given, 1), 3) * 1e3, differ=differ)


def flat_index(faiss: Any, trained: Trained) -> Any:
    """Return FAISS's index of the centroids."""
    index = faiss.IndexFlatL2(DIMENSIONS)
    index.add(trained.centroids.cpu().numpy())
    return index


def time_whole(report: Report, pictures: Tensor, trained: Trained, name: str) -> float:
    """Time all that a build does with images on the card, copies included; the seconds of an image."""

    def code(block: Tensor) -> tuple[Tensor, Tensor]:
        cells, codes = trained.code(block.to(DEVICE))
        return cells.cpu(), codes.cpu()

    code(pictures[:BLOCK])  # the first call is slower than any other
    wait()
    begin = time.perf_counter()
    coded = [code(block) for block in torch.split(pictures[:SEGMENT], BLOCK)]
    encoded = time.perf_counter()
    cells = torch.cat([cells for cells, _ in coded])  # [N, P]
    codes = torch.cat([codes for _, codes in coded])  # [N P, bytes]
    ids = torch.arange(len(cells), dtype=torch.int32)[:, None].expand(cells.shape).flatten()  # [N P]
    group_members(cells.flatten().to(DEVICE), codes.to(DEVICE), ids.to(DEVICE), trained.centroids, trained.codebook)
    seconds = time.perf_counter() - begin
    report.add(
        f"build {name}: {len(cells):,} images", ms=seconds * 1e3, images_a_second=len(cells) / seconds,
        group=(begin + seconds - encoded) * 1e3,
    )  # fmt: skip
    return seconds / len(cells)

"""What there is to compare with: the card's plain product, the published formulation, float64, FAISS; larger images."""

from __future__ import annotations

import importlib
import importlib.util
import time
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu.pictures import answer, make_noisy, make_pictures, to_unit
from benchmarks.gpu.report import DEVICE, Report, Sizes, time_it
from nda_index.diffusion import NoisyImage
from nda_index.exact import gpu
from nda_index.exact.gpu_launch import TUNING, Tuning
from nda_index.scales import Scale, parse_scale


def time_products(report: Report, sizes: Sizes) -> None:
    """Time a plain product of fp16 matrices: what the card can do."""
    a = torch.randn(sizes.matmul, sizes.matmul, device=DEVICE).half()
    seconds = time_it(lambda: a @ a, 5)
    report.add("plain fp16 product", ms=seconds * 1e3, tflops=2 * sizes.matmul**3 / seconds / 1e12)


def time_published(report: Report, sizes: Sizes, train: Tensor, query: Any, tuning: Tuning) -> None:
    """Time the published formulation on some images, and ours on as many and on all, by image."""
    for name in sizes.scales:
        noisy, scale = make_noisy(query, 100, "draw"), parse_scale(name)
        whole = time_it(partial(answer, train, [(scale, [noisy])], tuning), min(3, sizes.repeats)) / len(train)
        for count in sizes.published:
            some = train[:count]
            theirs = time_it(partial(published, noisy, some, scale), min(2, sizes.repeats)) / count
            ours = time_it(partial(answer, some, [(scale, [noisy])], tuning), min(3, sizes.repeats)) / count
            report.add(
                f"published, {name}, {count} images",
                us_an_image=theirs * 1e6, ours=ours * 1e6, ours_of_all=whole * 1e6, ratio=theirs / whole,
                tf32=torch.backends.cudnn.allow_tf32,
            )  # fmt: skip


def published(noisy: NoisyImage, train: Tensor, scale: Scale) -> Tensor:
    """Score as the paper's code (arXiv 2510.14269) does: query patches as kernels, all weights in memory."""
    k, r = scale.patch, scale.downscale
    images = F.pad(to_unit(train) * noisy.signal, (scale.padding,) * 4, value=10.0)  # [N, C, H + 2 pad, W + 2 pad]
    query = F.pad(torch.from_numpy(noisy.pixels).float().to(DEVICE)[None], (scale.padding,) * 4, value=10.0)
    patches = F.unfold(query, k)[0].T.reshape(-1, images.shape[1], k, k)  # [P, C, k, k]
    means = F.avg_pool2d(patches, r)  # [P, C, k / r, k / r]
    kernels = means.repeat_interleave(r, dim=2).repeat_interleave(r, dim=3)  # [P, C, k, k]
    projected = F.avg_pool2d(images, r, stride=1) * r  # [N, C, H', W']
    ones = torch.ones(1, images.shape[1], scale.taps, scale.taps, device=DEVICE)
    norms = F.conv2d(projected.square(), ones, dilation=r)[:, 0]  # [N, rows, columns]
    parts = []
    for batch, mean in zip(torch.split(kernels, 64), torch.split(means, 64), strict=True):
        products = F.conv2d(images, batch)  # [N, 64, rows, columns]
        squares = (mean * r).square().sum(dim=(1, 2, 3))  # [64]
        distance = (squares[:, None, None, None] + norms[None] - 2 * products.permute(1, 0, 2, 3)).clamp(min=0)
        weights = torch.softmax((-distance / (2 * noisy.sigma**2)).flatten(1), dim=1)  # [64, N rows columns]
        parts.append(weights.view(len(batch), *norms.shape).sum(dim=(2, 3)))  # [64, N]
    return torch.cat(parts).sum(dim=0)  # [N]


def time_coarse(report: Report, sizes: Sizes) -> None:
    """Time a flat pass over 64 short vectors of each of many images."""
    from benchmarks.gpu import coarse

    tile = min(64, sizes.coarse_query)
    vectors = torch.empty(sizes.coarse, 64, 32, dtype=torch.float16, device=DEVICE).normal_()
    query = torch.randn(sizes.coarse_query, 32, device=DEVICE).half()
    norms = query.float().square().sum(dim=1)  # [Q]
    out, near = torch.empty(sizes.coarse, device=DEVICE), torch.zeros(sizes.coarse_query, device=DEVICE)

    def run() -> None:
        each = max(1, sizes.coarse // 20_000)
        coarse.flat_pass[(-(-sizes.coarse // each),)](
            vectors, query, norms, near, out, 0.05, sizes.coarse_query // tile, each, sizes.coarse,
            COORDINATES=32, WINDOWS=64, TILE=tile, num_warps=4, num_stages=2,
        )  # fmt: skip

    seconds = time_it(run, sizes.repeats)
    there = vectors[:2].double()  # [2, 64, K]
    exact = (2.0 ** (-0.05 * torch.cdist(query.double()[None], there).square())).sum(dim=(1, 2))  # [2]
    error = float((out[:2].double() / exact - 1).abs().max())
    flops = 2 * sizes.coarse * 64 * sizes.coarse_query * 32
    report.add(f"flat coarse pass, {sizes.coarse} images", ms=seconds * 1e3, tflops=flops / seconds / 1e12, error=error)


def time_large(report: Report, sizes: Sizes, tuning: Tuning) -> None:
    """Time larger images."""
    for size, stride, count in sizes.large:
        pictures = make_pictures(count + 1, sizes.channels, size)
        noisy = make_noisy(pictures[-1].cpu().numpy(), 100, "draw")
        scale = Scale(parse_scale(sizes.scales[0]).patch, query_stride=stride, train_stride=stride)
        seconds = time_it(partial(answer, pictures[:-1], [(scale, [noisy])], tuning), min(2, sizes.repeats))
        name = f"{size} x {size}, patch {scale.patch}, stride {stride}, {count} images"
        report.add(name, ms=seconds * 1e3, us_an_image=seconds / count * 1e6)


def time_float64(report: Report, sizes: Sizes, train: Tensor, query: Any) -> None:
    """Time the path without kernels."""
    some, scale = train[: sizes.shortlist], parse_scale(sizes.scales[0])
    noisy = make_noisy(query, 2, "draw")
    seconds = time_it(lambda: answer(some, [(scale, [noisy])], TUNING), 1)
    report.add(f"float64, t=2, {len(some)} images", ms=seconds * 1e3, us_an_image=seconds / len(some) * 1e6)
    seconds = time_it(lambda: gpu.block_masses([noisy], some, scale, per_image_topk=4), 1)
    report.add(f"float64, 4 best windows, {len(some)} images", ms=seconds * 1e3, us_an_image=seconds / len(some) * 1e6)


def find_faiss() -> Any | None:
    """Return FAISS, where it is installed with GPU support and sees a card."""
    if importlib.util.find_spec("faiss") is None:
        print("faiss: not installed, left out")
        return None
    faiss: Any = importlib.import_module("faiss")
    if not hasattr(faiss, "StandardGpuResources") or faiss.get_num_gpus() < 1:
        print("faiss: without GPU support, left out")
        return None
    return faiss


def time_faiss(report: Report, sizes: Sizes) -> None:
    """Time the search of FAISS's lists on the card, where it is installed."""
    faiss = find_faiss()
    if faiss is None:
        return
    count, width, lists = min(sizes.coarse * 4, 4_000_000), 28, 4_096 if sizes.coarse > 1_000 else 4
    vectors = np.random.default_rng(0).normal(size=(count, width)).astype(np.float32)
    settings = faiss.GpuIndexIVFScalarQuantizerConfig()
    index = faiss.GpuIndexIVFScalarQuantizer(
        faiss.StandardGpuResources(), width, lists, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_L2, True, settings
    )
    begin = time.perf_counter()
    index.train(vectors[: lists * 64])
    index.add(vectors)
    report.add(f"faiss: train and add {count}", ms=(time.perf_counter() - begin) * 1e3)
    index.nprobe = 32
    for k in (256, 512):
        seconds = time_it(partial(index.search, vectors[: sizes.coarse_query], k), min(3, sizes.repeats))
        report.add(f"faiss: {sizes.coarse_query} windows, 32 cells, {k} best", ms=seconds * 1e3)

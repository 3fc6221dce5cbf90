"""Tunings of the kernels side by side."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor

from benchmarks.gpu.pictures import make_noisy
from benchmarks.gpu.report import DEVICE, Report, Sizes, time_it
from benchmarks.gpu.targets import count_products
from nda_index.exact import gpu
from nda_index.exact.gpu_launch import KernelTuning, Tuning, prepare
from nda_index.exact.gpu_numbers import whole_images
from nda_index.scales import parse_scale


def read_kernels(text: str) -> list[KernelTuning]:
    """Read tunings of a kernel.

    Example:
        >>> read_kernels("128.4.1.168,64.4.2.0")[1]
        KernelTuning(tile=64, warps=4, stages=2, registers=0)
    """
    return [KernelTuning(*map(int, kernel.split("."))) for kernel in text.split(",")]


def sweep_tunings(
    report: Report, sizes: Sizes, train: Tensor, query: Any, tunings: Sequence[Tuning], rows: str
) -> None:
    """Time the product alone for every tuning."""
    for name in sizes.scales:
        scale = parse_scale(name)
        images = whole_images(train, scale)
        for label, noise in (("clean", "none"), ("noisy", "draw")):
            if images is None or (rows and f"{name} {label}" not in rows.split(",")):
                continue
            noisy = make_noisy(query, 100, noise)
            floors: list[Any] = []
            for tuning in tunings:
                if time.monotonic() > report.deadline:
                    print("the time is over")
                    return
                row = f"{name} {label}, inside {describe(tuning.inside)}, border {describe(tuning.border)}"
                try:
                    sweep = prepare([noisy], scale, DEVICE, tuning)[0][0]
                    floors = floors or [gpu.start_sweep(sweep, images)()[0].log_total]
                    seconds = time_it(partial(run, sweep, images, floors), sizes.repeats)
                except Exception as error:
                    report.errors[row] = f"{type(error).__name__}: {error}"
                    print(f"{row}: {report.errors[row][:200]}", flush=True)
                    continue
                report.add(row, ms=seconds * 1e3, tflops=2e-12 * count_products(sweep, len(train))[0] / seconds)


def run(sweep: Any, images: Tensor, floors: Any) -> None:
    """Compare all images."""
    gpu.start_sweep(sweep, images, floors)()


def describe(kernel: KernelTuning) -> str:
    """Write a tuning of a kernel as it is read."""
    return f"{kernel.tile}.{kernel.warps}.{kernel.stages}.{kernel.registers}"

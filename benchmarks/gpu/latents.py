"""Latents: numbers that are no bytes, compared in one part of fp16 or two."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from benchmarks.gpu.pictures import answer
from benchmarks.gpu.report import DEVICE, Report, Sizes, time_it
from nda_index.diffusion import noisy_images
from nda_index.exact import gpu, gpu_plain
from nda_index.exact.gpu_launch import Tuning
from nda_index.scales import parse_scale

LARGEST_ERROR = 2e-3  # of a score


def time_latents(report: Report, sizes: Sizes, tuning: Tuning) -> None:
    """Compare latents of the default recipe's scales, and a few of them with float64."""
    generator = torch.Generator(device=DEVICE).manual_seed(0)
    side, count = sizes.size, max(3, sizes.images // 5)
    coarse = torch.randn(count, 4, side // 2, side // 2, device=DEVICE, generator=generator)
    fine = torch.randn(count, 4, side, side, device=DEVICE, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear")  # [n, 4, H, W]
    train = (0.9 * smooth + 0.3 * fine).half().float()  # [n, 4, H, W]
    clean = train[1].cpu().numpy()
    for name, timestep in (("4", 150), ("10/2", 400)) if side >= 32 else (("3", 150), ("4/2", 400)):
        scale = parse_scale(name)
        noisy = noisy_images(clean, timestep, "draw")[0]
        some = train[: sizes.checked]
        masses = gpu.block_masses([noisy], some, scale, tuning=tuning)[0]
        total, _ = gpu_plain.log_masses(noisy, some, scale, np.inf, None, 1 << 30)
        exact = (total - total.logsumexp(dim=0)).exp().sum(dim=1).cpu().numpy()
        error = float((np.abs(masses.scores(masses.log_total) - exact) / np.maximum(exact, 1.0)).max())
        by = "products" if masses.total.dtype == torch.float32 else "float64"
        seconds = time_it(partial(answer, train, [(scale, [noisy])], tuning), min(3, sizes.repeats))
        report.add(f"latents, {name}@{timestep}, {count} of them", ms=seconds * 1e3, error=error, by=by)
        if not error < LARGEST_ERROR:
            report.errors[f"latents, {name}"] = f"the error is {error:.2g}"

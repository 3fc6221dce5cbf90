"""The sections that have targets: one question over all images, a shortlist, many draws; and what proves them right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu.pictures import answer, group_views, make_noisy, to_unit
from benchmarks.gpu.report import DEVICE, Report, Sizes, time_asking, time_it
from nda_index.diffusion import NoisyImage
from nda_index.exact import gpu, gpu_launch, gpu_plain, reference
from nda_index.exact.gpu_launch import Sweep, Tuning
from nda_index.exact.gpu_numbers import whole_images
from nda_index.exact.views import views_of_recipe
from nda_index.recipe import DEFAULT, Recipe, as_recipe
from nda_index.scales import Scale, parse_scale

MILLISECONDS = {"7 clean": 30.0, "7 noisy": 45.0, "14/2 clean": 20.0, "two terms": 3.0, "16 draws": 500.0}
LARGEST_ERROR = 2e-3  # of a score


def check(report: Report, sizes: Sizes, train: Tensor, query: Any, tuning: Tuning, names: Sequence[str]) -> None:
    """Compare scores of a few images with float64; and float64 on the device with the definition, of one image."""
    some = train[: sizes.checked]
    for name in names:
        scale = parse_scale(name)
        for timestep in sizes.timesteps:
            for noise in ("none", "draw"):
                noisy = make_noisy(query, timestep, noise)
                masses = gpu.block_masses([noisy], some, scale, tuning=tuning)[0]
                ours = masses.scores(masses.log_total)
                total, _ = gpu_plain.log_masses(noisy, to_unit(some), scale, np.inf, None, 1 << 30)
                exact = (total - total.logsumexp(dim=0)).exp().sum(dim=1).cpu().numpy()
                error = float((np.abs(ours - exact) / np.maximum(exact, 1.0)).max())
                by = "products" if masses.total.dtype == torch.float32 else "float64"
                report.add(f"check {name} t={timestep} {noise}", error=error, by=by)
                if not error < LARGEST_ERROR:
                    report.errors[f"check {name} t={timestep} {noise}"] = f"the error is {error:.2g}"
    noisy, scale = make_noisy(query, 100, "draw"), parse_scale(names[0])
    one = to_unit(some[:1])
    total, _ = gpu_plain.log_masses(noisy, one, scale, np.inf, None, 1 << 30)
    images = (one.cpu().double() * noisy.signal, torch.from_numpy(noisy.pixels).double())
    defined, _ = reference.log_masses(images[1], images[0], scale, sigma=noisy.sigma, mask_value=np.inf)
    report.add("check float64 on the device", error=float((total.cpu() - defined).abs().max()))


def time_exact(report: Report, sizes: Sizes, train: Tensor, query: Any, tuning: Tuning) -> None:
    """Time one question over all images: pixels (bytes on the device) to scores, and the product alone."""
    for name in sizes.scales:
        scale = parse_scale(name)
        for label, noise in (("clean", "none"), ("noisy", "draw")):
            noisy, row = make_noisy(query, 100, noise), f"{name} {label}"
            seconds = time_it(partial(answer, train, [(scale, [noisy])], tuning), sizes.repeats)
            report.add(f"{row}, {len(train)} images", ms=seconds * 1e3, target=MILLISECONDS.get(row))
            time_parts(report, sizes, train, scale, noisy, tuning, row)


def time_parts(
    report: Report, sizes: Sizes, train: Tensor, scale: Scale, noisy: NoisyImage, tuning: Tuning, name: str
) -> None:
    """Time the parts of a question."""
    images = whole_images(train, scale)
    prepared = gpu_launch.prepare([noisy], scale, DEVICE, tuning)
    if images is None or not prepared:
        report.add(f"  {name}: float64")
        return
    sweep = prepared[0][0]
    masses = gpu.start_sweep(sweep, images)()[0]
    floors = [masses.log_total]
    seconds = time_it(lambda: gpu.start_sweep(sweep, images, floors)(), sizes.repeats)
    parts = {
        "convert": time_it(lambda: whole_images(train, scale), min(3, sizes.repeats)),
        "sample": time_it(
            lambda: gpu_launch.find_references(sweep, images[:: max(1, len(images) // 500)]), min(3, sizes.repeats)
        ),
        "prepare": time_it(lambda: gpu_launch.prepare([noisy], scale, DEVICE, tuning), min(3, sizes.repeats)),
        "score": time_it(lambda: masses.scores(floors[0]), min(3, sizes.repeats)),
    }
    padded, useful = count_products(sweep, len(train))
    report.add(
        f"  {name}: product", ms=seconds * 1e3, tflops=2e-12 * padded / seconds, useful_tflops=2e-12 * useful / seconds,
        **{key: value * 1e3 for key, value in parts.items()},
    )  # fmt: skip


def count_products(sweep: Sweep, images: int) -> tuple[float, float]:
    """Return how many products a sweep takes with all it pads, and how many it needs, for some images."""
    times = float(images) * (1 + sweep.takes_low)
    classes = [side.classes[side.classes >= 0] for side in (sweep.tiling.query, sweep.tiling.train)]
    values, counts = np.unique(classes[1], return_counts=True)
    pairs = sum(int((classes[0] == value).sum()) * int(n) for value, n in zip(values, counts, strict=True))
    return times * sweep.tiling.pairs * sweep.high.shape[2], times * pairs * sweep.count


def time_shortlist(report: Report, sizes: Sizes, train: Tensor, query: Any, tuning: Tuning) -> None:
    """Time two noisy terms over a shortlist, and the default recipe from the picture on."""
    some = train[: sizes.shortlist].clone()
    terms = [(parse_scale(name), [make_noisy(query, 100, "draw")]) for name in sizes.scales]
    seconds = time_it(lambda: answer(some, terms, tuning), 3 * sizes.repeats)
    asked = time_asking(lambda: [gpu.start_masses(queries, some, scale, tuning=tuning) for scale, queries in terms])
    row = f"{len(some)} images, two terms"
    report.add(row, ms=seconds * 1e3, target=MILLISECONDS["two terms"], asked_in=asked * 1e3)
    seconds = time_it(lambda: answer(some, group_views(views_of_recipe(DEFAULT, query, 0)), tuning), 3 * sizes.repeats)
    report.add(f"{len(some)} images, the default recipe", ms=seconds * 1e3)


def time_draws(report: Report, sizes: Sizes, train: Tensor, query: Any, tuning: Tuning) -> None:
    """Time the default recipe with more draws over all images."""
    recipe = Recipe(tuple(replace(term, draws=sizes.draws if term.draws else 0) for term in DEFAULT.terms))
    for name, some in ((f"{sizes.draws} draws", recipe), ("the recipe as it is", as_recipe("models"))):
        terms = group_views(views_of_recipe(some, query, 0))
        seconds = time_it(partial(answer, train, terms, tuning), min(3, sizes.repeats))
        report.add(f"{name}, {len(train)} images", ms=seconds * 1e3, target=MILLISECONDS.get(name))

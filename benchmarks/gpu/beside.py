"""What an answer needs beside its scores: the pixels of a shortlist, evidence maps, and a posterior mean."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu.pictures import make_noisy, to_unit
from benchmarks.gpu.report import DEVICE, Report, Sizes, time_it
from nda_index.exact import gpu_plain, gpu_weights
from nda_index.exact.resident import ResidentPixels
from nda_index.exact.views import View, views_of_recipe
from nda_index.recipe import DEFAULT
from nda_index.scales import parse_scale

SHOWN = 10  # images of an answer
LARGEST_ERROR = 1e-9  # of sums of weights, in float64 both


def time_pixels(report: Report, sizes: Sizes, train: Tensor) -> None:
    """Time the pixels of a shortlist: from the device, from the host's memory, and as they come from a reader."""
    pixels = train.cpu().numpy()
    shape = (pixels.shape[1], pixels.shape[2], pixels.shape[3])
    ids = np.sort(np.random.default_rng(0).permutation(len(pixels))[: sizes.shortlist])
    whole = len(pixels) * prod(shape)
    for name, budgets in (("device", (whole, 0)), ("host's memory", (0, whole)), ("reader (an array)", (0, 0))):
        kept = ResidentPixels(lambda some: pixels[some], len(pixels), shape, str(DEVICE), *budgets)
        if not torch.equal(kept.take(ids), train[torch.from_numpy(ids).to(DEVICE)]):
            report.errors[f"pixels from the {name}"] = "they are not the images'"
        seconds = time_it(partial(kept.take, ids), 3 * sizes.repeats)
        rate = len(ids) * prod(shape) / seconds / 1e9
        report.add(f"pixels of {len(ids)} images from the {name}", ms=seconds * 1e3, gigabytes_a_second=rate)


def time_weights(report: Report, sizes: Sizes, train: Tensor, query: Any) -> None:
    """Time maps and links of an answer's images, and a mean over a shortlist; and check their sums."""
    shown, some = to_unit(train[:SHOWN]), to_unit(train[: sizes.shortlist])
    views = views_of_recipe(DEFAULT, query, 0) if sizes.size >= 32 else _small_views(sizes, query)
    normalisers = [_normaliser(view, some) for view in views]
    check(report, views[0], some[: sizes.checked])

    def each(work: Callable[[View, Any], Any]) -> Callable[[], list[Any]]:
        return lambda: [work(view, log) for view, log in zip(views, normalisers, strict=True)]

    maps = each(lambda view, log: gpu_weights.sum_both_ways(view.noisy, shown, view.scale, log))
    report.add(f"maps of {len(shown)} images, the default recipe", ms=time_it(maps, sizes.repeats) * 1e3)
    means = each(lambda view, log: gpu_weights.pixel_sums(view.noisy, some, view.scale, log, _one_pixel(view)))
    report.add(f"mean over {len(some)} images, the default recipe", ms=time_it(means, min(2, sizes.repeats)) * 1e3)


def check(report: Report, view: View, train: Tensor) -> None:
    """Compare the sums of weights with the masses that they are made of."""
    total, _ = gpu_plain.log_masses(view.noisy, train, view.scale, np.inf, None, 1 << 28)
    log = total.logsumexp(dim=0).cpu().numpy()  # [P]
    expected = total.cpu().numpy() - log  # [N, P]
    here, there = gpu_weights.sum_both_ways(view.noisy, train, view.scale, log)
    sums = gpu_weights.pixel_sums(view.noisy, train, view.scale, log, _one_pixel(view))
    error = max(
        float(np.abs(here - np.exp(expected)).max()),
        float(np.abs(there.sum(axis=1) - here.sum(axis=1)).max()),
        abs(float(sums[..., -1].sum()) - float(np.isfinite(log).sum())),
    )
    report.add("check sums of weights", error=error)
    if not error < LARGEST_ERROR * len(log):
        report.errors["check sums of weights"] = f"the error is {error:.2g}"


def _normaliser(view: View, train: Tensor) -> Any:
    total, _ = gpu_plain.log_masses(view.noisy, train, view.scale, np.inf, None, 1 << 30)
    return total.logsumexp(dim=0).cpu().numpy()


def _one_pixel(view: View) -> Any:
    """Return spans of one pixel for each window, the one at its position or the last one of the image."""
    height, width = view.noisy.pixels.shape[1:]
    rows, columns = (range(0, view.scale.positions(size), view.scale.query_stride) for size in (height, width))
    return np.array([(min(y, height - 1), min(y, height - 1) + 1, min(x, width - 1), min(x, width - 1) + 1)
                     for y in rows for x in columns])  # fmt: skip


def _small_views(sizes: Sizes, query: Any) -> list[View]:
    return [View(make_noisy(query, 100, "draw"), parse_scale(sizes.scales[0]), 1.0)]

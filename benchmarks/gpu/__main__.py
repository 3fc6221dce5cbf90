"""`python -m benchmarks.gpu`: check, measure, print and write."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

import benchmarks.gpu
from benchmarks.gpu.bare import use_bare_packages

use_bare_packages()

from benchmarks.gpu import beside, build, latents, lists, others, photographs, targets  # noqa: E402
from benchmarks.gpu.pictures import make_pictures  # noqa: E402
from benchmarks.gpu.report import SIZES, TINY, Report, Sizes, describe_device, print_table  # noqa: E402
from benchmarks.gpu.tunings import read_kernels, sweep_tunings  # noqa: E402
from nda_index.exact import gpu_launch  # noqa: E402

TINY_TUNING = gpu_launch.Tuning(gpu_launch.KernelTuning(32), gpu_launch.KernelTuning(16), 16)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for."""
    options = read_options(arguments)
    sizes = TINY if options.tiny else SIZES
    sizes = replace(sizes, images=options.images or sizes.images)
    tunings = [gpu_launch.Tuning(i, b) for i in read_kernels(options.inside) for b in read_kernels(options.border)]
    share, shares = map(int, options.share.split("/"))
    report = Report(time.monotonic() + (options.seconds or (34.0 if options.quick else 105.0)))
    print(f"{describe_device()}, torch {torch.__version__}, {len(tunings)} tunings")
    pictures = make_pictures(sizes.images + 1, sizes.channels, sizes.size)
    train, query = pictures[:-1], pictures[-1].cpu().numpy()
    if options.sweep:
        some = tunings[share::shares]
        report.section("sweep", lambda: sweep_tunings(report, sizes, train, query, some, options.rows))
    elif options.lists:
        measure_lists(report, sizes)
    else:
        measure(report, sizes, train, query, TINY_TUNING if options.tiny else tunings[0], options.quick)
    print_table(report)
    report.write(options.out, "gpu.json")
    return 1 if report.errors else 0


def read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=benchmarks.gpu.__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--quick", action="store_true", help="the targets alone, in 40 s")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, for the interpreter")
    parser.add_argument("--lists", action="store_true", help="the lists of the coarse stage alone")
    parser.add_argument("--sweep", action="store_true", help="time tunings, and nothing else")
    parser.add_argument("--inside", default="128.4.1.168", help="TILE.WARPS.STAGES.REGISTERS; several with --sweep")
    parser.add_argument("--border", default="64.4.1.128", help="TILE.WARPS.STAGES.REGISTERS; several with --sweep")
    parser.add_argument("--rows", default="", help="with --sweep: some of the rows, as '7 clean,14/2 noisy'")
    parser.add_argument("--images", type=int, help="instead of 50,000")
    parser.add_argument("--share", default="0/1", help="with --sweep: I/N, every N-th tuning from the I-th on")
    parser.add_argument("--seconds", type=float, help="begin no section after so many seconds")
    parser.add_argument("--out", default=os.environ.get("OUT"), help="folder for gpu.json")
    return parser.parse_args(arguments)


def measure_lists(report: Report, sizes: Sizes) -> None:
    """Run the sections of the coarse stage's lists."""
    report.section("lists against float64", lambda: lists.check_lists(report, sizes))
    report.section("coarse lists", lambda: lists.time_lists(report, sizes))


def measure(report: Report, sizes: Sizes, train: Tensor, query: Any, tuning: gpu_launch.Tuning, quick: bool) -> None:
    """Run the sections, the targets first."""
    run = report.section
    run("check", lambda: targets.check(report, sizes, train, query, tuning, sizes.scales))
    run("products", lambda: others.time_products(report, sizes))
    run("exact", lambda: targets.time_exact(report, sizes, train, query, tuning))
    run("shortlist", lambda: targets.time_shortlist(report, sizes, train, query, tuning))
    run("draws", lambda: targets.time_draws(report, sizes, train, query, tuning))
    if not quick:
        run("published", lambda: others.time_published(report, sizes, train, query, tuning))
        run("coarse", lambda: others.time_coarse(report, sizes))
        run("large", lambda: others.time_large(report, sizes, tuning))
        run("float64", lambda: others.time_float64(report, sizes, train, query))
        run("faiss", lambda: others.time_faiss(report, sizes))
        # What no card has run yet comes last: an illegal access takes the card from all that follows.
        run("pixels", lambda: beside.time_pixels(report, sizes, train))
        run("weights", lambda: beside.time_weights(report, sizes, train, query))
        run("build", lambda: build.time_build(report, sizes))
        run("photographs", lambda: photographs.time_search(report, sizes))
        run("photographs by FAISS", lambda: photographs.time_faiss(report, sizes))
        measure_lists(report, sizes)
        run("latents", lambda: latents.time_latents(report, sizes, tuning))
        run("check other patches", lambda: targets.check(report, sizes, train, query, tuning, sizes.others))


if __name__ == "__main__":
    sys.exit(main())

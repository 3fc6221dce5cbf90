"""One small question of each kernel, to be run by a tool that looks at every access of a card.

compute-sanitizer --tool memcheck python -m benchmarks.gpu.small
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence

import numpy as np

from benchmarks.gpu.bare import use_bare_packages

use_bare_packages()

from benchmarks.gpu.lists import check_lists  # noqa: E402
from benchmarks.gpu.pictures import make_noisy, make_pictures, to_unit  # noqa: E402
from benchmarks.gpu.report import TINY, Report, wait  # noqa: E402
from nda_index.diffusion import noisy_images  # noqa: E402
from nda_index.exact import gpu, gpu_launch, gpu_plain  # noqa: E402
from nda_index.scales import parse_scale  # noqa: E402


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare few images in every way, and print the largest error of each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--query-tile", type=int, default=64, help="128, which `Tuning` refuses, crashes with ptxas 12.8"
    )
    parser.add_argument("--scales", default="7,14/2,3,20")
    parser.add_argument("--images", type=int, default=4)
    options = parser.parse_args(arguments)
    gpu_launch.LARGEST_QUERY_TILE = options.query_tile
    tuning = gpu_launch.Tuning(query_tile=options.query_tile)
    pictures = make_pictures(options.images + 1, 3, 32)
    train, query = pictures[:-1], pictures[-1].cpu().numpy()
    for name in options.scales.split(","):
        scale = parse_scale(name)
        for noise in ("none", "draw"):
            noisy = make_noisy(query, 100, noise)
            masses = gpu.block_masses([noisy], train, scale, tuning=tuning)[0]
            scores = masses.scores(masses.log_total)
            total, _ = gpu_plain.log_masses(noisy, to_unit(train), scale, np.inf, None, 1 << 30)
            exact = (total - total.logsumexp(dim=0)).exp().sum(dim=1).cpu().numpy()
            wait()
            print(f"{name} {noise}: error {np.abs(scores - exact).max():.2g}", flush=True)
    latents = (to_unit(train[:, :1]).repeat(1, 4, 1, 1) * 0.9123).half().float()  # no bytes
    for name in ("4", "10/2"):  # of the default recipe: in one part, and in two
        noisy = noisy_images(latents[0].cpu().numpy(), 400, "draw")[0]
        masses = gpu.block_masses([noisy], latents, parse_scale(name), tuning=tuning)[0]
        print(f"latents {name}: {masses.scores(masses.log_total).sum():.6g}", flush=True)
    report = Report(deadline=math.inf)
    check_lists(report, TINY)
    return 1 if report.errors else 0


if __name__ == "__main__":
    sys.exit(main())

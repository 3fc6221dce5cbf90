"""How close the exact stage's kernel comes to what the processor can do, counted in its inner loops."""

from __future__ import annotations

from typing import Any

from nda_index import Scale
from nda_index.exact.borders import pair_plan
from nda_index.exact.cpu_distances import ABREAST
from nda_index.exact.simd import LANES


def pairs_of_an_image(scale: Scale, size: int = 32) -> int:
    """Pairs of windows that are compared."""
    plan = pair_plan(size, size, scale, matching_overhang=True)
    rows, columns = (sum(len(range(*line)) for line in axis[:, 1:].tolist()) for axis in (plan.rows, plan.columns))
    return rows * columns


def roofline(results: dict[str, Any]) -> dict[str, Any]:
    """Patch 7 on two cores: vector operations an image, what they would take at the measured ceilings, what it took."""
    scale, limits = Scale(7), results["ceilings"][2]
    plan = pair_plan(32, 32, scale, matching_overhang=True)
    extra = scale.taps - 1
    rows = sum(end - first + extra for _, first, end, _ in plan.rows.tolist())
    window_columns = 0
    pixel_columns = 0
    for start in range(0, len(plan.columns), ABREAST):
        chunk = plan.columns[start : start + ABREAST]
        wide = int(chunk[:, 2].max() - chunk[:, 1].min())
        window_columns += ABREAST * wide
        pixel_columns += ABREAST * (wide + extra)
    pixels, sums, pairs = rows * pixel_columns / LANES, rows * window_columns / LANES, pairs_of_an_image(scale) / LANES
    work = {
        "additions": 4 * pixels + 3 * sums + 4 * pairs,
        "multiply-adds": 3 * pixels,
        "exponentials": pairs,
        "loads, first cache": (3 + 3 / ABREAST + 1) * pixels + 4 * sums + 7 * pairs,
    }
    floor = {name: count / limits[name] / 1e6 for name, count in work.items()}  # ms an image
    took = next(r for r in results["speed"] if (r["scale"], r["images"], r["threads"]) == ("7", 1000, 2))["ours"]
    return {
        "vector operations an image": work,
        "ms an image at the ceiling": floor,
        "ms an image": took,
        "billion pairs a second": pairs_of_an_image(scale) / took / 1e6,
        "billion pixel pairs a second": rows * pixel_columns / took / 1e6,
    }

"""What this machine can do at most, measured: vectors of sixteen floats a second, on one core and on all."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nda_index.exact.simd import LANES, exp2, fma, kernel, load, smaller, store

REPEATS = 5


def ceilings(threads: int) -> dict[str, float]:
    """Billions of vectors a second: additions, fused multiply-adds, exponentials, loads from each cache."""
    rates = {}
    for name, work, kib, operations in (
        ("additions", _additions, 4, 8),
        ("multiply-adds", _multiply_adds, 4, 8),
        ("exponentials", _exponentials, 16, 0.5),
        ("loads, first cache", _loads, 24, 1),
        ("loads, second cache", _loads, 512, 1),
        ("loads, third cache", _loads, 6 * 1024, 1),
    ):
        rates[name] = _measure(work, kib * 1024 // 4, operations, threads)
    return rates


def _measure(work: Callable[..., None], floats: int, operations: float, threads: int) -> float:
    """`operations` are those of a round; for work that walks over the buffer, of a vector in it."""
    walks = operations <= 1
    times = 100_000_000 * LANES // floats if walks else 20_000_000
    per_call = times * operations * (floats // LANES if walks else 1)
    buffers = [_aligned(floats) for _ in range(threads)]
    work(buffers[0], 1)
    best = np.inf
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(REPEATS):
            start = time.perf_counter()
            list(pool.map(lambda buffer: work(buffer, times), buffers))
            best = min(best, time.perf_counter() - start)
    return per_call * threads / best / 1e9


def _aligned(floats: int) -> NDArray[np.float32]:
    room = np.full(floats + LANES, 0.5, np.float32)
    first = (-(room.ctypes.data // 4)) % LANES
    return room[first : first + floats]


@kernel
def _additions(x: Any, times: int) -> None:
    a, b, c, d = load(x, 0), load(x, 16), load(x, 32), load(x, 48)
    e, f, g, h = load(x, 64), load(x, 80), load(x, 96), load(x, 112)
    one = load(x, 128)
    for _ in range(times):
        a, b, c, d = a + one, b + one, c + one, d + one
        e, f, g, h = e + one, f + one, g + one, h + one
    store(x, 0, ((a + b) + (c + d)) + ((e + f) + (g + h)))


@kernel
def _multiply_adds(x: Any, times: int) -> None:
    a, b, c, d = load(x, 0), load(x, 16), load(x, 32), load(x, 48)
    e, f, g, h = load(x, 64), load(x, 80), load(x, 96), load(x, 112)
    k = load(x, 128)
    for _ in range(times):
        a, b, c, d = fma(a, k, k), fma(b, k, k), fma(c, k, k), fma(d, k, k)
        e, f, g, h = fma(e, k, k), fma(f, k, k), fma(g, k, k), fma(h, k, k)
    store(x, 0, ((a + b) + (c + d)) + ((e + f) + (g + h)))


@kernel
def _exponentials(x: Any, times: int) -> None:
    half = len(x) // 2
    for _ in range(times):
        for i in range(0, half, LANES):
            store(x, half + i, exp2(load(x, i)))


@kernel
def _loads(x: Any, times: int) -> None:
    a, b, c, d = load(x, 0), load(x, 16), load(x, 32), load(x, 48)
    for _ in range(times):
        for i in range(0, len(x), 4 * LANES):
            a, b = smaller(a, load(x, i)), smaller(b, load(x, i + LANES))
            c, d = smaller(c, load(x, i + 2 * LANES)), smaller(d, load(x, i + 3 * LANES))
    store(x, 0, (a + b) + (c + d))

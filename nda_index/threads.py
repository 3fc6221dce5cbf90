"""How many threads compute: of Numba and of torch, which do not know of one another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numba
import torch


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Run on one thread of torch's, then set back what was.

    For many small operations on a machine that others use too: each operation waits for the slowest of its threads,
    which costs more than they save (5 to 18 times the time on two busy cores).
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def limit_threads(count: int) -> None:
    """Have Numba and torch compute with at most this number of threads when they are called from this thread.

    Their loops run one after the other, never at once, so each may have all of them. It must be called on the thread
    that will compute: Numba and OpenMP keep the number by thread. BLAS takes the environment's (OPENBLAS_NUM_THREADS).
    """
    most = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]  # it is set when Numba is imported
    numba.set_num_threads(min(count, most))
    torch.set_num_threads(count)

"""How many threads compute: Numba's and torch's, which do not know of one another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numba
import torch


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Limit torch to one thread, then restore its number of threads.

    For many small operations on a machine that others use too: each operation waits for the slowest of its threads,
    which costs more than they save (5 to 18 times the time on two busy cores).

    Example:
        >>> with one_torch_thread():
        ...     torch.get_num_threads()
        1
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def limit_threads(count: int) -> None:
    """Limit Numba and torch to `count` threads when they are called from this thread.

    Their loops run one after the other, never at once, so each may have all of them. Call it on the thread that will
    compute: Numba and OpenMP keep the number by thread. BLAS takes its number from the environment
    (OPENBLAS_NUM_THREADS).

    Args:
        count: at least 1; more than the machine's cores do not help. Numba stays at the number it was started with.
    """
    most = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]  # it is set when Numba is imported
    numba.set_num_threads(min(count, most))
    torch.set_num_threads(count)

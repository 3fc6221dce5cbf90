"""Torch's threads, where more than one does harm."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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

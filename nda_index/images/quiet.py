"""Silence while pictures are read: decoders warn of odd EXIF or palette data of pictures that decode well.

`warnings.catch_warnings` saves and restores the filters of the whole process. Where threads that read pictures overlap,
one would restore what another had set, and warnings would stay off for good. Here the first thread that comes saves the
filters, and the last that leaves restores them.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


class _Silence:
    """How many threads want silence, and the filters as they were before the first."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.threads = 0
        self.saved = warnings.catch_warnings()


_SILENCE = _Silence()  # of the process, as the filters are


@contextmanager
def no_warnings() -> Iterator[None]:
    """Ignore all warnings, on all threads, until the last thread in such a block has left it.

    Example:
        >>> with no_warnings():
        ...     warnings.warn("odd EXIF data")
    """
    with _SILENCE.lock:
        if _SILENCE.threads == 0:
            _SILENCE.saved = warnings.catch_warnings()
            _SILENCE.saved.__enter__()
            warnings.simplefilter("ignore")
        _SILENCE.threads += 1
    try:
        yield
    finally:
        with _SILENCE.lock:
            _SILENCE.threads -= 1
            if _SILENCE.threads == 0:
                _SILENCE.saved.__exit__(None, None, None)

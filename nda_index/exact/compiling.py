"""Compiling with Numba, and keeping what was compiled where that can be written."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar, cast

import numba

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def compile_kernel(function: Kernel, **options: Any) -> Kernel:
    """Compile a function when it is first called, and keep the result for the next process.

    Numba keeps it beside the function's file or in the user's cache folder. Where neither can be written, as in many
    containers, each process compiles again, and a warning says so once.

    Args:
        function: what Numba can compile.
        options: of `numba.njit`, but for `cache`.
    """
    try:
        return cast(Kernel, numba.njit(cache=True, **options)(function))
    except RuntimeError as error:  # "cannot cache function ...: no locator available for file ..."
        if "cannot cache" not in str(error):
            raise
        _say_nothing_is_kept()
        return cast(Kernel, numba.njit(**options)(function))


@cache
def _say_nothing_is_kept() -> None:
    warnings.warn(
        "compiled code cannot be kept, since neither the package's folder nor the home folder can be written: each "
        "process compiles for up to a minute; set NUMBA_CACHE_DIR to a folder that can be written",
        RuntimeWarning,
        stacklevel=2,
    )

"""The package's modules without what their packages import, so that a machine with little but torch can run them."""

from __future__ import annotations

import os
import sys
import types
from pathlib import Path

import torch


def interpret_without_card() -> None:
    """Let Triton's interpreter run the kernels where there is no card. Call it before Triton is imported."""
    if not torch.cuda.is_available():
        os.environ.setdefault("TRITON_INTERPRET", "1")


def use_bare_packages(*, interpret: bool = True) -> None:
    """Import `nda_index.exact`, `.coarse` and the search of `.pictures` without LanceDB, FAISS and Numba.

    With `interpret` Triton's interpreter runs the kernels where there is no card. Call it first, and only in a program
    of its own: other rooms are then not to be had.
    """
    if interpret:
        interpret_without_card()
    for name in ("nda_index", "nda_index.exact"):
        if name not in sys.modules:
            package = types.ModuleType(name)
            package.__path__ = [str(Path(__file__).parents[2].joinpath(*name.split(".")))]
            sys.modules[name] = package

from __future__ import annotations

from typing import Any

import numba
import pytest

from nda_index.exact import compiling
from nda_index.exact.compiling import compile_kernel


def double(number: float) -> float:
    return 2 * number


def test_without_a_place_for_it_code_is_compiled_and_a_warning_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[dict[str, Any]] = []

    def njit(**options: Any) -> Any:
        compiled.append(options)
        if options.pop("cache", False):
            raise RuntimeError("cannot cache function 'double': no locator available for file 'x.py'")
        return lambda function: function

    monkeypatch.setattr(numba, "njit", njit)
    compiling._say_nothing_is_kept.cache_clear()
    with pytest.warns(RuntimeWarning, match="set NUMBA_CACHE_DIR") as warned:
        assert compile_kernel(double, nogil=True)(3) == compile_kernel(double, nogil=True)(3) == 6
    assert len(warned) == 1
    assert compiled[1] == {"nogil": True}


def test_other_errors_of_numba_are_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def njit(**options: Any) -> Any:
        raise RuntimeError("no such option")

    monkeypatch.setattr(numba, "njit", njit)
    with pytest.raises(RuntimeError, match="no such option"):
        compile_kernel(double)

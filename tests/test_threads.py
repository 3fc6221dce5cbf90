from __future__ import annotations

import threading

import numba
import torch

from nda_index.threads import limit_threads


def test_a_limit_holds_on_its_thread() -> None:
    found: list[tuple[int, int]] = []

    def work() -> None:
        for count in (1, before + 1):  # more than there are is no mistake
            limit_threads(count)
            found.append((numba.get_num_threads(), torch.get_num_threads()))
        torch.set_num_threads(of_torch)

    before, of_torch = numba.get_num_threads(), torch.get_num_threads()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found[0] == (1, 1)
    assert found[1][0] == before
    assert numba.get_num_threads() == before

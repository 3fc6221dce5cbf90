from __future__ import annotations

import threading
import warnings

import pytest

from nda_index.images.quiet import no_warnings


def test_threads_that_overlap_leave_the_filters_as_they_were() -> None:
    first_in, second_in, first_out = threading.Event(), threading.Event(), threading.Event()

    def one() -> None:
        with no_warnings():
            first_in.set()
            second_in.wait(5)
        first_out.set()

    def other() -> None:
        first_in.wait(5)
        with no_warnings():
            second_in.set()
            first_out.wait(5)
            warnings.warn("not heard, the other thread has left", stacklevel=1)

    before = list(warnings.filters)
    threads = [threading.Thread(target=work) for work in (one, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before
    with pytest.warns(UserWarning, match="heard again"):
        warnings.warn("heard again", stacklevel=1)

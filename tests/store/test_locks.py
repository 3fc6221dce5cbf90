from __future__ import annotations

import os
from pathlib import Path

import pytest

import nda_index as nda
from nda_index.store.locks import find_writer, write_lock


def test_there_is_one_writer_and_the_message_says_who(tmp_path: Path) -> None:
    with (
        write_lock(tmp_path),
        pytest.raises(nda.LockedError, match=f"is being written by process {os.getpid()} on .*one writer at a time"),
        write_lock(tmp_path, wait=0.0),
    ):
        pass
    with write_lock(tmp_path):  # the lock does not outlive its block
        pass


def test_the_writer_can_be_found_and_is_not_held_up(tmp_path: Path) -> None:
    assert find_writer(tmp_path) == ""
    with write_lock(tmp_path):
        assert find_writer(tmp_path).startswith(f"process {os.getpid()} on ")
    assert find_writer(tmp_path) == ""
    with write_lock(tmp_path, wait=0.0):
        pass

from __future__ import annotations

import os
from pathlib import Path

import pytest

import nda_index as nda
from nda_index.store.locks import ReadLease, without_readers, write_lock


def test_there_is_one_writer_and_the_message_says_who(tmp_path: Path) -> None:
    with (
        write_lock(tmp_path),
        pytest.raises(nda.LockedError, match=f"is being written by process {os.getpid()} on .*one writer at a time"),
        write_lock(tmp_path),
    ):
        pass
    with write_lock(tmp_path):  # the lock does not outlive its block
        pass


def test_files_may_be_erased_when_the_last_reader_has_gone(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    first, second = ReadLease(tmp_path), ReadLease(tmp_path)
    for lease in (first, second):
        with without_readers(tmp_path) as alone:
            assert not alone
        lease.release()
        lease.release()
    with without_readers(tmp_path) as alone:
        assert alone


def test_a_folder_that_is_no_index_gets_no_lock_file(tmp_path: Path) -> None:
    ReadLease(tmp_path)
    assert list(tmp_path.iterdir()) == []

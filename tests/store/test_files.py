from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

import nda_index as nda
from nda_index.store import files
from nda_index.store.files import write_atomically, writing


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    for content in (b"old", b"new and longer", b""):
        write_atomically(path, content)
        assert path.read_bytes() == content
    assert [entry.name for entry in tmp_path.iterdir()] == ["manifest.json"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    path = tmp_path / "answer.json"
    write_atomically(path, b"old")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(nda.StorageError, match="the disk is full: make room"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["answer.json"]


def test_a_write_that_is_not_allowed_speaks_of_permissions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(nda.StorageError, match="cannot be written: Permission denied; check the permissions"):
        write_atomically(tmp_path / "answer.json", b"new")


def test_a_file_and_its_name_are_on_the_disk_before_the_write_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[Path, bool]] = []
    sync = files.sync

    def note(path: Path) -> None:
        synced.append((path, (tmp_path / "x").exists()))
        sync(path)

    monkeypatch.setattr(files, "sync", note)
    write_atomically(tmp_path / "x", b"1")
    (temporary, before), (folder, after) = synced
    assert (temporary.parent, before) == (tmp_path, False)  # the content, before it gets its name
    assert (folder, after) == (tmp_path, True)


def test_a_folder_that_is_not_there_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(nda.StorageError, match="cannot be written"):
        write_atomically(tmp_path / "missing" / "x", b"1")
    with pytest.raises(nda.StorageError, match="Permission"), writing(tmp_path):
        raise PermissionError(errno.EACCES, "Permission denied")

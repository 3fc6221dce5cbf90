from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import nda_index as nda
from nda_index.store import readers
from nda_index.store.folder import MANIFEST, READERS, READERS_LOCK
from nda_index.store.readers import Reader, ReadLease, forget_gone, list_readers, prepare_lease


@pytest.fixture
def first(tmp_path: Path) -> str:
    return write(tmp_path, "1")


def write(folder: Path, content: str) -> str:
    """Make a state of the folder current; its hash."""
    index_hash = hashlib.sha256(content.encode()).hexdigest()
    prepare_lease(folder, index_hash)
    (folder / MANIFEST).write_text(content)
    return index_hash


def forbid_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers may not make files; root may, so that permissions alone do not show it."""

    def refuse(*_: object) -> tuple[Path, int]:
        raise PermissionError

    monkeypatch.setattr(readers, "_make_own", refuse)


def test_a_reader_says_who_it_is_and_what_it_reads(tmp_path: Path, first: str) -> None:
    lease = ReadLease(tmp_path)
    (opening,) = list_readers(tmp_path)
    assert opening.index_hash == ""
    assert lease.cover(first)
    (reader,) = list_readers(tmp_path)
    assert (reader.process, reader.index_hash) == (os.getpid(), first)
    assert re.fullmatch(rf"process {os.getpid()} \(.+\) on .+ since \d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\dZ", str(reader))
    lease.release()
    lease.release()
    assert list_readers(tmp_path) == []
    assert [path.name for path in (tmp_path / READERS).iterdir()] == [f"shared-{first[:16]}.lock"]


def test_a_reader_ends_with_its_process_however_that_ends(tmp_path: Path, first: str) -> None:
    code = f"""if True:
        import os, sys, types
        package = sys.modules["nda_index"] = types.ModuleType("nda_index")  # torch takes seconds
        package.__path__ = {nda.__path__!r}
        from pathlib import Path
        from nda_index.store.readers import ReadLease
        lease = ReadLease(Path({str(tmp_path)!r}))
        print("open", flush=True)
        input()
        os._exit(9)"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "open\n"
        assert [reader.process for reader in list_readers(tmp_path)] == [process.pid]
        process.communicate("\n")
    assert list_readers(tmp_path) == []
    assert len(list((tmp_path / READERS).iterdir())) == 2
    forget_gone(tmp_path, first)
    assert len(list((tmp_path / READERS).iterdir())) == 1


def test_those_who_cannot_write_share_a_lock_of_the_state_they_read(
    tmp_path: Path, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid_writing(monkeypatch)
    leases = [ReadLease(tmp_path), ReadLease(tmp_path)]
    assert all(lease.cover(first) for lease in leases)
    second = write(tmp_path, "2")
    assert not leases[0].cover(second)
    newer = ReadLease(tmp_path)
    assert newer.cover(second)
    assert {reader.index_hash for reader in list_readers(tmp_path)} == {first, second}
    assert all("may not write" in str(reader) for reader in list_readers(tmp_path))
    forget_gone(tmp_path, second)
    for lease in leases:
        assert first in {reader.index_hash for reader in list_readers(tmp_path)}
        lease.release()
    assert [reader.index_hash for reader in list_readers(tmp_path)] == [second]
    forget_gone(tmp_path, second)
    assert [path.name for path in (tmp_path / READERS).iterdir()] == [f"shared-{second[:16]}.lock"]


def test_a_state_that_changes_while_its_lock_is_taken_is_not_kept(
    tmp_path: Path, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid_writing(monkeypatch)
    hashes = iter([first, "another"])
    original = readers._hash_of
    monkeypatch.setattr(readers, "_hash_of", lambda folder: next(hashes, None) or original(folder))
    lease = ReadLease(tmp_path)
    assert next(hashes, None) is None
    assert lease.cover(first)
    assert len(list_readers(tmp_path)) == 1


def test_readers_of_an_older_version_or_index_are_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / MANIFEST).write_text("0")
    (tmp_path / READERS_LOCK).touch()
    forbid_writing(monkeypatch)
    lease = ReadLease(tmp_path)
    assert lease.cover("anything")
    assert [reader.index_hash for reader in list_readers(tmp_path)] == [""]
    lease.release()
    assert list_readers(tmp_path) == []


def test_a_description_that_cannot_be_read_is_somebody(tmp_path: Path, first: str) -> None:
    lease = ReadLease(tmp_path)
    (own,) = (tmp_path / READERS).glob(f"{os.getpid()}-*")
    for content in ("{", json.dumps({"newer": 1})):
        own.write_text(content)
        assert list_readers(tmp_path) == [Reader()]
    lease.release()


def test_a_folder_that_is_no_index_gets_no_file(tmp_path: Path) -> None:
    assert ReadLease(tmp_path).cover("anything")
    assert list(tmp_path.iterdir()) == []

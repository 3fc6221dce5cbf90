"""A push or a pull is ended at every one of its writes: the copy is a whole index, and the next run goes on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import nda_index as nda
from nda_index.copies import place as places
from nda_index.copies import push
from nda_index.store.verify import verify
from tests.copies.conftest import Room, all_files, hash_of, holds, named

WRITES = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree"}


class Killed(BaseException):
    """The process is no more."""


class Killer:
    """From the n-th write below a folder on, nothing is written there any more; n is counted from 0."""

    def __init__(self) -> None:
        self.folder, self.left = "", 0
        sys.addaudithook(self._look)

    def aim(self, folder: Path | None, left: int = 0) -> None:
        self.left, self.folder = left, "" if folder is None else str(folder)

    def _look(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.folder or event not in WRITES or not isinstance(arguments[0], str | os.PathLike):
            return
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
            return
        if str(arguments[0]).startswith(self.folder):
            self.left -= 1
            if self.left < 0:
                raise Killed


@pytest.fixture(scope="module")
def killer() -> Iterator[Killer]:
    killer = Killer()
    yield killer
    killer.aim(None)


@pytest.fixture(autouse=True)
def one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nda_index.copies.summary.THREADS", 1)


@pytest.mark.parametrize("first", [True, False])
def test_a_pull_that_is_killed_anywhere_leaves_a_whole_index(
    room: Room, tmp_path: Path, killer: Killer, first: bool
) -> None:
    pulled = tmp_path / "pulled.nda"
    nda.push_index(room.index, room.url)
    if not first:
        nda.pull_index(room.url, pulled)
        room.erase()
        room.grow()
        nda.push_index(room.index, room.url)
    old, new, kills, states = "" if first else hash_of(pulled), hash_of(room.store), 0, set[str]()
    found = set[str]()
    for number in count():
        shutil.rmtree(room.copy, ignore_errors=True)
        if not first:
            shutil.copytree(pulled, room.copy)
        killer.aim(room.copy, number)
        try:
            nda.pull_index(room.url, room.copy)
            break
        except Killed:
            kills += 1
        finally:
            killer.aim(None)
        if first and not (room.copy / "manifest.json").exists():
            with pytest.raises(nda.NotAnIndexError):
                nda.open_index(room.copy)
        else:
            states.add(hash_of(room.copy))
            nda.open_index(room.copy).close()
            found |= {finding.kind for finding in verify(room.copy)}
        nda.pull_index(room.url, room.copy)
        assert hash_of(room.copy) == new
        assert verify(room.copy) == []
        assert first or holds(room.copy, room.marks()) == set()
    assert kills > 2 * len(named(room.store)) if first else kills > 10
    assert states == ({new} if first else {old, new})
    assert found == (set() if first else {"pulling", "waiting"})


def test_a_pull_goes_on_with_what_is_there_already(room: Room, killer: Killer) -> None:
    nda.push_index(room.index, room.url)
    for number in count():  # until two files have come
        killer.aim(room.copy, number)
        with pytest.raises(Killed):
            nda.pull_index(room.url, room.copy)
        killer.aim(None)
        if len(named(room.store) & all_files(room.copy)) == 2:
            break
        shutil.rmtree(room.copy, ignore_errors=True)
    with pytest.raises(nda.NotAnIndexError, match="its pull was interrupted"):
        nda.open_index(room.copy)
    assert nda.pull_index(room.url, room.copy).files == len(named(room.store)) - 2


def test_what_a_killed_pull_of_another_state_fetched_is_erased(room: Room, tmp_path: Path, killer: Killer) -> None:
    nda.pull_index(room.index, tmp_path / "pulled.nda")
    room.grow()
    for number in count():
        shutil.rmtree(room.copy, ignore_errors=True)
        shutil.copytree(tmp_path / "pulled.nda", room.copy)
        killer.aim(room.copy, number)
        with pytest.raises(Killed):
            nda.pull_index(room.index, room.copy)
        killer.aim(None)
        if len((named(room.index) - named(room.copy)) & all_files(room.copy)) == 2:
            break
    room.erase()
    nda.remove_images(room.index, image_ids=[1])  # a state whose manifest says nothing of these files
    summary = nda.pull_index(room.index, room.copy)
    assert summary.foreign == ()
    assert verify(room.copy) == []


@pytest.mark.parametrize("half", [True, False])
def test_a_push_that_is_killed_anywhere_leaves_a_whole_index(
    room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, half: bool
) -> None:
    """With `half`, half of the file is there that is written at that moment, as in a folder it would be."""
    nda.push_index(room.index, room.url)
    pushed = Path(shutil.copytree(room.store, tmp_path / "pushed"))
    old = hash_of(room.store)
    room.erase()
    room.grow()
    new, left, originals = hash_of(room.index), [0], (places.put, places.send, places.delete)

    def step() -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Killed

    def put(*arguments: Any) -> None:
        step()
        originals[0](*arguments)

    def send(place: Any, source: Path, name: str, counted: Any) -> None:
        try:
            step()
        except Killed:
            if half:
                path = Path(place.root, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
            raise
        originals[1](place, source, name, counted)

    def delete(place: Any, names: list[str]) -> None:
        for name in names:
            step()
            originals[2](place, [name])

    for name, function in (("put", put), ("send", send), ("delete", delete)):
        monkeypatch.setattr(push, name, function)
    states, steps = set[str](), 0
    for number in count():
        shutil.rmtree(room.store)
        shutil.copytree(pushed, room.store)
        left[0] = number
        try:
            nda.push_index(room.index, room.url)
            steps = number
            break
        except Killed:
            pass
        states.add(hash_of(room.store))
        assert nda.pull_index(room.url, tmp_path / f"copy{number}").index_hash in (old, new)
        left[0] = 10_000
        summary = nda.push_index(room.index, room.url)
        assert (summary.foreign, hash_of(room.store)) == ((), new)
        assert all_files(room.store) == {"manifest.json", *named(room.index)}
        assert holds(room.store, room.marks()) == set()
    assert steps == 3 + len(named(room.index) ^ named(pushed))  # the list, the manifest, the list's end; the files
    assert states == {old, new}


def test_a_process_that_is_killed_leaves_a_whole_index(room: Room) -> None:
    """`kill -9` of a real process, in the middle of its first file."""
    nda.pull_index(room.index, room.copy)
    state = hash_of(room.copy)
    room.erase()
    code = (
        "import os, signal, sys, nda_index as nda\n"
        "from nda_index.copies import pull\n"
        "def fetch(place, name, target, counted):\n"
        "    target.write_bytes(b'half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "pull.fetch = fetch\n"
        "nda.pull_index(*sys.argv[1:])\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(room.index), str(room.copy)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert hash_of(room.copy) == state
    nda.pull_index(room.index, room.copy)
    assert verify(room.copy) == []


def test_a_first_push_to_a_folder_that_is_killed_anywhere_is_gone_on_with(
    room: Room, tmp_path: Path, killer: Killer
) -> None:
    """Only what Python writes is seen here: the lists, the manifest and the ends of files."""
    for number in count():
        shutil.rmtree(room.store, ignore_errors=True)
        killer.aim(room.store, number)
        try:
            nda.push_index(room.index, room.url)
            break
        except Killed:
            pass
        finally:
            killer.aim(None)
        summary = nda.push_index(room.index, room.url)
        assert (summary.foreign, all_files(room.store)) == ((), {"manifest.json", *named(room.index)})
    assert number > 6

from __future__ import annotations

import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import nda_index as nda
from nda_index.copies import place as places
from nda_index.copies import pull, summary
from nda_index.store.folder import PULLED, WRITER_LOCK
from nda_index.store.locks import write_lock
from nda_index.store.manifest import _serialise
from nda_index.store.pulled import read_pulled, write_pulled
from nda_index.store.verify import judge_findings, verify
from tests.copies.conftest import Room, all_files, hash_of, holds, named


def test_only_new_files_travel_and_old_ones_are_erased(room: Room) -> None:
    nda.push_index(room.index, room.url)
    first = nda.pull_index(room.url, room.copy)
    assert (first.files, first.index_hash) == (len(named(room.index)), hash_of(room.index))
    assert nda.open_index(room.copy).attribute(room.images[3], timestep=50, top=1).image_ids[0] == 3
    for change in (room.grow, room.erase, lambda: nda.remove_images(room.index, image_ids=[2, 3])):
        before = named(room.index)
        change()
        nda.push_index(room.index, room.url)
        done = nda.pull_index(room.url, room.copy)
        new, old = named(room.index) - before, before - named(room.index)
        assert (done.files, done.deleted, done.waiting) == (len(new), len(old), 0)
        assert done.bytes == sum((room.index / name).stat().st_size for name in new)
        assert hash_of(room.copy) == hash_of(room.index)
        assert verify(room.copy) == []
    assert holds(room.copy, room.marks()) == set()
    again = nda.pull_index(room.url, room.copy)
    assert (again.files, again.bytes, again.deleted) == (0, 0, 0)


def test_a_folder_is_pulled_from_as_it_is_served(room: Room) -> None:
    with nda.open_index(room.index):
        nda.pull_index(room.index, room.copy)
    assert hash_of(room.copy) == hash_of(room.index)
    assert not [name for name in all_files(room.copy) if name.startswith("readers/") and "shared" not in name]


def test_old_files_wait_for_their_readers_over_several_states(room: Room) -> None:
    nda.pull_index(room.index, room.copy)
    with nda.open_index(room.copy) as reader:
        room.erase()
        first = nda.pull_index(room.index, room.copy)
        assert first.waiting > 0 and len(first.readers) == 1
        room.grow()  # a state whose manifest says nothing of what the reader still has open
        second = nda.pull_index(room.index, room.copy)
        assert second.waiting >= first.waiting
        assert {finding.kind for finding in verify(room.copy)} == {"waiting"}
        assert reader.attribute(room.images[7], timestep=50, top=1).image_ids[0] == 7
        assert holds(room.copy, room.marks()) == {0, 1}
    assert nda.pull_index(room.index, room.copy).deleted == second.waiting
    assert verify(room.copy) == []
    assert holds(room.copy, room.marks()) == set()


def test_an_index_that_changes_meanwhile_is_pulled_as_it_is_then(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    nda.push_index(room.index, room.url)
    original, changed = places.fetch, threading.Lock()

    def late(*arguments: Any) -> str:
        if changed.acquire(blocking=False):
            room.erase()
            nda.push_index(room.index, room.url)
        return original(*arguments)

    monkeypatch.setattr(pull, "fetch", late)
    monkeypatch.setattr("nda_index.copies.summary.THREADS", 1)
    nda.pull_index(room.url, room.copy)
    assert hash_of(room.copy) == hash_of(room.index)
    assert verify(room.copy) == []
    assert holds(room.copy, room.marks()) == set()


def test_an_index_that_changes_all_the_time_is_given_up(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    nda.pull_index(room.index, room.copy)
    state = hash_of(room.copy)

    def moved(*arguments: Any) -> None:
        raise pull.MovedError

    nda.remove_images(room.index, image_ids=[1])
    monkeypatch.setattr(pull, "travel", moved)
    with pytest.raises(nda.StorageError, match="changed 5 times while it was pulled"):
        nda.pull_index(room.index, room.copy)
    assert hash_of(room.copy) == state


@pytest.mark.parametrize("times", [1, 2])
def test_a_file_that_is_damaged_on_the_way_is_fetched_again_once(
    room: Room, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    nda.pull_index(room.index, room.copy)
    state, original, damaged = hash_of(room.copy), places.fetch, list[str]()

    def noisy(place: Any, name: str, target: Path, counted: Any) -> str:
        digest = original(place, name, target, counted)
        if len(damaged) < times:
            damaged.append(name)
            target.write_bytes(b"?" * target.stat().st_size)
            return "0" * 64
        return digest

    nda.remove_images(room.index, image_ids=[1])
    monkeypatch.setattr(pull, "fetch", noisy)
    if times == 1:
        nda.pull_index(room.index, room.copy)
        assert hash_of(room.copy) == hash_of(room.index)
    else:
        with pytest.raises(nda.CorruptIndexError, match="is not the file that manifest.json there names"):
            nda.pull_index(room.index, room.copy)
        assert hash_of(room.copy) == state
    assert [finding.kind for finding in verify(room.copy)] == []


def test_a_copy_that_was_damaged_is_mended(room: Room) -> None:
    nda.pull_index(room.index, room.copy)
    name = next(iter(name for name in named(room.copy) if "lists-" in name))
    (room.copy / name).write_bytes(b"")
    assert nda.pull_index(room.index, room.copy).files == 1
    assert verify(room.copy) == []


def test_what_is_no_whole_index_there_is_refused_with_what_it_is(room: Room) -> None:
    with pytest.raises(nda.NotAnIndexError, match="there is nothing at"):
        nda.pull_index(room.url, room.copy)
    room.store.mkdir(parents=True)
    (room.store / "a.txt").touch()
    with pytest.raises(nda.NotAnIndexError, match=r"other things \(a.txt\)"):
        nda.pull_index(room.url, room.copy)
    (room.store / "a.txt").unlink()
    nda.push_index(room.index, room.url)
    name = next(iter(name for name in named(room.store) if "lists-" in name))
    (room.store / name).unlink()
    with pytest.raises(nda.CorruptIndexError, match=f"is damaged: there is no {name}"):
        nda.pull_index(room.url, room.copy)
    manifest = (room.store / "manifest.json").read_bytes()
    (room.store / "manifest.json").write_bytes(manifest[: len(manifest) // 2])
    with pytest.raises(nda.CorruptIndexError, match="was changed"):
        nda.pull_index(room.url, room.copy)
    assert not (room.copy / "manifest.json").exists()


@pytest.mark.parametrize("name", ["../../stolen", "/stolen", "readers/1.lock", "writer.lock", "a/../../b", "."])
def test_names_that_lead_elsewhere_are_refused(room: Room, name: str) -> None:
    nda.push_index(room.index, room.url)
    values = json.loads((room.store / "manifest.json").read_bytes())
    del values["manifest_sha256"]
    values["files"][name] = {"size": 1, "sha256": "0" * 64, "ends": "0" * 64}
    (room.store / "manifest.json").write_bytes(_serialise(values))
    with pytest.raises(nda.CorruptIndexError, match="cannot be a file of an index"):
        nda.pull_index(room.url, room.copy)
    assert not room.copy.exists()


def test_a_folder_of_other_things_is_refused_and_stays_as_it_is(room: Room) -> None:
    room.copy.mkdir()
    (room.copy / "1.jpg").write_text("mine")
    with pytest.raises(nda.NotAnIndexError, match=r"other things \(1.jpg\)"):
        nda.pull_index(room.index, room.copy)
    assert all_files(room.copy) == {"1.jpg"}


def test_files_of_others_in_a_copy_are_left_alone_and_named(room: Room) -> None:
    nda.pull_index(room.index, room.copy)
    (room.copy / "scales" / "notes.txt").write_text("mine")
    room.erase()
    assert nda.pull_index(room.index, room.copy).foreign == ("scales/notes.txt",)
    assert (room.copy / "scales" / "notes.txt").read_text() == "mine"


def test_files_of_an_interrupted_pull_are_told_from_files_of_others(room: Room) -> None:
    nda.pull_index(room.index, room.copy)
    nda.remove_images(room.index, image_ids=[1])
    (fetched,) = named(room.index) - named(room.copy)
    before = read_pulled(room.copy)
    assert before is not None
    write_pulled(room.copy, replace(before, fetching=(*before.fetching, fetched)))
    (room.copy / fetched).write_bytes((room.index / fetched).read_bytes())
    (found,) = verify(room.copy)
    assert (found.kind, found.file, judge_findings([found])) == ("pulling", fetched, 12)
    assert f"pull again from {str(room.index)!r}, or delete the file" in found.text
    (room.copy / "notes.txt").touch()
    other = next(finding for finding in verify(room.copy) if finding.file == "notes.txt")
    assert (other.kind, "delete it; pulls leave it alone" in other.text) == ("foreign", True)


def test_edits_of_a_copy_are_not_undone(room: Room, tmp_path: Path) -> None:
    nda.pull_index(room.index, room.copy)
    pulled = hash_of(room.copy)
    with pytest.raises(nda.ConfigError, match=f"is a copy of '{room.index}'"):
        nda.remove_images(room.copy, image_ids=[2])
    with pytest.raises(nda.ConfigError, match="delete pulled.json here"):
        nda.compact(room.copy)
    assert hash_of(room.copy) == pulled
    kept = (room.copy / PULLED).read_bytes()
    (room.copy / PULLED).unlink()
    nda.remove_images(room.copy, image_ids=[2])
    (room.copy / PULLED).write_bytes(kept)
    edited = hash_of(room.copy)
    nda.remove_images(room.index, image_ids=[1, 3])
    with pytest.raises(nda.ConfigError, match="was edited since it was pulled"):
        nda.pull_index(room.index, room.copy)
    assert hash_of(room.copy) == edited
    original = shutil.copytree(room.index, tmp_path / "original.nda")
    nda.remove_images(room.index, image_ids=[4])
    with pytest.raises(nda.ConfigError, match="was never pulled"):
        nda.pull_index(room.index, original)
    with pytest.raises(nda.MismatchError, match="lies a later state"):
        nda.pull_index(original, room.index)


def test_one_process_writes_a_copy(room: Room) -> None:
    nda.pull_index(room.index, room.copy)
    nda.remove_images(room.index, image_ids=[1])
    with write_lock(room.copy, "an edit"), pytest.raises(nda.LockedError, match=r"\(an edit, since"):
        nda.pull_index(room.index, room.copy)


def test_an_edit_meanwhile_is_refused(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    nda.pull_index(room.index, room.copy)
    original, refused = summary.travel, list[str]()

    def edited(*arguments: Any) -> None:
        with pytest.raises(nda.LockedError) as error:
            nda.remove_images(room.copy, image_ids=[3])
        refused.append(str(error.value))
        original(*arguments)

    nda.remove_images(room.index, image_ids=[1])
    monkeypatch.setattr(pull, "travel", edited)
    nda.pull_index(room.index, room.copy)
    assert len(refused) == 1 and "(a pull, since" in refused[0]
    assert hash_of(room.copy) == hash_of(room.index)


def test_the_audit_log_has_a_line_for_each_state(room: Room) -> None:
    log = room.copy.with_name("copy.nda.audit.jsonl")
    for _ in range(2):
        nda.pull_index(room.index, room.copy)
    (line,) = [json.loads(text) for text in log.read_text().splitlines()]
    assert (line["event"], line["index_hash"], line["source"]) == ("pull", hash_of(room.copy), str(room.index))


def test_a_pulled_file_is_whole_and_the_folder_has_nothing_else(room: Room) -> None:
    nda.pull_index(room.index, room.copy)
    readers = {name for name in all_files(room.copy) if name.startswith("readers/")}
    assert all_files(room.copy) - readers == {"manifest.json", PULLED, WRITER_LOCK, *named(room.index)}
    assert len(readers) == 1  # the one that readers share who cannot write

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nda_index as nda
from nda_index.copies import place as places
from nda_index.copies import push, summary
from nda_index.store.folder import PUSHING
from nda_index.store.verify import verify
from tests.copies.conftest import REMOVED, Room, all_files, hash_of, holds, named


def test_only_new_files_travel_and_old_ones_are_deleted_there(room: Room) -> None:
    first = nda.push_index(room.index, room.url)
    assert first.files == len(named(room.index)) > 5
    assert first.bytes == sum((room.index / name).stat().st_size for name in named(room.index))
    assert all_files(room.store) == {"manifest.json", *named(room.index)}
    assert first.index_hash == hash_of(room.store) == hash_of(room.index)
    before = named(room.index)
    room.grow()
    second = nda.push_index(room.index, room.url)
    assert (second.files, second.deleted) == (len(named(room.index) - before), len(before - named(room.index)))
    assert holds(room.store, room.marks()) == {0, 1}
    before = named(room.index)
    room.erase()
    third = nda.push_index(room.index, room.url)
    assert (third.files, third.deleted) == (len(named(room.index) - before), len(before - named(room.index)))
    assert 0 < third.files < first.files
    assert holds(room.store, room.marks()) == set()
    assert all_files(room.store) == {"manifest.json", *named(room.index)}
    assert nda.push_index(room.index, room.url).files == 0


def test_what_a_reader_keeps_at_home_does_not_stay_in_the_copy(room: Room) -> None:
    nda.push_index(room.index, room.url)
    with nda.open_index(room.index):
        room.erase()
        assert holds(room.index, room.marks()) == {0, 1}
        nda.push_index(room.index, room.url)
    assert holds(room.store, room.marks()) == set()


def test_edits_during_a_push_change_nothing_of_what_is_pushed(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    state, original = hash_of(room.index), summary.travel

    def edited(*arguments: Any) -> None:
        room.erase()
        original(*arguments)

    monkeypatch.setattr(push, "travel", edited)
    nda.push_index(room.index, room.url)
    assert hash_of(room.store) == state != hash_of(room.index)


def test_files_of_others_are_left_alone_and_named(room: Room) -> None:
    nda.push_index(room.index, room.url)
    for name in ("notes.txt", "scales/p5r1/mine.arrow"):
        (room.store / name).write_text("mine")
    room.erase()
    assert nda.push_index(room.index, room.url).foreign == ("notes.txt", "scales/p5r1/mine.arrow")
    assert (room.store / "notes.txt").read_text() == (room.store / "scales/p5r1/mine.arrow").read_text() == "mine"


def test_a_folder_of_other_things_is_refused_and_stays_as_it_is(room: Room) -> None:
    (room.store / "holiday").mkdir(parents=True)
    (room.store / "holiday" / "1.jpg").write_text("mine")
    with pytest.raises(nda.NotAnIndexError, match=r"has other things \(holiday/1.jpg\)"):
        nda.push_index(room.index, room.url)
    assert all_files(room.store) == {"holiday/1.jpg"}


def test_another_index_and_a_later_state_are_not_replaced(room: Room, tmp_path: Path) -> None:
    other = np.random.default_rng(9).integers(0, 256, (20, 16, 16, 3), np.uint8)
    nda.build_index(other, tmp_path / "other.nda", image_size=16, scales=[nda.Scale(5)], null=0).close()
    nda.push_index(room.index, room.url)
    with pytest.raises(nda.MismatchError, match="lies another index, .* it has another"):
        nda.push_index(tmp_path / "other.nda", room.url)
    backup = shutil.copytree(room.index, tmp_path / "backup.nda")
    for change in (lambda: nda.remove_images(room.index, image_ids=[1]), lambda: nda.compact(room.index), room.grow):
        change()
        state = nda.push_index(room.index, room.url).index_hash
        with pytest.raises(nda.MismatchError, match="lies a later state"):
            nda.push_index(backup, room.url)
        assert hash_of(room.store) == state


def test_a_folder_that_is_served_is_not_pushed_to(room: Room) -> None:
    nda.push_index(room.index, room.store)
    with nda.open_index(room.store), pytest.raises(nda.ConfigError, match="with `nda-index pull`"):
        nda.push_index(room.index, room.store)


def test_a_damaged_file_is_not_pushed(room: Room) -> None:
    nda.push_index(room.index, room.url)
    state = hash_of(room.store)
    room.grow()
    path = next(room.index / name for name in named(room.index) - named(room.store) if name.endswith(".lance"))
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(nda.CorruptIndexError, match="was changed, and is not pushed"):
        nda.push_index(room.index, room.url)
    assert hash_of(room.store) == state


def test_the_earlier_of_two_pushes_gives_up_and_leaves_nothing(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    nda.push_index(room.index, room.url)
    room.grow()
    original = summary.travel

    def overtaken(*arguments: Any) -> None:
        monkeypatch.setattr(push, "travel", original)
        room.erase()
        nda.push_index(room.index, room.url)
        original(*arguments)

    monkeypatch.setattr(push, "travel", overtaken)
    with pytest.raises(nda.LockedError, match="another push .* came in between"):
        nda.push_index(room.index, room.url)
    assert all_files(room.store) == {"manifest.json", *named(room.index)}
    assert hash_of(room.store) == hash_of(room.index)


def test_a_restored_index_goes_to_an_address_of_its_own(room: Room, tmp_path: Path) -> None:
    """Also when what was removed meanwhile is removed again: its files are others, and copies would not follow."""
    backup = Path(shutil.copytree(room.index, tmp_path / "backup.nda"))
    room.erase()
    nda.push_index(room.index, room.url)
    nda.pull_index(room.url, room.copy)
    with pytest.raises(nda.MismatchError, match="a later state"):
        nda.push_index(backup, room.url)
    nda.remove_images(backup, image_ids=[REMOVED])
    nda.compact(backup)
    with pytest.raises(nda.MismatchError, match="as it went on after the backup that it was restored from"):
        nda.push_index(backup, room.url)
    nda.push_index(backup, tmp_path / "new")
    nda.pull_index(tmp_path / "new", tmp_path / "new.nda")
    assert verify(tmp_path / "new.nda") == verify(room.copy) == []
    assert holds(tmp_path / "new.nda", room.marks()) == set()


def test_a_manifest_that_another_push_puts_at_the_end_is_not_written_over(
    room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one had looked whether it is alone just before this one began."""
    other = Path(shutil.copytree(room.index, tmp_path / "other.nda"))
    nda.push_index(room.index, room.url)
    nda.remove_images(other, image_ids=[3])
    nda.remove_images(room.index, image_ids=[4])
    original = summary.travel

    def overtaken(*arguments: Any) -> None:
        original(*arguments)
        for name in [*named(other) - all_files(room.store), "manifest.json"]:
            shutil.copy(other / name, room.store / name)

    monkeypatch.setattr(push, "travel", overtaken)
    with pytest.raises(nda.LockedError, match="came in between"):
        nda.push_index(room.index, room.url)
    assert hash_of(room.store) == hash_of(other)


def test_what_an_interrupted_push_wrote_is_used_or_deleted(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    original, sent = places.send, list[str]()

    def cut(*arguments: Any) -> None:
        if len(sent) > 2:
            raise nda.StorageError("the network is gone")
        sent.append(arguments[2])
        original(*arguments)

    monkeypatch.setattr(push, "send", cut)
    with pytest.raises(nda.StorageError, match="the network is gone"):
        nda.push_index(room.index, room.url)
    monkeypatch.setattr(push, "send", original)
    assert PUSHING in all_files(room.store)
    with pytest.raises(nda.NotAnIndexError, match="its push was interrupted"):
        nda.pull_index(room.url, room.copy)
    room.erase()
    last = nda.push_index(room.index, room.url)
    assert last.files == len(named(room.index) - set(sent)) < len(named(room.index))
    assert all_files(room.store) == {"manifest.json", *named(room.index)}
    assert last.foreign == ()


def test_shards_travel_before_the_index_that_names_them(room: Room, tmp_path: Path) -> None:
    """A whole of one shard, made by hand: Ray builds such."""
    whole = in_shards(room, tmp_path)
    nda.push_index(whole, room.url)
    assert hash_of(room.store / "shards/00000") == hash_of(whole / "shards/00000")
    (room.store / "shards/00000/notes.txt").write_text("mine")
    before = named(whole / "shards/00000")
    nda.remove_images(whole / "shards/00000", image_ids=[7])
    nda.compact(whole / "shards/00000")
    again = nda.push_index(whole, room.url)
    assert again.files == len(named(whole / "shards/00000") - before)
    assert again.foreign == ("shards/00000/notes.txt",)
    assert holds(room.store, room.marks()) == set()
    with nda.open_index(whole) as index:
        assert again.index_hash == index.manifest.index_hash
    pulled = nda.pull_index(room.url, room.copy)
    assert pulled.files == len(named(whole / "shards/00000")) + len(named(whole))
    with nda.open_index(room.copy) as index:
        assert (len(index), index.manifest.index_hash) == (19, pulled.index_hash)


def in_shards(room: Room, tmp_path: Path) -> Path:
    """Make an index in one shard."""
    from nda_index.store.manifest import _serialise

    whole = tmp_path / "whole.nda"
    shutil.copytree(room.index, whole / "shards/00000")
    kept = [name for name in named(room.index) if name.startswith("scales/") and "lists" not in name] + ["null.arrow"]
    for name in kept:
        (whole / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(room.index / name, whole / name)
    values = json.loads((room.index / "manifest.json").read_bytes())
    del values["manifest_sha256"]
    values |= {"shards": ["shards/00000"], "features": ["shards"], "table": {}}
    values["files"] = {name: values["files"][name] for name in kept}
    (whole / "manifest.json").write_bytes(_serialise(values))
    return whole

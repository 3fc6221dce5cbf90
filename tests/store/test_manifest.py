from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import nda_index as nda
from nda_index.store import manifest
from nda_index.store.folder import BUILDING, MANIFEST, READERS, WRITER_LOCK
from nda_index.store.hashes import hash_files
from nda_index.store.locks import write_lock
from nda_index.store.manifest import commit, read_manifest
from nda_index.store.state import look
from nda_index.store.verify import verify


@pytest.fixture
def copy(index_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(index_folder, tmp_path / "copy.nda"))


def files(folder: Path) -> list[Path]:
    """All files but those that hold nothing of the index: locks, and what Lance remembers of its own."""
    unimportant = (WRITER_LOCK, "latest_version_hint.json")
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and path.name not in unimportant and path.parent.name != READERS
    )


def test_an_index_as_built_is_intact_wherever_it_is_moved(copy: Path) -> None:
    assert verify(copy) == []
    assert nda.open_index(copy).manifest.index_hash == read_manifest(copy).index_hash


def test_a_file_that_may_not_be_read_needs_permission(index_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(manifest, "hash_ends", refuse)
    with pytest.raises(nda.CorruptIndexError, match="cannot be read: .*Permission denied; check the permissions"):
        read_manifest(index_folder)


def test_one_flipped_byte_in_any_file_is_found(copy: Path) -> None:
    assert len(files(copy)) >= 10
    for path in files(copy):
        data = path.read_bytes()
        for position in {0, len(data) // 2, len(data) - 1}:
            path.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
            problems = verify(copy)
            assert len(problems) == 1, path
            assert problems[0].kind == "damage"
            assert path.relative_to(copy).as_posix() in str(problems[0])
        path.write_bytes(data)
    assert verify(copy) == []


def test_missing_truncated_and_extra_files_are_found_and_not_opened(copy: Path) -> None:
    for path in files(copy):
        if path.name == MANIFEST:
            continue
        data = path.read_bytes()
        name = path.relative_to(copy).as_posix()
        path.write_bytes(data[:-1])
        assert [finding.file for finding in verify(copy)] == [name]
        with pytest.raises(nda.CorruptIndexError, match="is damaged"):
            nda.open_index(copy)
        path.unlink()
        assert [str(finding) for finding in verify(copy)] == [f"{name} is missing"]
        with pytest.raises(nda.CorruptIndexError, match="is missing"):
            nda.open_index(copy)
        path.write_bytes(data)
    (copy / "scales" / "stray.txt").write_text("?")
    assert [(finding.kind, finding.file) for finding in verify(copy)] == [("foreign", "scales/stray.txt")]


def test_changed_pixels_are_noticed_when_they_are_read(copy: Path, pictures: object) -> None:
    (data_file,) = (copy / "images.lance" / "data").iterdir()
    data = bytearray(data_file.read_bytes())
    position = data.find(nda.open_index(copy).pixels(np.array([150])).tobytes()[:64])
    assert position >= 0
    data[position] ^= 1
    data_file.write_bytes(bytes(data))
    with pytest.raises(nda.CorruptIndexError, match="not those that were indexed"):
        nda.open_index(copy).scores([pictures[0]])  # type: ignore[index]


def test_a_newer_format_and_unknown_features_are_refused(copy: Path) -> None:
    manifest = read_manifest(copy)
    for changes in ({"format_version": 99}, {"features": ["holograms"]}):
        values = {**manifest.__dict__, **changes}
        with pytest.raises(nda.VersionError, match=r"upgrade nda_index"):
            commit(copy, type(manifest)(**values))
        with pytest.raises(nda.VersionError):
            nda.open_index(copy)


def test_a_folder_that_is_no_index_says_so(tmp_path: Path) -> None:
    with pytest.raises(nda.NotAnIndexError, match="there is no index at"):
        nda.open_index(tmp_path / "nowhere")
    with pytest.raises(nda.NotAnIndexError, match="is not an index but a folder of other things; give the folder"):
        nda.open_index(tmp_path)
    (tmp_path / MANIFEST).write_text(json.dumps([1]))
    with pytest.raises(nda.CorruptIndexError, match="was changed after the build"):
        nda.open_index(tmp_path)


def test_a_build_that_goes_on_is_told_from_one_that_was_interrupted(tmp_path: Path) -> None:
    (tmp_path / BUILDING).write_text("{}")
    with write_lock(tmp_path, "a build") as note:
        note("encode p5r1", 100, 3_000)
        for look_at in (nda.open_index, verify, look):
            with pytest.raises(nda.NotAnIndexError, match=rf"being built by process {os.getpid()} .* 100 of 3,000"):
                look_at(tmp_path)
    with pytest.raises(nda.NotAnIndexError, match=r"its build was interrupted; run the same build with --resume"):
        nda.open_index(tmp_path)


def test_segments_of_another_build_are_refused(copy: Path, tmp_path: Path, pictures: object) -> None:
    other = tmp_path / "other.nda"
    nda.build_index(pictures[:40], other, image_size=(24, 20), scales=[nda.Scale(5), nda.Scale(8, 2)])  # type: ignore[index]
    manifest = read_manifest(copy)
    shutil.copy(other / "scales" / "p5r1" / "quantizer.arrow", copy / "scales" / "p5r1" / "quantizer.arrow")
    commit(copy, replace(manifest, files=hash_files(copy), index_hash=""))
    with pytest.raises(nda.MismatchError, match="different builds"):
        nda.open_index(copy)

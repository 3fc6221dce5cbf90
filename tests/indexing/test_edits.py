from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import nda_index as nda
from nda_index.store.manifest import read_manifest
from nda_index.store.verify import verify
from tests.conftest import photographs

OPTIONS: dict[str, Any] = {"image_size": (24, 20), "scales": [nda.Scale(5), nda.Scale(8, 2)], "null": 0}


def source(folder: Path, images: NDArray[np.uint8], name: str, **columns: Any) -> Path:
    np.savez(folder / f"{name}.npz", images=images, **columns)
    return folder / f"{name}.npz"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, pictures: NDArray[np.uint8]) -> Path:
    """An index of the first 100 pictures; tests that change it must copy it."""
    folder = tmp_path_factory.mktemp("edits")
    years = 2000 + np.arange(100) // 10
    nda.build_index(source(folder, pictures[:100], "first", year=years), folder / "x.nda", **OPTIONS).close()
    return folder / "x.nda"


@pytest.fixture
def folder(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "x.nda"))


def test_added_images_are_found_and_scored_as_if_built_at_once(
    folder: Path, tmp_path: Path, pictures: NDArray[np.uint8]
) -> None:
    added = nda.add_images(
        folder, source(tmp_path, pictures[100:140], "more", year=np.full(40, 2020), other=np.ones(40))
    )
    assert (added.images, added.changed, added.failures) == (140, 40, 0)
    assert verify(folder) == []
    index = nda.open_index(folder)
    assert len(index) == 140
    answer = index.attribute(pictures[120], timestep=50, top=1)
    assert (answer.image_ids[0], answer.metadata["year"].to_pylist()) == (120, [2020])
    assert index.attribute(pictures[120], timestep=50, top=40, where="year = 2020").collection == 40
    at_once = nda.build_index(pictures[:140], tmp_path / "once.nda", **OPTIONS)
    np.testing.assert_allclose(index.scores(pictures[:1]), at_once.scores(pictures[:1]), rtol=1e-5)
    np.testing.assert_array_equal(index.pixels(np.arange(140)), at_once.pixels(np.arange(140)))


def test_an_open_index_goes_on_as_it_was(folder: Path, tmp_path: Path, pictures: NDArray[np.uint8]) -> None:
    index = nda.open_index(folder)
    before = index.attribute(pictures[7], top=5)
    nda.add_images(folder, source(tmp_path, pictures[100:140], "more", year=np.full(40, 2020)))
    nda.remove_images(folder, image_ids=before.image_ids[:2])
    assert nda.compact(folder).waiting > 0
    after = index.attribute(pictures[7], top=5)
    np.testing.assert_array_equal(before.image_ids, after.image_ids)
    np.testing.assert_array_equal(before.scores, after.scores)
    np.testing.assert_array_equal(before.images, after.images)
    new = nda.open_index(folder).attribute(pictures[7], top=5)
    assert not set(before.keys[:2]) & set(new.keys)


@pytest.mark.parametrize("mode", ["ann", "exact"])
def test_removed_images_are_never_named_and_weigh_nothing(
    folder: Path, tmp_path: Path, pictures: NDArray[np.uint8], mode: Any
) -> None:
    gone = nda.open_index(folder).attribute(pictures[7], timestep=100, top=8).image_ids
    keys = nda.open_index(folder).attribute(pictures[8], timestep=100, top=3).keys
    assert nda.remove_images(folder, image_ids=gone).images == 92
    count = nda.remove_images(folder, keys=keys, where="year = 2003").images
    index = nda.open_index(folder)
    assert len(index) == count == len(index.image_ids)
    assert not set(gone) & set(index.image_ids)
    answer = index.attribute(pictures[7], timestep=100, top=count, mode=mode)
    assert set(answer.image_ids) == set(index.image_ids)
    assert 2003 not in answer.metadata["year"].to_pylist()
    # The same scores as of an index that never had them.
    without = nda.build_index(pictures[index.image_ids], tmp_path / "without.nda", **OPTIONS)
    expected = without.scores(pictures[7:8], timestep=100)[0]
    scores = index.scores(pictures[7:8], timestep=100, mode=mode)[0]
    np.testing.assert_allclose(scores[index.image_ids], expected, rtol=1e-5)
    assert scores[np.setdiff1d(np.arange(100), index.image_ids)].sum() == 0
    assert index.votes(pictures[7])[gone].sum() == 0


def test_compacting_erases_the_bytes(folder: Path, tmp_path: Path, pictures: NDArray[np.uint8]) -> None:
    noise = np.random.default_rng(5).integers(0, 256, (24, 24, 20, 3), np.uint8)
    nda.add_images(folder, source(tmp_path, noise, "noise", year=np.full(24, 2020)))
    secret, gone = nda.open_index(folder).pixels(np.array([110, 3]))
    secret = secret.tobytes()
    assert occurs(secret, folder)
    nda.remove_images(folder, image_ids=[110, 3])
    assert occurs(secret, folder)
    before = nda.open_index(folder)
    expected, kept = before.scores(pictures[:1])[0], before.image_ids
    before.close()
    done = nda.compact(folder)
    assert (done.images, done.changed, done.waiting) == (122, 2, 0)
    assert not occurs(secret, folder)
    removal, erasure = map(json.loads, folder.with_name("x.nda.audit.jsonl").read_text().splitlines())
    hashes = [hashlib.sha256(gone.tobytes()).hexdigest(), hashlib.sha256(secret).hexdigest()]
    assert (removal["event"], removal["images"], removal["pictures"]) == ("removal", 2, hashes)
    assert (erasure["event"], erasure["images"], erasure["waiting"]) == ("erasure", 2, 0)
    assert verify(folder) == []
    index = nda.open_index(folder)
    assert index.image_ids.tolist() == list(range(122))
    np.testing.assert_allclose(index.scores(pictures[:1])[0], expected[kept], rtol=1e-6)
    assert index.votes(pictures[1]).argmax() == 1
    assert index.attribute(noise[20], timestep=50, top=1).image_ids[0] == kept.tolist().index(120)
    before_again = read_manifest(folder).index_hash
    assert nda.compact(folder).changed == 0
    assert read_manifest(folder).index_hash == before_again


def test_files_wait_for_readers_and_verify_says_so(folder: Path) -> None:
    index = nda.open_index(folder)
    nda.remove_images(folder, image_ids=[1])
    waiting = nda.compact(folder).waiting
    assert waiting > 0
    problems = verify(folder)
    assert len(problems) == waiting
    assert {problem.kind for problem in problems} == {"waiting"}
    index.close()
    assert nda.compact(folder).waiting == 0
    assert verify(folder) == []
    assert len(nda.open_index(folder)) == 99


def test_files_that_wait_for_readers_are_not_written_over(folder: Path, pictures: NDArray[np.uint8]) -> None:
    with nda.open_index(folder):
        for round in range(3):
            nda.remove_images(folder, image_ids=[round])
            nda.remove_images(folder, image_ids=[50])
            assert nda.compact(folder).waiting > 0
            assert len(nda.open_index(folder)) == 98 - 2 * round
    assert nda.compact(folder).waiting == 0
    assert verify(folder) == []
    assert len(nda.open_index(folder)) == 94


def test_no_name_of_a_file_is_used_again(folder: Path, tmp_path: Path, pictures: NDArray[np.uint8]) -> None:
    """Else a copy that lacks the states in between would have another file of that name."""
    seen: dict[str, str] = {}

    def look() -> None:
        for name, entry in read_manifest(folder).files.items():
            assert seen.setdefault(name, entry["sha256"]) == entry["sha256"]
        assert verify(folder) == []

    for number in range(2):  # each leaves 101 images, one of them unreadable in its source
        (tmp_path / "more").mkdir(exist_ok=True)
        for old in (tmp_path / "more").iterdir():
            old.unlink()
        Image.fromarray(pictures[100 + number]).save(tmp_path / "more" / f"{number}.png")
        (tmp_path / "more" / f"broken{number}.png").write_bytes(b"broken")
        assert nda.add_images(folder, tmp_path / "more", max_failures=1).failures == 1
        look()
        for image_id in (3, 4):
            nda.remove_images(folder, image_ids=[image_id])
            look()
        nda.compact(folder)
        look()
        nda.add_images(folder, pictures[110 + 2 * number : 111 + 2 * number])
        look()
    keys = sorted(nda.open_index(folder).missing()["key"].to_pylist())
    assert keys == ["broken0.png", "broken1.png"]


def occurs(data: bytes, folder: Path) -> bool:
    return any(data in path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "say which images"),
        ({"image_ids": [100]}, "image_ids has 100"),
        ({"image_ids": [-1]}, "image_ids has -1"),
        ({"keys": ["nobody"]}, "keys has 'nobody'"),
        ({"where": "colour = 3"}, "not a column"),
        ({"where": "year > 2001; year < 2003"}, "at character 12"),
        ({"where": "year > 3000"}, "no image fulfils; nothing is removed"),
        ({"image_ids": np.arange(100) == 7}, "is a mask"),
        ({"image_ids": [9.7]}, "holds 9.7"),
        ({"keys": "new-7"}, "one text"),
        ({"pixel_hashes": "ab" * 32}, "must be a sequence of texts"),
        ({"pixel_hashes": ["ab" * 31]}, "has 64 hexadecimal digits"),
        ({"pixel_hashes": ["ab" * 32]}, "no image of the index has these pixels"),
        ({"image_ids": range(100)}, "all 100 images would be removed"),
    ],
)
def test_removals_that_cannot_be_are_refused(folder: Path, options: dict[str, Any], message: str) -> None:
    before = read_manifest(folder).index_hash
    with pytest.raises(nda.NdaIndexError, match=message):
        nda.remove_images(folder, **options)
    assert read_manifest(folder).index_hash == before
    assert nda.remove_images(folder, image_ids=[4]).changed == 1
    with pytest.raises(nda.QueryError, match="image_ids has 4"):
        nda.remove_images(folder, image_ids=[4])


def test_what_the_log_says_was_removed_is_removed_again_from_an_older_copy(
    folder: Path, tmp_path: Path, pictures: NDArray[np.uint8]
) -> None:
    """By the log alone, with every image of the same pixels. Hashes of images that were added later are passed over."""
    twin = source(tmp_path, pictures[4:5], "twin", year=np.full(1, 2000))
    nda.add_images(folder, twin, allow_duplicates=True)
    (tmp_path / "backup").mkdir()
    backup = Path(shutil.copytree(folder, tmp_path / "backup" / "x.nda"))
    nda.add_images(folder, source(tmp_path, pictures[150:151], "later", year=np.full(1, 2000)))
    nda.remove_images(folder, image_ids=[4, 9, 101])
    lines = folder.with_name("x.nda.audit.jsonl").read_text().splitlines()
    hashes = [digest for line in map(json.loads, lines) if line["event"] == "removal" for digest in line["pictures"]]
    found = nda.remove_images(backup, pixel_hashes=hashes, dry_run=True)
    assert (found.image_ids, found.images) == ((4, 9, 100), 101)
    assert found.found_pixels == dict(zip(hashes, (2, 1, 0), strict=True))
    assert nda.remove_images(backup, pixel_hashes=[hashes[0].upper()]).image_ids == (4, 100)
    assert nda.remove_images(backup, pixel_hashes=hashes).image_ids == (9,)


def test_nothing_is_removed_where_the_audit_log_cannot_be_written(folder: Path) -> None:
    folder.with_name("x.nda.audit.jsonl").mkdir()
    with pytest.raises(nda.StorageError, match="audit.jsonl"):
        nda.remove_images(folder, image_ids=[4])
    assert len(nda.open_index(folder)) == 100


def test_a_dry_run_tells_what_would_be_removed(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    options: dict[str, Any] = {"image_ids": [9, 9], "keys": ["00000003", "00000003"], "dry_run": True}
    found = nda.remove_images(folder, **options, where="key IN ('00000003', '00000005')")
    assert (found.image_ids, found.keys) == ((3, 5, 9), ("00000003", "00000005", "00000009"))
    assert (found.found, found.changed, found.images, found.dry_run) == ({"00000003": 1}, 3, 100, True)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert len(nda.open_index(folder)) == 100


def test_a_source_of_other_columns_is_added_with_a_word(folder: Path, tmp_path: Path) -> None:
    more = source(tmp_path, photographs(4, seed=9), "more", keys=np.array(list("abcd")), colour=np.ones(4))
    added = nda.add_images(folder, more)
    assert added.notes == (
        "the source has no column 'year'; the new images have null there",
        "the column 'colour' is left out, since the index has none",
    )
    index = nda.open_index(folder)
    assert index.metadata(index.ids(["00000003", "a", "d"])).to_pydict() == {"year": [2000, None, None]}
    assert nda.remove_images(folder, where="year IS NULL", dry_run=True).keys == ("a", "b", "c", "d")


def test_the_same_images_are_added_twice_only_on_demand(
    folder: Path, tmp_path: Path, pictures: NDArray[np.uint8]
) -> None:
    before = read_manifest(folder).index_hash
    again = source(tmp_path, pictures[:30], "again", year=np.full(30, 2000))
    with pytest.raises(nda.SourceError, match="30 of 30 images are in the index already .*'00000000'.*--allow"):
        nda.add_images(folder, again)
    assert (read_manifest(folder).index_hash, verify(folder)) == (before, [])
    others = source(tmp_path, pictures[1:3], "others", year=np.full(2, 2000))  # their keys are there, of other pictures
    assert nda.add_images(folder, others).images == 102
    nda.remove_images(folder, image_ids=range(30))
    assert nda.add_images(folder, again).images == 102  # what was removed is there no more
    assert nda.add_images(folder, again, allow_duplicates=True).images == 132


def test_images_that_do_not_fit_are_refused_and_leave_no_trace(folder: Path, tmp_path: Path) -> None:
    before = read_manifest(folder).index_hash
    more = photographs(5, seed=9)
    with pytest.raises(nda.ConfigError, match="the metadata column 'year' has type string, in the index it has type"):
        nda.add_images(folder, source(tmp_path, more, "words", year=np.array(list("abcde"))))
    with pytest.raises(nda.SourceError, match="nothing at"):
        nda.add_images(folder, tmp_path / "nowhere")
    with pytest.raises(nda.NotAnIndexError):
        nda.add_images(tmp_path, source(tmp_path, more, "fine", year=np.arange(5)))
    assert not (tmp_path / "writer.lock").exists()
    assert read_manifest(folder).index_hash == before
    assert verify(folder) == []


def test_what_an_interrupted_edit_left_is_swept_away(folder: Path, tmp_path: Path, pictures: NDArray[np.uint8]) -> None:
    class Killed(BaseException):
        pass

    for stage in ("read", "encode p5r1", "encode p8r2"):

        def stop(current: str, done: int, total: int, stage: str = stage) -> None:
            if current == stage:
                raise Killed

        more = source(tmp_path, pictures[100:140], "more", year=np.full(40, 2020))
        with pytest.raises(Killed):
            nda.add_images(folder, more, progress=stop)
        assert len(nda.open_index(folder)) == 100
    assert {finding.kind for finding in verify(folder)} == {"foreign"}
    nda.add_images(folder, more)
    assert verify(folder) == []
    assert len(nda.open_index(folder)) == 140
    assert nda.open_index(folder).attribute(pictures[139], timestep=50, top=1).image_ids[0] == 139

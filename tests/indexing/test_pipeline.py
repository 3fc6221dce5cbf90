from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

import nda_index as nda
from nda_index.indexing import ingest, plan
from nda_index.indexing.pipeline import build
from nda_index.store.verify import verify


def test_the_progress_names_every_stage_and_ends(tmp_path: Path, pictures: NDArray[np.uint8]) -> None:
    seen: dict[str, tuple[int, int]] = {}
    nda.build_index(
        pictures[:50], tmp_path / "x.nda", image_size=16, scales=[nda.Scale(5)],
        progress=lambda stage, done, total: seen.update({stage: (done, total)}),
    )  # fmt: skip
    assert list(seen) == ["read", "train p5r1", "encode p5r1", "null", "commit"]
    assert all(done == total for done, total in seen.values())


def test_broken_images_are_skipped_counted_and_listed(tmp_path: Path, pictures: NDArray[np.uint8]) -> None:
    for i in range(12):
        Image.fromarray(pictures[i]).save(tmp_path / f"{i:02d}.png")
    (tmp_path / "03.png").write_bytes(b"broken")
    summary = build(tmp_path, tmp_path / "x.nda", image_size=16, scales=[nda.Scale(5)])
    assert (summary.images, summary.failures) == (11, 1)
    failures = pq.read_table(tmp_path / "x.nda" / "failures.parquet").to_pylist()
    assert failures[0]["key"] == "03.png"
    assert "cannot be read as an image" in failures[0]["reason"]
    answer = nda.open_index(tmp_path / "x.nda").attribute(pictures[4], timestep=20, top=1)
    assert (answer.keys[0], answer.image_ids[0]) == ("04.png", 3)
    with pytest.raises(nda.SourceError, match=r"1 image could not be read, 0 may be \(max_failures, --max-failures\)"):
        build(tmp_path, tmp_path / "y.nda", image_size=16, scales=[nda.Scale(5)], max_failures=0)


def test_nothing_but_broken_images_is_no_index(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"broken")
    with pytest.raises(nda.SourceError, match="none of the 1 images could be read"):
        nda.build_index(tmp_path, tmp_path / "x.nda")


class Killed(BaseException):
    """Stands for the process being killed: nothing may catch it."""


@pytest.mark.parametrize("stage", ["read", "train p5r1", "encode p5r1", "null", "commit"])
def test_an_interrupted_build_leaves_nothing_that_opens_and_the_next_starts_over(
    tmp_path: Path, pictures: NDArray[np.uint8], stage: str
) -> None:
    folder = tmp_path / "x.nda"

    def stop(current: str, done: int, total: int) -> None:
        if current == stage:
            raise Killed

    options: dict[str, Any] = {"image_size": 16, "scales": [nda.Scale(5)]}
    with pytest.raises(BaseException) as stopped:
        build(pictures[:40], folder, progress=stop, **options)
    assert isinstance(stopped.value, Killed)
    with pytest.raises(nda.NotAnIndexError, match="its build was interrupted"):
        nda.open_index(folder)
    assert build(pictures[:40], folder, **options).started_over
    assert verify(folder) == []
    assert len(nda.open_index(folder)) == 40


@pytest.mark.parametrize("stage", ["read", "train p5r1", "encode p5r1", "train p8r2", "encode p8r2", "null", "commit"])
def test_a_resumed_build_ends_as_one_that_was_never_interrupted(
    tmp_path: Path, pictures: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    for name, size in (("READ_BATCH", 16), ("CHUNK_BYTES", 40_000), ("SEGMENT_BYTES", 100_000)):
        monkeypatch.setattr(plan, name, size)
    source = tmp_path / "source"
    source.mkdir()
    for number in range(100):
        Image.fromarray(pictures[number]).save(source / f"{number:03d}.png")
    (source / "040.png").write_bytes(b"broken")
    options: dict[str, Any] = {"image_size": 16, "scales": [nda.Scale(5), nda.Scale(8, 2)], "null": 5}

    def stop(current: str, done: int, total: int) -> None:
        if current == stage and done >= total // 2:
            raise Killed

    whole = build(source, tmp_path / "whole.nda", **options)
    with pytest.raises(Killed):
        build(source, tmp_path / "parts.nda", progress=stop, **options)
    with pytest.raises(nda.ConfigError, match=r"begun with other settings \(image_size, scales"):
        build(source, tmp_path / "parts.nda", resume=True, image_size=14, scales=[nda.Scale(5)])
    done = []
    resumed = build(
        source, tmp_path / "parts.nda", resume=True, progress=lambda name, *at: done.append((name, *at)), **options
    )
    assert (resumed.images, resumed.failures, resumed.started_over) == (99, 1, False)
    assert resumed.resumed >= (30 if stage == "read" else 99)
    assert whole.scales == resumed.scales
    assert verify(tmp_path / "parts.nda") == []
    one, other = (nda.open_index(tmp_path / name) for name in ("whole.nda", "parts.nda"))
    files = [
        {name: entry["sha256"] for name, entry in index.manifest.files.items() if ".lance/" not in name}
        for index in (one, other)
    ]
    assert files[0] == files[1]
    assert len([name for name in files[0] if "lists-" in name]) > 4
    np.testing.assert_array_equal(one.pixels(np.arange(99)), other.pixels(np.arange(99)))


def test_resuming_does_not_trust_what_was_damaged(
    tmp_path: Path, pictures: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "SEGMENT_BYTES", 100_000)
    monkeypatch.setattr(plan, "READ_BATCH", 16)
    options: dict[str, Any] = {"image_size": 16, "scales": [nda.Scale(5)], "null": 0}

    def stop(current: str, done: int, total: int) -> None:
        if current == "null" or (current == "commit" and done == 0):
            raise Killed

    nda.build_index(pictures[:80], tmp_path / "whole.nda", **options).close()
    for damaged in ("scales/p5r1/lists-00001.arrow", "scales/p5r1/quantizer.arrow", "images.lance/data"):
        folder = tmp_path / damaged.replace("/", "-")
        with pytest.raises(Killed):
            build(pictures[:80], folder, progress=stop, **options)
        path = folder / damaged
        path = next(path.iterdir()) if path.is_dir() else path
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(bytes(data))
        assert build(pictures[:80], folder, resume=True, **options).images == 80
        assert verify(folder) == []
        for name in ("lists-00000.arrow", "lists-00001.arrow", "quantizer.arrow"):
            whole = (tmp_path / "whole.nda" / "scales" / "p5r1" / name).read_bytes()
            assert (folder / "scales" / "p5r1" / name).read_bytes() == whole


def test_a_changed_source_does_not_go_on_with_a_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(current: str, done: int, total: int) -> None:
        if done >= 8:
            raise Killed

    monkeypatch.setattr(plan, "CHUNK_BYTES", 1)
    monkeypatch.setattr(plan, "READ_BATCH", 8)
    (tmp_path / "source").mkdir()
    for i in range(20):
        Image.fromarray(np.full((8, 8, 3), 10 * i, np.uint8)).save(tmp_path / "source" / f"{i:02d}.png")
    options: dict[str, Any] = {"image_size": 8, "scales": [nda.Scale(5)], "null": 0}
    with pytest.raises(Killed):
        build(tmp_path / "source", tmp_path / "x.nda", progress=stop, **options)
    (tmp_path / "source" / "00.png").rename(tmp_path / "source" / "99.png")
    with pytest.raises(nda.ConfigError, match=r"begun with other settings \(names, sizes or order of"):
        build(tmp_path / "source", tmp_path / "x.nda", resume=True, **options)
    (tmp_path / "source" / "99.png").rename(tmp_path / "source" / "00.png")
    assert build(tmp_path / "source", tmp_path / "x.nda", resume=True, **options).resumed >= 8


def test_a_full_disk_is_named(tmp_path: Path, pictures: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("pyarrow.OSFile", full)
    with pytest.raises(nda.StorageError, match="the disk is full"):
        nda.build_index(pictures[:40], tmp_path / "x.nda", image_size=16, scales=[nda.Scale(5)])


def test_a_build_that_was_killed_as_it_began_is_begun_again(tmp_path: Path, pictures: NDArray[np.uint8]) -> None:
    (tmp_path / "writer.lock").touch()
    (tmp_path / ".building.json.0a1b.part").write_bytes(b"{")
    assert build(pictures[:20], tmp_path, image_size=16, scales=[nda.Scale(5)], null=0).images == 20
    assert verify(tmp_path) == []


def test_an_output_folder_in_use_is_left_alone(tmp_path: Path, pictures: NDArray[np.uint8], index_folder: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(nda.ConfigError, match=r"holds other files \('thesis.txt'\); choose a folder that is new"):
        nda.build_index(pictures, tmp_path / "mine")
    with pytest.raises(nda.ConfigError, match="is the source too; choose another"):
        nda.build_index(tmp_path / "mine", tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]  # and no lock
    assert (tmp_path / "mine" / "thesis.txt").exists()
    with pytest.raises(nda.ConfigError, match="is an index already"):
        nda.build_index(pictures, index_folder)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 0}, "image_size is 0"),
        ({"image_size": (16, 16, 3)}, "image_size is"),
        ({"image_size": 32.0}, r"image_size is 32.0; it must be a whole number of pixels above 0, as 32, or \(height"),
        ({"image_size": "32"}, "image_size is '32'; it must be a whole number"),
        ({"scales": "7"}, r"scales is '7'; it must be a list of one or more, as \[Scale"),
        ({"scales": [7]}, r"scales is \[7\]; it must be a list"),
        ({"max_failures": -1}, "max_failures is -1; it must be a whole number, 0 or more"),
        ({"max_failures": 0.5}, "max_failures is 0.5"),
        ({"coarse_stride": "2"}, "coarse_stride is '2'"),
        ({"memory": 1000}, "allow more memory"),
        ({"memory": 0}, "memory is 0; it must be a whole number, 1 or more"),
        ({"null": "many"}, "null is 'many'; it must be a whole number of pictures"),
        ({"channels": 2}, "channels is 2"),
        ({"scales": []}, r"scales is \[\]; it must be a list"),
        ({"scales": [nda.Scale(5), nda.Scale(5, weight=2.0)]}, "no two may have the same"),
        ({"image_size": 6, "scales": [nda.Scale(7)]}, "does not fit an image of 6 x 6"),
        ({"coarse_stride": 0}, "coarse_stride is 0"),
    ],
)
def test_wrong_options_are_refused(
    tmp_path: Path, pictures: NDArray[np.uint8], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(nda.ConfigError, match=message):
        nda.build_index(pictures[:20], tmp_path / "x.nda", **options)


@pytest.mark.parametrize("folder", [None, 5, b"x.nda", "", "http://example.org/x.nda", Path("s3://bucket/x.nda")])
def test_what_is_no_folder_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pictures: NDArray[np.uint8], folder: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    for work in (
        lambda: nda.build_index(pictures, folder), lambda: nda.add_images(folder, pictures),
        lambda: nda.remove_images(folder, keys=["a"]), lambda: nda.open_index(folder),
    ):  # fmt: skip
        with pytest.raises(
            nda.ConfigError, match=r"the (output folder|index) is .*(must be a path|no path|an address)"
        ):
            work()
    assert list(tmp_path.iterdir()) == []


def test_a_source_that_fails_while_read_keeps_its_own_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pictures: NDArray[np.uint8]
) -> None:
    def failing(*_: Any) -> Iterator[Any]:
        raise nda.SourceError("the shard is cut short")
        yield

    monkeypatch.setattr(ingest, "read_batches", failing)
    with pytest.raises(nda.SourceError, match="cut short"):
        nda.build_index(pictures, tmp_path / "x.nda")


@pytest.mark.parametrize("memory", [1 << 30, 1_000_000])
def test_every_codec_finds_an_image_among_its_like(tmp_path: Path, pictures: NDArray[np.uint8], memory: int) -> None:
    options: dict[str, Any] = {"image_size": (24, 20), "scales": [nda.Scale(5)], "null": 0}
    index = nda.build_index(pictures, tmp_path / "x.nda", memory=memory, **options)
    codec = index.manifest.config.coarse["p5r1"].codec
    assert codec == {1 << 30: "sq8", 1_000_000: "pq"}[memory]
    reopened = nda.open_index(tmp_path / "x.nda")
    answer = reopened.attribute(pictures[123], timestep=50, top=1, candidates=20)
    assert answer.image_ids[0] == 123


def test_an_unrelated_picture_that_cannot_be_read_is_known_before_anything_is_built(
    tmp_path: Path, pictures: NDArray[np.uint8]
) -> None:
    with pytest.raises(nda.ImageDecodeError, match="is truncated|cannot be read as an image"):
        nda.build_index(pictures[:20], tmp_path / "x.nda", image_size=16, scales=[nda.Scale(5)], null=[b"broken"])
    assert not (tmp_path / "x.nda").exists()

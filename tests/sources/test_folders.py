from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nda_index import SourceError
from nda_index.sources import open_source
from tests.conftest import GREEN, RED, encoded
from tests.sources.contents import read


def fill(folder: Path, *names: str) -> None:
    """Write red images, and green ones where the name has a "g"."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(GREEN if "g" in path.stem else RED, "PNG"))


def test_images_at_every_depth_come_in_the_order_of_their_paths(tmp_path: Path) -> None:
    fill(tmp_path, "b/2.PNG", "b/10g.png", "a.png", "b/c/d/1.png", "b-c/0.png", "Z.png")
    contents = read(tmp_path)
    assert contents.keys == ["Z.png", "a.png", "b-c/0.png", "b/10g.png", "b/2.PNG", "b/c/d/1.png"]
    for key, image in zip(contents.keys, contents.images, strict=True):
        np.testing.assert_array_equal(image.transpose(1, 2, 0), GREEN if "g." in key else RED)
    opened = open_source(str(tmp_path))
    assert (opened.kind, opened.count, opened.schema.names) == ("folder", 6, [])


def test_hidden_files_and_folders_are_left_out_but_not_those_above_the_source(tmp_path: Path) -> None:
    source = tmp_path / ".cache" / "set"
    fill(source, "a.png", ".b.png", ".c/d.png", "e/.f/g.png", "e/h.png")
    assert read(source).keys == ["a.png", "e/h.png"]


def test_files_that_are_not_images_by_their_names_are_left_out(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", "b.JPEG", "c.webp", "d.bmp", "e.gif", "f.tif", "g.tiff", "h.ppm", "i.pgm", "j.png")
    fill(tmp_path, "k.txt", "l.png.part", "png", "m.json")
    (tmp_path / "folder.png").mkdir()
    contents = read(tmp_path)
    assert [key[0] for key in contents.keys] == list("abcdefghij")
    assert contents.failures == []


def test_broken_images_are_counted_and_listed(tmp_path: Path) -> None:
    fill(tmp_path, "a.png", "d.png")
    (tmp_path / "b.jpg").write_bytes(encoded(np.tile(RED, (20, 20, 1)), "JPEG")[:400])
    (tmp_path / "c.png").write_text("not an image")
    contents = read(tmp_path)
    assert open_source(tmp_path).count == 4
    assert contents.keys == ["a.png", "d.png"]
    assert [failure.key for failure in contents.failures] == ["b.jpg", "c.png"]
    assert "is truncated" in contents.failures[0].reason
    assert "cannot be read as an image" in contents.failures[1].reason


def test_an_image_that_is_gone_when_it_is_read_is_a_failure(tmp_path: Path) -> None:
    fill(tmp_path, "a.png", "b.png")
    opened = open_source(tmp_path)
    (tmp_path / "a.png").unlink()
    contents = read(opened)
    assert contents.keys == ["b.png"]
    assert [(f.key, "there is no image at" in f.reason) for f in contents.failures] == [("a.png", True)]


def test_a_folder_of_parquet_files_alone_is_read_folder_by_folder(tmp_path: Path) -> None:
    for name in ("b/0.parquet", "b-c/0.parquet", "a.PARQUET", ".hidden/0.parquet"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        pq.write_table(pa.table({"image": [encoded(RED)], "id": [name]}), path)
    assert read(tmp_path).keys == ["a.PARQUET", "b/0.parquet", "b-c/0.parquet"]
    assert open_source(tmp_path).kind == "parquet"


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(
        SourceError, match=r"holds no image \(it holds notes.txt, which is not a picture by its name \(.txt\)\)"
    ):
        open_source(tmp_path)

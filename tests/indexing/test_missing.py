from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

import nda_index as nda
from nda_index.indexing.missing import count_missing, list_first, read_missing, warn_of_missing, write_failures
from nda_index.sources import Failure
from nda_index.store.config import IndexConfig
from nda_index.store.manifest import Manifest


def test_what_is_missing_is_counted_in_words() -> None:
    assert [count_missing(*numbers) for numbers in ((0, 0), (1, 0), (0, 1), (2000, 3))] == [
        "", "1 image could not be read", "1 other thing was left out",
        "2,000 images could not be read and 3 other things were left out",
    ]  # fmt: skip


def test_what_is_written_is_read_and_older_files_too(tmp_path: Path) -> None:
    write_failures(tmp_path / "failures.parquet", [Failure("a", "broken")], [Failure("b.txt", "no picture")])
    pq.write_table(pa.table({"key": ["c"], "reason": ["old"]}), tmp_path / "failures-0000000009.parquet")
    config = IndexConfig((8, 8), 3, (nda.Scale(5),), "folder", {}, False)
    names = ("failures.parquet", "failures-0000000009.parquet", "null.arrow")
    manifest = Manifest(config=config, counts={}, files={name: {} for name in names}, table={})
    assert read_missing(tmp_path, manifest).to_pylist() == [
        {"key": "c", "reason": "old", "kind": "unreadable"},
        {"key": "a", "reason": "broken", "kind": "unreadable"},
        {"key": "b.txt", "reason": "no picture", "kind": "left out"},
    ]


def test_the_first_ten_are_shown_and_nothing_is_said_of_nothing() -> None:
    many = [Failure(str(i), "broken") for i in range(8)]
    assert [key for key, _ in list_first(many, many)] == [*"01234567", *"01"]
    warn_of_missing(0, 0, ())
    with pytest.warns(
        UserWarning, match=r"8 images could not be read; Index.missing\(\) lists all; the first: 0: broken"
    ):
        warn_of_missing(8, 0, list_first(many, []))


def test_an_index_knows_what_it_lacks(tmp_path: Path, pictures: NDArray[np.uint8]) -> None:
    source = tmp_path / "source"
    source.mkdir()
    frames = [Image.fromarray(picture) for picture in pictures[:3]]
    for number in range(6):
        frames[0].save(source / f"{number}.png")
    frames[0].save(source / "moving.gif", save_all=True, append_images=frames[1:])
    (source / "broken.png").write_bytes(b"broken")
    (source / "notes.txt").touch()
    with pytest.warns(UserWarning, match="1 image could not be read and 2 other things were left out"):
        index = nda.build_index(source, tmp_path / "x.nda", image_size=16, scales=[nda.Scale(5)], null=0)
    assert index.manifest.counts == {"images": 7, "removed": 0, "failures": 1, "left_out": 2}
    (source / "0.png").rename(source / "new.png")
    summary = nda.add_images(tmp_path / "x.nda", source, allow_duplicates=True)
    assert (summary.failures, summary.left_out, len(summary.missing)) == (1, 2, 3)
    with nda.open_index(tmp_path / "x.nda") as opened:
        rows = opened.missing().sort_by("key").to_pylist()
    assert [(row["key"], row["kind"]) for row in rows] == [
        (key, kind) for key, kind in (
            ("broken.png", "unreadable"), ("moving.gif", "left out"), ("notes.txt", "left out"),
        ) for _ in range(2)
    ]  # fmt: skip
    assert rows[2]["reason"].startswith("is indexed by the first of its 3 frames; save the others")

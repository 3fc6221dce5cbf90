"""Columns of every kind from a file to the answer: stored, shown, asked about, added to and removed by."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import nda_index as nda
from nda_index.store.verify import verify
from tests.conftest import encoded, photographs

IMAGES = photographs(6, seed=4)[:, :8, :8]
COLUMNS: dict[str, Any] = {
    "image": [encoded(image) for image in IMAGES],
    "thumbnail": [b"x"] * 6,
    "key": pa.array([f"k{i}" for i in range(6)], pa.large_string()),
    "sha256": ["a", "b", "c", "d", "e", None],
    "license.name": ["CC0", "CC BY", None, "CC0", "", "it's"],
    "a`b": pa.array([1, 2, None, 2**63, 2**64 - 1, 6], pa.uint64()),
    "": range(6),
    'say "so"': pa.array([0.5, None, float("nan"), 1, 2, 3], pa.float32()),
    "tags": [["x", "y"], [], None, ["z"], [], []],
    "box": [{"x.y": 1}, None, {"x.y": 3}, {"x.y": 4}, {"x.y": 5}, {"x.y": 6}],
    "taken": pa.array([10**9 + i for i in range(6)], pa.timestamp("ns", "Europe/Berlin")),
    "lasts": pa.array([1, 2, 3, 4, None, 2**62], pa.duration("s")),
}
OPTIONS: dict[str, Any] = {"image_size": 8, "scales": [nda.Scale(5)], "null": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("columns")
    pq.write_table(pa.table(COLUMNS), folder / "set.parquet")
    with pytest.warns(UserWarning) as warned:
        nda.build_index(folder / "set.parquet", folder / "x.nda", **OPTIONS).close()
    assert str(warned[0].message) == (
        "the column 'sha256' is kept as 'source_sha256'; the column 'license.name' is kept as 'license_name'; "
        "the column 'a`b' is kept as 'a_b'; the column '' is kept as 'column'; "
        "the column 'thumbnail' holds pictures too and is left out"
    )
    return folder


def test_values_are_kept_or_their_row_is_a_failure(folder: Path) -> None:
    index = nda.open_index(folder / "x.nda")
    assert verify(folder / "x.nda") == []
    failures = pq.read_table(folder / "x.nda" / "failures.parquet").to_pylist()
    assert [failure["key"] for failure in failures] == ["k5"]
    assert "'lasts' holds 4611686018427387904, which duration[s] cannot hold" in failures[0]["reason"]
    assert index.keys(range(5)).to_pylist() == ["k0", "k1", "k2", "k3", "k4"]
    rows = index.metadata([3, 0])
    assert rows.to_pylist()[1] == {
        "source_sha256": "a", "license_name": "CC0", "a_b": 1, "column": 0, 'say "so"': 0.5, "tags": ["x", "y"],
        "box": {"x.y": 1}, "taken": datetime(1970, 1, 1, 0, 0, 1, tzinfo=timezone.utc), "lasts": timedelta(seconds=1),
    }  # fmt: skip
    assert rows["a_b"].to_pylist() == [2**63, 1]
    assert index.attribute(IMAGES[3], 50, top=1, mode="exact").metadata.equals(rows.slice(0, 1))


@pytest.mark.parametrize(
    ("where", "keys"),
    [
        ("license_name = 'CC0' AND a_b > 1", ["k3"]),
        ("a_b >= 9223372036854775808", ["k3", "k4"]),
        ('"say ""so""" >= 1', ["k2", "k3", "k4"]),
        ("tags IS NULL OR box IS NULL", ["k1", "k2"]),
        ("taken < '1970-01-01T00:00:01.5' AND column > 3.5", ["k4"]),
        ("NOT source_sha256 IN ('a', 'b') AND license_name IS NOT NULL", ["k3", "k4"]),
    ],
)
def test_all_columns_can_be_asked_about(folder: Path, where: str, keys: list[str]) -> None:
    index = nda.open_index(folder / "x.nda")
    answer = index.attribute(IMAGES[0], 50, top=9, mode="exact", where=where)
    assert sorted(answer.keys) == keys
    assert nda.remove_images(folder / "x.nda", where=where, dry_run=True).keys == tuple(keys)


def test_answers_with_them_are_saved_and_read_again(folder: Path) -> None:
    answer = nda.open_index(folder / "x.nda").attribute(IMAGES[0], 50, top=5, mode="exact")
    for form in ("html", "json", "parquet", "png"):
        answer.save(folder / f"answer.{form}")
    answer.save(folder / "answer.arrow")
    again = nda.read_answer(folder / "answer.arrow").metadata
    assert again.schema == answer.metadata.schema
    assert str(again.to_pylist()) == str(answer.metadata.to_pylist())  # NaN is not equal to itself
    shown = {image["key"]: image for image in json.loads((folder / "answer.json").read_text())["images"]}
    assert (shown["k0"]["tags"], shown["k0"]["box"], shown["k0"]["lasts"]) == (["x", "y"], {"x.y": 1}, "0:00:01")


def test_producers_work_without_options(tmp_path: Path) -> None:
    picture = [{"bytes": encoded(image), "path": None} for image in IMAGES[:2]]
    coco = pa.table({"image_id": [139, 285], "image": picture, "mask": picture, "objects": [[{"id": 1}], []]})
    downloaded = pa.table(
        {"key": ["000000000", "000000001"], "jpg": [encoded(image) for image in IMAGES[:2]], "sha256": ["a", "b"]}
    )
    for table, keys, column in ((coco, ["139", "285"], "source_image_id"), (downloaded, None, "source_sha256")):
        pq.write_table(table, tmp_path / "set.parquet")
        with pytest.warns(UserWarning, match=f"is kept as '{column}'"):
            index = nda.build_index(tmp_path / "set.parquet", tmp_path / f"{column}.nda", **OPTIONS)
        assert index.keys([0, 1]).to_pylist() == (keys or table["key"].to_pylist())
        assert index.metadata_schema().names[0] == column
        np.testing.assert_array_equal(index.pixels([1])[0].transpose(1, 2, 0), IMAGES[1])

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

import nda_index as nda
from nda_index.answer.forms import FORMS


def test_another_process_writes_the_same_bytes(answer: nda.Attribution, tmp_path: Path) -> None:
    answer.save(tmp_path / "answer.arrow")
    code = (
        "import sys, nda_index\n"
        "answer = nda_index.read_answer('answer.arrow')\n"
        "for form in sys.argv[1:]: answer.save(f'other.{form}')"
    )
    other = {**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code, *FORMS], cwd=tmp_path, env=other, check=True)
    for form, write in FORMS.items():
        assert (tmp_path / f"other.{form}").read_bytes() == write(answer), form


def test_another_answer_gives_other_bytes(answer: nda.Attribution) -> None:
    other = replace(answer, shares=answer.shares[::-1].copy())
    assert all(write(other) != write(answer) for write in FORMS.values())


def test_the_table_says_what_it_was_made_of(answer: nda.Attribution, tmp_path: Path) -> None:
    answer.save(tmp_path / "a.parquet")
    table = pq.read_table(tmp_path / "a.parquet")
    assert table.replace_schema_metadata(None).equals(answer.to_table())
    facts = table.schema.metadata
    assert facts[b"nda_index.index_hash"].decode() == answer.index_hash
    assert facts[b"nda_index.version"].decode() == nda.__version__
    assert json.loads(facts[b"nda_index.settings"]) == answer.settings


def test_options_as_numpy_numbers_are_written_as_any_others(
    index: nda.Index, pictures: NDArray[np.uint8], tmp_path: Path
) -> None:
    options: dict[str, Any] = {"timestep": np.arange(100, 301, 100), "seed": np.int64(3), "candidates": np.int32(60)}
    numbered = index.attribute(pictures[8], top=2, noise="draw", **options)
    for name in ("a.html", "a.png", "a.json", "a.parquet", "a.arrow"):
        numbered.save(tmp_path / name)
    settings = json.loads((tmp_path / "a.json").read_text())["settings"]
    assert (settings["timestep"], settings["seed"], settings["candidates"]) == ([100, 200, 300], 3, 60)
    assert nda.read_answer(tmp_path / "a.arrow").settings == settings


def test_odd_metadata_stays_apart_and_json_strict(answer: nda.Attribution, tmp_path: Path) -> None:
    odd = replace(answer, metadata=pa.table({"score": [float("nan")] * 4}))
    assert odd.to_table().column_names == [
        "rank",
        "image_id",
        "key",
        "score",
        "score_error",
        "share",
        "group",
        "group_share",
        "evidence",
        "percentile",
        "metadata.score",
    ]
    odd.save(tmp_path / "a.json")

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    row = json.loads((tmp_path / "a.json").read_text(), parse_constant=refuse)["images"][0]
    assert row["metadata.score"] is None
    assert row["score"] == pytest.approx(answer.scores[0])


def test_a_long_file_name_is_written(answer: nda.Attribution, tmp_path: Path) -> None:
    name = "a" * 250 + ".json"
    answer.save(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]

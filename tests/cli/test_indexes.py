from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import nda_index as nda
from nda_index.cli.output import print_build, print_edit
from nda_index.indexing.edits import EditSummary
from nda_index.indexing.pipeline import BuildSummary
from nda_index.store.locks import write_lock
from tests.cli.running import Run


def test_what_was_changed_in_a_source_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    notes = ("the column '[a].b' is kept as '[a]_b'",)
    print_build(Path("x.nda"), BuildSummary(3, 0, {}, False, 0, notes=notes), as_json=False)
    print_edit(Path("x.nda"), EditSummary(3, 1, notes=notes), False, "Added 1 images")
    assert capsys.readouterr().out.count(notes[0]) == 2


def test_an_index_grows_shrinks_and_forgets(run: Run, tmp_path: Path, pictures: NDArray[np.uint8]) -> None:
    for name, part in (("old", range(20)), ("new", range(20, 26))):
        (tmp_path / name).mkdir()
        for i in part:
            Image.fromarray(pictures[i]).save(tmp_path / name / f"{i:02d}.png")
    index = tmp_path / "x.nda"
    build = ["build", tmp_path / "old", index, "--image-size", 16, "--scale", "5", "--null", 0]
    code, out, _ = run(*build, "--dry-run", "--json")
    assert (code, json.loads(out)["images"], index.exists()) == (0, 20, False)
    code, out, _ = run(*build, "--dry-run")
    assert " on this machine" in out
    assert run(*build, "--resume")[0] == 0

    (tmp_path / "new" / "notes.txt").touch()
    (tmp_path / "new" / "broken.png").write_bytes(b"broken")
    code, out, _ = run("add", index, tmp_path / "new", "--json")
    assert (code, json.loads(out)["images"], json.loads(out)["changed"]) == (0, 26, 6)
    removal = ["remove", index, "--key", "23.png", "--image-id", 4]
    code, out, _ = run(*removal, "--dry-run")
    assert "image 4: 04.png" in out and "1 image has the key '23.png'" in out
    assert "Would remove 2 images" in out and "has 26 now" in " ".join(out.split())
    code, out, _ = run(*removal)
    assert "Removed 2 images" in out
    assert "has 24 now" in " ".join(out.split())
    code, out, _ = run("info", index)
    assert "their bytes are here" in out
    with nda.open_index(index):
        code, out, _ = run("compact", index, "--wait", 0)
        assert (code, "Erased 2 images" in out, f"process {os.getpid()} (nda-index " in out) == (10, True, True)
        code, out, _ = run("verify", index, "--json")
        assert (code, json.loads(out)["intact"]) == (10, True)
        assert {finding["kind"] for finding in json.loads(out)["findings"]} == {"waiting"}
        code, out, _ = run("info", index, "--json")
        (reader,) = json.loads(out)["earlier_readers"]
        assert (code, json.loads(out)["writer"], json.loads(out)["readers"], reader["process"]) == (
            0, None, [], os.getpid(),
        )  # fmt: skip
        with write_lock(index, "an edit") as note:
            note("encode", 1_000, 3_000)
            code, out, _ = run("info", index)
            assert "being edited by process" in " ".join(out.split())
            assert "encode: 1,000 of 3,000" in " ".join(out.split())
            assert "an earlier state" in " ".join(out.split())
            code, _, err = run("remove", index, "--image-id", 1)
            assert (code, "encode: 1,000 of 3,000" in err) == (6, True)
    log = index.with_name("x.nda.audit.jsonl").read_text().splitlines()
    (digest, _) = json.loads(log[0])["pictures"]
    code, _, err = run("remove", index, "--pixel-hash", digest)
    assert (code, f"pixel_hashes has {digest}" in err) == (5, True)
    code, out, _ = run("compact", index)
    assert (code, "Erased 0 images" in out) == (0, True)
    with nda.open_index(index) as opened:
        digest = hashlib.sha256(opened.pixels([3]).tobytes()).hexdigest()
    code, out, _ = run("remove", index, "--pixel-hash", digest, "--pixel-hash", "0" * 64)
    assert (code, "Removed 1 image; " in out, "1 of 2 hashes are of no image." in out) == (0, True, True)
    assert run("verify", index)[0] == 0
    code, _, err = run("remove", index, "--key", "23.png")
    assert code == 5
    assert "keys has '23.png'" in err
    assert "1 other things of the sources" in run("info", index)[1]


def test_a_summary_names_the_first_ten_of_what_is_missing_and_ends_with_their_number(
    capsys: pytest.CaptureFixture[str],
) -> None:
    missing = tuple((f"{i}[0].png", "is truncated: copy it again") for i in range(10))
    summary = BuildSummary(5, 9, {"p5r1": "codes"}, False, 0, left_out=3, missing=missing)
    print_build(Path("x.nda"), summary, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Indexed 5 images in x.nda."
    assert lines[2:12] == [f"  {i}[0].png: is truncated: copy it again" for i in range(10)]
    assert lines[12:] == [
        "  and 2 more",
        "9 images could not be read and 3 other things were left out; failures.parquet lists all, with reasons.",
    ]
    print_build(Path("x.nda"), summary, as_json=True)
    assert json.loads(capsys.readouterr().out)["missing"][0] == ["0[0].png", "is truncated: copy it again"]


def test_floats_are_built_from_and_asked_with_by_their_range(run: Run, tmp_path: Path) -> None:
    floats = np.random.default_rng(0).random((12, 8, 8)).astype(np.float32)
    np.save(tmp_path / "floats.npy", floats)
    build = ["build", tmp_path / "floats.npy", tmp_path / "x.nda", "--image-size", 8, "--scale", "5", "--null", 0]
    code, _, err = run(*build)
    assert code == 2
    assert "say it with value_range (--value-range), in a question through read_picture" in err
    assert run(*build, "--value-range", "0..1")[0] == 0
    Image.fromarray(floats[7]).save(tmp_path / "asked.tiff")
    asked = ["query", tmp_path / "x.nda", tmp_path / "asked.tiff", "--timestep", 20, "--top", 1, "--json"]
    assert run(*asked)[0] == 5
    code, out, _ = run(*asked, "--value-range", "0..1")
    assert (code, json.loads(out)["images"][0]["key"]) == (0, "00000007")

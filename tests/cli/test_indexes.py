from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from nda_index.cli.output import print_build, print_edit
from nda_index.indexing.edits import EditSummary
from nda_index.indexing.pipeline import BuildSummary
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

    code, out, _ = run("add", index, tmp_path / "new", "--json")
    assert (code, json.loads(out)["images"], json.loads(out)["changed"]) == (0, 26, 6)
    removal = ["remove", index, "--key", "23.png", "--image-id", 4]
    code, out, _ = run(*removal, "--dry-run")
    assert "image 4: 04.png" in out and "1 images have the key '23.png'" in out
    assert "Would remove 2 images" in out and "has 26 now" in " ".join(out.split())
    code, out, _ = run(*removal)
    assert "Removed 2 images" in out
    assert "has 24 now" in " ".join(out.split())
    code, out, _ = run("info", index)
    assert "their bytes are here" in out
    code, out, _ = run("compact", index)
    assert "Erased 2 images" in out
    assert run("verify", index)[0] == 0
    code, _, err = run("remove", index, "--key", "23.png")
    assert code == 5
    assert "keys has '23.png'" in err

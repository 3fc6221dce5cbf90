from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import nda_index as nda
from nda_index.store.locks import write_lock
from tests.cli.running import Run


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
    code, out, _ = run("remove", index, "--key", "23.png", "--image-id", 4)
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
    code, out, _ = run("compact", index)
    assert (code, "Erased 0 images" in out) == (0, True)
    assert run("verify", index)[0] == 0
    code, _, err = run("remove", index, "--key", "23.png")
    assert code == 5
    assert "keys has '23.png'" in err

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nda_index as nda
from tests.cli.running import Run


def test_a_copy_is_pushed_and_pulled(run: Run, index_folder: Path, tmp_path: Path) -> None:
    index = Path(shutil.copytree(index_folder, tmp_path / "x.nda"))
    store, copy = f"file://{tmp_path}/store", tmp_path / "copy.nda"
    code, out, _ = run("push", index, store)
    assert (code, f"Pushed {index}: " in " ".join(out.split())) == (0, True)
    code, out, _ = run("push", index, store)
    assert "nothing new" in out and "0 old files deleted there" in " ".join(out.split())
    code, out, _ = run("pull", store, copy, "--json")
    files = json.loads(out)
    assert (code, files["files"], files["index"]) == (0, len(nda.open_index(copy).manifest.files), str(copy))
    (tmp_path / "store" / "notes.txt").touch()
    with nda.open_index(copy):
        nda.remove_images(index, image_ids=[1])
        nda.compact(index)
        code, out, _ = run("push", index, store)
        assert "Left alone, because no push or pull put it there: notes.txt" in " ".join(out.split())
        code, out, _ = run("pull", store, copy, "--wait", 0)
        assert (code, "old files are there still" in out) == (10, True)
    code, out, _ = run("pull", store, copy)
    assert (code, "old files erased" in out) == (0, True)
    assert run("verify", copy)[0] == 0
    code, _, err = run("pull", tmp_path / "nothing", copy)
    assert (code, err.startswith("error: there is nothing at ")) == (4, True)
    assert run("pull", store, copy, "--wait", -1)[0] == 2

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import nda_index as nda
from nda_index.store.locks import write_lock
from nda_index.store.verify import Finding, judge_findings, verify


@pytest.fixture
def copy(index_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(index_folder, tmp_path / "copy.nda"))


def kinds(folder: Path) -> list[str]:
    return sorted({finding.kind for finding in verify(folder)})


def test_damage_foreign_files_and_files_that_wait_are_told_apart(copy: Path) -> None:
    with nda.open_index(copy):
        nda.remove_images(copy, image_ids=[1])
        nda.remove_images(copy, image_ids=[2])
        waiting = verify(copy)
        assert [finding.file.startswith("removed-") for finding in waiting] == [True]
        assert "it waits for process" in waiting[0].text
        assert judge_findings(waiting) == 10
    assert "`nda-index compact` erases it" in verify(copy)[0].text
    (copy / "scales" / "stray.txt").write_text("?")
    assert (kinds(copy), judge_findings(verify(copy))) == (["foreign", "waiting"], 10)
    with write_lock(copy):
        assert kinds(copy) == ["waiting", "writing"]
    (copy / "null.arrow").unlink()
    assert (kinds(copy), judge_findings(verify(copy))) == (["damage", "foreign", "waiting"], 1)


@pytest.mark.parametrize(
    ("kinds", "code"),
    [
        ([], 0),
        (["writing"], 0),
        (["foreign"], 11),
        (["foreign", "waiting"], 10),
        (["damage"], 1),
        (["pulling"], 12),
        (["pulling", "foreign"], 11),
    ],
)
def test_the_worst_finding_decides(kinds: list[str], code: int) -> None:
    assert judge_findings([Finding(kind, "x", "x") for kind in kinds]) == code  # type: ignore[arg-type]

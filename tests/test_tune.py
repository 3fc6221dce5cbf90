from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import nda_index as nda
from nda_index.store.manifest import read_manifest
from nda_index.store.verify import verify


@pytest.fixture
def copy(index_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(index_folder, tmp_path / "copy.nda"))


def test_the_fastest_setting_that_reaches_a_recall_is_kept(copy: Path, pictures: NDArray[np.uint8]) -> None:
    index = nda.open_index(copy)
    tuning = nda.tune(index, recall=0.95, queries=2)
    enough = [trial for trial in tuning.trials if trial.recall >= 0.95]
    assert tuning.chosen in enough
    assert tuning.chosen.seconds == min(trial.seconds for trial in enough)
    assert {trial.candidates for trial in tuning.trials} == {128, 256, 300}
    everything = [trial for trial in tuning.trials if trial.candidates == 300]
    assert all(trial.recall == 1 and trial.mass == pytest.approx(1) for trial in everything)
    kept = read_manifest(copy).tuning
    assert (kept["candidates"], kept["recall"]) == (tuning.chosen.candidates, tuning.chosen.recall)
    assert verify(copy) == []
    reopened = nda.open_index(copy)
    assert reopened.manifest.index_hash != index.manifest.index_hash
    assert reopened.attribute(pictures[5], top=1).scored == tuning.chosen.candidates
    assert reopened.attribute(pictures[5], top=1, candidates=17).scored == 17


def test_the_best_recall_within_a_time_is_kept(copy: Path) -> None:
    tuning = nda.tune(nda.open_index(copy), seconds=1000.0, queries=1)
    assert tuning.chosen.recall == max(trial.recall for trial in tuning.trials) == 1


def test_what_cannot_be_reached_is_refused_and_nothing_is_kept(copy: Path) -> None:
    index = nda.open_index(copy)
    before = (copy / "manifest.json").read_bytes()
    for options, message in (
        ({"recall": 1.5}, "the most that any setting reaches here is 1.00"),
        ({"seconds": 0.0}, "the fastest setting here takes"),
        ({}, "give one of both"),
        ({"recall": 0.9, "seconds": 1.0}, "give one of both"),
        ({"recall": 0.9, "queries": 0}, "queries is 0"),
    ):
        with pytest.raises(nda.ConfigError, match=message):
            nda.tune(index, **({"queries": 1} | options))  # type: ignore[arg-type]
    assert (copy / "manifest.json").read_bytes() == before


def test_the_command_prints_what_was_measured(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from nda_index.cli.app import app

    app(["tune", str(copy), "--recall", "0.9", "--queries", "1", "--json"], standalone_mode=False)
    assert json.loads(capsys.readouterr().out)["chosen"]["recall"] >= 0.9
    app(["info", str(copy)], standalone_mode=False)
    assert "recall@100" in capsys.readouterr().out

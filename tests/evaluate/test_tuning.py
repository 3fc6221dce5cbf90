from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import nda_index as nda
from nda_index.evaluate.tuning import Trial, choose_trial
from nda_index.recipe import DEFAULT
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


@pytest.mark.parametrize(
    ("recall", "seconds", "candidates"),
    [
        (0.0, None, 128),
        (0.7, None, 128),
        (0.71, None, 1024),  # not 512, which reaches it later
        (0.95, None, 5000),
        (None, 0.1, 128),
        (None, 0.99, 128),
        (None, 1.0, 1024),
        (None, 1.99, 1024),
        (None, 2.0, 512),
        (None, 100.0, 5000),  # not 10,000, which takes longer for the same recall
    ],
)
def test_the_fastest_trial_of_a_recall_and_the_best_one_within_a_time_are_chosen(
    recall: float | None, seconds: float | None, candidates: int
) -> None:
    trials = [
        Trial(16, 10_000, 0.95, 0.9, 9.0),
        Trial(2, 512, 0.9, 0.8, 2.0),
        Trial(1, 128, 0.7, 0.5, 0.1),
        Trial(16, 5000, 0.95, 0.9, 8.0),
        Trial(8, 1024, 0.8, 0.99, 1.0),
    ]
    assert choose_trial(trials, recall, seconds).candidates == candidates


def test_a_wanted_time_chooses_too_and_the_progress_of_every_query_is_told(copy: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    tuning = nda.tune(nda.open_index(copy), seconds=1000.0, queries=2, progress=lambda *call: calls.append(call))
    assert tuning.chosen == choose_trial(tuning.trials, None, 1000.0)
    assert (tuning.queries, tuning.timestep, tuning.recipe) == (2, None, str(DEFAULT))
    assert calls == [("tune", 1, 2), ("tune", 2, 2)]


def test_what_cannot_be_reached_is_refused_and_nothing_is_kept(copy: Path) -> None:
    index = nda.open_index(copy)
    before = (copy / "manifest.json").read_bytes()
    for options, message in (
        ({"recall": 1.5}, "recall is 1.5; it must be above 0 and at most 1"),
        ({"seconds": 0.0}, "seconds is 0.0; it must be above 0"),
        ({"seconds": 1e-9}, "seconds is 1e-09; the fastest setting here takes .* s; allow more"),
        ({}, "neither recall nor seconds is given; give one of the two"),
        ({"recall": 0.9, "seconds": 1.0}, "recall is 0.9 and seconds 1.0; give one of the two"),
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

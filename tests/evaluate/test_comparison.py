from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import nda_index as nda
from nda_index.cli.app import app
from nda_index.evaluate.comparison import as_markdown, baseline_rows, judge_scores, posterior_rows
from nda_index.evaluate.lds import subset_masks
from nda_index.evaluate.methods import posterior_scores, recipe_scores
from nda_index.evaluate.study import Study

SCALES = [nda.Scale(3), nda.Scale(5)]


@pytest.fixture(scope="module")
def study() -> Study:
    """Models that do as well on a picture as the posterior of patches of 5 pixels, at t = 100, says."""
    rng = np.random.default_rng(0)
    train = rng.integers(0, 256, (30, 8, 8, 3), np.uint8)
    queries = {"copies": train[:4], "others": rng.integers(0, 256, (5, 8, 8, 3), np.uint8)}
    masks = subset_masks(30, 16)
    truth = {group: posterior_scores(train, each, [nda.Scale(5)], 100) for group, each in queries.items()}
    losses = {group: -(masks @ scores.T) for group, scores in truth.items()}
    return Study(train, masks, queries, losses, {"mine": truth})


def test_the_method_that_is_right_gets_one(study: Study) -> None:
    rows = {row.method: row for row in posterior_rows(study, SCALES, [100, 400])}
    assert rows["p5r1, t = 100"].lds["copies"].mean == pytest.approx(1.0)
    assert rows["p5r1, t = 100"].lds["others"].mean == pytest.approx(1.0)
    assert rows["p3r1, t = 400"].lds["others"].mean < 0.9
    assert set(rows) == {
        f"{scale}, t = {t}" for scale in ("p3r1", "p5r1", "p3r1 + p5r1") for t in ("100", "400", "100, 400")
    }


def test_scales_together_are_summed_and_timesteps_averaged(study: Study) -> None:
    rows = {row.method: row for row in posterior_rows(study, SCALES, [100, 400])}
    scores = {group: posterior_scores(study.train, each, SCALES, [100, 400]) for group, each in study.queries.items()}
    expected = judge_scores(study, "all", scores, 0.0).lds
    assert rows["p3r1 + p5r1, t = 100, 400"].lds == expected


def test_baselines_and_given_scores_are_judged_alike(study: Study) -> None:
    rows = {row.method: row for row in baseline_rows(study)}
    assert rows["mine"].lds["others"].mean == pytest.approx(1.0)
    assert abs(rows["random"].lds["others"].mean) < 0.6
    assert rows["pixel distance"].lds["copies"].mean < 1.0
    table = as_markdown(list(rows.values()))
    assert "| method | copies | others | seconds |" in table
    assert "| mine | 1.000 [1.000, 1.000] | 1.000 [1.000, 1.000] |  |" in table


def test_a_difference_is_of_the_same_pictures(study: Study) -> None:
    rows = {row.method: row for row in posterior_rows(study, SCALES, [100])}
    better, worse = rows["p5r1, t = 100"], rows["p3r1, t = 100"]
    for group, difference in better.minus(worse).items():
        assert difference.mean == pytest.approx(better.lds[group].mean - worse.lds[group].mean)
    assert all(difference.low == difference.high == 0 for difference in better.minus(better).values())
    fewer = replace(worse, by_picture={group: values[1:] for group, values in worse.by_picture.items()})
    with pytest.raises(nda.ConfigError, match="different pictures"):
        better.minus(fewer)


def test_the_command_prints_the_table(study: Study, tmp_path: Path) -> None:
    arrays: dict[str, Any] = {"train": study.train, "masks": study.masks}
    for group in study.queries:
        arrays |= {f"queries/{group}": study.queries[group], f"losses/{group}": study.losses[group]}
    np.savez(tmp_path / "study.npz", **arrays)
    command = ["evaluate", str(tmp_path / "study.npz"), "--scale", "5", "--timestep", "100", "--json"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0
    rows = {row["method"]: row for row in json.loads(result.stdout)}
    assert rows["p5r1, t = 100"]["lds"]["others"]["mean"] == pytest.approx(1.0)
    # "models" and "pieces" have patches that do not fit these pictures
    assert set(rows) == {"recipe published", "pixel distance", "pixel cosine", "random", "p5r1, t = 100"}
    recipe = judge_scores(
        study, "", {group: recipe_scores(study.train, study.queries[group], "published") for group in study.queries}, 0
    )
    assert rows["recipe published"]["lds"] == recipe.to_dict()["lds"]

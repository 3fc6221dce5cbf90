"""What is kept of the trained models, and what is said of it."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.lds.rescore import CHOSEN, GROUPS, compare_pairs, load_study, seeds_agree, write_page
from benchmarks.lds.setting import SMALL
from nda_index.evaluate.comparison import Row, judge_scores
from nda_index.evaluate.lds import subset_masks
from nda_index.evaluate.study import Study
from tests.shared_data import shared_file


def test_further_pictures_come_with_their_own_losses_and_scores() -> None:
    shared_file("data/cifar10_train.parquet")
    first, further = load_study(), load_study(further=True)
    assert set(further.scores) == set(CHOSEN) < set(first.scores)
    np.testing.assert_array_equal(first.masks, further.masks)
    for group in GROUPS:
        ours, others = first.queries[group], further.queries[group]
        assert ours.shape == others.shape == (SMALL.queries, SMALL.size, SMALL.size, 3)
        assert not (ours[:, None] == others[None]).all(axis=(2, 3, 4)).any()
        assert first.losses[group].shape == further.losses[group].shape == (SMALL.subsets, SMALL.queries)
        for name in CHOSEN:
            assert first.scores[name][group].shape == further.scores[name][group].shape
            assert not np.array_equal(first.scores[name][group], further.scores[name][group])


def test_seeds_agree_as_much_as_their_losses_do() -> None:
    rng = np.random.default_rng(0)
    masks = subset_masks(40, 16, seed=0)
    losses = rng.normal(size=(16, 6, 3))  # [M, 2 Q, timesteps]
    assert seeds_agree(losses[None], masks) == []
    assert seeds_agree(np.stack([losses, losses]), masks) == pytest.approx([1, 1])
    assert seeds_agree(np.stack([losses, -losses]), masks) == pytest.approx([-1, -1])
    half = np.concatenate([losses[:, :3], -losses[:, 3:]], axis=1)
    assert seeds_agree(np.stack([losses, half]), masks) == pytest.approx([1, -1])


def rows_named(*names: str) -> list[Row]:
    """The same random scores under several names."""
    rng = np.random.default_rng(0)
    pictures, masks = rng.integers(0, 256, (8, 4, 4, 3), np.uint8), subset_masks(8, 6, seed=0)
    study = Study(pictures, masks, dict.fromkeys(GROUPS, pictures), {group: rng.random((6, 8)) for group in GROUPS})
    scores = {group: rng.random((8, 8)) for group in GROUPS}
    return [judge_scores(study, name, scores, 0.0) for name in names]


def test_pairs_that_are_there_are_compared() -> None:
    most, cosine = "p7r1 + p14r2, t = 400, average of 16 draws", "pixel cosine"
    lines = compare_pairs(rows_named(most, cosine, "other")).splitlines()
    assert len([line for line in lines if line.startswith("| p7r1")]) == 1
    assert f"| {most} | {cosine} | 0.000" in lines[-1]


def test_the_page_says_how_its_figures_are_made_again() -> None:
    made = {"command": "train this", "machines": ["machine A", "machine B"], "subsets": 64}
    made["setting"] = {"images": 9, "size": 4, "widths": [8], "epochs": 3, "queries": 5, "timesteps": [1, 2]}
    first, further = (write_page(rows_named("random"), made, 3.2, name) for name in ("lds-grid", "lds-confirm"))
    assert "`python -m benchmarks.lds.rescore --grid`" in first and "2 model(s)" in first
    assert "measured on\nmachine A; machine B." in first
    assert "`python -m benchmarks.lds.rescore --confirm`" in further and "1 model(s)" in further
    assert "measured on\nmachine B." in further and "had a part in choosing" in further

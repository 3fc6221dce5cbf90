"""Which losses and pictures of the evaluation are kept, and which are made."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("diffusers", reason="diffusers is not installed; it comes with the group bench")

from benchmarks.lds import train
from benchmarks.lds.model import new_model, save_model
from benchmarks.lds.setting import SMALL, load_held_out_images
from tests.shared_data import shared_file

TINY = replace(SMALL, name="tiny", size=8, widths=(16, 16), queries=2, steps=2, noises=1, timesteps=(100, 500))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(train, "DATA", tmp_path)
    save_model(new_model(TINY), tmp_path / "full-0.safetensors")
    return tmp_path


def keep(folder: Path, **arrays: Any) -> None:
    """As a run of one seed leaves its data."""
    np.savez_compressed(folder / "tiny.npz", **arrays)
    made = {"setting": asdict(TINY), "subsets": 3, "machines": ["here"]}
    (folder / "tiny.json").write_text(json.dumps(made))


def test_pictures_that_are_kept_stay_and_the_others_are_made(folder: Path) -> None:
    first, further = train.load_or_generate(TINY, folder)
    assert first.shape == further.shape == (2, 8, 8, 3)
    assert not np.array_equal(first, further)
    kept = np.full_like(first, 9)
    keep(folder, generated=kept)
    again = train.load_or_generate(TINY, folder)
    np.testing.assert_array_equal(again[0], kept)
    np.testing.assert_array_equal(again[1], further)


def test_seeds_that_are_kept_are_of_the_same_setting_and_subsets(folder: Path) -> None:
    assert train.load_losses(TINY, 3) == ([], [])
    losses = np.random.default_rng(0).random((1, 3, 4, 2), np.float32)
    keep(folder, losses=losses)
    kept, machines = train.load_losses(TINY, 3)
    np.testing.assert_array_equal(kept, losses)
    assert machines == ["here"]
    for setting, subsets in ((TINY, 2), (replace(TINY, epochs=1), 3)):
        with pytest.raises(SystemExit, match="delete"):
            train.load_losses(setting, subsets)


def test_a_models_losses_are_measured_once_for_each_set_of_pictures(folder: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    first = train.measure_losses(TINY, folder / "full-0", "losses", pictures)
    assert first.shape == (2, 2)
    other = train.measure_losses(TINY, folder / "full-0", "further", pictures[::-1])
    assert not np.array_equal(first, other)
    (folder / "full-0.safetensors").unlink()
    np.testing.assert_array_equal(train.measure_losses(TINY, folder / "full-0", "losses", pictures), first)


def test_further_pictures_are_others() -> None:
    shared_file("data/cifar10_test.parquet")
    first, further = load_held_out_images(TINY), load_held_out_images(TINY, further=True)
    assert first.shape == further.shape == (2, 8, 8, 3)
    assert not (first[:, None] == further[None]).all(axis=(2, 3, 4)).any()

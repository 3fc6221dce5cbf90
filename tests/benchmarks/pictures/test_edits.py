"""Edits keep a piece's size; the soft ones do what they say."""

from __future__ import annotations

import random

import numpy as np
import pytest
from PIL import Image

from benchmarks.pictures.edits import EDITS, Edit, repaint, style
from tests.benchmarks.pictures.scenes import draw_scene

CHANGES = [edit for edit in EDITS if edit.change]


@pytest.mark.parametrize("edit", CHANGES, ids=[edit.name for edit in CHANGES])
def test_changes_keep_size_and_depend_on_the_seed_only(edit: Edit) -> None:
    piece, base = draw_scene(0, (200, 150)), draw_scene(1, (300, 300))
    before = piece.tobytes()
    assert edit.change
    changed = edit.change(piece, base, random.Random(3))
    assert changed.size == piece.size
    assert changed.mode == "RGB"
    assert changed.tobytes() != before == piece.tobytes()
    assert changed.tobytes() == edit.change(piece, base, random.Random(3)).tobytes()


def test_style_gives_mean_and_covariance_of_the_base() -> None:
    piece = draw_scene(0, (200, 150))
    base = draw_scene(1, (300, 300)).point(lambda level: 100 + level / 5)
    colours, wanted = (np.asarray(p, float).reshape(-1, 3) for p in (style(piece, base, random.Random(0)), base))
    np.testing.assert_allclose(colours.mean(0), wanted.mean(0), atol=1)
    np.testing.assert_allclose(np.cov(colours.T), np.cov(wanted.T), atol=15)


def test_repaint_keeps_the_scene_but_no_texture() -> None:
    piece = draw_scene(0, (200, 200))
    rough = np.asarray(piece, float) + np.random.default_rng(0).normal(0, 25, (200, 200, 3))
    texture = np.clip(rough, 0, 255) - np.asarray(piece, float)
    painted = np.asarray(
        repaint(Image.fromarray(np.clip(rough, 0, 255).astype(np.uint8)), piece, random.Random(0)), float
    )
    assert np.corrcoef(painted.ravel(), np.asarray(piece, float).ravel())[0, 1] > 0.9
    assert abs(np.corrcoef((painted - np.asarray(piece, float)).ravel(), texture.ravel())[0, 1]) < 0.5

"""Thumbnails find a copy, whatever its size and coding."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from benchmarks.pictures import thumbnail
from benchmarks.pictures.baseline import ask_all
from benchmarks.pictures.composites import Query
from tests.benchmarks.pictures.scenes import draw_scene


def test_copies_come_first(tmp_path: Path) -> None:
    for name in ("collection", "queries"):
        (tmp_path / name).mkdir()
    for number in range(5):
        draw_scene(number, (600, 500)).save(tmp_path / "collection" / f"{number}.png")
    draw_scene(3, (600, 500)).resize((300, 250), Image.Resampling.BOX).save(tmp_path / "queries/w.jpg", quality=40)
    state = thumbnail.build(tmp_path / "collection")
    (answer,) = ask_all(thumbnail.ask, state, tmp_path, [Query("w.jpg", "3.png", "exact copy", 1.0)])
    assert answer.candidates[0].key == "3.png"
    assert answer.candidates[0].score > 0.95 > answer.candidates[1].score
    assert answer.candidates[0].box is None

"""SIFT finds pieces, mirrored ones too, and where they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import ImageOps

from benchmarks.pictures.judge import intersection_over_union
from tests.benchmarks.pictures.scenes import draw_scene


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_piece_is_found_where_it_is(tmp_path: Path, mirrored: bool) -> None:
    pytest.importorskip("cv2", reason="OpenCV is not installed; it comes with the group bench")
    from benchmarks.pictures import sift

    for number in range(4):
        draw_scene(number, (600, 500)).save(tmp_path / f"{number}.png")
    piece = draw_scene(2, (600, 500)).crop((100, 50, 500, 450))
    query = draw_scene(9, (1024, 1024))
    query.paste(ImageOps.mirror(piece) if mirrored else piece, (550, 60))
    first, *others = sift.ask(sift.build(tmp_path), query)
    assert first.key == "2.png"
    assert all(other.score < first.score / 2 for other in others)
    assert first.box
    assert intersection_over_union(first.box, (550, 60, 950, 460)) > 0.7

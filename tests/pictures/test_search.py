"""Regions of photographs: a piece is found where it was pasted, whatever was done to it."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageEnhance, ImageOps

import nda_index as nda
from nda_index.answer.region import Region
from tests.pictures.scenes import BROKEN, POINT, SCENES, overlap, pasted, scene, soft

CUT = 60, 40, 240, 200  # of a scene


def ask(index: nda.Index, picture: Image.Image, where: str | None = None) -> tuple[Region, ...]:
    return index.attribute(picture, timestep=50, top=1, where=where).regions


def coded(piece: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    piece.save(buffer, "JPEG", quality=40)
    return Image.open(buffer).convert("RGB")


EDITS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "plain": lambda piece: piece,
    "mirrored": ImageOps.mirror,
    "larger": lambda piece: piece.resize((252, 224), Image.Resampling.BICUBIC),
    "smaller": lambda piece: piece.resize((126, 112), Image.Resampling.LANCZOS),
    "darker": lambda piece: ImageEnhance.Brightness(piece).enhance(0.7),
    "JPEG": coded,
}
ZOOMS = {"larger": 1.4, "smaller": 0.7}


@pytest.mark.parametrize("edit", EDITS)
def test_a_piece_is_found_with_its_place_and_what_was_done_to_it(photograph_index: nda.Index, edit: str) -> None:
    question = pasted(EDITS[edit](scene(3).crop(CUT)))
    best = ask(photograph_index, question.picture)[0]
    assert best.key == "03.png"
    assert best.mirrored == (edit == "mirrored")
    assert best.zoom == pytest.approx(ZOOMS.get(edit, 1.0), rel=0.03)
    assert overlap(best.box, question.box) > 0.7
    assert overlap(best.source_box, CUT) > 0.7
    assert best.path is not None and Path(best.path).name == "03.png"
    assert best.correlation > 0.6


def test_pieces_of_two_pictures_are_two_regions(photograph_index: nda.Index) -> None:
    ground = pasted(scene(1).crop(CUT), (10, 10), soft(2, (480, 400)))
    question = pasted(scene(5).crop(CUT), (270, 220), ground.picture)
    first, second = ask(photograph_index, question.picture)[:2]
    assert {first.key, second.key} == {"01.png", "05.png"}
    boxes = {"01.png": ground.box, "05.png": question.box}
    assert all(overlap(region.box, boxes[region.key]) > 0.6 for region in (first, second))


def test_what_was_never_indexed_has_less_evidence_than_a_piece(photograph_index: nda.Index) -> None:
    piece = ask(photograph_index, pasted(scene(2).crop(CUT)).picture)[0].evidence
    strange = ask(photograph_index, scene(99, (480, 400)))
    assert max([region.evidence for region in strange], default=0.0) < piece / 4


def test_boxes_are_in_pixels_of_a_question_of_any_size(photograph_index: nda.Index) -> None:
    question = pasted(scene(4).crop(CUT), (700, 300), soft(1, (1900, 1400)))
    large = question.picture.resize((3800, 2800), Image.Resampling.BICUBIC)
    best = ask(photograph_index, large)[0]
    assert best.key == "04.png"
    assert overlap(best.box, tuple(2 * edge for edge in question.box)) > 0.6


def test_a_condition_leaves_pictures_out(photograph_index: nda.Index) -> None:
    picture = pasted(scene(3).crop(CUT)).picture
    assert "03.png" not in [region.key for region in ask(photograph_index, picture, "key != '03.png'")]
    assert [region.key for region in ask(photograph_index, picture, "key = '03.png'")][:1] == ["03.png"]


@pytest.mark.parametrize("size", [(1, 1), (3000, 20), (50, 40)])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "CMYK", "I;16"])
def test_a_picture_without_structure_has_no_region(
    photograph_index: nda.Index, size: tuple[int, int], mode: str
) -> None:
    picture = Image.fromarray(np.full(size[::-1], 9000, np.uint16)) if mode == "I;16" else Image.new(mode, size)
    assert ask(photograph_index, picture) == ()


def test_broken_files_are_listed_and_odd_pictures_indexed(photograph_index_folder: Path) -> None:
    failures = pq.read_table(photograph_index_folder / "failures.parquet")
    assert failures["key"].to_pylist() == [BROKEN]
    with nda.open_index(photograph_index_folder) as index:
        assert len(index) == SCENES + 3
        assert index.manifest.features.count("pictures") == 1


def test_removed_pictures_are_not_found_and_added_ones_are(photograph_index_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "changed.nda"
    shutil.copytree(photograph_index_folder, folder)
    nda.remove_images(folder, keys=["03.png", POINT])
    new = tmp_path / "new"
    new.mkdir()
    scene(50).save(new / "new.png")
    nda.add_images(folder, new)
    gone, added = pasted(scene(3).crop(CUT)).picture, pasted(scene(50).crop(CUT)).picture
    for _ in range(2):
        with nda.open_index(folder) as index:
            assert "03.png" not in [region.key for region in ask(index, gone)]
            found = ask(index, added)[0]
            assert (found.key, found.image_id) == (
                "new.png",
                len(index.image_ids) - 1 + index.manifest.counts["removed"],
            )
            assert ask(index, pasted(scene(6).crop(CUT)).picture)[0].key == "06.png"
        nda.compact(folder)
    with nda.open_index(folder) as index:
        assert index.manifest.counts["removed"] == 0


def test_regions_are_saved_with_the_answer(photograph_index: nda.Index, tmp_path: Path) -> None:
    answer = photograph_index.attribute(pasted(scene(3).crop(CUT)).picture, timestep=50, top=3)
    answer.save(tmp_path / "answer.arrow")
    kept = nda.read_answer(tmp_path / "answer.arrow")
    assert kept.regions == answer.regions
    assert kept.picture_size == answer.picture_size == (480, 400)
    assert [region["key"] for region in answer.to_dict()["regions"]][0] == "03.png"


def test_small_images_have_no_windows_and_no_regions(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), np.uint8)
    with nda.build_index(images, tmp_path / "small.nda", scales=[nda.Scale(5)], null=0) as index:
        answer = index.attribute(images[3], timestep=50, top=3)
        assert (answer.regions, answer.picture_size) == ((), None)
        assert not index.manifest.config.pictures
        assert not (tmp_path / "small.nda" / "pictures").exists()
        assert "pictures" not in index.manifest.features

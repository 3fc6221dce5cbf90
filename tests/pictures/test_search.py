from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nda_index as nda
from nda_index.answer.region import Region
from nda_index.coarse.neighbours import assign_cells, train_centroids
from nda_index.images import open_upright
from nda_index.pictures.catalogue import Catalogue, Members
from nda_index.pictures.cpu import HostLists
from nda_index.pictures.search import REGIONS, find_regions
from nda_index.query.shard import Shard
from tests.conftest import encoded
from tests.pictures.scenes import PLAIN, SCENES, SIZE, STRIP, Pasted, overlap, pasted, scene, soft

CROP = 60, 40, 240, 200
PIECE = scene(3).crop(CROP)
MIRROR = Image.Transpose.FLIP_LEFT_RIGHT
NULL = np.linspace(0, 6, 199)  # of 199 unrelated pictures: more than scenes get from one another


@pytest.fixture(scope="module")
def catalogue(photograph_index_folder: Path) -> Catalogue:
    made = Shard(photograph_index_folder, "cpu").catalogue
    assert made is not None
    return made


def name(image_ids: Sequence[int]) -> list[str]:
    return [f"key {image_id}" for image_id in image_ids]


def found_in(catalogue: Catalogue, picture: Image.Image) -> tuple[Region, ...]:
    return find_regions([catalogue], picture, NULL, name)


def jpeg(picture: Image.Image) -> Image.Image:
    return open_upright(encoded(picture, "JPEG", quality=40))


TURNED = scene(3).rotate(-8, Image.Resampling.BICUBIC).crop(CROP)
CASES: dict[str, tuple[Image.Image, float, bool, float]] = {  # a piece, its zoom, whether mirrored, its turn
    "plain": (PIECE, 1.0, False, 0.0),
    "larger": (PIECE.resize((270, 240), Image.Resampling.BICUBIC), 1.5, False, 0.0),
    "smaller": (PIECE.resize((108, 96), Image.Resampling.BICUBIC), 0.6, False, 0.0),
    "mirrored": (PIECE.transpose(MIRROR), 1.0, True, 0.0),
    "larger and mirrored": (PIECE.transpose(MIRROR).resize((252, 224), Image.Resampling.BICUBIC), 1.4, True, 0.0),
    "in another light": (PIECE.point(lambda value: round(255 * (value / 255) ** 1.6 * 0.8 + 20)), 1.0, False, 0.0),
    "grey": (PIECE.convert("L").convert("RGB"), 1.0, False, 0.0),
    "compressed": (jpeg(PIECE), 1.0, False, 0.0),
    "turned": (TURNED, 1.0, False, 8.0),
}


@pytest.mark.parametrize(
    ("case", "ground"),
    [*((case, "soft") for case in CASES), ("plain", "busy"), ("smaller", "busy"), ("larger and mirrored", "busy")],
)
def test_the_region_of_a_piece_is_found(catalogue: Catalogue, case: str, ground: str) -> None:
    piece, zoom, mirrored, turn = CASES[case]
    picture, box = pasted(piece, ground=soft(1) if ground == "soft" else scene(50, (480, 400)))
    region, *others = found_in(catalogue, picture)
    assert (region.image_id, region.key, region.mirrored, region.size) == (3, "key 3", mirrored, SIZE)
    assert str(region.path).endswith("03.png")
    assert (region.strong, region.null_pictures) == (True, 199)
    assert region.percentile == 0.995
    assert region.zoom == pytest.approx(zoom, rel=0.04)
    assert region.turn == pytest.approx(turn, abs=1.5)
    assert region.correlation > 0.7
    assert overlap(region.box, box) > 0.55
    assert overlap(region.source_box, CROP) > (0.55 if turn == 0 else 0.4)
    # The box of the source is where the box of the question comes from.
    for axis in (0, 1):
        there, here = (edges[axis + 2] - edges[axis] for edges in (region.source_box, region.box))
        assert there * zoom == pytest.approx(here, rel=0.1 if turn == 0 else 0.3)
    assert not any(other.strong for other in others)


def test_source_boxes_of_mirrored_pieces_lie_where_the_piece_lies(catalogue: Catalogue) -> None:
    """Pieces at the left and at the right of a picture, which would be exchanged if the mirror were forgotten."""
    for left in (0, SIZE[0] - 130):
        crop = left, 50, left + 130, 210
        piece = scene(6).crop(crop).transpose(MIRROR)
        region = found_in(catalogue, pasted(piece).picture)[0]
        assert (region.image_id, region.mirrored) == (6, True)
        assert overlap(region.source_box, crop) > 0.6


def test_a_large_picture_is_compared_at_a_smaller_size_and_told_in_its_own_pixels(catalogue: Catalogue) -> None:
    picture, box = pasted(PIECE.resize((540, 480), Image.Resampling.BICUBIC), (400, 700), soft(1, (1500, 1300)))
    region = found_in(catalogue, picture)[0]
    assert (region.image_id, region.strong) == (3, True)
    assert region.zoom == pytest.approx(3, rel=0.04)
    assert overlap(region.box, box) > 0.65
    assert overlap(region.source_box, CROP) > 0.65


def test_two_pieces_are_two_regions(catalogue: Catalogue) -> None:
    first = pasted(PIECE, (20, 20), soft(2, (600, 480)))
    both = pasted(scene(0).crop((100, 60, 280, 220)), (380, 280), first.picture)
    strong = [region for region in found_in(catalogue, both.picture) if region.strong]
    assert {region.image_id for region in strong} == {0, 3}
    boxes = {region.image_id: region.box for region in strong}
    assert min(overlap(boxes[3], first.box), overlap(boxes[0], both.box)) > 0.6
    assert [region.evidence for region in strong] == sorted((region.evidence for region in strong), reverse=True)


def test_a_piece_that_is_there_twice_has_two_regions(catalogue: Catalogue) -> None:
    first = pasted(PIECE, (20, 20), soft(2, (640, 480)))
    both = pasted(PIECE, (390, 290), first.picture)
    strong = [region for region in found_in(catalogue, both.picture) if region.strong]
    assert {region.image_id for region in strong} == {3}
    for box in (first.box, both.box):
        assert max(overlap(region.box, box) for region in strong) > 0.6


def test_nothing_of_an_unrelated_picture_is_strong(catalogue: Catalogue) -> None:
    for seed in range(60, 62):
        regions = found_in(catalogue, scene(seed, (480, 400)))
        assert not any(region.strong for region in regions)
        assert len(regions) <= REGIONS
    for picture in (soft(3), Image.new("RGB", (300, 300), "green"), Image.new("RGB", (1, 1))):
        assert not any(region.strong for region in found_in(catalogue, picture))


def test_without_a_null_nothing_is_judged(catalogue: Catalogue) -> None:
    region = find_regions([catalogue], pasted(PIECE).picture, np.empty(0), name)[0]
    assert (region.image_id, region.strong, region.null_pictures) == (3, False, 0)
    assert np.isnan(region.percentile)
    few = find_regions([catalogue], pasted(PIECE).picture, NULL[:98], name)[0]
    assert (few.strong, few.percentile) == (False, 98 / 99)  # fewer than 99 pictures support no strong match


def test_a_small_question_and_odd_shapes_are_answered(catalogue: Catalogue) -> None:
    region = found_in(catalogue, scene(3).resize((62, 50), Image.Resampling.LANCZOS))[0]
    assert region.image_id == 3
    assert region.zoom == pytest.approx(62 / SIZE[0], rel=0.1)
    grain = np.random.default_rng(3).integers(0, 256, (20, 3000, 3), np.uint8)
    strip = found_in(catalogue, Image.fromarray(grain))[0]
    assert (strip.image_id, strip.size, strip.strong) == (SCENES + 2, (3000, 20), True)
    for size in ((1, 1), (9, 9), (1, 500), (20, 3000), (5000, 12)):
        noise = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), np.uint8)
        for region in found_in(catalogue, Image.fromarray(noise)):
            assert not region.strong
            assert_in(region.box, size)
            assert_in(region.source_box, region.size)


def assert_in(box: tuple[int, int, int, int], size: tuple[int, int]) -> None:
    assert 0 <= box[0] < box[2] <= size[0]
    assert 0 <= box[1] < box[3] <= size[1]


def test_only_what_is_allowed_is_found(catalogue: Catalogue) -> None:
    picture = pasted(PIECE).picture
    allowed = np.ones(len(catalogue.sizes), np.bool_)
    allowed[3] = False
    regions = find_regions([catalogue], picture, NULL, name, [allowed])
    assert not any(region.strong or region.image_id == 3 for region in regions)
    region = find_regions([catalogue], picture, NULL, name, [~allowed])[0]
    assert (region.image_id, region.strong) == (3, True)
    assert find_regions([catalogue], picture, NULL, name, [np.zeros_like(allowed)]) == ()


def test_several_catalogues_give_the_regions_of_one(catalogue: Catalogue) -> None:
    divided = [part(catalogue, 0, 3), part(catalogue, 3, SCENES + 3)]
    picture = pasted(CASES["larger and mirrored"][0], ground=scene(50, (480, 400))).picture
    whole = found_in(catalogue, picture)[0]
    parts = find_regions(divided, picture, NULL, name)[0]
    assert (parts.image_id, parts.key, parts.mirrored, parts.path) == (3, "key 3", whole.mirrored, whole.path)
    np.testing.assert_allclose(parts.box, whole.box, atol=13)  # a window of the comparison
    np.testing.assert_allclose(parts.source_box, whole.source_box, atol=13)  # a window of the comparison
    assert parts.evidence == pytest.approx(whole.evidence, rel=0.05)
    assert parts.zoom == pytest.approx(whole.zoom, rel=0.01)


def part(whole: Catalogue, first: int, last: int) -> Catalogue:
    """The pictures from `first` to before `last`, as a catalogue of their own."""
    windows = {}
    for kind, (_, owners, frames) in whole.windows.items():
        codes = np.concatenate([picture.codes[kind] for picture in whole.read(range(first, last))])
        centroids = train_centroids(codes, len(codes))
        mine = (owners >= first) & (owners < last)
        lists = HostLists(codes, assign_cells(codes, centroids), centroids, owners[mine] - first)
        windows[kind] = Members(lists, owners[mine] - first, frames[mine])
    return Catalogue(
        whole.sizes[first:last], windows, lambda numbers: whole.read([number + first for number in numbers])
    )


def test_an_answer_has_the_regions_of_its_picture(photograph_index: nda.Index) -> None:
    question: Pasted = pasted(PIECE)
    answer = photograph_index.attribute(question.picture, top=2, mode="exact")
    region = answer.regions[0]
    assert (region.image_id, region.key, answer.picture_size) == (3, "03.png", question.picture.size)
    assert overlap(region.box, question.box) > 0.6
    assert (region.percentile, region.null_pictures) == (4 / 5, 4)
    assert "regions" in answer.seconds
    by_key = photograph_index.attribute(question.picture, top=2, mode="exact", where="key <> '03.png'").regions
    assert by_key
    assert "03.png" not in {region.key for region in by_key}
    alone = photograph_index.attribute(question.picture, top=1, mode="exact", where="key = '03.png'").regions
    assert {region.key for region in alone} == {"03.png"}
    queries = [
        photograph_index.query(image, top=2, mode="exact") for image in (encoded(question.picture), np.asarray(PIECE))
    ]
    batch = [answer for answer in photograph_index.attribute_batch(queries) if isinstance(answer, nda.Attribution)]
    assert (batch[0].regions, batch[1].regions[0].image_id) == (answer.regions, 3)
    assert photograph_index.attribute(scene(0), top=1, mode="exact", where=f"key = '{PLAIN}'").regions == ()
    assert STRIP in photograph_index.attribute(scene(0), top=SCENES + 3, mode="exact").keys

"""An index of photographs is built, resumed, changed and divided."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import nda_index as nda
from nda_index.answer.arrow import answer_bytes
from nda_index.answer.region import Region, read_region
from nda_index.coarse.neighbours import assign_cells
from nda_index.indexing import plan
from nda_index.indexing.pipeline import build
from nda_index.indexing.request import LOOKED_AT, PHOTOGRAPH, are_photographs
from nda_index.pictures.catalogue import FEATURE, read_centroids, read_pictures, segment_names
from nda_index.pictures.windows import KINDS
from nda_index.query.local import LocalShards
from nda_index.query.shard import Shard
from nda_index.sources import open_source
from nda_index.store import manifest as manifests
from nda_index.store.arrow import read_arrow
from nda_index.store.corpus import PICTURE, Corpus
from nda_index.store.manifest import read_manifest
from nda_index.store.verify import verify
from tests.conftest import encoded
from tests.pictures.scenes import BROKEN, PLAIN, POINT, SCENES, overlap, pasted, scene

OPTIONS: dict[str, Any] = {"image_size": 16, "scales": [nda.Scale(5)]}
CROP = 60, 40, 240, 200


@pytest.fixture
def folder(photograph_index_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(photograph_index_folder, tmp_path / "x.nda"))


def regions(path: Path, seed: int, where: str | None = None) -> tuple[Region, ...]:
    """Regions of a question with a piece of a scene."""
    with nda.open_index(path) as index:
        null = index._collection.regions_null
        return index._collection.shards.regions([pasted(scene(seed).crop(CROP)).picture], where, null)[0].regions


def best(path: Path, seed: int, where: str | None = None) -> tuple[str, int, bool]:
    """Key, number and whether it is a piece, of the best region."""
    found = regions(path, seed, where)
    return (found[0].key, found[0].image_id, found[0].evidence > 20) if found else ("", -1, False)


def test_what_the_progress_of_a_question_raises_ends_its_search_for_regions(folder: Path) -> None:
    class Ended(Exception):
        pass

    def end(stage: str, done: int, total: int) -> None:
        if stage == "regions":
            raise Ended

    with nda.open_index(folder) as index, pytest.raises(Ended):
        index.attribute(pasted(scene(1).crop(CROP)).picture, progress=end)


def test_photographs_are_known_by_their_sizes(photograph_index_folder: Path) -> None:
    manifest = read_manifest(photograph_index_folder)
    assert manifest.config.pictures
    assert FEATURE in manifest.features
    assert manifest.counts == {"images": SCENES + 3, "removed": 0, "failures": 1, "left_out": 2}
    failures = pq.read_table(photograph_index_folder / "failures.parquet").to_pylist()
    assert [(failure["key"], failure["kind"]) for failure in failures] == [
        (BROKEN, "unreadable"), (PLAIN, "left out"), (POINT, "left out"),
    ]  # fmt: skip
    assert "without regions: its 1 x 1 pixels have no structure" in failures[2]["reason"]
    assert verify(photograph_index_folder) == []
    with nda.open_index(photograph_index_folder) as index:
        assert index.metadata_schema().names == []  # a record is no metadata


@pytest.mark.parametrize(
    ("sides", "expected"),
    [
        ([PHOTOGRAPH] * 2, True),
        ([PHOTOGRAPH - 1] * 2, False),
        ([PHOTOGRAPH, 20], False),  # most, not half
        ([PHOTOGRAPH, 300, 20], True),
        ([20] * (LOOKED_AT // 2) + [300] * (LOOKED_AT // 2 - 1) + [300] * 200, False),  # of the first
        ([0, 300, 300], True),  # one that cannot be read
        ([0, 0, 300], False),
    ],
)
def test_most_of_the_first_images_decide(sides: list[int], expected: bool, tmp_path: Path) -> None:
    rows: list[bytes | None] = [encoded(Image.new("L", (side + 40, side))) if side else b"broken" for side in sides]
    pq.write_table(
        pa.table({"image": pa.array([{"bytes": row, "path": None} for row in rows])}), tmp_path / "x.parquet"
    )
    assert are_photographs(open_source(tmp_path / "x.parquet")) == expected


def test_images_that_a_source_holds_nothing_for_decide_nothing(tmp_path: Path) -> None:
    for count, expected in ((1, True), (3, False)):
        rows = [None] * count + [{"bytes": encoded(scene(0)), "path": "a"}, {"bytes": encoded(scene(1)), "path": "b"}]
        pq.write_table(pa.table({"image": pa.array(rows)}), tmp_path / "x.parquet")
        assert are_photographs(open_source(tmp_path / "x.parquet")) == expected


@pytest.mark.parametrize("shape", [(40, 32, 32, 3), (40, 127, 300)])
def test_small_images_make_an_index_as_before(shape: tuple[int, ...], tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    with nda.build_index(images, tmp_path / "x.nda", **OPTIONS, null=5) as index:
        manifest = index.manifest
        assert (manifest.config.pictures, manifest.config.to_json()["pictures"]) == (False, False)
        assert FEATURE not in manifest.features
        assert not [name for name in manifest.files if name.startswith("pictures/")]
        assert not (tmp_path / "x.nda" / "pictures").exists()
        assert PICTURE not in corpus_of(index).schema.names
        answer = index.attribute(images[3], top=2)
        assert (answer.regions, answer.picture_size) == ((), None)
        assert answer.to_dict()["regions"] == []


def corpus_of(index: nda.Index) -> Corpus:
    shards = index._collection.shards
    assert isinstance(shards, LocalShards)
    return shards._shards[0].corpus


@pytest.mark.parametrize("pictures", [True, False])
def test_the_option_has_the_last_word(pictures: bool, tmp_path: Path) -> None:
    size = 60 if pictures else 200
    images = np.stack([np.asarray(scene(seed).resize((size, size))) for seed in range(4)])
    with nda.build_index(images, tmp_path / "x.nda", pictures=pictures, **OPTIONS, null=0) as index:
        assert index.manifest.config.pictures == pictures
        answer = index.attribute(images[2], top=1, mode="exact")
        assert [region.image_id for region in answer.regions[:1]] == ([2] if pictures else [])
        assert all(region.path is None for region in answer.regions)


def test_an_older_reader_refuses(photograph_index_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "FEATURES", ("removed", "shards", "evidence"))
    with pytest.raises(nda.VersionError, match=r"the features pictures.*upgrade"):
        nda.open_index(photograph_index_folder)


@pytest.mark.filterwarnings("ignore:1 image could not be read")
def test_pixels_and_scores_do_not_depend_on_the_records(photograph_index: nda.Index, tmp_path: Path) -> None:
    source = photograph_index.path.parent / "source"
    with nda.build_index(source, tmp_path / "x.nda", pictures=False, **OPTIONS, null=0) as index:
        every = np.arange(SCENES + 3)
        np.testing.assert_array_equal(index.pixels(every), photograph_index.pixels(every))
        question = np.asarray(scene(3))
        one, other = (opened.scores([question], timestep=100, mode="exact") for opened in (index, photograph_index))
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_an_estimate_of_small_images_does_not_depend_on_the_option() -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), np.uint8)
    one, other = (nda.estimate_build(images, **OPTIONS, **chosen) for chosen in ({}, {"pictures": False}))
    assert replace(one, seconds=0) == replace(other, seconds=0)


def test_a_picture_that_was_added_is_found(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    for seed in (20, 21):
        scene(seed).save(tmp_path / "more" / f"{seed}.png", compress_level=1)
    scene(22).resize((60, 40)).save(tmp_path / "more" / "small.png")  # the index decides, not the sizes
    assert not best(folder, 21)[2]
    added = nda.add_images(folder, tmp_path / "more")
    assert (added.images, added.changed) == (SCENES + 6, 3)
    assert verify(folder) == []
    assert len(segment_names(list(read_manifest(folder).files))) == 2
    assert_cells(folder)
    assert best(folder, 21) == ("21.png", SCENES + 4, True)
    assert best(folder, 3) == ("03.png", 3, True)
    assert regions(folder, 20)[0].path == str(tmp_path / "more" / "20.png")
    nda.remove_images(folder, keys=["20.png", "05.png"])
    assert nda.compact(folder).images == SCENES + 4
    assert len(segment_names(list(read_manifest(folder).files))) == 1
    assert verify(folder) == []
    assert_cells(folder)
    assert best(folder, 21) == ("21.png", SCENES + 2, True)
    assert best(folder, 6) == ("06.png", 5, True)
    # Files that a reader may have open are not written over.
    nda.add_images(folder, tmp_path / "more", allow_duplicates=True)
    assert len(set(segment_names(list(read_manifest(folder).files)))) == 2
    assert best(folder, 20) == ("20.png", SCENES + 4, True)


def test_the_index_decides_whether_what_is_added_has_a_record(folder: Path) -> None:
    """Also where the added images are so small that they would not be taken for photographs."""
    images = np.stack([np.asarray(scene(seed).resize((80, 64))) for seed in (20, 21)])
    assert nda.add_images(folder, images).changed == 2
    with nda.open_index(folder) as index:
        region = index._collection.shards.regions([scene(21).resize((80, 64))], None, np.empty(0))[0].regions[0]
    assert (region.image_id, region.size, region.path) == (SCENES + 4, (80, 64), None)


def assert_cells(folder: Path) -> None:
    """Each window lies in the cell that is nearest to it."""
    files = list(read_manifest(folder).files)
    batches = [read_arrow(folder / name)[0] for name in segment_names(files)]
    with nda.open_index(folder) as index:
        pictures = [picture for _, picture in read_pictures(corpus_of(index), np.arange(corpus_of(index).count))]
    for kind in KINDS:
        cells = [row.values.to_numpy() for batch in batches for row in batch[kind]]
        assert len(cells) == len(pictures)
        for row, picture in zip(cells, pictures, strict=True):
            np.testing.assert_array_equal(row, assign_cells(picture.codes[kind], read_centroids(folder, kind)))


def test_a_removed_picture_is_never_found(folder: Path) -> None:
    assert best(folder, 3) == ("03.png", 3, True)
    nda.remove_images(folder, keys=["03.png", "00.png", PLAIN])
    for _ in range(2):
        for seed in (0, 3):
            found = regions(folder, seed)
            assert not {"03.png", "00.png"} & {region.key for region in found}
            assert all(region.evidence < 8 for region in found)
        assert verify(folder) == []
        nda.compact(folder)
    with nda.open_index(folder) as index:
        assert index.image_ids.tolist() == list(range(SCENES))
    assert best(folder, 1) == ("01.png", 0, True)
    assert best(folder, 2) == ("02.png", 1, True)
    assert best(folder, 7) == ("07.png", 5, True)
    assert best(folder, 7, "key <> '07.png'")[0] != "07.png"


def test_the_record_of_a_removed_picture_is_erased(folder: Path) -> None:
    with nda.open_index(folder) as index:
        record = corpus_of(index).pictures(np.array([3]))[0]
    for secret in (record["copy"][400:800], record["points_codes"][:64]):
        assert occurs(secret, folder)
    nda.remove_images(folder, image_ids=[3])
    nda.compact(folder)
    for secret in (record["copy"][400:800], record["points_codes"][:64]):
        assert not occurs(secret, folder)


def occurs(data: bytes, folder: Path) -> bool:
    return any(data in path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_a_damaged_file_of_pictures_is_noticed(folder: Path) -> None:
    for path in sorted((folder / "pictures").iterdir()):
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :])
        assert [finding.file for finding in verify(folder)] == [f"pictures/{path.name}"]
        path.unlink()
        with pytest.raises(nda.CorruptIndexError, match="is missing"):
            nda.open_index(folder)
        path.write_bytes(data)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Three photographs, a broken one, and an index of them."""
    folder = tmp_path_factory.mktemp("few")
    (folder / "source").mkdir()
    for seed in range(3):
        scene(seed, (200, 150)).save(folder / "source" / f"{seed}.png", compress_level=1)
    (folder / "source" / "1-broken.png").write_bytes(b"broken")
    build(folder / "source", folder / "whole.nda", null=2, **OPTIONS)
    yield folder


class Killed(BaseException):
    """Stands for the process being killed: nothing may catch it."""


@pytest.mark.parametrize(
    ("stage", "at"),
    [("read", 1), ("cells of pictures", 0), ("cells of pictures", 1), ("null of regions", 1), ("commit", 0)],
)
def test_a_resumed_build_ends_as_one_that_was_never_interrupted(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, at: int
) -> None:
    for name, size in (("READ_PICTURES", 1), ("CHUNK_BYTES", 1)):
        monkeypatch.setattr(plan, name, size)

    def stop(current: str, done: int, total: int) -> None:
        if (current, done) == (stage, at):
            raise Killed

    with pytest.raises(Killed):
        build(few / "source", tmp_path / "parts.nda", null=2, progress=stop, **OPTIONS)
    with pytest.raises(nda.NotAnIndexError):
        nda.open_index(tmp_path / "parts.nda")
    with pytest.raises(nda.ConfigError, match=r"begun with other settings \(pictures"):
        build(few / "source", tmp_path / "parts.nda", null=2, resume=True, pictures=False, **OPTIONS)
    resumed = build(few / "source", tmp_path / "parts.nda", null=2, resume=True, **OPTIONS)
    assert (resumed.images, resumed.failures, resumed.started_over) == (3, 1, False)
    assert resumed.resumed == (1 if stage == "read" else 3)
    assert verify(tmp_path / "parts.nda") == []
    one, other = (
        {name: file["sha256"] for name, file in read_manifest(folder).files.items() if ".lance/" not in name}
        for folder in (few / "whole.nda", tmp_path / "parts.nda")
    )
    assert one == other
    assert len([name for name in one if name.startswith("pictures/")]) == 4


def test_parts_in_one_process_give_the_regions_of_one_index(folder: Path, tmp_path: Path) -> None:
    whole = regions(folder, 6)[0]
    other = Path(shutil.copytree(folder, tmp_path / "y.nda"))
    nda.remove_images(folder, image_ids=range(4, SCENES + 3))
    nda.remove_images(other, image_ids=range(4))
    shards = LocalShards([Shard(folder, "cpu"), Shard(other, "cpu")])
    question = pasted(scene(6).crop(CROP)).picture
    for where, key in ((None, "06.png"), ("key <> '06.png'", ""), ("key = '06.png'", "06.png")):
        found = shards.regions([question], where, np.linspace(0, 6, 199))[0].regions
        strong = [region for region in found if region.strong]
        assert [region.key for region in strong] == ([key] if key else [])
        for region in strong:
            assert region.image_id == SCENES + 3 + 6
            np.testing.assert_allclose(region.box, whole.box, atol=8)
            assert region.evidence == pytest.approx(whole.evidence, rel=0.1)
    assert {
        region.key
        for region in shards.regions([pasted(scene(2).crop(CROP)).picture], "key = '02.png'", np.zeros(1))[0].regions
    } == {"02.png"}
    shards.close()


def test_a_saved_answer_has_its_regions(photograph_index: nda.Index, tmp_path: Path) -> None:
    answer = photograph_index.attribute(pasted(scene(3).crop(CROP)).picture, top=2, mode="exact")
    assert answer.regions[0].image_id == 3
    for name in ("a.arrow", "a.json"):
        answer.save(tmp_path / name)
    again = nda.read_answer(tmp_path / "a.arrow")
    assert (again.regions, again.picture_size) == (answer.regions, answer.picture_size)
    written = json.loads((tmp_path / "a.json").read_text())
    assert written["picture_size"] == list(answer.picture_size or ())
    assert tuple(map(read_region, written["regions"])) == answer.regions
    assert written["regions"][0]["what"] == answer.regions[0].describe()


def test_an_answer_of_an_older_version_has_no_regions(photograph_index: nda.Index) -> None:
    answer = photograph_index.attribute(scene(3), top=1, mode="exact")
    data = resealed(answer_bytes(answer), without=("regions", "picture_size"))
    again = nda.read_answer(data)
    assert answer.regions
    assert (again.regions, again.picture_size, again.keys) == ((), None, answer.keys)


def resealed(data: bytes, without: Sequence[str]) -> bytes:
    """The file without some values of its header, and the hash that fits."""
    table = pa.ipc.open_stream(data[:-32]).read_all()
    metadata = dict(table.schema.metadata)
    header = json.loads(metadata[b"nda_index.answer"])
    kept = {name: value for name, value in header.items() if name not in without}
    assert len(kept) == len(header) - len(without)
    metadata[b"nda_index.answer"] = json.dumps(kept).encode()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.replace_schema_metadata(metadata).schema) as writer:
        writer.write_table(table)
    stream = sink.getvalue().to_pybytes()
    return bytes(stream + hashlib.sha256(stream).digest())


@pytest.mark.filterwarnings("ignore:1 image could not be read")
def test_a_grey_index_of_photographs_has_regions_too(few: Path, tmp_path: Path) -> None:
    grey = {"channels": 1, "null": 0, **OPTIONS}
    with nda.build_index(few / "source", tmp_path / "x.nda", **grey) as index:
        with nda.build_index(few / "source", tmp_path / "y.nda", pictures=False, **grey) as plain:
            apart = index.pixels(np.arange(3)).astype(int) - plain.pixels(np.arange(3))
            assert np.abs(apart).max() <= 1  # of rounding
        answer = index.attribute(scene(1, (200, 150)), top=1, mode="exact")
        region = answer.regions[0]
        assert (region.image_id, region.null_pictures, region.strong) == (1, 0, False)
        assert np.isnan(region.percentile)


def test_a_question_about_a_part_is_one_about_that_part(photograph_index: nda.Index) -> None:
    """Boxes stay in the whole picture's pixels, and what lies outside the part is not found."""
    ground = pasted(scene(5).crop(CROP), (20, 300), scene(40, (700, 560)))
    picture = pasted(scene(3).crop(CROP), (400, 100), ground.picture).picture
    part = (340, 40, 660, 400)
    answer = photograph_index.attribute(picture, top=1, region=part)
    alone = photograph_index.attribute(picture.crop(part), top=1)
    assert answer.regions[0].key == "03.png" and answer.regions[0].evidence > 20
    assert all(region.key != "05.png" or region.evidence < 5 for region in answer.regions)
    moved = [region.box[0] - 340 for region in answer.regions], [region.box[1] - 40 for region in answer.regions]
    assert moved == ([region.box[0] for region in alone.regions], [region.box[1] for region in alone.regions])
    assert overlap(answer.regions[0].box, (400, 100, 580, 260)) > 0.6
    np.testing.assert_array_equal(answer.query, alone.query)
    np.testing.assert_allclose(answer.scores, alone.scores)
    assert (answer.picture_size, answer.settings["region"]) == ((700, 560), list(part))
    assert answer.crops == alone.crops
    with pytest.raises(nda.ConfigError, match="the picture is 700 x 560 pixels"):
        photograph_index.attribute(picture, region=(0, 0, 701, 10))

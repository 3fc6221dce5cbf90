from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import nda_index as nda
from nda_index.coarse.neighbours import assign_cells
from nda_index.pictures import catalogue
from nda_index.pictures.catalogue import Catalogue, open_catalogue, read_numbered, read_pictures
from nda_index.pictures.windows import DIMENSIONS, INDEXED, KINDS, find_windows
from nda_index.store.arrow import read_arrow
from nda_index.store.corpus import Corpus
from nda_index.store.manifest import read_manifest
from tests.pictures.scenes import SCENES, SIZE, scene


@pytest.fixture(scope="module")
def corpus(photograph_index_folder: Path) -> Corpus:
    manifest = read_manifest(photograph_index_folder)
    return Corpus(photograph_index_folder, manifest.config.shape, manifest.table)


@pytest.fixture(scope="module")
def opened(photograph_index_folder: Path, corpus: Corpus) -> Catalogue:
    files = list(read_manifest(photograph_index_folder).files)
    return open_catalogue(photograph_index_folder, files, corpus, np.ones(corpus.count, np.bool_))


def test_a_catalogue_holds_the_windows_of_all_pictures(opened: Catalogue) -> None:
    assert opened.sizes.tolist() == [list(SIZE)] * SCENES + [[300, 200], [1, 1], [3000, 20]]
    for kind in KINDS:
        lists, owners, frames = opened.windows[kind]
        assert lists.count == len(owners) == len(frames)
        assert set(owners.tolist()) == {*range(SCENES), SCENES + 2}  # neither plain pictures nor a point have any
        expected = find_windows(scene(5), INDEXED)[kind]
        np.testing.assert_allclose(frames[owners == 5][:, :3], expected.frames[:, :3], atol=0.005)
        distances, numbers = lists.search(expected.codes, 2, 1 << 20)
        assert (distances[:, 0] == 0).all()
        twice = distances[:, 1] == 0  # two windows that look alike
        assert twice.mean() < 0.1
        np.testing.assert_array_equal(np.flatnonzero(owners == 5)[~twice], numbers[~twice, 0])


def test_removed_pictures_have_no_windows(photograph_index_folder: Path, corpus: Corpus) -> None:
    present = np.ones(corpus.count, np.bool_)
    present[[0, 5, SCENES]] = False
    there = open_catalogue(photograph_index_folder, list(read_manifest(photograph_index_folder).files), corpus, present)
    assert np.flatnonzero(there.sizes[:, 0] == 0).tolist() == [0, 5, SCENES]
    for kind in KINDS:
        lists, owners, frames = there.windows[kind]
        assert set(owners.tolist()) == {1, 2, 3, 4, 6, 7, SCENES + 2}
        expected = find_windows(scene(6), INDEXED)[kind]
        np.testing.assert_allclose(frames[owners == 6][:, :3], expected.frames[:, :3], atol=0.005)
        # With one cell that is looked at the exact copy is there: cells belong to the right windows.
        assert (lists.search(expected.codes, 1, 1)[0] == 0).all()


def test_a_segment_says_in_which_cell_each_window_lies(
    photograph_index_folder: Path, corpus: Corpus, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(photograph_index_folder, tmp_path / "x.nda"))
    chosen = np.array([7, 2, SCENES])
    catalogue.write_segment(folder, "pictures/lists-00009.arrow", corpus, chosen, 40)
    batch, header = read_arrow(folder / "pictures/lists-00009.arrow")
    assert header == {"first": 40, "images": 3}
    for kind in KINDS:
        centroids = catalogue.read_centroids(folder, kind)
        assert centroids.shape[1] == DIMENSIONS
        for row, image_id in enumerate(chosen.tolist()):
            codes = next(read_pictures(corpus, np.array([image_id])))[1].codes[kind]
            np.testing.assert_array_equal(batch[kind][row].values.to_numpy(), assign_cells(codes, centroids))


def test_files_are_named_in_order_and_numbers_are_not_used_again() -> None:
    files = ["scales/p5r1/lists-00099.arrow", "pictures/points.arrow", *map(catalogue.segment_name, (10, 2, 0))]
    assert catalogue.segment_names(files) == [catalogue.segment_name(number) for number in (0, 2, 10)]
    assert catalogue.next_segment(files) == 11
    assert catalogue.next_segment(["scales/p5r1/lists-00099.arrow"]) == 0


def test_pictures_are_numbered_through_the_catalogues(opened: Catalogue) -> None:
    count = SCENES + 3
    pictures = read_numbered([opened, opened], [count + 3, 3, count + SCENES + 2, 3])
    assert pictures.keys() == {3, count + 3, count + SCENES + 2}
    assert str(pictures[3].path).endswith("source/03.png")
    assert pictures[count + 3].path == pictures[3].path
    assert pictures[count + SCENES + 2].size == (3000, 20)


def test_records_are_read_some_at_a_time_in_the_order_that_is_asked(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "_READ", 2)
    found = list(read_pictures(corpus, np.array([6, 0, SCENES, 3, 1])))
    assert [image_id for image_id, _ in found] == [6, 0, SCENES, 3, 1]
    assert [Path(picture.path or "").name[:2] for _, picture in found] == ["06", "00", "91", "03", "01"]


@pytest.mark.filterwarnings("ignore:3 other things were left out")
def test_pictures_that_have_no_structure_make_an_index(tmp_path: Path) -> None:
    images = np.stack([np.full((150, 140, 3), level, np.uint8) for level in (0, 90, 200)])
    with nda.build_index(images, tmp_path / "x.nda", image_size=16, scales=[nda.Scale(5)], null=3) as index:
        assert index.manifest.config.pictures
        shards = index._collection.shards
        assert shards.regions([scene(0)], None, np.zeros(3))[0].regions == ()
        np.testing.assert_array_equal(index._collection.regions_null, np.zeros(3))

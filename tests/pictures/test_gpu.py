"""A catalogue that torch searches gives the regions of one that FAISS does, also where memory runs short."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import nda_index as nda
from nda_index.answer.region import Region
from nda_index.exact import gpu as exact_gpu
from nda_index.pictures import catalogue as catalogues
from nda_index.pictures import gpu
from nda_index.pictures.catalogue import Catalogue, open_catalogue
from nda_index.pictures.cpu import HostLists
from nda_index.pictures.gpu import LEAST, DeviceLists
from nda_index.pictures.gpu_nearest import TILE, make_block, rank_nearest
from nda_index.pictures.search import find_regions, find_regions_together
from nda_index.pictures.windows import find_windows
from nda_index.query.local import PICTURES_TOGETHER, LocalShards
from nda_index.query.shard import Shard
from tests.pictures.scenes import SCENES, overlap, pasted, scene, soft

CROP = 60, 40, 240, 200
NULL = np.linspace(0, 6, 199)
TURNED = scene(5).rotate(-6, Image.Resampling.BICUBIC).crop(CROP)
PICTURES = [
    pasted(scene(3).crop(CROP), (50, 30), soft(1, (290, 220))).picture,
    pasted(TURNED.transpose(Image.Transpose.FLIP_LEFT_RIGHT), (50, 30), scene(50, (290, 220))).picture,
    Image.new("RGB", (200, 200), "green"),
]


def open_on(folder: Path, device: str | None) -> Catalogue:
    shard = Shard(folder, "cpu")
    try:
        return open_catalogue(folder, list(shard.manifest.files), shard.corpus, shard.present, device)
    finally:
        shard.close()


@pytest.fixture(scope="module")
def host(photograph_index_folder: Path) -> Catalogue:
    return open_on(photograph_index_folder, None)


@pytest.fixture(scope="module")
def device(photograph_index_folder: Path) -> Catalogue:
    made = open_on(photograph_index_folder, "cpu")
    assert all(isinstance(of.lists, DeviceLists) for of in made.windows.values())
    return made


def name(image_ids: Sequence[int]) -> list[str]:
    return [str(image_id) for image_id in image_ids]


def found_in(catalogue: Catalogue) -> list[tuple[Region, ...]]:
    return [find_regions([catalogue], picture, NULL, name) for picture in PICTURES]


def assert_same(some: Sequence[Region], others: Sequence[Region]) -> None:
    """Of windows that are equally near the one or the other may be taken; nothing else may differ."""
    assert [region.strong for region in some] == [region.strong for region in others]
    for one, other in zip(some, others, strict=True):
        if one.strong:
            assert (one.image_id, one.mirrored) == (other.image_id, other.mirrored)
            assert one.evidence == pytest.approx(other.evidence, rel=0.01)
            assert min(overlap(one.box, other.box), overlap(one.source_box, other.source_box)) > 0.99


@pytest.fixture(scope="module")
def found(device: Catalogue) -> list[tuple[Region, ...]]:
    return found_in(device)


def test_regions_are_those_of_the_cpu(host: Catalogue, device: Catalogue, found: list[tuple[Region, ...]]) -> None:
    expected = found_in(host)
    assert [sum(region.strong for region in regions) for regions in expected] == [1, 1, 0]
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)
    allowed = [np.arange(SCENES + 3) != 5]
    regions = find_regions([device], PICTURES[1], NULL, name, allowed)
    assert_same(regions, find_regions([host], PICTURES[1], NULL, name, allowed))
    assert regions and not any(region.image_id == 5 for region in regions)


def test_pictures_that_are_asked_together_get_what_they_get_alone(
    device: Catalogue, found: list[tuple[Region, ...]]
) -> None:
    stages: list[tuple[str, int, int]] = []
    together = find_regions_together(
        [device], PICTURES, NULL, name, report=lambda *report: stages.append(report), threads=2
    )
    assert stages == [("regions", done, 3) for done in (1, 2, 3)]
    assert together == found


def make_lists(resident: int = 1 << 40, work: int = gpu.WORK) -> DeviceLists:
    """Windows of 40 pictures in 9 cells, one of which is empty."""
    codes = random_codes(4000, 0)
    cells, owners = (codes[:, 0] % 8).astype(np.int32), np.repeat(np.arange(40, dtype=np.int32), 100)
    centroids = np.random.default_rng(2).uniform(100, 156, (9, codes.shape[1])).astype(np.float32)
    return DeviceLists(codes, cells, centroids, owners, device="cpu", spare=HostLists, resident=resident, work=work)


def random_codes(count: int, seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(90, 166, (count, 32), np.uint8)


ALLOWED = np.arange(40) % 3 > 0


def search(lists: DeviceLists) -> list[tuple[list[list[float]], list[list[int]]]]:
    found = [lists.search(random_codes(40, 1), 10, 4, may) for may in (None, ALLOWED)]
    return [(distances.tolist(), numbers.tolist()) for distances, numbers in found]


def test_windows_beyond_the_budget_are_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = search(make_lists())
    few = make_lists(resident=50_000, work=100_000)
    blocks: list[int] = []

    def make(*arguments: Any) -> Any:
        blocks.append(arguments[2])
        return make_block(*arguments)

    monkeypatch.setattr(gpu, "make_block", make)
    assert search(few) == expected
    kept = 50_000 // (TILE * 40)
    assert blocks == [*range(kept, 67, 9)] * 2  # the first stay where they are; a fourth of what a search may take


class Short:
    """A device whose memory does not suffice for steps of more than some bytes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
        self.tried: list[int] = []

        def rank(*arguments: Any) -> torch.Tensor:
            self.tried.append(arguments[-1])
            if arguments[-1] > most:
                raise torch.OutOfMemoryError
            return rank_nearest(*arguments)

        monkeypatch.setattr(gpu, "rank_nearest", rank)


def test_a_search_that_does_not_fit_takes_smaller_steps(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lists = make_lists()
    expected = search(lists)
    short = Short(monkeypatch, gpu.WORK // 4)
    with caplog.at_level(logging.INFO, "nda_index.pictures.gpu"):
        assert search(lists) == expected
    assert short.tried == [gpu.WORK, gpu.WORK // 4] * 2
    assert "regions take 256 MiB at a time" in caplog.text
    assert "on the CPU" not in caplog.text


@pytest.mark.parametrize("resident", [0, 50_000, 1 << 40])
def test_where_nothing_fits_the_cpu_looks(
    resident: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = search(make_lists())
    short = Short(monkeypatch, 0)
    found = search(make_lists(resident=resident))
    assert [distances for distances, _ in found] == [distances for distances, _ in expected]
    same = [np.mean(np.array(one) == np.array(other)) for (_, one), (_, other) in zip(found, expected, strict=True)]
    assert min(same) > 0.97  # but for ties
    assert min(short.tried) == LEAST
    assert "the memory of cpu does not suffice for regions; they are looked for on the CPU" in caplog.text


def test_what_of_the_windows_fits_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = search(make_lists())

    def make(*arguments: Any) -> Any:
        if arguments[2] == 0 and len(arguments[0]) > 20:
            raise torch.OutOfMemoryError
        return make_block(*arguments)

    monkeypatch.setattr(gpu, "make_block", make)
    lists = make_lists()
    assert 10 <= len(lists._resident.codes) <= 20
    assert search(lists) == expected


@pytest.fixture
def gpu_index(photograph_index_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[nda.Index]:
    """The index as a machine with a GPU opens it, on a device that is the CPU."""
    shards = LocalShards([Shard(photograph_index_folder, "cpu")])
    with nda.open_index(photograph_index_folder, device="cpu") as index:
        monkeypatch.setattr(shards._shards[0], "_resident", None)
        shards.concurrent, shards.pictures_together = False, 4
        shards._shards[0]._catalogue = open_on(photograph_index_folder, "cpu")
        monkeypatch.setattr(index, "_collection", replace(index._collection, shards=shards))
        yield index
    shards.close()


def test_questions_in_a_row_get_the_answers_of_each_alone(
    gpu_index: nda.Index, photograph_index: nda.Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stop(Exception):
        pass

    def stop(stage: str, done: int, total: int) -> None:
        raise Stop

    def ask(index: nda.Index) -> list[nda.Attribution | Exception]:
        options: list[dict[str, Any]] = [{}, {"where": "key <> '05.png'"}, {}, {"region": (10, 10, 260, 210)}]
        queries = [
            index.query(picture, top=2, mode="exact", **more)
            for picture, more in zip([*PICTURES, PICTURES[0]], options, strict=True)
        ]
        queries[2] = replace(queries[2], progress=stop)
        return list(index.attribute_batch([*queries, queries[0]]))

    asked: list[int] = []
    regions = LocalShards.regions

    def count(self: LocalShards, pictures: Sequence[Image.Image], *more: Any) -> Any:
        asked.append(len(pictures))
        return regions(self, pictures, *more)

    monkeypatch.setattr(LocalShards, "regions", count)
    found = ask(gpu_index)
    assert asked == [3, 1, 1]  # of the first four those of each condition, and the fifth
    for one, other in zip(found, ask(photograph_index), strict=True):
        if isinstance(other, Exception):
            assert isinstance(one, Stop) and isinstance(other, Stop)
            continue
        assert isinstance(one, nda.Attribution)
        assert_same(one.regions, other.regions)
        assert [region.box for region in one.regions[:1]] == [region.box for region in other.regions[:1]]
        assert ("regions" in one.seconds, len(one.crops)) == (True, len(other.crops))


def test_a_question_that_fails_is_not_the_others_failure(gpu_index: nda.Index, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(picture: Image.Image, *more: Any) -> Any:
        if picture.size == (200, 200):
            raise ValueError("a picture that cannot be looked at")
        return find_windows(picture, *more)

    monkeypatch.setattr("nda_index.pictures.search.find_windows", fail)
    queries = [gpu_index.query(picture, top=1, mode="exact") for picture in (PICTURES[0], PICTURES[2])]
    good, bad = gpu_index.attribute_batch(queries)
    assert isinstance(good, nda.Attribution) and good.regions[0].image_id == 3
    assert isinstance(bad, ValueError)


def test_a_shard_on_a_gpu_opens_its_windows_there(
    photograph_index_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str | None] = []

    def note(*arguments: Any) -> HostLists:
        opened.append(arguments[-1])
        return HostLists(*arguments[:4])

    monkeypatch.setattr(
        catalogues, "_make_lists", lambda c, cells, centroids, owners, d: note(c, cells, centroids, owners, d)
    )
    monkeypatch.setattr(exact_gpu, "available", lambda: True)
    monkeypatch.setattr(exact_gpu, "DEVICE", "meta")
    for device, expected in (("auto", "meta"), ("cpu", None)):
        opened.clear()
        shard = Shard(photograph_index_folder, device)
        shards = LocalShards([shard])
        assert shard.catalogue is not None
        assert opened == [expected] * 2
        assert shards.pictures_together == (1 if expected is None else PICTURES_TOGETHER)
        shard.close()


def test_a_gpu_that_fails_leaves_regions_to_the_cpu(
    photograph_index_folder: Path, found: list[tuple[Region, ...]], monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """What lay on the GPU is lost, so the windows are read again."""
    opened: list[str | None] = []

    def make(*arguments: Any) -> Any:
        opened.append(arguments[-1])
        return HostLists(*arguments[:4]) if arguments[-1] is None else Broken()

    class Broken:
        count = 1

        def search(self, *arguments: Any) -> Any:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(catalogues, "_make_lists", make)
    monkeypatch.setattr(exact_gpu, "available", lambda: True)
    monkeypatch.setattr(exact_gpu, "DEVICE", "meta")
    shard = Shard(photograph_index_folder, "auto")
    shards = LocalShards([shard])
    for _ in range(2):
        (answer,) = shards.regions(PICTURES[:1], None, NULL)
        assert_same(answer.regions, found[0])
        assert opened == ["meta", "meta", None, None]
    assert caplog.text.count("the GPU failed, and regions are looked for on the CPU: CUDA error") == 1
    monkeypatch.setattr(Shard, "catalogue", property(lambda self: 1 / 0))
    with pytest.raises(ZeroDivisionError):
        shards.regions(PICTURES[:1], None, NULL)
    shard.close()

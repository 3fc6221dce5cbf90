from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import nda_index as nda
from nda_index.cluster import shards as cluster
from nda_index.cluster.build import build_shards
from nda_index.serve.collection import stamp, state
from nda_index.store.manifest import read_manifest
from nda_index.store.verify import verify
from nda_index.trust import coverage
from tests.pictures.scenes import pasted, scene

ray = pytest.importorskip("ray")

OPTIONS: dict[str, Any] = {"image_size": (24, 20), "scales": [nda.Scale(5), nda.Scale(8, 2)]}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, pictures: NDArray[np.uint8]) -> Path:
    path = tmp_path_factory.mktemp("cluster") / "pictures.npz"
    np.savez(path, images=pictures, year=2000 + np.arange(300) // 100)
    return path


@pytest.fixture(scope="module")
def sharded(machines: Any, source: Path) -> Path:
    """An index in four shards; in the same folder lies the same collection as one index."""
    nda.build_index(source, source.parent / "single.nda", null=4, **OPTIONS)  # compiles, once for all actors
    seen: list[str] = []
    folder = source.parent / "sharded.nda"
    built = build_shards(
        str(source), folder, shards=4, null=4, progress=lambda stage, done, total: seen.append(stage), **OPTIONS
    )
    assert (built.images, built.failures) == (300, 0)
    assert list(dict.fromkeys(seen)) == ["read", "train p5r1", "train p8r2", "encode", "null"]
    return folder


@pytest.fixture(scope="module")
def on_cluster(sharded: Path) -> Iterator[nda.Index]:
    """The sharded index, each shard in an actor."""
    with cluster.open_cluster(sharded) as index:
        yield index


QUESTIONS: list[dict[str, Any]] = [
    {"timestep": 50, "top": 10},
    {"timestep": [50, 200], "top": 300, "mode": "exact"},
    {"timestep": 100, "top": 5, "noise": "average", "draws": 2, "candidates": 40},
    {"timestep": 100, "top": 30, "where": "year = 2001", "mirror": True},
    {"timestep": 200, "top": 3, "where": "year = 2001", "candidates": 10, "per_image_topk": 4},
]


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("opened", ["here", "on the cluster"])
def test_the_answer_does_not_depend_on_the_shards(
    sharded: Path,
    on_cluster: nda.Index,
    pictures: NDArray[np.uint8],
    question: dict[str, Any],
    opened: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(coverage, "SAMPLE", 50)
    single = nda.open_index(sharded.parent / "single.nda")
    parts = nda.open_index(sharded) if opened == "here" else on_cluster
    expected, answer = (index.attribute(pictures[150], **question) for index in (single, parts))
    assert (len(parts), parts.shape, parts.scales) == (300, single.shape, single.scales)
    np.testing.assert_array_equal(answer.image_ids, expected.image_ids)
    np.testing.assert_allclose(answer.scores, expected.scores, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(answer.score_errors, expected.score_errors, rtol=1e-4, atol=1e-9)
    np.testing.assert_array_equal(answer.images, expected.images)
    assert (answer.keys, answer.metadata) == (expected.keys, expected.metadata)
    assert (answer.scored, answer.collection, answer.missing) == (expected.scored, expected.collection, 0)
    assert answer.mass_covered == pytest.approx(expected.mass_covered, rel=1e-6)
    np.testing.assert_allclose(answer.percentiles, expected.percentiles, atol=0.1)
    np.testing.assert_allclose(
        parts.scores(pictures[:1], timestep=50), single.scores(pictures[:1], timestep=50), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("opened", ["here", "on the cluster"])
@pytest.mark.parametrize("mode", ["ann", "exact"])
def test_a_denoised_picture_does_not_depend_on_the_shards(
    sharded: Path, on_cluster: nda.Index, pictures: NDArray[np.uint8], mode: Any, opened: str
) -> None:
    single = nda.open_index(sharded.parent / "single.nda")
    parts = nda.open_index(sharded) if opened == "here" else on_cluster
    options: dict[str, Any] = {"timestep": [50, 200], "mode": mode, "candidates": 40, "without": [150, 3]}
    expected, found = (index.denoise(pictures[150], **options) for index in (single, parts))
    np.testing.assert_allclose(found.by_scale, expected.by_scale, atol=1e-5)
    np.testing.assert_allclose(found.unexplained, expected.unexplained, atol=1e-5)
    assert (found.averaged, found.collection, found.missing) == (expected.averaged, 300, 0)
    with pytest.raises(nda.QueryError, match="none of the 40 images|none of the 300 images"):
        parts.denoise(pictures[150], mode=mode, candidates=40, without=range(300))


def test_images_are_looked_up_on_their_shards(sharded: Path, on_cluster: nda.Index) -> None:
    single, ids = nda.open_index(sharded.parent / "single.nda"), [290, 3, 150, 3]
    for index in (nda.open_index(sharded), on_cluster):
        assert index.keys(ids).equals(single.keys(ids))
        assert index.metadata(ids).equals(single.metadata(ids))
        assert index.ids(single.keys(ids[:3])).tolist() == ids[:3]
        np.testing.assert_array_equal(index.pixels(ids), single.pixels(ids))


def test_a_question_that_cannot_be_answered_keeps_its_error(on_cluster: nda.Index, pictures: NDArray[np.uint8]) -> None:
    for where in ("colour = 1", "year > 2000; year < 2002"):
        with pytest.raises(nda.QueryError, match="where cannot be answered: at character"):
            on_cluster.attribute(pictures[0], where=where)
    assert on_cluster.attribute(pictures[0], top=1).image_ids[0] == 0


def test_a_shard_is_an_index_that_can_be_changed(sharded: Path, pictures: NDArray[np.uint8], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(sharded, tmp_path / "x.nda"))
    assert verify(folder) == []
    with pytest.raises(nda.ConfigError, match="is in shards"):
        nda.remove_images(folder, image_ids=[80])
    before = nda.open_index(folder).manifest.index_hash
    nda.remove_images(folder / "shards" / "00001", image_ids=[5])
    index = nda.open_index(folder)
    assert (len(index), 80 in index.image_ids) == (299, False)
    assert index.manifest.index_hash != before
    shutil.rmtree(folder / "shards" / "00002")
    nda.build_index(pictures[:75], folder / "shards" / "00002", **OPTIONS)
    with pytest.raises(nda.MismatchError, match="other cells"):
        nda.open_index(folder)


def test_a_service_notices_changes_of_shards(sharded: Path, pictures: NDArray[np.uint8], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(sharded, tmp_path / "copy.nda"))
    with nda.open_index(folder) as index:
        assert index.metadata_schema().names == ["year"]
        before, mark = state(folder), stamp(folder)
        assert before[0] == index.manifest.index_hash
    np.savez(tmp_path / "more.npz", images=pictures[:3], year=[1999] * 3)
    nda.add_images(folder / "shards" / "00003", tmp_path / "more.npz")
    added = state(folder)
    assert stamp(folder) != mark
    assert (added[0] != before[0], added[1]) == (True, before[1])
    nda.remove_images(folder / "shards" / "00001", image_ids=[5])
    with nda.open_index(folder) as index:
        assert state(folder)[0] == index.manifest.index_hash
    assert state(folder)[1] != before[1]


def test_photographs_in_shards_have_regions(machines: Any, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    for seed in range(4):
        scene(seed, (200, 150)).save(tmp_path / "source" / f"{seed}.png", compress_level=1)
    folder = tmp_path / "x.nda"
    build_shards(str(tmp_path / "source"), folder, shards=2, null=3, **OPTIONS)
    assert verify(folder) == []
    manifest = read_manifest(folder)
    assert (manifest.config.pictures, "pictures" in manifest.features) == (True, True)
    question = pasted(scene(2, (200, 150)).crop((20, 10, 150, 130))).picture
    with cluster.open_cluster(folder) as far, nda.open_index(folder) as near:
        for index in (far, near):
            answer = index.attribute(question, top=1, mode="exact")
            region = answer.regions[0]
            assert (region.image_id, region.key, region.null_pictures) == (2, "2.png", 3)
            assert region.evidence > 20
            assert region.percentile == 3 / 4
            others = index.attribute(question, top=1, mode="exact", where="key <> '2.png'").regions
            assert "2.png" not in {other.key for other in others}


def shards_of(index: nda.Index) -> cluster.RayShards:
    shards = index._collection.shards
    assert isinstance(shards, cluster.RayShards)
    return shards


def kill_actor(index: nda.Index, number: int) -> None:
    """Kill -9 the process of a shard; Ray opens it again."""
    shards: Any = shards_of(index)
    pid = ray.get(shards.actors[number].__ray_call__.remote(lambda actor: os.getpid()))
    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("step", ["probe", "total", "fetch"])
def test_a_lost_worker_is_opened_again_in_the_middle_of_a_question(
    sharded: Path, on_cluster: nda.Index, pictures: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    expected = nda.open_index(sharded).attribute(pictures[150], top=10)
    original = getattr(cluster.RaySession, step)
    lost: list[str] = []

    def lose_once(session: cluster.RaySession, *arguments: Any) -> Any:
        if not lost:
            lost.append(step)
            kill_actor(on_cluster, 2)
        return original(session, *arguments)

    monkeypatch.setattr(cluster.RaySession, step, lose_once)
    answer = on_cluster.attribute(pictures[150], top=10)
    assert lost
    np.testing.assert_array_equal(answer.image_ids, expected.image_ids)
    np.testing.assert_allclose(answer.scores, expected.scores, rtol=1e-6, atol=1e-6)
    assert answer.missing == 0


def test_a_shard_lost_for_good_is_an_error_or_a_known_gap(sharded: Path, pictures: NDArray[np.uint8]) -> None:
    with cluster.open_cluster(sharded) as index:
        ray.kill(shards_of(index).actors[1], no_restart=True)
        for ask in (index.attribute, index.votes, index.denoise):
            with pytest.raises(nda.ShardLostError, match="00001' cannot be reached"):
                ask(pictures[150])
        shards_of(index).partial = True  # another cluster takes a minute; a loss in mid-question: test_gather
        answer = index.attribute(pictures[150], top=10)
        assert (answer.missing, answer.collection) == (75, 225)
        assert not set(range(75, 150)) & set(answer.image_ids)
        assert answer.image_ids[0] == 150
        assert answer.to_dict()["missing"] == 75
        votes = index.votes(pictures[150])
        assert not votes[75:150].any() and votes[:75].any() and votes[150:].any()
        assert index.pixels(np.array([3, 299])).shape[0] == 2
        with pytest.raises(nda.ShardLostError, match="00001' cannot be reached"):
            index.pixels(np.array([3, 80]))


def test_a_build_goes_on_after_its_workers_and_its_caller_were_killed(
    machines: Any, source: Path, tmp_path: Path, sharded: Path
) -> None:
    class Killed(BaseException):
        pass

    folder = tmp_path / "again.nda"
    for stage in ("read", "train p8r2", "encode"):

        def stop(current: str, done: int, total: int, stage: str = stage) -> None:
            if current == stage and done >= total // 2:
                raise Killed

        with pytest.raises(Killed):
            build_shards(str(source), folder, shards=4, null=0, progress=stop, **OPTIONS)
        with pytest.raises(nda.NotAnIndexError, match="interrupted"):
            nda.open_index(folder)
    with pytest.raises(nda.ConfigError, match=r"begun with other settings \(shards"):
        build_shards(str(source), folder, shards=3, **OPTIONS)
    node = machines.add_node(num_cpus=2)
    killed: list[int] = []

    def lose_a_node(stage: str, done: int, total: int) -> None:
        if stage == "encode" and not killed:
            killed.append(done)
            machines.remove_node(node, allow_graceful=False)

    build_shards(str(source), folder, shards=4, null=0, progress=lose_a_node, **OPTIONS)
    assert killed
    assert verify(folder) == []
    assert read_manifest(folder).counts["images"] == 300
    one, other = nda.open_index(sharded), nda.open_index(folder)
    np.testing.assert_array_equal(one.pixels(np.arange(300)), other.pixels(np.arange(300)))
    for shard in read_manifest(folder).shards:
        a, b = (
            {name: entry for name, entry in read_manifest(path / shard).files.items() if ".lance/" not in name}
            for path in (sharded, folder)
        )
        assert a == b


def test_ray_is_optional(monkeypatch: pytest.MonkeyPatch, sharded: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(nda.MissingDependencyError, match=r"nda-index\[ray\]"):
        cluster.open_cluster(sharded)

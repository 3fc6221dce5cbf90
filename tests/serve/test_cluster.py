from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import nda_index as nda
from nda_index.client import Client
from nda_index.cluster.build import build_shards
from nda_index.cluster.shards import open_cluster
from nda_index.serve import reload
from nda_index.serve.jobs.worker import PARTIAL
from tests.conftest import encoded
from tests.serve.conftest import serving, until
from tests.serve.test_server import process, ready

ray = pytest.importorskip("ray")


@pytest.fixture(scope="module")
def sharded(machines: Any, tmp_path_factory: pytest.TempPathFactory, pictures: NDArray[np.uint8]) -> Path:
    """An index in two shards."""
    folder = tmp_path_factory.mktemp("sharded")
    np.savez(folder / "pictures.npz", images=pictures[:60])
    options: dict[str, Any] = {"null": 0, "image_size": (24, 20), "scales": [nda.Scale(5)]}
    build_shards(str(folder / "pictures.npz"), folder / "x.nda", shards=2, **options)
    return folder / "x.nda"


def actors() -> list[str]:
    """Return the classes of the cluster's actors: Ray gives their processes titles like "ray::Actor"."""
    parents, titles = {}, {}
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            pid = int(path.name)
            parents[pid] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            titles[pid] = (path / "cmdline").read_bytes().split(b"\0")[0].decode(errors="replace")

    def is_ours(pid: int) -> bool:  # the cluster's processes are children of this one
        return pid == os.getpid() or (pid in parents and is_ours(parents[pid]))

    shards = [title for pid, title in titles.items() if title.startswith("ray::Shard") and is_ours(pid)]
    return [title.removeprefix("ray::").partition(".")[0] for title in shards]


def test_shards_answer_on_the_machines_of_a_cluster(machines: Any, sharded: Path, pictures: NDArray[np.uint8]) -> None:
    expected = nda.open_index(sharded).attribute(pictures[50], timestep=50, top=40)
    assert actors() == []
    with process(sharded, "--ray", machines.address) as (_, url), Client(url) as client:
        until(lambda: ready(url))
        assert actors() == ["ShardActor", "ShardActor"]
        answer = client.attribute(pictures[50], timestep=50, top=40)
    assert (answer.image_ids < 30).any() and (answer.image_ids >= 30).any()  # of both shards
    np.testing.assert_array_equal(answer.image_ids, expected.image_ids)
    np.testing.assert_allclose(answer.scores, expected.scores, rtol=1e-6, atol=1e-6)
    assert (answer.keys, answer.metadata, answer.missing) == (expected.keys, expected.metadata, 0)


def test_a_lost_shard_is_told_and_opened_again(
    machines: Any, sharded: Path, pictures: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[nda.Index] = []

    def open_it(folder: Path) -> nda.Index:
        opened.append(open_cluster(folder, machines.address, partial=True))
        return opened[-1]

    picture = encoded(pictures[50])
    with serving(sharded, tmp_path / "results", opener=open_it) as served:
        shards: Any = opened[-1]._collection.shards
        ray.kill(shards.actors[1], no_restart=True)
        partial = served.ask(picture, top=40, timestep=50).json()
        assert (partial["missing"], partial["collection"]) == (30, 30)
        assert all(image["image_id"] < 30 for image in partial["images"])
        assert served.metric("nda_index_images_missing") == 30
        assert served.http.get(f"/v1/results/{partial['id']}").json() == partial
        report = served.http.get(f"/v1/results/{partial['id']}", params={"format": "html"}).text
        assert "This answer is not whole:" in report and "30 more images" in report
        job = served.http.post("/v1/jobs", files=[("image", ("a.png", picture))], data={"top": "1"}).json()
        until(lambda: served.http.get(f"/v1/jobs/{job['id']}").json()["state"] == "done")
        (line,) = served.http.get(job["results"]).text.splitlines()
        assert json.loads(line)["rows"][0]["error"] == PARTIAL
        monkeypatch.setattr(reload, "REOPEN", 0.0)
        until(lambda: served.metric("nda_index_images_missing") == 0)
        whole = served.ask(picture, top=40, timestep=50).json()
        assert (whole["missing"], whole["collection"], whole["images"][0]["image_id"]) == (0, 60, 50)
        assert whole["id"] != partial["id"]
        assert len(opened) == 2


def test_a_service_of_whole_answers_refuses_without_a_shard(
    machines: Any, sharded: Path, pictures: NDArray[np.uint8], tmp_path: Path
) -> None:
    opened: list[nda.Index] = []

    def open_it(folder: Path) -> nda.Index:
        opened.append(open_cluster(folder, machines.address))
        return opened[-1]

    with serving(sharded, tmp_path / "results", opener=open_it) as served:
        shards: Any = opened[-1]._collection.shards
        ray.kill(shards.actors[1], no_restart=True)
        refused = served.ask(encoded(pictures[50]), top=1, timestep=50)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "shard")
        assert refused.headers["retry-after"] == "60" and str(sharded) not in refused.text

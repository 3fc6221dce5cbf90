from __future__ import annotations

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
from tests.serve.conftest import until
from tests.serve.test_server import process, ready

pytest.importorskip("ray")


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

from __future__ import annotations

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
    """Classes of the actors that are alive on the cluster."""
    known = ray._private.state.actors().values()
    return [actor["ActorClassName"] for actor in known if actor["State"] == "ALIVE"]


def test_an_index_is_asked_on_the_machines_of_a_cluster(
    machines: Any, sharded: Path, pictures: NDArray[np.uint8]
) -> None:
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

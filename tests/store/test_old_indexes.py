"""Indexes that earlier versions wrote, in tests/data, with the answer that these gave: later versions open them.

Each is of 24 pictures of 12 x 10, one of them removed, in the scales 5 and 6/2, with a null of 5 pictures.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

import nda_index as nda
from nda_index.store.verify import verify

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(params=["0.1.0"])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    with zipfile.ZipFile(DATA / f"index-{request.param}.zip") as archive:
        archive.extractall(tmp_path)
    return Path(shutil.move(tmp_path / f"index-{request.param}.nda", tmp_path / "old.nda"))


def test_an_old_index_answers_as_it_did(old: Path) -> None:
    expected = json.loads((old.parent / "answer.json").read_text())
    assert verify(old) == []
    with nda.open_index(old) as index:
        assert (len(index), index.shape, [scale.name for scale in index.scales]) == (23, (3, 12, 10), ["p5r1", "p6r2"])
        assert not index.manifest.config.latents
        query = index.pixels(np.array([7]))[0].transpose(1, 2, 0)
        answer = index.attribute(query, timestep=100, top=5, noise="draw")
    assert (answer.image_ids.tolist(), list(answer.keys)) == (expected["image_ids"], expected["keys"])
    np.testing.assert_allclose(answer.scores, expected["scores"], rtol=1e-5)
    np.testing.assert_allclose(answer.percentiles, expected["percentiles"])
    assert answer.metadata["year"].to_pylist() == expected["years"]
    assert answer.index_hash == expected["index_hash"]


def test_an_old_index_can_be_changed(old: Path) -> None:
    assert nda.remove_images(old, image_ids=[5]).images == 22
    summary = nda.compact(old)
    assert (summary.images, summary.waiting) == (22, 0)
    assert verify(old) == []
    with nda.open_index(old) as index:
        query = index.pixels(np.array([0]))[0].transpose(1, 2, 0)
        assert index.attribute(query, timestep=50, top=1).image_ids.tolist() == [0]

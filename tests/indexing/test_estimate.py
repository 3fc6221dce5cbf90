from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from PIL import Image

import nda_index as nda
from nda_index.cli.output import print_estimate
from nda_index.indexing import estimate as estimates
from nda_index.pictures.record import RECORD
from nda_index.sources import open_source
from nda_index.store.corpus import Corpus
from nda_index.store.manifest import read_manifest
from tests.pictures.scenes import SCENES, scene


def test_an_estimate_comes_close_and_writes_nothing(tmp_path: Path, pictures: NDArray[np.uint8]) -> None:
    estimate = nda.estimate_build(pictures, image_size=(24, 20), scales=[nda.Scale(5)])
    index = nda.build_index(pictures, tmp_path / "x.nda", image_size=(24, 20), scales=[nda.Scale(5)], null=0)
    size = sum(entry["size"] for entry in index.manifest.files.values())
    assert (estimate.images, estimate.patches) == (300, 300 * 120)
    assert estimate.disk_bytes == pytest.approx(size, rel=0.2)
    assert estimate.seconds > 0


def test_a_sample_is_from_all_over_a_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimates, "SAMPLE", 64)
    monkeypatch.setattr(estimates, "ROUND", 16)
    images = np.broadcast_to(np.arange(200, dtype=np.uint8)[:, None, None, None], (200, 8, 8, 3))
    sample = estimates._read_sample(open_source(images), (8, 8), 3, None)
    values = sample.images[:, 0, 0, 0].tolist()
    assert (len(values), len(set(values)), sample.read) == (64, 64, 64)
    assert np.histogram(values, 4, (0, 200))[0].min() >= 12


def test_an_estimate_names_what_an_index_would_lack(
    tmp_path: Path, pictures: NDArray[np.uint8], capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(3):
        Image.fromarray(pictures[i]).save(tmp_path / f"{i}.png")
    (tmp_path / "bad.png").touch()
    (tmp_path / "notes.txt").touch()
    estimate = nda.estimate_build(tmp_path, image_size=8, scales=[nda.Scale(5)], null=0)
    assert (estimate.images, estimate.sampled, estimate.failures, estimate.left_out) == (4, 4, 1, 1)
    assert [key for key, _ in estimate.missing] == ["bad.png", "notes.txt"]
    print_estimate(estimate, as_json=False)
    *_, bad, notes, last = capsys.readouterr().out.splitlines()
    assert "bad.png' is empty; copy it again" in bad and notes.startswith("  notes.txt: is not a picture")
    assert last.startswith("1 image could not be read and 1 other thing was left out. A build writes all of them")


def test_an_estimate_of_photographs_has_their_records_and_windows(
    tmp_path: Path, photograph_index_folder: Path
) -> None:
    for seed in range(SCENES):
        scene(seed).save(tmp_path / f"{seed:02d}.png", compress_level=1)
    records = Corpus(photograph_index_folder, (3, 16, 16), read_manifest(photograph_index_folder).table).pictures(
        np.arange(SCENES)
    )
    kept = pa.array(records, RECORD).nbytes
    one, other = (
        nda.estimate_build(tmp_path, image_size=16, scales=[nda.Scale(5)], null=4, pictures=pictures)
        for pictures in (True, False)
    )
    assert one.disk_bytes - other.disk_bytes == pytest.approx(kept, rel=0.02)

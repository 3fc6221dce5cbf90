from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import nda_index as nda
from nda_index.coarse import block_encoder
from nda_index.coarse.assignment import assign
from nda_index.coarse.storage import open_coarse
from nda_index.indexing import addition, encoding, pipeline
from nda_index.indexing.pipeline import build
from nda_index.store.manifest import read_manifest

OPTIONS: dict[str, Any] = {"image_size": 16, "scales": [nda.Scale(5), nda.Scale(8, 2)], "null": 3}
TRAINED = ("embedding.arrow", "quantizer.arrow")


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that is not the CPU, as far as a build sees; torch computes on the CPU all the same."""
    for module in (pipeline, addition):
        monkeypatch.setattr(module, "choose_device", lambda device: torch.device("cpu:0"))


def contents(folder: Path) -> list[tuple[list[Any], NDArray[np.uint8], NDArray[np.float64]]]:
    """What the segments of an index say: where members lie and whose they are, their codes, and moments."""
    segments = [segment for cells in open_coarse(folder, read_manifest(folder)) for segment in cells.segments]
    return [([*one.offsets, *one.image_ids], one.codes, np.stack([one.means, one.variances])) for one in segments]


def same_index(one: Path, other: Path) -> None:
    files = [{n: e["sha256"] for n, e in read_manifest(f).files.items() if n.endswith(TRAINED)} for f in (one, other)]
    assert files[0] == files[1] and len(files[0]) == 4
    assert len(contents(one)) == len(contents(other)) >= 2
    for (ids, codes, moments), (others, other_codes, other_moments) in zip(contents(one), contents(other), strict=True):
        assert ids == others
        assert (codes != other_codes).mean() < 1e-3
        np.testing.assert_allclose(moments, other_moments, atol=1e-4)


@pytest.mark.usefixtures("card")
def test_a_device_builds_and_adds_to_the_index_that_the_cpu_does(
    tmp_path: Path, pictures: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []
    add_images = block_encoder.BlockEncoder.add_images

    def count(self: block_encoder.BlockEncoder, images: Any, ids: Any) -> None:
        encoded.append(len(images))
        add_images(self, images, ids)

    monkeypatch.setattr(block_encoder.BlockEncoder, "add_images", count)
    build(pictures[:40], tmp_path / "device.nda", **OPTIONS)
    nda.add_images(tmp_path / "device.nda", pictures[40:60])
    assert encoded == [40, 40, 20, 20]
    monkeypatch.undo()
    build(pictures[:40], tmp_path / "cpu.nda", **OPTIONS)
    nda.add_images(tmp_path / "cpu.nda", pictures[40:60])
    same_index(tmp_path / "device.nda", tmp_path / "cpu.nda")


@pytest.mark.usefixtures("card")
# With the GPU given up there are twelve parts: eleven of the encoding, and the null.
@pytest.mark.parametrize(("most", "halved", "on_cpu"), [(60 * 256, 0, 0), (20 * 256, 2, 0), (0, 2, 12)])
def test_a_build_outlives_a_device_without_memory_and_says_so(
    tmp_path: Path, pictures: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch, most: int, halved: int, on_cpu: int
) -> None:
    def find(patches: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
        if len(patches) > most:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return assign(patches, centroids)

    monkeypatch.setattr(encoding, "find_assigner", lambda: find)
    summary = build(pictures[:60], tmp_path / "device.nda", **OPTIONS)
    assert (summary.halved, summary.on_cpu) == (halved, on_cpu)
    assert len(summary.notes) == bool(halved) + bool(on_cpu)
    monkeypatch.undo()
    build(pictures[:60], tmp_path / "cpu.nda", **OPTIONS)
    same_index(tmp_path / "device.nda", tmp_path / "cpu.nda")


@pytest.mark.usefixtures("card")
def test_a_build_that_was_begun_on_the_cpu_goes_on_on_a_device(
    tmp_path: Path, pictures: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(stage: str, done: int, total: int) -> None:
        if stage == "encode p5r1":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), monkeypatch.context() as cpu:
        cpu.setattr(pipeline, "choose_device", lambda device: torch.device("cpu"))
        build(pictures[:40], tmp_path / "x.nda", progress=stop, **OPTIONS)
    assert build(pictures[:40], tmp_path / "x.nda", resume=True, **OPTIONS).resumed == 40
    monkeypatch.undo()
    build(pictures[:40], tmp_path / "cpu.nda", **OPTIONS)
    same_index(tmp_path / "x.nda", tmp_path / "cpu.nda")


def test_a_device_that_is_not_there_is_refused_before_anything_is_written(
    tmp_path: Path, pictures: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(nda.ConfigError, match="has no CUDA"):
        nda.build_index(pictures[:20], tmp_path / "x.nda", device="cuda", **OPTIONS)
    assert not (tmp_path / "x.nda").exists()
    nda.build_index(pictures[:20], tmp_path / "x.nda", device="auto", **OPTIONS).close()
    with pytest.raises(nda.ConfigError, match="has no CUDA"):
        nda.add_images(tmp_path / "x.nda", pictures[20:30], device="cuda")
    assert nda.add_images(tmp_path / "x.nda", pictures[20:30], device="cpu").images == 30

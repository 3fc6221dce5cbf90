from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from nda_index.errors import ConfigError, SourceError
from nda_index.sources import ImageBatch, OpenSource, open_source, read_batches
from tests.sources.test_datasets import Table

LATENTS = np.random.default_rng(0).integers(-40, 40, (5, 4, 6, 8)) / 16.0  # brain floats hold these
PICTURES = np.random.default_rng(1).integers(0, 256, (5, 12, 16, 3), np.uint8)


def read(source: Any, **options: Any) -> tuple[OpenSource, ImageBatch]:
    opened = open_source(source, latents=True, **options)
    assert opened.latents is not None
    channels, *size = opened.latents
    [batch] = read_batches(opened, (size[0], size[1]), channels)
    return opened, batch


def save_npy(folder: Path) -> Path:
    np.save(folder / "set.npy", LATENTS.astype(np.float32))
    return folder / "set.npy"


def save_npz(folder: Path) -> Path:
    np.savez(folder / "set.npz", z=LATENTS, images=PICTURES, keys=list("abcde"), year=np.arange(5), mean=np.zeros(4))
    return folder / "set.npz"


def save_tensors(folder: Path) -> Path:
    from safetensors.torch import save_file

    tensors = {"latents": torch.tensor(LATENTS, dtype=torch.bfloat16), "images": torch.tensor(PICTURES)}
    save_file(tensors, folder / "set.safetensors")
    return folder / "set.safetensors"


def save_tensor_each(folder: Path) -> Path:
    from safetensors.numpy import save_file

    save_file({f"key {i}": latent.astype(np.float16) for i, latent in enumerate(LATENTS)}, folder / "set.safetensors")
    return folder / "set.safetensors"


def save_folder(folder: Path) -> Path:
    for i, latent in enumerate(LATENTS):
        np.save(folder / f"{i}.npy", latent[None] if i % 2 else latent)
        Image.fromarray(PICTURES[i]).save(folder / f"{i}.png")
    return folder


def save_column(column: Callable[[], pa.Array]) -> Callable[[Path], Path]:
    def save(folder: Path) -> Path:
        files = [Image.fromarray(picture) for picture in PICTURES]
        for i, picture in enumerate(files):
            picture.save(folder / f"{i}.png")
        images = [(folder / f"{i}.png").read_bytes() for i in range(5)]
        table = pa.table({"latent": column(), "image": images, "year": range(5), "key": list("abcde")})
        pq.write_table(table, folder / "set.parquet", row_group_size=2)
        return folder / "set.parquet"

    return save


def as_dataset(folder: Path) -> Table:
    return Table(pq.read_table(save_column(as_lists)(folder)))


def as_lists(kind: Any = None) -> pa.Array:
    return pa.array(LATENTS.tolist(), kind)


def as_fixed_lists() -> pa.Array:
    return as_lists(pa.list_(pa.list_(pa.list_(pa.float64(), 8), 6), 4))


def as_tensors() -> pa.Array:
    return pa.FixedShapeTensorArray.from_numpy_ndarray(LATENTS.astype(np.float32))


SOURCES: dict[str, Callable[[Path], Any]] = {
    "array": lambda folder: LATENTS,
    "tensor": lambda folder: torch.tensor(LATENTS, dtype=torch.bfloat16),
    "list": lambda folder: [*map(torch.tensor, LATENTS)],
    "generator": lambda folder: (latent for latent in LATENTS),
    "npy": save_npy,
    "npz": save_npz,
    "safetensors": save_tensors,
    "safetensors, one each": save_tensor_each,
    "folder": save_folder,
    "dataset": as_dataset,
    "lists": save_column(as_lists),
    "fixed lists": save_column(as_fixed_lists),
    "tensors": save_column(as_tensors),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_every_source_has_the_same_latents(kind: str, tmp_path: Path) -> None:
    if kind.startswith("safetensors"):
        pytest.importorskip("safetensors")
    opened, batch = read(SOURCES[kind](tmp_path))
    assert (opened.latents, opened.count, list(opened.left_out) == [], batch.failures) == (
        (4, 6, 8), 5, kind != "npz", [],
    )  # fmt: skip
    assert batch.images.dtype == np.float16
    np.testing.assert_array_equal(batch.images, LATENTS)
    np.testing.assert_array_equal(open_and_decode(batch.pictures), PICTURES if opened.shown else PICTURES[:0])
    assert opened.shown == (kind not in ("array", "tensor", "list", "generator", "npy", "safetensors, one each"))
    if "year" in opened.schema.names:
        assert (batch.keys, batch.metadata["year"].to_pylist()) == (list("abcde"), list(range(5)))


def open_and_decode(files: list[Any]) -> NDArray[np.uint8]:
    return np.array([np.asarray(Image.open(io.BytesIO(file))) for file in files], np.uint8).reshape(-1, 12, 16, 3)


def test_what_does_not_fit_is_a_failure_with_its_reason(tmp_path: Path) -> None:
    odd = {
        "0 several": np.zeros((2, 4, 6, 8)),
        "1 good": LATENTS[0],
        "2 nan": np.full((4, 6, 8), np.nan),
        "3 large": np.full((4, 6, 8), 1e6),
        "4 other": np.zeros((4, 8, 8)),
        "5 bytes": np.zeros((4, 6, 8), np.uint8),
    }
    for name, array in odd.items():
        np.save(tmp_path / f"{name}.npy", array)
    np.savez(tmp_path / "6 two.npz", a=LATENTS[0], b=LATENTS[1])
    (tmp_path / "7 damaged.npy").write_bytes(b"\x93NUMPY")
    np.savez(tmp_path / "8 named.npz", a=LATENTS[0], latent=LATENTS[1], image=PICTURES[1][:6])
    for name in ("alone.png", "notes.txt"):
        (tmp_path / name).touch()
    opened, batch = read(tmp_path)
    assert batch.keys == ["1 good.npy", "8 named.npz"]
    np.testing.assert_array_equal(batch.images, LATENTS[:2])
    reasons = {failure.key[0]: failure.reason for failure in batch.failures}
    expected = {
        "0": "has shape", "2": "NaN", "3": "float16 ends", "4": "has shape [4, 8, 8]", "5": "type uint8",
        "6": "or several", "7": "cannot be read",
    }  # fmt: skip
    assert reasons.keys() == expected.keys()
    for place, words in expected.items():
        assert words in reasons[place]
    left_out = {one.key: one.reason for one in opened.left_out}
    assert "picture without a latent" in left_out["alone.png"] and "notes.txt" in left_out


def test_a_picture_that_cannot_be_shown_is_left_out_and_its_latent_is_not(tmp_path: Path) -> None:
    for name in ("broken", "narrow", "good"):
        np.save(tmp_path / f"{name}.npy", LATENTS[0])
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    Image.new("RGB", (10, 30)).save(tmp_path / "narrow.png")
    Image.new("RGB", (800, 600)).save(tmp_path / "good.jpg")
    _, batch = read(tmp_path)
    assert [picture is not None for picture in batch.pictures] == [False, True, False]
    assert max(Image.open(io.BytesIO(batch.pictures[1])).size) == 256
    assert {one.key: one.reason.split(",")[0] for one in batch.left_out} == {
        "broken.npy": "is shown without its picture",
        "narrow.npy": "is shown without its picture of 10 x 30 pixels",
    }


def test_rows_without_numbers_are_failures(tmp_path: Path) -> None:
    values = LATENTS.tolist()
    values[1], values[2][0][0][0], values[3][0] = None, None, values[3][0][:2]
    pq.write_table(pa.table({"latents": values}), tmp_path / "set.parquet")
    _, batch = read(tmp_path)
    np.testing.assert_array_equal(batch.images, LATENTS[[0, 4]])
    assert [failure.key[-1] for failure in batch.failures] == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros((5, 4, 6), np.float32), "latents are floats"),
        (np.zeros((5, 3, 6, 8), np.uint8), "without latents"),
        (["a.png", "b.png"], "not all Parquet"),
        ({"train": LATENTS}, "type dict"),
    ],
    ids=["axes", "bytes", "files", "dict"],
)
def test_what_is_no_source_of_latents_is_refused(source: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_source(source, latents=True)


def test_a_flat_column_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    flat = pa.array(LATENTS.reshape(5, -1).tolist(), pa.list_(pa.float32(), 192))
    pq.write_table(pa.table({"latent": flat}), tmp_path / "flat.parquet")
    with pytest.raises(SourceError, match="a flat list does not say their shape"):
        open_source(tmp_path / "flat.parquet", latents=True)
    with pytest.raises(SourceError, match="there is nothing at"):
        open_source(tmp_path / "none.npy", latents=True)
    np.save(tmp_path / "bytes.npy", PICTURES)
    with pytest.raises(ConfigError, match="latents are floats"):
        open_source(tmp_path / "bytes.npy", latents=True)


def test_latents_of_an_index_have_its_shape() -> None:
    opened = open_source(LATENTS, latents=(4, 8, 8))
    [batch] = read_batches(opened, (8, 8), 4)
    assert len(batch.failures) == 5 and len(batch.images) == 0

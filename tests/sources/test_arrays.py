from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from nda_index import ConfigError, SourceError
from nda_index.sources import open_source, read_batches
from tests.conftest import GREEN, RED
from tests.sources.contents import numbered, read


def save(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def test_an_array_is_read_in_order_with_its_positions_as_keys() -> None:
    contents = read(numbered(1000), (2, 2))
    np.testing.assert_array_equal(contents.images.transpose(0, 2, 3, 1), numbered(1000))
    assert contents.keys == [f"{i:08d}" for i in range(1000)]
    assert contents.metadata.column_names == []
    opened = open_source(numbered(7))
    assert (opened.kind, opened.count) == ("array", 7)


@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 4, 5, 1)])
def test_grey_arrays_are_read_in_either_shape(shape: tuple[int, ...]) -> None:
    array = np.arange(60, dtype=np.uint8).reshape(shape)
    (batch,) = read_batches(open_source(array), (4, 5), 1)
    np.testing.assert_array_equal(batch.images, array.reshape(3, 1, 4, 5))


@pytest.mark.parametrize(
    ("array", "error", "message"),
    [
        (np.zeros((0, 4, 4, 3), np.uint8), SourceError, r"the source, array \[0, 4, 4, 3\], holds no image"),
        (
            np.zeros((2, 4, 4, 3)),
            ConfigError,
            "numbers of type float64, whose range is not known; say it with value_range",
        ),
        (
            np.zeros((2, 4, 4, 3), np.int8),
            ConfigError,
            "numbers of type int8, whose range is not known; make them uint8",
        ),
        (np.zeros((2, 5, 5, 2), np.uint8), ConfigError, "1, 3 or 4 channels"),
        (np.zeros((2, 2, 5, 5), np.uint8), ConfigError, "1, 3 or 4 channels"),
        (np.zeros((4, 4), np.uint8), ConfigError, r"has shape \[4, 4\]"),
        (np.zeros((1, 2, 4, 4, 3), np.uint8), ConfigError, r"has shape \[1, 2, 4, 4, 3\]"),
    ],
)
def test_an_array_of_another_type_or_shape_is_refused(array: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        open_source(array)


def test_npz_with_keys_and_columns(tmp_path: Path) -> None:
    columns = {
        "label": np.array([1, 2]),
        "score": np.array([0.5, 1.5], np.float32),
        "ok": np.array([True, False]),
        "name": np.array(["red", "green"]),
    }
    others = {"pair": np.zeros((2, 2)), "long": np.zeros(3), "scalar": np.array(5), "complex": np.zeros(2, complex)}
    path = save(tmp_path / "set.npz", images=np.stack([RED, GREEN]), keys=np.array(["r", "g"]), **columns, **others)
    contents = read(path)
    np.testing.assert_array_equal(contents.images.transpose(0, 2, 3, 1), [RED, GREEN])
    assert contents.keys == ["r", "g"]
    assert contents.metadata.to_pydict() == {name: array.tolist() for name, array in columns.items()}
    schema = open_source(path).schema
    assert schema.types == [pa.int64(), pa.float32(), pa.bool_(), pa.string()]
    assert (open_source(path).kind, open_source(path).count) == ("npz", 2)


def test_npz_keys_may_be_named_key_or_be_missing(tmp_path: Path) -> None:
    images = np.stack([RED, GREEN])
    numbers = read(save(tmp_path / "a.npz", images=images, key=np.array([7, 8])))
    assert (numbers.keys, numbers.metadata.column_names) == (["7", "8"], [])
    assert read(save(tmp_path / "b.npz", images=images)).keys == ["00000000", "00000001"]


@pytest.mark.parametrize("shape", [(2, 3, 12, 10), (2, 1, 12, 10), (2, 12, 10, 3), (2, 3, 10, 3)])
def test_npz_with_channels_first_or_last(tmp_path: Path, shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    expected = images if shape[3] == 3 else images.transpose(0, 2, 3, 1)
    _, height, width, channels = expected.shape
    (batch,) = read_batches(open_source(save(tmp_path / "set.npz", images=images)), (height, width), channels)
    np.testing.assert_array_equal(batch.images.transpose(0, 2, 3, 1), expected)


@pytest.mark.parametrize(
    ("names", "taken"),
    [(["masks", "images"], "images"), (["x", "train", "test"], "train"), (["photos"], "photos"), (["a", "b"], None)],
)
def test_the_array_of_images_is_known_by_its_name_or_is_the_only_one(
    tmp_path: Path, names: list[str], taken: str | None
) -> None:
    arrays: dict[str, Any] = {name: np.full((1, 12, 10, 3), i, np.uint8) for i, name in enumerate(names)}
    path = save(tmp_path / "set.npz", **arrays, floats=np.zeros((1, 12, 10, 3)), data=np.zeros(1, np.uint8))
    if taken is None:
        with pytest.raises(SourceError, match=r"has no array 'images' .* it has a \(uint8 \[1, 12, 10, 3\]\), b "):
            open_source(path)
    else:
        assert (read(path).images == names.index(taken)).all()


def test_pickles_and_broken_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="without pickles"):
        open_source(save(tmp_path / "pickled.npz", images=np.array([{}], dtype=object)))
    with pytest.raises(SourceError, match="without pickles"):
        open_source(save(tmp_path / "notes.npz", images=numbered(1), notes=np.array([{}], object)))
    data = save(tmp_path / "set.npz", images=numbered(1)).read_bytes()
    for broken in (data[: len(data) // 2], b"", b"text"):
        (tmp_path / "broken.npz").write_bytes(broken)
        with pytest.raises(SourceError, match=r"broken\.npz' cannot be read as \.npz"):
            open_source(tmp_path / "broken.npz")


def test_two_npz_files_are_refused(tmp_path: Path) -> None:
    paths = [save(tmp_path / name, images=numbered(1)) for name in ("a.npz", "b.npz")]
    with pytest.raises(SourceError, match="list of 2 files is not of one kind"):
        open_source(paths)


def test_arrays_of_other_numbers_and_tensors_are_read_by_the_rule(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3), np.uint8)
    first = images.transpose(0, 3, 1, 2)
    same: list[tuple[Any, dict[str, Any]]] = [
        (first, {}), (torch.tensor(np.ascontiguousarray(first)), {}), (images.astype(np.uint16) * 257, {}),
        (first.astype(np.float32) / 255, {"value_range": "0..1"}),
        (torch.tensor(first / 127.5 - 1), {"value_range": (-1, 1)}),
        (np.dstack([images.reshape(24, 5, 3), np.full((24, 5, 1), 255, np.uint8)]).reshape(4, 6, 5, 4), {}),
    ]  # fmt: skip
    for source, options in same:
        np.testing.assert_array_equal(read(source, (6, 5), **options).images, first)
        if isinstance(source, np.ndarray):
            np.save(tmp_path / "set.npy", source)
            opened = open_source(tmp_path / "set.npy", **options)
            assert opened.kind == "npy"
            np.testing.assert_array_equal(read(opened, (6, 5)).images, first)
            saved = save(tmp_path / "set.npz", images=source)
            np.testing.assert_array_equal(read(saved, (6, 5), **options).images, first)


def test_an_npz_of_digits_has_grey_images_labels_and_names_the_rest(tmp_path: Path) -> None:
    digits = np.random.default_rng(0).integers(0, 256, (5, 4, 4), np.uint8)
    path = save(
        tmp_path / "mnist.npz", x_test=digits[:2], x_train=digits[2:], y_test=np.arange(2), y_train=np.arange(3)
    )
    contents = read(path, (4, 4))
    np.testing.assert_array_equal(contents.images[:, 0], digits[2:])
    assert contents.metadata.to_pydict() == {"y_train": [0, 1, 2]}
    assert [(one.key, one.reason) for one in open_source(path).left_out] == [
        ("x_test", "is neither images nor a plain value for each of them: uint8 [2, 4, 4]"),
        ("y_test", "is neither images nor a plain value for each of them: int64 [2]"),
    ]


def test_what_is_renamed_or_damaged_gives_one_clear_error(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", numbered(2))
    npz = save(tmp_path / "b.npz", images=numbered(2))
    (tmp_path / "a.npz").write_bytes((tmp_path / "a.npy").read_bytes())
    (tmp_path / "b.npy").write_bytes(npz.read_bytes())
    for name, other in (("a.npz", "npy"), ("b.npy", "npz")):
        with pytest.raises(SourceError, match=rf"is an \.{other} by its contents; rename it to \.{other}"):
            open_source(tmp_path / name)
    data = npz.read_bytes()
    for place in range(0, len(data), 7):
        broken = bytearray(data)
        broken[place] ^= 255
        (tmp_path / "c.npz").write_bytes(broken)
        with contextlib.suppress(SourceError, ConfigError):
            open_source(tmp_path / "c.npz")
    for broken_npy in (b"", b"\x93NUMPY\x01\x00\xff\xff{", (tmp_path / "a.npy").read_bytes()[:-3]):
        (tmp_path / "c.npy").write_bytes(broken_npy)
        with pytest.raises(SourceError, match=r"cannot be read as \.npy without pickles"):
            open_source(tmp_path / "c.npy")
    np.save(tmp_path / "floats.npy", np.zeros((2, 4, 4)))
    with pytest.raises(ConfigError, match=r"floats\.npy': the array has numbers of type float64"):
        open_source(tmp_path / "floats.npy")

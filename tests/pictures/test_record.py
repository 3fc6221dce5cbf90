from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from nda_index.pictures.record import COPY_SIDE, RECORD, make_record, read_record
from nda_index.pictures.windows import INDEXED, KINDS, find_windows
from tests.pictures.scenes import SIZE, scene


def test_a_record_keeps_windows_to_a_fraction_of_a_pixel() -> None:
    picture = scene(1)
    record = pa.array([make_record(picture, None)], RECORD).to_pylist()[0]
    indexed = read_record(record)
    assert (indexed.size, indexed.path) == (SIZE, None)
    for kind in KINDS:
        expected = find_windows(picture, INDEXED)[kind]
        np.testing.assert_array_equal(indexed.codes[kind], expected.codes)
        np.testing.assert_allclose(indexed.frames[kind][:, :3], expected.frames[:, :3], atol=0.005)
        turn = indexed.frames[kind][:, 3] - expected.frames[:, 3]
        assert np.abs((turn + np.pi) % (2 * np.pi) - np.pi).max() < 1e-4


def test_the_copy_looks_like_the_picture() -> None:
    for size, expected in (((600, 400), (384, 256)), ((200, 120), (200, 120)), ((3000, 1), (3000, 1))):
        picture = scene(5, (600, 400)).resize(size)
        copy = read_record(make_record(picture, None)).open_copy()
        assert (copy.size, copy.mode) == (expected, "RGB")
        assert min(copy.size) <= COPY_SIDE
        reduced = np.asarray(picture.resize(expected, Image.Resampling.LANCZOS).convert("L"), float)
        assert np.abs(np.asarray(copy.convert("L"), float) - reduced).mean() < 4


def test_a_record_is_small_and_names_the_file(tmp_path: Path) -> None:
    record = make_record(scene(1, (900, 700)), tmp_path / "folder" / ".." / "a.jpg")
    assert sum(len(value) for value in record.values() if isinstance(value, bytes)) < 80_000
    path = read_record(record).path
    assert path is not None
    assert Path(path).is_absolute()
    assert Path(path).name == "a.jpg"
    assert Image.open(io.BytesIO(record["copy"])).format == "WEBP"


def test_the_copy_of_a_very_long_picture_is_not_longer_than_its_format_allows() -> None:
    copy = read_record(make_record(scene(1, (600, 400)).resize((20_000, 40)), None)).open_copy()
    assert copy.size == (4096, 8)


def test_a_picture_without_structure_has_a_record() -> None:
    for picture in (Image.new("RGB", (1, 1), "blue"), Image.new("RGB", (300, 200), "red")):
        indexed = read_record(make_record(picture, None))
        assert indexed.size == picture.size
        for kind in KINDS:
            assert indexed.frames[kind].shape == (0, 4)
            assert len(indexed.codes[kind]) == 0


def test_a_file_whose_name_is_not_utf8_is_not_named() -> None:
    record = make_record(scene(1, (300, 200)), Path("caf\udce9.png"))
    assert pa.array([record], RECORD)[0].as_py()["path"] is None

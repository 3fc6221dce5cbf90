from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from nda_index import ConfigError, ImageDecodeError, SourceError
from nda_index.sources import decode_image, open_source, read_batches

RED = np.zeros((12, 10, 3), np.uint8)
RED[..., 0] = 200
GREEN = np.zeros((12, 10, 3), np.uint8)
GREEN[..., 1] = 200


def encoded(image: Any, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def read(
    source: Any, size: tuple[int, int] = (12, 10), **options: Any
) -> tuple[NDArray[np.uint8], list[str], pa.Table, Any]:
    batches = list(read_batches(open_source(source, **options), size, 3, batch_size=3))
    return (
        np.concatenate([batch.images for batch in batches]),
        [key for batch in batches for key in batch.keys],
        pa.concat_tables([batch.metadata for batch in batches]),
        [failure for batch in batches for failure in batch.failures],
    )


def test_folder_is_read_recursively_in_order_and_broken_files_are_listed(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / ".hidden").mkdir()
    for name, image in (("b/2.PNG", RED), ("b/10.png", GREEN), ("a.jpg", RED), (".hidden/x.png", RED)):
        (tmp_path / name).write_bytes(encoded(image, "JPEG" if name.endswith("jpg") else "PNG"))
    (tmp_path / "broken.jpg").write_bytes(encoded(np.tile(RED, (20, 20, 1)), "JPEG")[:400])
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "notes.txt").write_text("not looked at")
    images, keys, _, failures = read(tmp_path)
    assert keys == ["a.jpg", "b/10.png", "b/2.PNG"]
    np.testing.assert_array_equal(images[1].transpose(1, 2, 0), GREEN)
    assert [failure.key for failure in failures] == ["broken.jpg", "text.png"]
    assert "cannot be read as an image" in failures[1].reason


def test_parquet_with_struct_images_takes_paths_as_keys_and_other_columns_as_metadata(tmp_path: Path) -> None:
    rows = [
        {"bytes": encoded(RED), "path": "r.png"},
        {"bytes": None, "path": "gone.png"},
        {"bytes": encoded(GREEN), "path": None},
    ]
    table = pa.table({"image": rows, "label": [3, 4, 5], "nested": [[1], [2], [3]]})
    pq.write_table(table, tmp_path / "set.parquet")
    images, keys, metadata, failures = read(tmp_path / "set.parquet")
    assert keys == ["r.png", "set-00000002"]
    assert metadata.to_pydict() == {"label": [3, 5]}
    assert [failure.key for failure in failures] == ["gone.png"]
    np.testing.assert_array_equal(images[1].transpose(1, 2, 0), GREEN)


def test_parquet_with_binary_images_several_files_and_chosen_columns(tmp_path: Path) -> None:
    for part in range(2):
        table = pa.table({"id": [f"{part}-{i}" for i in range(3)], "png": [encoded(RED)] * 3, "year": [part] * 3})
        pq.write_table(table, tmp_path / f"part{part}.parquet")
    opened = open_source(str(tmp_path / "part*.parquet"), columns=["year"])
    assert (opened.kind, opened.count) == ("parquet", 6)
    _, keys, metadata, _ = read(tmp_path, columns=["year"])
    assert keys == ["0-0", "0-1", "0-2", "1-0", "1-1", "1-2"]
    assert metadata.to_pydict() == {"year": [0, 0, 0, 1, 1, 1]}
    pq.write_table(pa.table({"png": [encoded(RED)]}), tmp_path / "part2.parquet")
    with pytest.raises(SourceError, match=r"part2.parquet' has other columns"):
        open_source(tmp_path)


def test_webdataset_members_are_grouped_and_their_json_is_metadata(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "shard.tar", "w") as archive:
        members = {
            "x/0.jpg": encoded(RED, "JPEG"), "x/0.json": json.dumps({"width": 10, "ok": True, "deep": {}}).encode(),
            "x/0.cls": b"7", "x/1.png": encoded(GREEN), "x/1.json": json.dumps({"width": 10.5}).encode(),
            "x/1.txt": b"green",
            "x/2.txt": b"no image",
        }  # fmt: skip
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    images, keys, metadata, _ = read(tmp_path / "shard.tar")
    assert keys == ["x/0", "x/1"]
    np.testing.assert_array_equal(images[1].transpose(1, 2, 0), GREEN)
    expected = {"width": [10.0, 10.5], "ok": [True, None], "cls": [7, None], "txt": [None, "green"]}
    assert metadata.to_pydict() == expected
    (tmp_path / "cut.tar").write_bytes((tmp_path / "shard.tar").read_bytes()[:3000])
    with pytest.raises(SourceError, match=r"cut.tar"):
        read(tmp_path / "cut.tar")


def test_npz_with_channels_first_keys_and_columns(tmp_path: Path) -> None:
    images = np.stack([RED, GREEN]).transpose(0, 3, 1, 2)
    np.savez(tmp_path / "set.npz", images=images, keys=np.array(["r", "g"]), label=np.array([1, 2]))
    pixels, keys, metadata, _ = read(tmp_path / "set.npz")
    np.testing.assert_array_equal(pixels, images)
    assert (keys, metadata.to_pydict()) == (["r", "g"], {"label": [1, 2]})
    np.savez(tmp_path / "pickled.npz", images=np.array([{}], dtype=object))
    with pytest.raises(SourceError, match="without pickles"):
        open_source(tmp_path / "pickled.npz")


def test_many_images_keep_their_order() -> None:
    array = np.arange(1000, dtype=np.uint16).astype(np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    images, keys, _, _ = read(array, (2, 2))
    np.testing.assert_array_equal(images[:, 0, 0, 0], array[:, 0, 0, 0])
    assert keys[999] == "00000999"


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("nowhere", SourceError, "nothing at 'nowhere'"),
        ([], SourceError, "there is nothing"),
        (["nowhere.tar"], SourceError, "no file at 'nowhere.tar'"),
        (__file__, SourceError, "of no known kind"),
        (np.zeros((0, 4, 4, 3), np.uint8), SourceError, "holds no image"),
        (np.zeros((2, 4, 4, 3)), ConfigError, "must be uint8"),
        (np.zeros((2, 4, 4, 5), np.uint8), ConfigError, "1 or 3 channels"),
    ],
)
def test_what_is_no_source_is_refused(source: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        open_source(source)


def test_an_empty_folder_wrong_columns_and_taken_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="holds no image"):
        open_source(tmp_path)
    pq.write_table(pa.table({"image": [encoded(RED)], "sha256": ["x"]}), tmp_path / "set.parquet")
    with pytest.raises(ConfigError, match="no metadata column 'colour'; it has sha256"):
        open_source(tmp_path, columns=["colour"])
    with pytest.raises(ConfigError, match="'sha256' has the name of one of the index's own"):
        open_source(tmp_path)
    assert open_source(tmp_path, columns=[]).count == 1
    (tmp_path / "set.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(SourceError, match="cannot be read as Parquet"):
        open_source(tmp_path)


def test_exif_orientation_is_honoured() -> None:
    picture = Image.fromarray(np.concatenate([RED, GREEN]))  # 24 high, 10 wide, red above green
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise
    decoded = decode_image(encoded(picture, "PNG", exif=exif), (10, 24), 3)
    np.testing.assert_array_equal(decoded[:, 5, 2], GREEN[0, 0])
    np.testing.assert_array_equal(decoded[:, 5, 20], RED[0, 0])


def test_transparency_is_put_on_white_and_deep_grey_is_scaled() -> None:
    clear = np.zeros((4, 4, 4), np.uint8)
    assert (decode_image(encoded(clear), (4, 4), 3) == 255).all()
    deep = Image.fromarray(np.full((4, 4), 32768, np.uint16))
    assert (decode_image(encoded(deep), (4, 4), 1) == 128).all()


def test_a_picture_is_cropped_at_its_centre_and_antialiased() -> None:
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, 8:16] = 255
    assert (decode_image(wide, (8, 8), 3) == 255).all()
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 254
    assert abs(decode_image(stripes, (8, 8), 1).astype(int) - 127).max() <= 8


def test_a_decompression_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(RED)
    for limit in (100, 10):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(ImageDecodeError, match="too many pixels"):
            decode_image(data, (4, 4), 3)


@pytest.mark.parametrize(
    "image", [b"", b"GIF89a", "nowhere.png", 17, None, np.zeros((4, 4, 2), np.uint8), np.zeros((4, 4))]
)
def test_what_is_no_image_is_refused(image: Any) -> None:
    with pytest.raises(ImageDecodeError):
        decode_image(image, (4, 4), 3)


@settings(max_examples=60, deadline=None)
@given(
    mode=st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I", "F", "I;16"]),
    width=st.integers(1, 40),
    height=st.integers(1, 40),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    channels=st.sampled_from([1, 3]),
)
def test_every_mode_and_size_gives_the_shape(
    mode: str, width: int, height: int, size: tuple[int, int], channels: int
) -> None:
    decoded = decode_image(Image.new(mode, (width, height)), size, channels)
    assert decoded.shape == (channels, *size)
    assert decoded.dtype == np.uint8

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nda_index import ConfigError, SourceError
from nda_index.images import Picture, read_upright
from nda_index.sources import (
    OWN_COLUMNS,
    OpenSource,
    RawImage,
    base,
    open_source,
    read_batches,
    reading,
    select_positions,
)
from nda_index.store.corpus import table_schema
from tests.conftest import RED, encoded
from tests.sources.contents import numbered, read, write_shard

LIMIT = (reading.AHEAD + 1) * base.CHUNK  # images that are read and not yet in a batch


def counted(count: int, broken: frozenset[int] = frozenset(), read: list[int] | None = None) -> OpenSource:
    """Numbered images with their number as metadata, some of them broken; numbers go to `read` as they are read."""

    def images() -> Iterator[RawImage]:
        for i, pixels in enumerate(numbered(count)):
            if read is not None:
                read.append(i)
            yield RawImage(str(i), b"broken" if i in broken else pixels, {"number": i, "other": "not a column"})

    return OpenSource("array", count, pa.schema([("number", pa.int64())]), images)


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(0, 3 * base.CHUNK),
    broken=st.frozensets(st.integers(0, 3 * base.CHUNK), max_size=20),
    batch_size=st.integers(1, 4 * base.CHUNK),
    start=st.integers(0, 3 * base.CHUNK),
)
def test_batches_of_any_size_from_any_start_hold_the_same_images(
    count: int, broken: frozenset[int], batch_size: int, start: int
) -> None:
    batches = list(read_batches(counted(count, broken), (2, 2), 3, batch_size, start))
    good = [i for i in range(start, count) if i not in broken]
    images = np.concatenate([np.empty((0, 3, 2, 2), np.uint8), *(batch.images for batch in batches)])
    np.testing.assert_array_equal(images.transpose(0, 2, 3, 1), numbered(count)[good])
    assert [key for batch in batches for key in batch.keys] == [str(i) for i in good]
    assert [i for batch in batches for i in batch.metadata["number"].to_pylist()] == good
    failures = [int(failure.key) for batch in batches for failure in batch.failures]
    assert failures == sorted(i for i in broken if start <= i < count)
    sizes = [len(batch.images) + len(batch.failures) for batch in batches]
    whole, rest = divmod(max(count - start, 0), batch_size)
    assert sizes == [batch_size] * whole + [rest] * (rest > 0)
    for batch in batches:
        assert batch.metadata.column_names == ["number"]
        assert len(batch.images) == len(batch.keys) == batch.metadata.num_rows


@pytest.mark.parametrize("batch_size", [1, 10, 200])
def test_no_more_than_a_bounded_number_of_images_is_read_ahead_of_the_caller(batch_size: int) -> None:
    count = 3 * LIMIT
    taken: list[int] = []
    batches = read_batches(counted(count, read=taken), (2, 2), 3, batch_size)
    assert taken == []
    given_out = 0
    for batch in batches:
        given_out += len(batch.images)
        assert given_out <= len(taken) <= given_out + LIMIT + batch_size
    assert len(taken) == given_out == count


def test_several_threads_decode_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    meeting = threading.Barrier(reading.WORKERS, timeout=60)

    def decode(data: Any, value_range: None) -> Picture:
        if (data == 0).all() or (data[0, 0] == [base.CHUNK, 0, 0]).all():  # the first image of two chunks
            meeting.wait()
        return read_upright(data, value_range)

    monkeypatch.setattr(reading, "read_upright", decode)
    (batch,) = read_batches(counted(2 * base.CHUNK), (2, 2), 3)
    assert batch.keys == [str(i) for i in range(2 * base.CHUNK)]


def test_a_source_of_broken_images_alone_is_read_to_its_end() -> None:
    (batch,) = read_batches(counted(100, frozenset(range(100))), (4, 6), 3)
    assert batch.images.shape == (0, 3, 4, 6)
    assert [failure.key for failure in batch.failures] == [str(i) for i in range(100)]


def test_an_error_of_the_source_reaches_the_caller() -> None:
    def images() -> Iterator[RawImage]:
        yield RawImage("0", RED, {})
        raise SourceError("the shard ends here")

    with pytest.raises(SourceError, match="the shard ends here"):
        list(read_batches(OpenSource("array", 2, pa.schema([]), images), (2, 2), 3))


def test_a_source_can_be_read_again_and_left_early() -> None:
    source = open_source(numbered(2000))
    first = next(read_batches(source, (2, 2), 3, 5))
    np.testing.assert_array_equal(next(read_batches(source, (2, 2), 3, 5)).images, first.images)
    assert first.keys == [f"{i:08d}" for i in range(5)]


@settings(max_examples=30, deadline=None)
@given(count=st.integers(1, 200), cuts=st.lists(st.integers(0, 200), max_size=4))
def test_parts_of_a_source_make_the_whole(count: int, cuts: list[int]) -> None:
    source = open_source(numbered(count))
    bounds = [0, *sorted(min(cut, count) for cut in cuts), count]
    keys: list[str] = []
    for low, high in zip(bounds, bounds[1:], strict=False):
        part = select_positions(source, range(low, high))
        own = [key for batch in read_batches(part, (2, 2), 3) for key in batch.keys]
        assert part.count == len(own) == high - low
        keys += own
    assert keys == [f"{i:08d}" for i in range(count)]


def test_a_part_keeps_kind_and_columns_and_has_its_own_start(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [encoded(RED)] * 9, "year": list(range(9))}), tmp_path / "set.parquet")
    part = select_positions(open_source(tmp_path / "set.parquet"), range(2, 7))
    assert (part.kind, part.count, part.schema.names) == ("parquet", 5, ["year"])
    assert read(part).metadata["year"].to_pylist() == [2, 3, 4, 5, 6]
    (batch,) = read_batches(part, (2, 2), 3, start=3)
    assert batch.metadata["year"].to_pylist() == [5, 6]


def test_a_glob_is_sorted_and_may_reach_deep(tmp_path: Path) -> None:
    for name in ("b/1", "a/2", "a/c/0", "a/3"):
        path = tmp_path / f"{name}.tar"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_shard(path, {f"{name.replace('/', '-')}.png": encoded(RED)})
    assert read(str(tmp_path / "*" / "*.tar")).keys == ["a-2", "a-3", "b-1"]
    assert read(tmp_path / "**" / "*.tar").keys == ["a-2", "a-3", "a-c-0", "b-1"]


def test_a_name_with_the_signs_of_a_glob_is_a_file_where_there_is_one(tmp_path: Path) -> None:
    write_shard(tmp_path / "a[1].tar", {"brackets.png": encoded(RED)})
    write_shard(tmp_path / "a1.tar", {"digit.png": encoded(RED)})
    assert read(tmp_path / "a[1].tar").keys == ["brackets"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere", "there is nothing at 'nowhere'; check the path. The source must be a folder of images"),
        ("nowhere/*.tar", r"no file fits the pattern 'nowhere/\*.tar'"),
        ("", "the source is '', which is no path"),
        ("https://example.org/a.zip", "'https://example.org/a.zip' is an address, which is not read; download it"),
        ([], "the list is empty"),
        ([str(Path(__file__).parent)], "is a folder in a list of files; give one folder"),
        (["nowhere.tar"], "there is no file at 'nowhere.tar'"),
        ([__file__, "nowhere.tar"], "there is no file at 'nowhere.tar'"),
        (__file__, r"test_reading.py' is not of one kind that is read \(.py\)"),
    ],
)
def test_what_is_not_a_source_is_refused(source: Any, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        open_source(source)


@pytest.mark.parametrize(("name", "reason"), [("a.zip", "is an archive; unpack it"), ("a.mp4", "is a video; save")])
def test_a_file_of_another_kind_is_called_what_it_is(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(SourceError, match=f"{name}' {reason}"):
        open_source(tmp_path / name)


def test_files_of_several_kinds_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [encoded(RED)]}), tmp_path / "a.parquet")
    shard = write_shard(tmp_path / "a.tar", {"a.png": encoded(RED)})
    with pytest.raises(SourceError, match="the list of 2 files is not of one kind that is read"):
        open_source([tmp_path / "a.parquet", shard])


def test_chosen_columns_keep_the_order_of_the_source_and_a_missing_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / "set.parquet"
    pq.write_table(pa.table({"image": [encoded(RED)], "a": [1], "b": ["x"], "c": [0.5]}), path)
    assert read(path, columns=["c", "a"]).metadata.to_pydict() == {"a": [1], "c": [0.5]}
    assert read(path, columns=[]).metadata.column_names == []
    with pytest.raises(ConfigError, match="no metadata column 'colour'; it has a, b, c"):
        open_source(path, columns=["a", "colour"])
    with pytest.raises(ConfigError, match="no metadata column 'a'; it has none"):
        open_source(np.zeros((1, 2, 2, 3), np.uint8), columns=["a"])


def test_columns_with_names_of_the_index_are_kept_under_another_name(tmp_path: Path) -> None:
    path = tmp_path / "set.parquet"
    own = {name: ["x"] for name in OWN_COLUMNS if name != "key"}
    pq.write_table(pa.table({"image": [encoded(RED)], **own, "a.b": [1], "": [2]}), path)
    assert read(path).metadata.to_pylist() == [{**{f"source_{name}": "x" for name in own}, "a_b": 1, "column": 2}]
    opened = open_source(path)
    assert "the column 'sha256' is kept as 'source_sha256'" in opened.notes
    assert "the column 'a.b' is kept as 'a_b'" in opened.notes
    assert read(path, columns=["a.b"]).metadata.to_pydict() == {"a_b": [1]}


def test_a_key_in_json_is_kept_too(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "shard.tar", {"a.png": encoded(RED), "a.json": b'{"key": "b", "year": 1999}'})
    contents = read(shard)
    assert (contents.keys, contents.metadata.to_pylist()) == (["a"], [{"source_key": "b", "year": 1999}])


def test_a_row_whose_metadata_cannot_be_kept_is_a_failure() -> None:
    rows = [{"number": 0}, {"number": 2**70}, {"number": 2}]
    source = OpenSource(
        "array", 3, pa.schema([("number", pa.int64())]),
        lambda: (RawImage(f"k\ud800{row['number']}", RED, row) for row in rows),
    )  # fmt: skip
    contents = read(source)
    assert contents.metadata["number"].to_pylist() == [0, 2]
    assert (contents.keys, len(contents.images)) == (["k\ufffd0", "k\ufffd2"], 2)
    assert [failure.key for failure in contents.failures] == [f"k\ufffd{2**70}"]
    assert "which int64 cannot hold" in contents.failures[0].reason


def test_options_of_parquet_are_refused_elsewhere() -> None:
    options: list[dict[str, Any]] = [{"split": "train"}, {"image_column": "train"}]
    for option in options:
        with pytest.raises(ConfigError, match=f"{next(iter(option))} is given, but the source .* is not Parquet"):
            open_source(np.zeros((1, 2, 2, 3), np.uint8), **option)


def test_the_names_of_the_index_are_the_columns_of_its_table() -> None:
    assert tuple(table_schema((3, 2, 2), pa.schema([]), pa.binary()).names) == OWN_COLUMNS


def test_pictures_are_described_upright_at_their_own_size_with_their_files(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    grey = Image.new("L", (30, 20), 77)
    (tmp_path / "0.jpg").write_bytes(encoded(Image.new("RGB", (40, 12), "red"), "JPEG", exif=turned))
    (tmp_path / "1-broken.jpg").write_bytes(b"broken")
    grey.save(tmp_path / "2.png")
    Image.new("RGBA", (5, 6), (0, 0, 0, 0)).save(tmp_path / "3.png")

    def describe(picture: Image.Image, path: Path | None) -> tuple[Any, ...]:
        return picture.size, picture.mode, picture.getpixel((0, 0)), path and path.name

    batches = list(read_batches(open_source(tmp_path), (4, 4), 3, 2, describe=describe))
    assert [len(batch.images) for batch in batches] == [1, 2]
    assert [len(batch.pictures) for batch in batches] == [1, 2]
    first, second, third = [picture for batch in batches for picture in batch.pictures]
    assert (first[0], first[1], first[3]) == ((12, 40), "RGB", "0.jpg")
    assert second == ((30, 20), "RGB", (77, 77, 77), "2.png")
    assert third == ((5, 6), "RGB", (255, 255, 255), "3.png")
    plain = list(read_batches(open_source(tmp_path), (4, 4), 3, 2))
    assert [batch.pictures for batch in plain] == [[], []]
    for one, other in zip(batches, plain, strict=True):
        np.testing.assert_array_equal(one.images, other.images)
        assert (one.keys, one.failures) == (other.keys, other.failures)


def test_pictures_in_memory_are_described_without_a_file() -> None:
    batch = next(read_batches(counted(3, frozenset([1])), (2, 2), 3, describe=lambda *given: given))
    assert [path for _, path in batch.pictures] == [None, None]
    np.testing.assert_array_equal(np.stack([np.asarray(picture) for picture, _ in batch.pictures]), numbered(3)[[0, 2]])


def test_what_goes_wrong_in_a_description_is_a_failure_of_that_picture() -> None:
    def describe(picture: Image.Image, path: Path | None) -> str:
        return str(1 // np.asarray(picture)[0, 0].tolist()[0])

    (batch,) = read_batches(counted(3), (2, 2), 3, describe=describe)
    assert batch.keys == ["1", "2"]
    assert [(one.key, "ZeroDivisionError" in one.reason) for one in batch.failures] == [("0", True)]


def test_metadata_and_keys_that_cannot_be_stored_are_failures_or_encoded() -> None:
    values: list[Any] = [1, 2**63, "x", None, [1], 7]

    def images() -> Iterator[RawImage]:
        for number, value in enumerate(values):
            yield RawImage(f"{number}\udce9", RED, {"number": value})

    contents = read(OpenSource("array", 6, pa.schema([("number", pa.int64())]), images))
    assert contents.keys == ["0%E9", "3%E9", "5%E9"]
    assert contents.metadata.to_pydict() == {"number": [1, None, 7]}
    assert [one.key for one in contents.failures] == ["1%E9", "2%E9", "4%E9"]
    assert all(one.reason.startswith("its metadata column 'number' holds") for one in contents.failures)

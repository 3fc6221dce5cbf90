from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset

from nda_index import ConfigError, SourceError
from nda_index.sources import open_source
from tests.conftest import GREEN, RED, encoded
from tests.sources.contents import numbered, read

IMAGES = numbered(5)


class Numbered(Dataset[Any]):
    """A dataset as those of torchvision: an image, as a tensor of floats, and its class; one sample cannot be read."""

    def __init__(self, broken: int = -1) -> None:
        self.broken = broken

    def __len__(self) -> int:
        return len(IMAGES)

    def __getitem__(self, number: int) -> tuple[Any, Any]:
        if number == self.broken:
            raise KeyError("a file is gone")
        return torch.tensor(IMAGES[number].transpose(2, 0, 1) / 255.0), torch.tensor(number)


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        yield from ((Image.fromarray(image), number) for number, image in enumerate(IMAGES))


class Table:
    """What is used of a dataset of the package datasets."""

    column_names = ["image", "label"]

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, number: int) -> Any:
        raise AssertionError("its images are decoded by others")

    def with_format(self, kind: str) -> Table:
        assert kind == "arrow"
        return self

    def iter(self, batch_size: int) -> Iterator[pa.Table]:
        return (self.table.slice(start, batch_size) for start in range(0, len(self.table), batch_size))


def check(source: Any, **options: Any) -> list[str]:
    """Check that a source gives `IMAGES`; their keys."""
    contents = read(source, (2, 2), **options)
    assert contents.failures == []
    np.testing.assert_array_equal(contents.images.transpose(0, 2, 3, 1), IMAGES)
    return contents.keys


def generate() -> Iterator[tuple[str, NDArray[np.uint8]]]:
    return ((f"key {i}", image) for i, image in enumerate(IMAGES))


POSITIONS = [f"{i:08d}" for i in range(5)]


def test_lists_of_every_form_of_image_are_sources() -> None:
    forms: list[list[Any]] = [
        list(IMAGES), [Image.fromarray(image) for image in IMAGES], [encoded(image) for image in IMAGES],
        [{"bytes": encoded(image), "path": None} for image in IMAGES],
        [torch.tensor(image.transpose(2, 0, 1).copy()) for image in IMAGES],
    ]  # fmt: skip
    for form in [*forms, [each[i] for i, each in enumerate(forms)]]:
        assert check(form) == POSITIONS
        assert open_source(form).kind == "images"


def test_pairs_are_images_with_labels_or_keys_with_images() -> None:
    assert check(list(generate())) == [f"key {i}" for i in range(5)]
    labelled = read([(image, label) for image, label in zip(IMAGES, "abcde", strict=True)], (2, 2))
    assert labelled.metadata.to_pydict() == {"label": list("abcde")}
    rows = read([(f"k{i}", image, {"year": i}) for i, image in enumerate(IMAGES)], (2, 2))
    assert (rows.keys[0], rows.metadata.to_pydict()) == ("k0", {"year": [0, 1, 2, 3, 4]})
    samples = [{"img": image, "id": str(i), "label": np.int64(i), "box": [1, 2]} for i, image in enumerate(IMAGES)]
    table = read(samples, (2, 2))
    assert table.metadata.to_pydict() == {"id": list("01234"), "label": [0, 1, 2, 3, 4]}


def test_a_dataset_of_torch_is_a_source_and_a_broken_sample_a_failure() -> None:
    assert check(Numbered(), value_range="0..1") == POSITIONS
    contents = read(Numbered(broken=2), (2, 2), value_range="0..1")
    assert contents.metadata.to_pydict() == {"label": [0, 1, 3, 4]}
    assert [(one.key, one.reason) for one in contents.failures] == [
        ("00000002", "sample 2 of the source: KeyError: 'a file is gone'")
    ]
    refused = read(Numbered(), (2, 2)).failures
    assert len(refused) == 5
    assert "float64, whose range is not known; say it with value_range" in refused[0].reason
    assert check(Stream()) == POSITIONS


def test_a_dataset_of_hugging_face_is_read_as_its_table(tmp_path: Path) -> None:
    (tmp_path / "file.png").write_bytes(encoded(IMAGES[1]))
    rows: list[dict[str, Any]] = [{"bytes": encoded(image), "path": f"{i}.png"} for i, image in enumerate(IMAGES)]
    rows[1] = {"bytes": None, "path": str(tmp_path / "file.png")}
    source: Any = Table(pa.table({"image": rows, "label": [3, 1, 4, 1, 5]}))
    assert check(source) == ["0.png", str(tmp_path / "file.png"), "2.png", "3.png", "4.png"]
    assert read(source, (2, 2)).metadata.to_pydict() == {"label": [3, 1, 4, 1, 5]}
    with pytest.raises(SourceError, match="'the dataset' has no column with the bytes .* its columns are label"):
        read(Table(pa.table({"label": [1]})))
    with pytest.raises(SourceError, match="holds no image"):
        read(Table(pa.table({"image": []})))
    with pytest.raises(ConfigError, match=r"a dictionary of train, test; give one, as source\['train'\]"):
        open_source({"train": source, "test": source})


def test_generators_are_read_once_and_functions_again() -> None:
    opened = open_source(generate())
    for _ in range(2):
        assert check(opened) == [f"key {i}" for i in range(5)]
    assert check(generate) == [f"key {i}" for i in range(5)]
    mixed = open_source(
        iter([("a", encoded(RED)), ("b", Image.fromarray(GREEN)), ("c", 7), ("d", None), "e.png", {"text": "f"}])
    )
    contents = read(mixed)
    assert (mixed.count, contents.keys) == (6, ["a", "b"])
    np.testing.assert_array_equal(contents.images.transpose(0, 2, 3, 1), [RED, GREEN])
    reasons = {one.key: one.reason for one in contents.failures}
    assert list(reasons) == ["c", "d", "e.png", "00000005"]
    assert "is no picture; give a path, bytes" in reasons["c"]
    assert reasons["d"] == "the source holds no bytes for it"
    assert "there is no image at 'e.png'" in reasons["e.png"]
    assert reasons["00000005"].startswith("sample 5 of the source: it has no image under image, img")


def test_a_generator_that_raises_is_named() -> None:
    def failing() -> Iterator[Any]:
        yield RED
        raise ZeroDivisionError("by zero")

    for source in (failing, failing()):
        with pytest.raises(SourceError, match="raised an error after 1 images: ZeroDivisionError: by zero"):
            open_source(source)


def test_metadata_that_do_not_fit_the_first_samples_are_failures() -> None:
    samples = [(RED, 1)] * 16 + [(RED, "x"), (RED, 2), (RED, True)]
    contents = read(samples)
    assert contents.metadata["label"].to_pylist() == [1] * 16 + [2]
    assert [(one.key, one.reason) for one in contents.failures] == [
        (f"{i:08d}", f"its label is {value}; those of the first 16 samples are of type int64")
        for i, value in ((16, "'x'"), (18, "True"))
    ]
    words = read([(RED, "a")] * 16 + [(RED, 2)])
    assert words.metadata["label"].to_pylist() == ["a"] * 16 + ["2"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (7, "the source is of type int; it must be a folder of images"),
        (None, "the source is of type NoneType"),
        (Image.new("L", (2, 2)), "the source is one picture; give a list of images"),
        (b"...", "the source is 3 bytes; give a list of images, a path as text"),
        (pa.table({"image": [b""]}), r"a table in memory \(Table\), which is not read; write it to a .parquet file"),
        (DataLoader(Numbered()), "gives batches, as a DataLoader; give its dataset, source.dataset"),
        (torch.zeros(4, 2, 2), "the array has numbers of type float32"),
    ],
)
def test_what_is_no_source_is_refused_with_what_would_do(source: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_source(source)

from __future__ import annotations

from pathlib import Path

import pytest

from nda_index.errors import ConfigError
from nda_index.sources.splits import choose_split, find_split


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("data/train-00000-of-00002.parquet", "train"),
        ("data/validation-00000-of-00002.parquet", "validation"),
        ("default/partial-test/0000.parquet", "test"),
        ("train/a/0.parquet", "train"),
        ("train/test-0.parquet", "test"),
        ("my_Val.parquet", "validation"),
        ("data/constraint.parquet", None),
        ("photos.parquet", None),
    ],
)
def test_a_split_is_found_by_whole_words(path: str, split: str | None) -> None:
    assert find_split(Path(path)) == split


def test_splits_are_not_mixed_without_a_word() -> None:
    names = ["data/extra-00000-of-00001.parquet", "data/test.parquet", "data/train-00000-of-00001.parquet"]
    paths = [Path(name) for name in names]
    with pytest.raises(ConfigError, match=r"'data' holds the splits extra, test, train; .*split='train' \(--split\)"):
        choose_split(paths, None, "'data'")
    assert choose_split(paths, None) == paths  # each was named
    assert choose_split(paths, "train", "'data'") == paths[2:]
    assert choose_split(paths, "testing+extra", "'data'") == paths[:2]
    with pytest.raises(ConfigError, match="there is no split 'validation'; there are extra, test, train"):
        choose_split(paths, "val")
    parts = [Path("a-00000-of-00001.parquet"), Path("b-00000-of-00001.parquet")]
    assert choose_split(parts, None, "'data'") == parts  # names of parts alone are no splits
    with pytest.raises(ConfigError, match="no file's name says one; leave split out"):
        choose_split(parts, "train")

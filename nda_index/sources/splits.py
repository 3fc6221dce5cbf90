"""Splits of a data set, as the names of its files say them: train, validation, test."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from nda_index.errors import ConfigError

WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}  # of a name, as Hugging Face reads them
_SHARD = re.compile(r"(.+)-\d+-of-\d+")  # train-00000-of-00005


def find_split(path: Path) -> str | None:
    """Return the split that a file's name says, or else the name of one of the two folders around it.

    Example:
        >>> find_split(Path("data/train-00000-of-00005.parquet")), find_split(Path("default/val/0000.parquet"))
        ('train', 'validation')
    """
    for name in (path.stem, path.parent.name, path.parent.parent.name):
        for word in re.split(r"[^a-z0-9]+", name.lower()):
            for split, words in WORDS.items():
                if word in words:
                    return split
    return None


def choose_split(paths: Sequence[Path], split: str | None, where: str | None = None) -> list[Path]:
    """Choose the files of a split.

    Args:
        paths: of all files.
        split: its name, or several as "train+validation"; None takes all files.
        where: what names the files together, a folder or a pattern: several splits must then be chosen from, so that
            train and test are not mixed without a word. None: the caller named each file.

    Raises:
        ConfigError: there is no such split, or there are several and none is chosen.

    Example:
        >>> choose_split([Path("train.parquet"), Path("test.parquet")], "test")
        [PosixPath('test.parquet')]
    """
    found = {path: find_split(path) for path in paths}
    if any(found.values()):  # other splits, such as "extra" and "unsupervised", have names of the same form
        shards = {path: _SHARD.fullmatch(path.stem) for path in paths}
        found = {path: name or ((shard := shards[path]) and shard[1]) for path, name in found.items()}
    names = sorted({name for name in found.values() if name})
    if split is None:
        if where is not None and len(names) > 1:
            raise ConfigError(
                f"{where} holds the splits {', '.join(names)}; say which to index with split={_likely(names)!r} "
                f"(--split), or split={'+'.join(names)!r} for all of them"
            )
        return list(paths)
    wanted = {next((name for name, words in WORDS.items() if part in words), part) for part in split.split("+")}
    for name in sorted(wanted - set(names)):
        known = f"there are {', '.join(names)}" if names else "no file's name says one; leave split out"
        raise ConfigError(f"split is {split!r}, but there is no split {name!r}; {known}")
    return [path for path, name in found.items() if name in wanted]


def _likely(names: Sequence[str]) -> str:
    return "train" if "train" in names else names[0]

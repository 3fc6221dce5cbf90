"""A study: models trained on parts of a collection, and how well each of them does on some pictures."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nda_index.errors import ConfigError, SourceError


@dataclass(frozen=True)
class Study:
    """What attribution methods are compared on.

    Attributes:
        train: uint8 [N, H, W, C], the training images.
        masks: bool [M, N], which images each model was trained on.
        queries: for each group of pictures, uint8 [Q, H, W, C].
        losses: for each group, float [M, Q], every model's loss on every picture; low is good.
        scores: of methods that are not computed here: for each method and group, float [Q, N].
    """

    train: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    queries: Mapping[str, NDArray[np.uint8]]
    losses: Mapping[str, NDArray[np.floating]]
    scores: Mapping[str, Mapping[str, NDArray[np.floating]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_pictures("train", self.train)
        models, images = self.masks.shape if self.masks.ndim == 2 else (0, 0)
        if images != len(self.train) or models < 2:
            raise ConfigError(
                f"masks is {list(self.masks.shape)}; it must be [M, {len(self.train)}]: for 2 or more models, which of "
                "the images each was trained on"
            )
        if not self.queries or set(self.queries) != set(self.losses):
            raise ConfigError(
                f"queries has {sorted(self.queries)} and losses {sorted(self.losses)}; give the losses of each group"
            )
        for group, queries in self.queries.items():
            _check_pictures(f"queries/{group}", queries)
            if queries.shape[1:] != self.train.shape[1:]:
                raise ConfigError(
                    f"queries/{group} has pictures of {list(queries.shape[1:])} and train of "
                    f"{list(self.train.shape[1:])}; resize them to one size [H, W, C]"
                )
            _check_matrix(f"losses/{group}", self.losses[group], (models, len(queries)))
            for method, scores in self.scores.items():
                if group not in scores:
                    raise ConfigError(f"scores has no {method}/{group}; give a method's scores for each group")
                _check_matrix(f"scores/{method}/{group}", scores[group], (len(queries), images))


def read_study(path: str | PathLike[str]) -> Study:
    """Read a study from an .npz: train, masks, queries/GROUP, losses/GROUP and, if any, scores/METHOD/GROUP.

    Args:
        path: the file.

    Raises:
        SourceError: it cannot be read, or an array is missing.
        ConfigError: the arrays do not fit together.

    Example:
        >>> import tempfile
        >>> path = tempfile.mkdtemp() + "/study.npz"
        >>> pictures = np.zeros((4, 8, 8, 3), np.uint8)
        >>> masks, losses = np.eye(3, 4) > 0, np.zeros((3, 4))
        >>> np.savez(path, **{"train": pictures, "masks": masks, "queries/new": pictures, "losses/new": losses})
        >>> list(read_study(path).queries)
        ['new']
    """
    try:
        with open(path, "rb") as opened:
            file = np.load(opened, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("it is a single array")
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SourceError(f"{str(path)!r} cannot be read as a study: {reason}; give an .npz of arrays") from error
    missing = [name for name in ("train", "masks") if name not in arrays]
    if missing:
        raise SourceError(f"{str(path)!r} has no array {missing[0]!r}; a study has train, masks, queries/*, losses/*")
    scores: dict[str, dict[str, NDArray[np.floating]]] = {}
    for name in arrays:
        if name.startswith("scores/"):
            method, _, group = name.removeprefix("scores/").rpartition("/")
            scores.setdefault(method, {})[group] = arrays[name]
    return Study(arrays["train"], arrays["masks"], _group(arrays, "queries/"), _group(arrays, "losses/"), scores)


def _group(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _check_pictures(name: str, pictures: NDArray[np.generic]) -> None:
    if pictures.dtype != np.uint8 or pictures.ndim != 4:
        raise ConfigError(f"{name} is {pictures.dtype} {list(pictures.shape)}; it must be uint8 [N, H, W, C]")


def _check_matrix(name: str, matrix: NDArray[np.generic], shape: tuple[int, int]) -> None:
    if matrix.shape != shape:
        raise ConfigError(f"{name} is {list(matrix.shape)}; it must be {list(shape)}")
    if not np.isfinite(matrix).all():
        raise ConfigError(f"{name} has NaN or infinite values; every value must be finite")

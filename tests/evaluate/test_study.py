from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nda_index import ConfigError, SourceError
from nda_index.evaluate.study import read_study


def arrays(**changed: NDArray[Any] | None) -> dict[str, NDArray[Any]]:
    pictures = np.zeros((6, 8, 8, 3), np.uint8)
    whole: dict[str, NDArray[Any] | None] = {
        "train": pictures,
        "masks": np.eye(4, 6) > 0,
        "queries/old": pictures[:2],
        "queries/new": pictures[:3],
        "losses/old": np.zeros((4, 2)),
        "losses/new": np.zeros((4, 3)),
        "scores/mine/too/old": np.ones((2, 6)),
        "scores/mine/too/new": np.ones((3, 6)),
    }
    return {name: array for name, array in {**whole, **changed}.items() if array is not None}


def write(folder: Path, content: dict[str, NDArray[Any]]) -> None:
    np.savez(folder / "study.npz", **content)  # type: ignore[arg-type]


def test_a_study_is_read_as_it_was_written(tmp_path: Path) -> None:
    write(tmp_path, arrays())
    study = read_study(tmp_path / "study.npz")
    assert set(study.queries) == set(study.losses) == {"old", "new"}
    assert study.queries["new"].shape == (3, 8, 8, 3)
    assert study.losses["old"].shape == (4, 2)
    assert study.scores["mine/too"]["new"].shape == (3, 6)
    assert study.masks.sum() == 4


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"train": np.zeros((6, 8, 8, 3))}, r"train is float64 .* must be uint8 \[N, H, W, C\]"),
        ({"masks": np.eye(4, 5) > 0}, r"masks is \[4, 5\]; it must be \[M, 6\]"),
        ({"masks": np.eye(1, 6) > 0}, "2 or more models"),
        ({"losses/new": np.zeros((3, 4))}, r"losses/new is \[3, 4\]; it must be \[4, 3\]"),
        ({"losses/new": np.full((4, 3), np.nan)}, "losses/new has NaN or infinite values"),
        ({"losses/new": None}, "give the losses of each group"),
        ({"scores/mine/too/new": None}, "scores has no mine/too/new"),
        ({"scores/mine/too/new": np.ones((3, 5))}, r"scores/mine/too/new is \[3, 5\]; it must be \[3, 6\]"),
        ({"queries/new": np.zeros((3, 8, 8), np.uint8)}, "queries/new is uint8"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    tmp_path: Path, changed: dict[str, NDArray[Any] | None], message: str
) -> None:
    write(tmp_path, arrays(**changed))
    with pytest.raises(ConfigError, match=message):
        read_study(tmp_path / "study.npz")


def test_a_missing_array_is_named(tmp_path: Path) -> None:
    write(tmp_path, arrays(masks=None))
    with pytest.raises(SourceError, match="has no array 'masks'"):
        read_study(tmp_path / "study.npz")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"no study"])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "study.npz").write_bytes(content)
    with pytest.raises(SourceError, match="cannot be read as a study"):
        read_study(tmp_path / "study.npz")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"none\.npz"):
        read_study(tmp_path / "none.npz")


def test_objects_are_not_unpickled(tmp_path: Path) -> None:
    write(tmp_path, arrays() | {"evil": np.array([print], dtype=object)})
    with pytest.raises(SourceError, match="cannot be read as a study"):
        read_study(tmp_path / "study.npz")


def test_a_single_array_is_no_study(tmp_path: Path) -> None:
    np.save(tmp_path / "study.npy", np.zeros(3))
    with pytest.raises(SourceError, match="a single array"):
        read_study(tmp_path / "study.npy")

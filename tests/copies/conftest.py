from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import nda_index as nda
from nda_index.store.manifest import read_manifest

REMOVED = 7


@dataclass(frozen=True)
class Room:
    """An index, and where copies of it may lie."""

    index: Path
    store: Path
    copy: Path
    images: NDArray[np.uint8]

    @property
    def url(self) -> str:
        """Address of the store."""
        return f"file://{self.store}"

    def marks(self) -> list[bytes]:
        """What image 7 is known by on disk."""
        return [b"00000007", self.images[REMOVED].transpose(2, 0, 1).tobytes()]

    def erase(self) -> None:
        """Remove image 7, and its bytes."""
        nda.remove_images(self.index, image_ids=[REMOVED])
        nda.compact(self.index)

    def grow(self) -> None:
        """Add three images."""
        nda.add_images(self.index, np.random.default_rng(5).integers(0, 256, (3, 16, 16, 3), np.uint8))


@pytest.fixture(scope="session")
def images() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), np.uint8)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, images: NDArray[np.uint8]) -> Path:
    folder = tmp_path_factory.mktemp("built") / "x.nda"
    nda.build_index(images, folder, image_size=16, scales=[nda.Scale(5)], null=0).close()
    return folder


@pytest.fixture
def room(built: Path, tmp_path: Path, images: NDArray[np.uint8]) -> Room:
    index = Path(shutil.copytree(built, tmp_path / "x.nda"))
    return Room(index, tmp_path / "store" / "x", tmp_path / "copy.nda", images)


def hash_of(folder: Path) -> str:
    """Hash of the state of a whole index."""
    return read_manifest(folder).index_hash


def named(folder: Path) -> set[str]:
    """The files that a manifest names."""
    return set(read_manifest(folder).files)


def holds(folder: Path, marks: list[bytes]) -> set[int]:
    """Numbers of the marks that a file of a folder holds."""
    files = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    return {number for number, mark in enumerate(marks) if any(mark in data for data in files)}


def all_files(folder: Path) -> set[str]:
    """All files of a folder, by relative path."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}

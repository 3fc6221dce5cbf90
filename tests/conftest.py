from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import nda_index as nda
from tests.pictures.scenes import write_photographs

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported: its kernels run on the CPU, slowly

RED = np.zeros((12, 10, 3), np.uint8)
RED[..., 0] = 200
GREEN = np.zeros((12, 10, 3), np.uint8)
GREEN[..., 1] = 200


def encoded(image: Any, kind: str = "PNG", **options: Any) -> bytes:
    """An image file's bytes."""
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def photographs(count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth random pictures, uint8 [N, 24, 20, 3], no two alike."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 6, 5, 3))
    fine = np.repeat(np.repeat(coarse, 4, axis=1), 4, axis=2)
    return np.asarray(np.clip(fine + rng.integers(-25, 26, (count, 24, 20, 3)), 0, 255), np.uint8)


@pytest.fixture(scope="session")
def pictures() -> NDArray[np.uint8]:
    return photographs(300)


@pytest.fixture(scope="session")
def index_folder(tmp_path_factory: pytest.TempPathFactory, pictures: NDArray[np.uint8]) -> Path:
    """An index of `pictures` with metadata columns; tests that change it must copy it."""
    folder = tmp_path_factory.mktemp("index")
    source = folder / "pictures.npz"
    labels = np.array(["cat", "dog", "ship"])[np.arange(300) % 3]
    np.savez(source, images=pictures, label=labels, year=2000 + np.arange(300) // 100)
    nda.build_index(source, folder / "pictures.nda", image_size=(24, 20), scales=[nda.Scale(5), nda.Scale(8, 2)])
    return folder / "pictures.nda"


@pytest.fixture(scope="session")
def index(index_folder: Path) -> nda.Index:
    return nda.open_index(index_folder)


@pytest.fixture(scope="session")
def photograph_index_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of photographs at their own size, tests/pictures/scenes.py; tests that change it must copy it."""
    folder = tmp_path_factory.mktemp("photographs")
    (folder / "source").mkdir()
    write_photographs(folder / "source")
    with pytest.warns(UserWarning, match="1 image could not be read"):
        index = nda.build_index(
            folder / "source", folder / "photographs.nda", image_size=16, scales=[nda.Scale(5)], null=4
        )
    index.close()
    return folder / "photographs.nda"


@pytest.fixture(scope="session")
def photograph_index(photograph_index_folder: Path) -> nda.Index:
    return nda.open_index(photograph_index_folder)


@pytest.fixture(scope="module")
def machines() -> Iterator[Any]:
    """A Ray cluster of two nodes on this machine, which this process has joined."""
    ray, cluster_utils = pytest.importorskip("ray"), pytest.importorskip("ray.cluster_utils")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("prestart_worker_first_driver", "enable_worker_prestart"):
            patch.setenv(f"RAY_{name}", "0")  # processes that are not asked for would take the cores of those that are
        found = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 4, "include_dashboard": False})
        found.add_node(num_cpus=2)
    ray.init(found.address, log_to_driver=False, configure_logging=False)
    yield found
    ray.shutdown()
    found.shutdown()

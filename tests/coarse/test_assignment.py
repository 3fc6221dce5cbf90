from __future__ import annotations

import numpy as np
import pytest
import torch

from nda_index.coarse import assignment
from nda_index.coarse.assignment import assign, full_precision
from nda_index.coarse.trainer import load_faiss

RNG = np.random.default_rng(0)


def distances(patches: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
    return torch.cdist(patches.double()[None], centroids.double()[None])[0].square()


@pytest.mark.parametrize("memory", [1 << 28, 4 * 50 * 7, 1])
def test_cells_are_those_that_faiss_finds(monkeypatch: pytest.MonkeyPatch, memory: int) -> None:
    monkeypatch.setattr(assignment, "DISTANCES", memory)
    patches = torch.from_numpy((RNG.normal(size=(700, 28)) * 3).astype(np.float32))
    centroids = torch.cat([patches[:40], torch.from_numpy(RNG.normal(size=(10, 28)).astype(np.float32))])
    flat = load_faiss().IndexFlatL2(28)
    flat.add(centroids.numpy())
    theirs = torch.from_numpy(flat.search(patches.numpy(), 1)[1][:, 0])
    ours = assign(patches, centroids)
    assert ours.dtype == torch.int64 and ours[:40].tolist() == list(range(40))
    differing = torch.nonzero(ours != theirs)[:, 0]
    gaps = distances(patches, centroids)[differing]
    rounding = 1e-5 * patches[differing].square().sum(dim=1)
    assert len(differing) < 7
    assert ((gaps.gather(1, ours[differing, None]) - gaps.amin(1, keepdim=True))[:, 0] <= rounding).all()


def test_of_centroids_as_near_the_first_counts() -> None:
    centroids = torch.tensor([[9.0, 9.0], [1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    assert assign(torch.tensor([[1.0, 0.0], [0.0, 5.0], [-3.0, 0.0]]), centroids).tolist() == [1, 1, 3]


def test_a_caller_that_allows_tf32_keeps_it() -> None:
    torch.set_float32_matmul_precision("high")
    try:
        with pytest.raises(ZeroDivisionError), full_precision():
            assert torch.get_float32_matmul_precision() == "highest"
            raise ZeroDivisionError
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")

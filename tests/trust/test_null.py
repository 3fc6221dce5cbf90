from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import nda_index as nda
from nda_index.coarse.cells import Cells
from nda_index.query.shard import open_coarse
from nda_index.store.corpus import Corpus
from nda_index.trust import null
from nda_index.trust.duplicates import find_best_unrelated


def parts(index: nda.Index) -> tuple[Corpus, tuple[Cells, ...]]:
    return Corpus(index.path, index.shape, index.manifest.table), open_coarse(index.path, index.manifest)


def test_pictures_of_the_collection_are_asked_about_without_their_copies(index: nda.Index) -> None:
    steps: list[tuple[str, int, int]] = []
    found = null.make_null(*parts(index), 5, 0, lambda *step: steps.append(step))
    assert steps == [("null", done, 5) for done in range(1, 6)]
    for picture, best in zip(np.random.default_rng(0).choice(300, 5, replace=False), found, strict=True):
        image = index.pixels(np.array([picture]))[0]
        ids = np.argsort(-index.votes(image.transpose(1, 2, 0), null.TIMESTEP), kind="stable")[: null.BEST]
        assert best == pytest.approx(find_best_unrelated(image, index.pixels(ids), index.scales), abs=1e-5)


def test_the_null_does_not_depend_on_how_many_pictures_are_asked_about_together(
    index: nda.Index, pictures: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = list(pictures[:7])
    together = null.make_null(*parts(index), given, 0, lambda *step: None)
    for memory in (0, 1 << 22):
        monkeypatch.setattr(null, "MEMORY", memory)
        alone = null.make_null(*parts(index), given, 0, lambda *step: None)
        np.testing.assert_allclose(alone, together, atol=1e-5)


def test_no_pictures_make_an_empty_null(index: nda.Index) -> None:
    assert null.make_null(*parts(index), 0, 0, lambda *step: None).shape == (0,)
    assert null.make_null(*parts(index), [], 0, lambda *step: None).shape == (0,)

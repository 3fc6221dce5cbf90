from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import nda_index as nda
from nda_index.coarse.cpu_lists import CpuLists
from nda_index.coarse.gpu import place_lists
from nda_index.coarse.storage import open_coarse
from nda_index.progress import Progress, quiet
from nda_index.store.arrow import write_arrow
from nda_index.store.corpus import Corpus
from nda_index.trust import null
from nda_index.trust.duplicates import find_best_unrelated


def null_of(index: nda.Index, pictures: int | Sequence[Any], report: Progress = quiet) -> NDArray[np.float64]:
    corpus = Corpus(index.path, index.shape, index.manifest.table)
    lists = [CpuLists(cells) for cells in open_coarse(index.path, index.manifest)]
    vote = null.vote_on_cells(lists, corpus.count)
    chosen = null.choose_pictures(corpus, pictures, 0)
    return null.make_null(chosen, corpus.pixels, vote, index.scales, report).evidence


def test_pictures_of_the_collection_are_searched_for_without_their_copies(index: nda.Index) -> None:
    steps: list[tuple[str, int, int]] = []
    found = null_of(index, 5, lambda *step: steps.append(step))
    assert steps == [("null", done, 5) for done in range(1, 6)]
    for picture, best in zip(np.random.default_rng(0).choice(300, 5, replace=False), found, strict=True):
        image = index.pixels(np.array([picture]))[0]
        ids = np.argsort(-index.votes(image.transpose(1, 2, 0), null.TIMESTEP), kind="stable")[: null.BEST]
        assert best == pytest.approx(find_best_unrelated(image, index.pixels(ids), index.scales), abs=1e-5)


def test_the_null_does_not_depend_on_how_many_pictures_are_searched_for_together(
    index: nda.Index, pictures: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = list(pictures[:7])
    together = null_of(index, given)
    for memory, block in ((0, 32), (1 << 22, 32), (1 << 30, 3)):
        monkeypatch.setattr(null, "MEMORY", memory)
        monkeypatch.setattr(null, "TOGETHER", block)
        np.testing.assert_allclose(null_of(index, given), together, atol=1e-5)


def test_no_pictures_make_an_empty_null(index: nda.Index) -> None:
    assert null_of(index, 0).shape == null_of(index, []).shape == (0,)


def test_a_null_is_read_as_it_was_written(tmp_path: Path) -> None:
    null.write_null(tmp_path, null.Null(np.array([0.25, 0.5]), (nda.Scale(7),)))
    found = null.read_null(tmp_path, [nda.Scale(3)])
    assert (found.evidence.tolist(), found.scales) == ([0.25, 0.5], (nda.Scale(7),))


def test_a_null_that_names_no_scales_has_those_of_its_index(tmp_path: Path) -> None:
    write_arrow(tmp_path / null.NULL, {"evidence": np.array([0.25])}, {})  # as version 0.1.0 wrote it
    assert null.read_null(tmp_path, [nda.Scale(3), nda.Scale(5)]).scales == (nda.Scale(3), nda.Scale(5))


def test_evidence_does_not_depend_on_the_scales_of_the_index(tmp_path: Path, pictures: NDArray[np.uint8]) -> None:
    source = pictures[:40]
    answers = []
    for number, scales in enumerate(([nda.Scale(3)], [nda.Scale(5), nda.Scale(8, 2)], null.EVIDENCE_SCALES)):
        index = nda.build_index(source, tmp_path / str(number), image_size=(24, 20), scales=scales, null=3)
        assert index.manifest.features == ([] if scales is null.EVIDENCE_SCALES else ["evidence"])
        answers.append(index.attribute(source[7], recipe="3@50", top=40, mode="exact"))
    for answer in answers[1:]:
        np.testing.assert_array_equal(answer.image_ids, answers[0].image_ids)
        np.testing.assert_array_equal(answer.evidence, answers[0].evidence)
    assert null.choose_evidence_scales((13, 20), [nda.Scale(3)]) == (nda.Scale(7),)
    assert null.choose_evidence_scales((6, 20), [nda.Scale(3)]) == (nda.Scale(3),)


def test_a_gpus_lists_make_the_same_null(pictures: NDArray[np.uint8], tmp_path: Path) -> None:
    pytest.importorskip("triton", reason="Triton is not installed here")
    scales = [nda.Scale(3)]
    index = nda.build_index(pictures[:24, :8, :8], tmp_path / "small.nda", image_size=8, scales=scales, null=0)
    corpus = Corpus(index.path, index.shape, index.manifest.table)
    lists = [CpuLists(cells) for cells in open_coarse(index.path, index.manifest)]
    on_gpu = place_lists(lists, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    assert not any(isinstance(one, CpuLists) for one in on_gpu)
    chosen = null.choose_pictures(corpus, 2, 0)
    votes = [null.vote_on_cells(some, corpus.count)(chosen) for some in (lists, on_gpu)]
    np.testing.assert_allclose(votes[1], votes[0], atol=1e-3)
    made = [
        null.make_null(chosen, corpus.pixels, null.vote_on_cells(some, corpus.count), index.scales, quiet).evidence
        for some in (lists, on_gpu)
    ]
    np.testing.assert_allclose(made[1], made[0], atol=1e-6)

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nda_index.coarse import kernels
from nda_index.coarse.cells import decode

MEMBERS, CELLS, IMAGES, WINDOWS, ALIKE = 70, 3, 20, 5, np.float32(0.6)


def made_up(dimensions: int, code_bytes: int, by_coordinate: bool) -> dict[str, Any]:
    """Lists, windows and visits: cell 1 is empty, cell 2 has no visitor."""
    rng = np.random.default_rng(dimensions)
    offsets = np.array([0, 41, 41, MEMBERS])
    return {
        "codes": rng.integers(0, 256, (MEMBERS, code_bytes), np.uint8),
        "image_ids": rng.integers(0, IMAGES, MEMBERS).astype(np.int32),
        "offsets": offsets,
        "allowed": np.empty(0, np.bool_),
        "images": IMAGES,
        "centroids": rng.normal(size=(CELLS, dimensions)).astype(np.float32),
        "codebook": (rng.normal(size=(2 if by_coordinate else 256, dimensions)) * 0.01).astype(np.float32),
        "alike": ALIKE,
        "cells": np.array([0, 1, 2]),
        "starts": np.array([0, 4, 5, 5]),
        "windows": np.array([0, 1, 2, 4, 3]),
        "vectors": (rng.normal(size=(WINDOWS, dimensions + 2)) / 4).astype(np.float32),
        "constants": rng.normal(size=WINDOWS).astype(np.float32),
    }


def logits(lists: dict[str, Any]) -> NDArray[np.float64]:
    """Of all members and windows by the definition: [T, W]."""
    places = np.repeat(np.arange(CELLS), np.diff(lists["offsets"]))
    rows = decode(lists["codes"], lists["centroids"][places], lists["codebook"]).astype(np.float64)
    norms = (rows[:, :-2] ** 2).sum(axis=1), (rows[:, -2:] ** 2).sum(axis=1)
    rows[:, -3] *= ALIKE
    return np.asarray(np.column_stack([rows, *norms]) @ lists["vectors"].T + lists["constants"])


KINDS = [(12, 12, True), (9, 9, True), (12, 6, False), (9, 9, False), (12, 4, False), (28, 14, False), (40, 20, False)]


@pytest.mark.parametrize(("dimensions", "code_bytes", "by_coordinate"), KINDS)
@pytest.mark.parametrize("some", [False, True])
def test_the_sums_of_visits_are_those_of_the_definition(
    dimensions: int, code_bytes: int, by_coordinate: bool, some: bool
) -> None:
    lists = made_up(dimensions, code_bytes, by_coordinate)
    takes_part = np.arange(IMAGES) % 3 > 0 if some else np.ones(IMAGES, np.bool_)
    lists["allowed"] = takes_part if some else lists["allowed"]
    highest, total = np.full(5, kernels.NOTHING, np.float32), np.zeros(5, np.float32)
    kernels.sum_visits(*lists.values(), 2, highest, total)
    expected = np.where(takes_part[lists["image_ids"]][:, None], np.exp2(logits(lists)), 0)[:41]
    np.testing.assert_allclose((total * np.exp2(highest))[:4], expected.sum(axis=0)[[0, 1, 2, 4]], rtol=1e-4)
    assert total[4] == 0  # an empty cell


@pytest.mark.parametrize(("dimensions", "code_bytes", "by_coordinate"), KINDS)
def test_votes_are_weights_summed_over_each_querys_windows_and_what_a_cell_gives_evenly(
    dimensions: int, code_bytes: int, by_coordinate: bool
) -> None:
    lists = made_up(dimensions, code_bytes, by_coordinate)
    queries, even = np.array([0, 0, 1, 1, 1]), np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], np.float32)
    lists["image_ids"][3] = IMAGES + 5  # a damaged file
    votes = np.zeros((2, IMAGES, 2), np.float32)
    kernels.add_votes(*lists.values(), queries, even, votes)
    weights, expected = np.exp2(np.minimum(logits(lists), 16)), np.zeros((IMAGES, 2))
    for member, image in enumerate(lists["image_ids"].tolist()):
        cell = 0 if member < 41 else 2
        if image < IMAGES:
            expected[image] += even[cell]
            if cell == 0:
                expected[image] += [weights[member, [0, 1]].sum(), weights[member, [2, 4]].sum()]
    np.testing.assert_allclose(votes.sum(axis=0), expected, rtol=1e-4)

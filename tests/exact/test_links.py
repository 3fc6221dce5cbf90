from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from nda_index import Scale
from nda_index.exact import links, reference
from nda_index.exact.links import cell_links
from nda_index.exact.maps import evidence_maps
from nda_index.exact.posterior import PosteriorSettings, score_views
from nda_index.exact.views import View
from nda_index.images import to_float
from tests.exact.test_maps import SCALES, score, smooth_bytes

INFINITE = float("inf")


def pair_weights(view: View, normaliser: NDArray[np.float64], image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The weight of every pair of windows by the definition, [P, Q]: the reference, one position at a time.

    At all positions but one the normaliser is infinite, so that only that position has weights.
    """
    noisy = torch.from_numpy(view.noisy.pixels.astype(np.float64))
    train = torch.from_numpy(to_float(image).astype(np.float64)) * view.noisy.signal
    rows = []
    for position in range(view.positions):
        only = torch.full((view.positions,), INFINITE, dtype=torch.float64)
        only[position] = normaliser[position]
        weights = reference.train_map(noisy, train, view.scale, only, sigma=view.noisy.sigma, mask_value=INFINITE)
        rows.append(weights.numpy().reshape(-1))
    return np.stack(rows)


def cells_of(scale: Scale, stride: int, height: int, width: int, *, turned: bool = False) -> NDArray[np.float64]:
    """How much of the weight at each position of a grid lies in each cell, [64, positions], pixel by pixel.

    Where the image is turned, the positions are those on its mirror image, and the cells those on itself.
    """
    grid = []
    for y in range(0, scale.positions(height), stride):
        for x in range(0, scale.positions(width), stride):
            cells = np.zeros(64)
            for v in range(y, min(y + stride, scale.positions(height))):
                for u in range(x, min(x + stride, scale.positions(width))):
                    for b in {v, v + (scale.patch % 2 == 0)}:
                        for a in {u, u + (scale.patch % 2 == 0)}:
                            cells[b * 8 // height * 8 + (width - 1 - a if turned else a) * 8 // width] += 1
            grid.append(cells / cells.sum())
    return np.stack(grid, axis=1)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("topk", [None, 2])
@pytest.mark.parametrize("mirror", [False, True])
def test_links_are_sums_of_the_reference_weights(scale: Scale, topk: int | None, mirror: bool) -> None:
    train = smooth_bytes(8)
    settings = PosteriorSettings(per_image_topk=topk, mirror=mirror)
    (view,), result = score([scale], settings, train)
    here = cells_of(scale, scale.query_stride, 14, 12)
    there = cells_of(scale, scale.train_stride, 14, 12)
    turned = cells_of(scale, scale.train_stride, 14, 12, turned=True)
    for image in (1, 5):
        expected = np.zeros((64, 64))
        for pixels, onto in [(train[image], there), (train[image][..., ::-1].copy(), turned)][: 1 + mirror]:
            weights = pair_weights(view, result.log_normalisers[0], pixels)
            if topk is not None:
                weights[weights < np.sort(weights, axis=1)[:, -topk, None]] = 0
            expected += view.factor * here @ weights @ onto.T
        cells = cell_links([view], result.log_normalisers, train[image], settings)
        np.testing.assert_allclose(cells[0], expected, rtol=1e-6, atol=1e-14)
        assert expected.sum() > 1e-12


@pytest.mark.parametrize(
    "settings",
    [PosteriorSettings(), PosteriorSettings(mirror=True), PosteriorSettings(per_image_topk=3, mirror=True)],
)
def test_links_sum_to_the_maps(settings: PosteriorSettings) -> None:
    train = smooth_bytes(12)
    views, result = score(SCALES, settings, train)
    on_query, on_train = evidence_maps(views, result.log_normalisers, train[:3], settings)
    rows, columns = np.arange(14) * 8 // 14, np.arange(12) * 8 // 12
    cell_of = (rows[:, None] * 8 + columns).reshape(-1)
    for image in range(3):
        cells = cell_links(views, result.log_normalisers, train[image], settings)
        assert cells.shape == (3, 64, 64)
        for place in range(3):
            query_cells = np.bincount(cell_of, on_query[place, image].reshape(-1), 64)
            np.testing.assert_allclose(cells[place].sum(axis=1), query_cells, rtol=1e-3, atol=1e-5)
            if settings.per_image_topk is None:
                train_cells = np.bincount(cell_of, on_train[place, image].reshape(-1), 64)
                np.testing.assert_allclose(cells[place].sum(axis=0), train_cells, rtol=1e-3, atol=1e-5)


def test_work_in_pieces_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    train = smooth_bytes(8)
    views, result = score(SCALES, PosteriorSettings(), train)
    whole = cell_links(views, result.log_normalisers, train[0], PosteriorSettings())
    monkeypatch.setattr(links, "PAIRS", 300)
    pieces = cell_links(views, result.log_normalisers, train[0], PosteriorSettings())
    np.testing.assert_allclose(pieces, whole, rtol=1e-12, atol=1e-15)


def test_the_work_ends_where_it_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    class Enough(Exception):
        pass

    monkeypatch.setattr(links, "PAIRS", 300)
    train, calls = smooth_bytes(8), 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise Enough

    views, result = score(SCALES, PosteriorSettings(), train)
    with pytest.raises(Enough):
        cell_links(views, result.log_normalisers, train[0], PosteriorSettings(), check)
    assert calls == 5


def test_a_copied_piece_links_where_it_was_put_and_where_it_was() -> None:
    train = smooth_bytes(10)
    query = smooth_bytes(1, seed=9)[0]
    query[:, 7:14, 5:12] = train[4][:, 2:9, 1:8]
    everything = np.concatenate([train, query[None]])
    views, _ = score([Scale(5)], PosteriorSettings(), everything, image=10)
    result = score_views(views, lambda: [to_float(train)], 10, PosteriorSettings(), lambda done, total: None)
    cells = cell_links(views, result.log_normalisers, train[4], PosteriorSettings())[0]
    # Window centres (9..11, 7..9) of the query come from (4..6, 3..5) of the image.
    assert cells[5 * 8 + 5, 2 * 8 + 2 : 2 * 8 + 4].sum() > 0.9 * cells[5 * 8 + 5].sum() > 0

from __future__ import annotations

import inspect
import json
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import nda_index as nda
from nda_index.exact import reference
from nda_index.exact.means import posterior_mean, sum_mean
from nda_index.exact.posterior import PosteriorSettings
from nda_index.images import to_float
from nda_index.query import shard
from nda_index.query.local import LocalShards
from nda_index.query.shard import Shard
from nda_index.question import Question, as_question
from nda_index.trust.null import read_null

SCALES = (nda.Scale(5), nda.Scale(6, 2, weight=0.5))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, pictures: NDArray[np.uint8]) -> nda.Index:
    """Forty pictures of 14 x 12 pixels."""
    folder = tmp_path_factory.mktemp("small") / "small.nda"
    return nda.build_index(pictures[:40, :14, :12], folder, image_size=(14, 12), scales=SCALES, null=0)


def by_definition(
    train: NDArray[np.uint8], query: NDArray[np.uint8], scale: nda.Scale, **question: Any
) -> NDArray[np.float64]:
    clean = torch.from_numpy(to_float(train.transpose(0, 3, 1, 2)).astype(np.float64))
    means = [
        reference.posterior_mean(
            torch.from_numpy(noisy.pixels.astype(np.float64)), clean * noisy.signal, scale, sigma=noisy.sigma
        )
        / noisy.signal
        for noisy in (view.noisy for view in as_question(**question).views(query.transpose(2, 0, 1), [scale]))
    ]
    return np.asarray(torch.stack(means).mean(dim=0).numpy().transpose(1, 2, 0))


@pytest.mark.parametrize(
    "question",
    [
        {"timestep": 100},
        {"timestep": [20, 200], "noise": "average", "draws": 2, "seed": 3},
        {"timestep": 150, "temper": 2.0, "noise": "draw"},
    ],
)
def test_the_picture_is_that_of_the_definition(
    small: nda.Index, pictures: NDArray[np.uint8], question: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard, "BLOCK", 16)  # several blocks
    query = pictures[50, :14, :12]
    found = small.denoise(query, mode="exact", **question)
    parts = [by_definition(pictures[:40, :14, :12], query, scale, **question) for scale in SCALES]
    whole = (parts[0] + 0.5 * parts[1]) / 1.5
    np.testing.assert_allclose(found.by_scale, parts, atol=1e-4)
    np.testing.assert_allclose(found.image, whole, atol=1e-4)
    away = np.sqrt(((query / 127.5 - 1 - whole) ** 2).mean(axis=2))
    np.testing.assert_allclose(found.unexplained, away, atol=1e-4)
    assert away.mean() > 0.05
    np.testing.assert_array_equal(found.picture, np.rint((found.image + 1) * 127.5))
    np.testing.assert_array_equal(found.query, query)
    assert [array.dtype for array in (found.image, found.by_scale, found.unexplained)] == [np.float32] * 3
    assert found.picture.dtype == np.uint8
    assert (found.averaged, found.collection, found.missing) == (40, 40, 0)
    assert found.settings["timestep"] == list(np.atleast_1d(question["timestep"]))
    assert found.settings["scales"] == ["p5r1", "p6r2"] and "per_image_topk" not in found.settings
    assert (found.index_hash, found.scales) == (small.manifest.index_hash, SCALES)
    assert set(found.seconds) == {"decode", "probe", "fetch", "exact"}
    assert found.distance == pytest.approx(np.sqrt((away**2).mean()), rel=1e-3)
    assert repr(found) == f"<Denoised 14 x 12 from 40 images: {found.distance:.3f} away from the picture>"


def test_without_images_is_a_collection_that_does_not_have_them(
    small: nda.Index, pictures: NDArray[np.uint8], tmp_path: Path
) -> None:
    collection = pictures[:40, :14, :12]
    rest = nda.build_index(
        np.delete(collection, [3, 7], axis=0), tmp_path / "rest.nda", image_size=(14, 12), scales=SCALES, null=0
    )
    left = small.denoise(collection[3], 50, mode="exact", without=[7, 3, 3])
    np.testing.assert_allclose(left.image, rest.denoise(collection[3], 50, mode="exact").image, atol=1e-5)
    assert np.abs(left.image - small.denoise(collection[3], 50, mode="exact").image).max() > 0.1
    assert (left.averaged, left.collection, left.settings["without"]) == (38, 40, [7, 3, 3])


def test_an_image_of_the_collection_explains_itself_and_is_missed(
    index: nda.Index, pictures: NDArray[np.uint8]
) -> None:
    found = index.denoise(pictures[42], timestep=20)
    np.testing.assert_array_equal(found.picture, pictures[42])
    assert found.unexplained.max() < 0.004
    answer = index.attribute(pictures[42], timestep=20, top=1)
    without = index.denoise(pictures[42], timestep=20, without=answer.image_ids)
    assert without.unexplained.mean() > 0.1
    assert without.averaged == found.averaged - 1


def test_a_shortlist_is_averaged_as_if_it_were_all(index: nda.Index, pictures: NDArray[np.uint8]) -> None:
    best = np.sort(np.argsort(-index.votes(pictures[9], 100))[:15])
    chosen = best[~np.isin(best, [9, best[0]])]
    found = index.denoise(pictures[9], 100, candidates=15, without=np.array([9, best[0], 299 - best[0]]))
    views = as_question(100).views(pictures[9].transpose(2, 0, 1), index.scales)
    train = to_float(index.pixels(chosen))
    first = sum_mean(views, lambda: [train], len(train), PosteriorSettings(), lambda done, total: None)
    np.testing.assert_allclose(found.image, posterior_mean(first.pixels(first.log_totals), index.scales)[0], atol=1e-5)
    assert (found.averaged, found.collection) == (len(chosen), 300)


def test_a_shortlist_of_all_images_gives_what_exact_gives(index: nda.Index, pictures: NDArray[np.uint8]) -> None:
    exact = index.denoise(pictures[9], 200, mode="exact", mirror=True)
    np.testing.assert_allclose(
        index.denoise(pictures[9], 200, candidates=300, mirror=True).image, exact.image, atol=1e-6
    )


def test_mirror_images_explain_a_mirrored_picture(index: nda.Index, pictures: NDArray[np.uint8]) -> None:
    turned = pictures[17][:, ::-1]
    assert index.denoise(turned, 20, mode="exact").unexplained.mean() > 0.1
    np.testing.assert_array_equal(index.denoise(turned, 20, mode="exact", mirror=True).picture, turned)


def test_where_leaves_the_others_out(index: nda.Index, pictures: NDArray[np.uint8]) -> None:
    dogs = index.denoise(pictures[9], 100, mode="exact", where="label = 'dog'")
    others = index.denoise(pictures[9], 100, mode="exact", without=np.flatnonzero(np.arange(300) % 3 != 1))
    np.testing.assert_allclose(dogs.image, others.image, atol=1e-6)
    assert (dogs.averaged, dogs.collection) == (100, 100)


@pytest.mark.parametrize("mode", ["exact", "ann"])
def test_the_picture_does_not_depend_on_the_shards(
    index: nda.Index, index_folder: Path, pictures: NDArray[np.uint8], tmp_path: Path, mode: Any
) -> None:
    """Two copies of the index, each of which has lost what the other has, are two shards with the same cells.

    The lists hold removed images too, so that votes differ: all images are on the shortlist.
    """
    shards = []
    for part, lost in ((0, range(110, 300)), (1, range(110))):
        shutil.copytree(index_folder, tmp_path / str(part))
        nda.remove_images(tmp_path / str(part), image_ids=list(lost))
        shards.append(Shard(tmp_path / str(part), "cpu"))
    sharded = nda.Index(tmp_path, index.manifest, read_null(index_folder, index.scales), LocalShards(shards))
    assert len(sharded) == 300 and sharded.image_ids[-1] == 599
    options: dict[str, Any] = {"mode": mode, "candidates": 300, "timestep": [50, 200]}
    one = index.denoise(pictures[200], **options, without=[200, 5])
    two = sharded.denoise(pictures[200], **options, without=[500, 5])
    np.testing.assert_allclose(two.image, one.image, atol=1e-5)
    assert (two.averaged, two.collection) == (one.averaged, one.collection)
    # All that is left may lie in one shard.
    one, two = (opened.denoise(pictures[200], **options, without=range(110)) for opened in (index, sharded))
    np.testing.assert_allclose(two.image, one.image, atol=1e-5)


def test_a_grey_picture_and_progress(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 9, 9), np.uint8)
    index = nda.build_index(images, tmp_path / "g.nda", image_size=9, channels=1, scales=[nda.Scale(3)], null=0)
    seen: list[tuple[str, int, int]] = []
    found = index.denoise(images[2], 0, progress=lambda *now: seen.append(now))
    np.testing.assert_array_equal(found.picture, images[2][..., None])
    found.save(tmp_path / "found.png")
    with Image.open(tmp_path / "found.png") as saved:
        np.testing.assert_array_equal(np.asarray(saved), images[2])
    with pytest.raises(nda.ConfigError, match=r"jpg': the name must end in .png$"):
        found.save("found.jpg")
    with pytest.raises(nda.StorageError, match="cannot be written"):
        found.save(tmp_path / "absent" / "found.png")
    assert json.loads(json.dumps(found.to_dict()))["settings"]["without"] == []
    assert seen == [("score", 5, 10), ("score", 10, 10)]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"timestep": 1000}, nda.ConfigError, "timestep is 1000"),
        ({"mode": "fast"}, nda.ConfigError, "mode is 'fast'"),
        ({"noise": "loud"}, nda.ConfigError, "noise is 'loud'"),
        ({"candidates": 0}, nda.ConfigError, "candidates is 0"),
        ({"where": "year > 3000"}, nda.QueryError, "which no image fulfils"),
        ({"without": [3, 300]}, nda.QueryError, "without has 300, which the index does not hold"),
        ({"without": [-1]}, nda.QueryError, "without has -1"),
        ({"without": ["00000003"]}, nda.ConfigError, "ids are whole numbers"),
        ({"without": [[1], [2, 3]]}, nda.ConfigError, "ids are whole numbers"),
        ({"without": [1.5]}, nda.ConfigError, "without holds 1.5; ids are whole numbers"),
        ({"without": np.arange(300) == 3}, nda.ConfigError, "without is a mask; give ids"),
        ({"without": 3}, nda.ConfigError, "without is 3"),
        ({"without": range(300), "mode": "exact"}, nda.QueryError, "none of the 300 images"),
        ({"without": range(300), "candidates": 7}, nda.QueryError, "none of the 7 images.*more candidates"),
    ],
)
def test_wrong_questions_are_refused(
    index: nda.Index, pictures: NDArray[np.uint8], options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        index.denoise(pictures[0], **options)


def test_strides_that_leave_pixels_out_are_refused(pictures: NDArray[np.uint8], tmp_path: Path) -> None:
    scales = [nda.Scale(3, query_stride=4)]
    index = nda.build_index(pictures[:20, :14, :12], tmp_path / "s.nda", image_size=(14, 12), scales=scales, null=0)
    with pytest.raises(nda.ConfigError, match="the scale p3r1 has query_stride 4"):
        index.denoise(pictures[0, :14, :12], 100)


def test_the_options_are_those_of_a_question_with_the_same_defaults() -> None:
    known = {field.name: field.default for field in fields(Question)}
    del known["timesteps"], known["per_image_topk"]
    parameters = inspect.signature(nda.Index.denoise).parameters
    assert {name: parameters[name].default for name in known} == known
    assert "per_image_topk" not in parameters

"""Indexes of latents, from beginning to end."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import nda_index as nda
from nda_index.diffusion import noisy_images
from nda_index.store.manifest import read_manifest
from nda_index.store.verify import verify
from tests.cli.running import run

SCALES = (nda.Scale(3), nda.Scale(4, 2))


def make_latents(count: int, channels: int = 4, seed: int = 0) -> NDArray[np.float32]:
    """Smooth random floats of unit deviation, [N, channels, 8, 6]."""
    rng = np.random.default_rng(seed)
    coarse = np.repeat(np.repeat(rng.normal(size=(count, channels, 4, 3)), 2, axis=2), 2, axis=3)
    return np.asarray((coarse + 0.3 * rng.normal(size=coarse.shape)) / 1.05, np.float32)


LATENTS = make_latents(30)
PICTURES = np.random.default_rng(2).integers(0, 256, (30, 16, 12, 3), np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of `LATENTS`; the last is the first once more."""
    path = tmp_path_factory.mktemp("latents")
    latents = np.concatenate([LATENTS[:29], LATENTS[:1]])
    np.savez(path / "source.npz", latents=latents, year=2000 + np.arange(30) // 10, images=PICTURES)
    nda.build_index(path / "source.npz", path / "latents.nda", latents=True, scales=SCALES).close()
    return path / "latents.nda"


@pytest.fixture(scope="module")
def latent_index(folder: Path) -> nda.Index:
    return nda.open_index(folder)


@pytest.mark.parametrize(("timestep", "factor"), [(5, 1.0), (20, 6.0), (400, 6.0)])
def test_scores_are_those_of_the_reference(timestep: int, factor: float) -> None:
    train = np.asarray(factor * make_latents(12, channels=5), np.float16)
    for scale in SCALES:
        [noisy] = noisy_images(train[3].astype(np.float32), timestep, "draw")
        scores = [
            nda.exact.image_scores(
                noisy.pixels, train.astype(kind), scale, signal=noisy.signal, sigma=noisy.sigma, mask_value=np.inf,
                backend=backend,
            )
            for backend, kind in (("cpu", np.float32), ("reference", np.float64))
        ]  # fmt: skip
        np.testing.assert_allclose(scores[0], scores[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mirror", [False, True])
def test_an_index_scores_as_the_reference(latent_index: nda.Index, mirror: bool) -> None:
    query = latent_index.pixels([4])[0]
    train = latent_index.pixels(range(30))
    np.testing.assert_array_equal(train[:29], LATENTS[:29].astype(np.float16))
    expected = np.zeros(30)
    for scale in SCALES:
        [noisy] = noisy_images(query.astype(np.float32), 300, "none")
        expected += nda.exact.image_scores(
            noisy.pixels, train.astype(np.float64), scale, signal=noisy.signal, sigma=noisy.sigma, mask_value=np.inf,
            mirror=mirror, backend="reference",
        )  # fmt: skip
    exact = latent_index.scores([LATENTS[4]], timestep=300, mirror=mirror)[0]
    np.testing.assert_allclose(exact, expected, rtol=1e-4, atol=1e-5)
    found = latent_index.attribute(LATENTS[4][None], 300, top=30, mirror=mirror, candidates=30)
    np.testing.assert_allclose(found.scores, expected[found.image_ids], rtol=1e-4, atol=1e-5)


def test_black_and_white_pictures_score_as_their_latents(tmp_path: Path) -> None:
    bits = np.random.default_rng(1).integers(0, 2, (20, 8, 8, 3)).astype(np.uint8) * np.uint8(255)
    floats = (bits / 127.5 - 1.0).transpose(0, 3, 1, 2)  # float16 holds -1 and 1
    pictures = nda.build_index(bits, tmp_path / "pictures.nda", image_size=8, scales=[nda.Scale(3)], null=0)
    latents = nda.build_index(floats, tmp_path / "latents.nda", latents=True, scales=[nda.Scale(3)])
    for options in ({"recipe": "3@50(draws=2) + 4/2@300"}, {"timestep": [20, 400], "candidates": 5}):
        answers = [
            index.attribute(query, top=5, **options) for index, query in ((pictures, bits[3]), (latents, floats[3]))
        ]
        for name in ("image_ids", "scores", "score_errors", "mass_covered", "query_maps", "train_maps"):
            np.testing.assert_array_equal(getattr(answers[0], name), getattr(answers[1], name), name)


def test_an_answer_says_that_latents_have_no_verdict(latent_index: nda.Index, tmp_path: Path) -> None:
    picture = Image.fromarray(PICTURES[7])
    answer = latent_index.attribute(nda.Latent(LATENTS[0], picture), 100, top=5, where="year != 2001")
    assert answer.latents and {0, 29} <= set(answer.image_ids.tolist())
    assert np.isnan(answer.evidence).all() and np.isnan(answer.percentiles).all() and answer.null_pictures == 0
    assert answer.groups.tolist().count(0) == 2  # the equal ones, and no others
    assert "no verdict" in " ".join(answer.notes) and answer.to_dict()["notes"] == list(answer.notes)
    for ending in ("json", "parquet", "arrow"):
        answer.save(tmp_path / f"answer.{ending}")
    again = nda.read_answer(tmp_path / "answer.arrow")
    assert again.images.dtype == again.query.dtype == np.float16
    np.testing.assert_array_equal(again.query, answer.query)
    np.testing.assert_array_equal(again.images, answer.images)
    assert again.previews == answer.previews
    for shown, rank in ((again.shown_image(1), answer.image_ids[1]), (again.shown_query, 7)):
        np.testing.assert_array_equal(np.asarray(shown), PICTURES[rank])
    assert again.links(0).sum() == pytest.approx(answer.scores[0], rel=1e-3)


def test_a_report_shows_pictures_or_says_that_it_draws_latents(latent_index: nda.Index, tmp_path: Path) -> None:
    answer = latent_index.attribute(nda.Latent(LATENTS[3], PICTURES[3]), 100, top=1, candidates=1)
    bare = replace(answer, picture=b"", previews=())
    pages = []
    for number, shown in enumerate((answer, bare)):
        shown.save(tmp_path / f"{number}.html", explained=[latent_index.denoise(LATENTS[3], 100)] if number else ())
        pages.append((tmp_path / f"{number}.html").read_text())
    assert all("There is no verdict" in page and "this latent" in page for page in pages)
    assert ["first three channels" in page for page in pages] == [False, True]
    assert pages[0] != pages[1] and isinstance(bare.shown_query, np.ndarray)
    with pytest.raises(nda.ConfigError, match="20 x 10 pixels"):
        latent_index.attribute(nda.Latent(LATENTS[3], Image.new("RGB", (20, 10))))


def test_an_index_of_latents_changes_as_others_do(folder: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(folder, tmp_path / "copy.nda"))
    more = make_latents(3, seed=5)
    with pytest.raises(nda.ConfigError, match="latents are floats"):
        nda.add_images(path, PICTURES)
    with pytest.raises(nda.SourceError, match=r"shape \[5, 8, 6\], and not \[4, 8, 6\]"):
        nda.add_images(path, make_latents(2, channels=5))
    with pytest.raises(nda.ConfigError, match="value_range is"):
        nda.add_images(path, more, value_range="0..1")
    assert nda.add_images(path, more).images == 33
    assert nda.remove_images(path, image_ids=[2]).images == 32
    assert nda.compact(path).images == 32
    assert verify(path) == []
    with nda.open_index(path) as index:
        np.testing.assert_array_equal(
            index.pixels([1, 2, 31]), np.stack([*LATENTS[[1, 3]], more[2]]).astype(np.float16)
        )
        answer = index.attribute(more[1], 100, top=32)
    assert (answer.image_ids[0], answer.previews[0]) == (30, b"")
    place = answer.image_ids.tolist().index(2)
    np.testing.assert_array_equal(np.asarray(answer.shown_image(place)), PICTURES[3])


def test_the_posterior_mean_is_saved_as_floats(latent_index: nda.Index, tmp_path: Path) -> None:
    mean = latent_index.denoise(LATENTS[4], 50)
    assert mean.distance < 0.01
    mean.save(tmp_path / "mean.npy")
    mean.save(tmp_path / "mean.npz")
    np.testing.assert_array_equal(np.load(tmp_path / "mean.npy"), mean.image.transpose(2, 0, 1))
    np.testing.assert_array_equal(np.load(tmp_path / "mean.npz")["latent"], np.load(tmp_path / "mean.npy"))
    with pytest.raises(nda.ConfigError, match=r"mean\.png"):
        mean.save(tmp_path / "mean.png")
    with pytest.raises(nda.ConfigError, match="latent, and no picture"):
        _ = mean.picture


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (
            np.zeros((3, 8, 6), np.float32),
            r"shape \[3, 8, 6\], and not \[4, 8, 6\]; the index holds latents \[4, 8, 6\]",
        ),
        (np.zeros((8, 6, 3), np.uint8), "type uint8; latents are floats"),
        (np.full((4, 8, 6), np.nan), "NaN"),
        (np.full((4, 8, 6), 1e5), "float16 ends at 65504"),
        ("photo.png", r"holds latents \[4, 8, 6\]"),
        (b"\x89PNG", r"holds latents \[4, 8, 6\]"),
    ],
)
def test_what_is_no_latent_is_refused(latent_index: nda.Index, question: Any, message: str) -> None:
    with pytest.raises(nda.ImageDecodeError, match=message):
        latent_index.attribute(question)


def test_a_region_of_a_latent_is_refused(latent_index: nda.Index) -> None:
    with pytest.raises(nda.ConfigError, match="as a whole"):
        latent_index.attribute(LATENTS[0], region=(0, 0, 4, 4))


@pytest.mark.parametrize(
    "options",
    [{"image_size": 32}, {"channels": 1}, {"pictures": True}, {"value_range": "-1..1"}, {"null": 50}],
    ids=str,
)
def test_options_of_pictures_are_refused(options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(nda.ConfigError, match=f"{next(iter(options))} is .*latents are indexed"):
        nda.build_index(LATENTS, tmp_path / "x.nda", latents=True, scales=SCALES, **options)
    assert not (tmp_path / "x.nda").exists()


def test_floats_without_latents_are_refused_with_the_choice(tmp_path: Path) -> None:
    with pytest.raises(nda.ConfigError, match="latents=True"):
        nda.build_index(LATENTS, tmp_path / "x.nda")


def test_a_manifest_says_what_an_index_holds(folder: Path) -> None:
    manifest = read_manifest(folder)
    assert (manifest.config.values, manifest.config.shape) == ("float16", (4, 8, 6))
    assert "latents" in manifest.features  # an older reader refuses what it would take for pixels
    assert verify(folder) == []


def test_an_interrupted_build_goes_on_and_says_that_the_scale_is_unusual(tmp_path: Path) -> None:
    def stop(stage: str, done: int, total: int) -> None:
        if stage.startswith("train"):
            raise KeyboardInterrupt

    options: dict[str, Any] = {"latents": True, "scales": SCALES[:1]}
    with pytest.raises(KeyboardInterrupt):
        nda.build_index(5 * LATENTS, tmp_path / "x.nda", progress=stop, **options)
    with pytest.warns(UserWarning, match="standard deviation of 4.9"):
        index = nda.build_index(5 * LATENTS, tmp_path / "x.nda", resume=True, **options)
    np.testing.assert_array_equal(index.pixels([29])[0], (5 * LATENTS[29]).astype(np.float16))


def test_commands_take_files_of_latents_and_the_service_refuses_them(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "question.npy", LATENTS[4])
    code, out, _ = run(
        capsys, monkeypatch, "query", folder, tmp_path / "question.npy", "--timestep", 50, "--top", 1, "--json"
    )
    assert (code, json.loads(out)["images"][0]["image_id"]) == (0, 4)
    for options, message in (
        (["query", folder, tmp_path / "question.npy", "--value-range", "0..1"], "compared as they are"),
        (["denoise", folder, tmp_path / "question.npy", "-o", tmp_path / "mean.png"], "must end in .npy"),
        (["serve", folder, "--port", 0], "the service takes and shows pictures"),
    ):
        code, _, errors = run(capsys, monkeypatch, *options)
        assert code == 2 and message in errors

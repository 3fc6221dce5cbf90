from __future__ import annotations

import inspect
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

import nda_index as nda
from nda_index.coarse import shortlist
from nda_index.diffusion import noisy_images
from nda_index.exact import image_scores
from nda_index.query import shard
from nda_index.question import Options, Question


def expected_scores(
    pictures: NDArray[np.uint8], query: NDArray[np.uint8], timestep: int, **noise: Any
) -> NDArray[np.float64]:
    """The definition, scale by scale and draw by draw, over all pictures."""
    train = pictures.transpose(0, 3, 1, 2) / np.float32(127.5) - np.float32(1)
    versions = noisy_images(query.transpose(2, 0, 1) / np.float32(127.5) - np.float32(1), timestep, **noise)
    total = np.zeros(len(pictures))
    for scale in (nda.Scale(5), nda.Scale(8, 2)):
        for noisy in versions:
            level: dict[str, Any] = {"signal": noisy.signal, "sigma": noisy.sigma}
            scores = image_scores(noisy.pixels, train, scale, mask_value=np.inf, backend="reference", **level)
            total += scores / len(versions)
    return total


@pytest.mark.parametrize(
    "noise", [{"noise": "draw", "seed": 3}, {"noise": "average", "draws": 2}, {"noise": "none", "temper": 2.0}]
)
def test_exact_scores_are_the_definition(
    index: nda.Index, pictures: NDArray[np.uint8], noise: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard, "BLOCK", 40)  # several blocks
    # Of a third of the collection, since the definition takes long; test_recipes has all of it.
    scores, third = index.scores([pictures[111]], 150, where="year = 2001", **noise)[0], slice(100, 200)
    expected = expected_scores(pictures[third], pictures[111], 150, **noise)
    np.testing.assert_allclose(scores[third], expected, rtol=1e-3, atol=1e-3)


def test_several_timesteps_average(index: nda.Index, pictures: NDArray[np.uint8]) -> None:
    both = index.scores(pictures[:2], [50, 300])
    single = [index.scores(pictures[:2], timestep) for timestep in (50, 300)]
    np.testing.assert_allclose(both, (single[0] + single[1]) / 2, rtol=1e-6, atol=1e-9)


def test_the_answer_to_an_exact_question_is_complete(index: nda.Index, pictures: NDArray[np.uint8]) -> None:
    answer = index.attribute(pictures[42], timestep=200, top=7, mode="exact")
    scores = index.scores([pictures[42]], 200)[0]
    np.testing.assert_array_equal(answer.image_ids, np.argsort(-scores, kind="stable")[:7])
    np.testing.assert_allclose(answer.scores, np.sort(scores)[::-1][:7])
    np.testing.assert_allclose(answer.shares, answer.scores / (24 * 20 + 23 * 19))
    assert (answer.mass_covered, answer.mass_error, answer.scored, answer.collection) == (1.0, 0.0, 300, 300)
    assert answer.keys[0] == "00000042"
    assert answer.metadata.to_pylist()[0] == {"label": "cat", "year": 2000}
    np.testing.assert_array_equal(answer.images[0], pictures[42])
    np.testing.assert_array_equal(answer.query, pictures[42])
    for rank in range(7):
        assert answer.query_map(rank).shape == answer.train_map(rank).shape == (24, 20)
        assert answer.query_map(rank).sum() == pytest.approx(answer.scores[rank], rel=1e-3)
        assert answer.train_map(rank).sum() == pytest.approx(answer.scores[rank], rel=1e-3)
    with pytest.raises(nda.QueryError, match="rank is 7"):
        answer.query_map(7)
    assert answer.evidence.shape == answer.percentiles.shape == answer.groups.shape == (7,)
    assert answer.verdict(0).strong and not answer.verdict(6).strong
    assert answer.null_pictures == 199
    assert answer.index_hash == index.manifest.index_hash
    assert set(answer.seconds) == {"decode", "probe", "fetch", "exact", "maps", "coverage", "verdict"}


def test_the_shortlist_finds_the_sources_of_a_collage(index: nda.Index, pictures: NDArray[np.uint8]) -> None:
    for left, right in ((3, 250), (120, 77), (299, 0)):
        collage = pictures[left].copy()
        collage[:, 10:] = pictures[right][:, 10:]
        answer = index.attribute(collage, timestep=50, top=2, candidates=15)
        assert set(answer.image_ids.tolist()) == {left, right}
        assert answer.scored == 15
        assert 0 < answer.mass_covered <= 1
        stages = {"decode", "embed", "probe", "fetch", "exact", "maps", "coverage", "verdict"}
        assert {stage for stage, seconds in answer.seconds.items() if seconds > 0} == stages


@pytest.mark.parametrize("timestep", [100, 300])
def test_scores_of_a_shortlist_are_those_of_the_whole_posterior(
    index: nda.Index, pictures: NDArray[np.uint8], timestep: int
) -> None:
    # The images outside are few enough that all of them are scored for the normaliser.
    exact = index.scores([pictures[5]], timestep)[0]
    answer = index.attribute(pictures[5], timestep=timestep, top=100, candidates=100)
    assert answer.scored == 100
    np.testing.assert_allclose(answer.scores, exact[answer.image_ids], rtol=1e-3, atol=1e-4)
    assert answer.mass_covered == pytest.approx(exact[answer.image_ids].sum() / exact.sum(), rel=1e-3)
    shortlisted = index.scores([pictures[5]], timestep, mode="ann", candidates=100)[0]
    np.testing.assert_allclose(shortlisted.max(), exact.max(), rtol=1e-4)


def test_copies_of_an_image_form_a_group_with_one_share(pictures: NDArray[np.uint8], tmp_path: Path) -> None:
    twice = np.concatenate([pictures[:40], pictures[7:8]])
    index = nda.build_index(twice, tmp_path / "twice.nda", image_size=(24, 20), scales=[nda.Scale(5)], null=0)
    answer = index.attribute(pictures[7], timestep=50, top=3, mode="exact")
    assert set(answer.image_ids[:2].tolist()) == {7, 40}
    assert answer.groups.tolist() == [0, 0, 2]
    assert answer.group_shares[0] == answer.group_shares[1] == pytest.approx(answer.shares[:2].sum())
    assert np.isnan(answer.percentiles).all()
    with pytest.raises(nda.QueryError, match="built with a null"):
        answer.verdict(0)


def test_the_null_may_be_given(pictures: NDArray[np.uint8], tmp_path: Path) -> None:
    index = nda.build_index(
        pictures[:60], tmp_path / "x.nda", image_size=(24, 20), scales=[nda.Scale(5)], null=list(pictures[100:220])
    )
    assert index.attribute(pictures[3], timestep=50, top=1).verdict(0).strong
    assert not index.attribute(pictures[250], timestep=50, top=1).verdict(0).strong
    with pytest.raises(nda.ConfigError, match="null is -1"):
        nda.build_index(pictures[:5], tmp_path / "y.nda", null=-1)


def test_an_average_tells_how_much_its_draws_differ(index: nda.Index, pictures: NDArray[np.uint8]) -> None:
    options: dict[str, Any] = {"timestep": [200, 400], "mode": "exact", "top": 300}
    answer = index.attribute(pictures[5], noise="average", draws=3, seed=7, **options)
    single = np.stack([index.scores([pictures[5]], [200, 400], noise="draw", seed=seed)[0] for seed in (7, 8, 9)])
    by_step = np.stack(
        [[index.scores([pictures[5]], t, noise="draw", seed=s)[0] for s in (7, 8, 9)] for t in (200, 400)]
    )
    np.testing.assert_allclose(answer.scores, single.mean(axis=0)[answer.image_ids], rtol=1e-4)
    expected = np.sqrt((by_step.var(axis=1, ddof=1) / 3).sum(axis=0)) / 2
    np.testing.assert_allclose(answer.draw_errors, expected[answer.image_ids], rtol=1e-2, atol=1e-4)
    assert not answer.score_errors.any()


def test_where_restricts_the_softmax_itself(index: nda.Index, pictures: NDArray[np.uint8]) -> None:
    for mode in ("exact", "ann"):
        answer = index.attribute(pictures[42], timestep=100, top=5, where="label = 'dog' AND year >= 2001", mode=mode)
        assert answer.collection == 67
        assert set(answer.metadata["label"].to_pylist()) == {"dog"}
        assert (answer.metadata["year"].to_numpy() >= 2001).all()
    dogs = np.flatnonzero(np.arange(300) % 3 == 1)
    scores = index.scores([pictures[42]], 100, where="label = 'dog'")[0]
    assert scores.sum() == pytest.approx(24 * 20 + 23 * 19, rel=1e-5)
    assert set(np.flatnonzero(scores)) <= set(dogs)


def test_an_answer_has_all_images_where_there_are_fewer_than_asked_for(
    index: nda.Index, pictures: NDArray[np.uint8]
) -> None:
    for mode in ("exact", "ann"):
        answer = index.attribute(pictures[3], timestep=100, top=500, where="label = 'dog' AND year = 2002", mode=mode)
        assert (len(answer), answer.collection) == (33, 33)
        assert set(answer.image_ids.tolist()) == {i for i in range(200, 300) if i % 3 == 1}


def test_mirror_finds_a_mirrored_picture(index: nda.Index, pictures: NDArray[np.uint8]) -> None:
    mirrored = np.ascontiguousarray(pictures[200][:, ::-1])
    plain = index.attribute(mirrored, timestep=50, top=1, candidates=20)
    answer = index.attribute(mirrored, timestep=50, top=1, candidates=20, mirror=True)
    assert answer.image_ids[0] == 200
    assert answer.shares[0] > 0.9 > plain.shares[0]
    np.testing.assert_allclose(answer.train_map(0), answer.query_map(0)[:, ::-1], atol=0.2)


def test_every_form_of_a_picture_gives_the_same_answer(
    index: nda.Index, pictures: NDArray[np.uint8], tmp_path: Path
) -> None:
    picture = Image.fromarray(pictures[9])
    picture.save(tmp_path / "q.png")
    forms = [pictures[9], picture, tmp_path / "q.png", str(tmp_path / "q.png"), (tmp_path / "q.png").read_bytes()]
    answers = [index.attribute(form, timestep=100, top=3) for form in forms]
    for answer in answers[1:]:
        np.testing.assert_array_equal(answer.scores, answers[0].scores)


def test_an_index_answers_the_same_after_it_is_opened_again(
    index: nda.Index, index_folder: Path, pictures: NDArray[np.uint8]
) -> None:
    first, again = (i.attribute(pictures[17], timestep=100) for i in (index, nda.open_index(index_folder)))
    np.testing.assert_array_equal(first.image_ids, again.image_ids)
    np.testing.assert_array_equal(first.scores, again.scores)


def test_the_number_of_candidates_grows_with_the_posterior(
    index: nda.Index, pictures: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shortlist, "FEWEST_CANDIDATES", 1)
    narrow, middle, broad = (index.attribute(pictures[3], timestep=t, noise="none") for t in (5, 200, 900))
    assert narrow.scored < middle.scored < broad.scored


def test_a_batch_has_an_answer_or_an_error_for_each_query(index: nda.Index, pictures: NDArray[np.uint8]) -> None:
    class Stop(Exception):
        pass

    def stop(stage: str, done: int, total: int) -> None:
        raise Stop

    questions: list[dict[str, Any]] = [
        {"top": 3},
        {"where": "year > 3000"},
        {"progress": stop},
        {"top": 5, "mode": "exact"},
    ]
    outcomes = list(index.attribute_batch([index.query(pictures[i], 50, **questions[i]) for i in range(4)]))
    assert [type(outcome) for outcome in outcomes] == [nda.Attribution, nda.QueryError, Stop, nda.Attribution]
    for i in (0, 3):
        alone, together = index.attribute(pictures[i], 50, **questions[i]), outcomes[i]
        assert isinstance(together, nda.Attribution)
        np.testing.assert_allclose(together.scores, alone.scores, rtol=1e-6)
        np.testing.assert_array_equal(together.image_ids, alone.image_ids)
        assert together.settings == alone.settings


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"timestep": 1000}, nda.ConfigError, "timestep is 1000"),
        ({"timestep": []}, nda.ConfigError, "timestep is empty"),
        ({"timestep": 1.5}, nda.ConfigError, "timestep is 1.5"),
        ({"top": 0}, nda.QueryError, "top is 0; it must be 1 or more"),
        ({"top": 2.5}, nda.ConfigError, "top is 2.5; it must be a whole number"),
        ({"top": True}, nda.ConfigError, "top is True; it must be a whole number"),
        ({"top": 10, "candidates": 9}, nda.QueryError, "candidates is 9; it must be at least top"),
        ({"candidates": 0}, nda.ConfigError, "candidates is 0"),
        ({"mode": "fast"}, nda.ConfigError, "mode is 'fast'"),
        ({"noise": "loud"}, nda.ConfigError, "noise is 'loud'"),
        ({"per_image_topk": 0}, nda.ConfigError, "per_image_topk is 0"),
        ({"where": "colour = 1"}, nda.QueryError, "not a column; the columns are key, label, year"),
        ({"where": "label ="}, nda.QueryError, "at character 8, a value is missing; 'label' holds text"),
        ({"where": "year > 3000"}, nda.QueryError, "which no image fulfils"),
        ({"where": "year > 2000; year < 2002"}, nda.QueryError, "at character 12, '; year"),
    ],
)
def test_wrong_questions_are_refused(
    index: nda.Index, pictures: NDArray[np.uint8], options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        index.attribute(pictures[0], **options)


def test_what_is_no_picture_or_device_is_refused(index: nda.Index, index_folder: Path) -> None:
    with pytest.raises(nda.ImageDecodeError, match="cannot be read as an image"):
        index.attribute(b"no image")
    with pytest.raises(nda.ConfigError, match="device is 'abacus'"):
        nda.open_index(index_folder, device="abacus")


def test_saved_forms_agree_with_the_answer(index: nda.Index, pictures: NDArray[np.uint8], tmp_path: Path) -> None:
    answer = index.attribute(pictures[4], timestep=100, top=3)
    for name in ("a.json", "a.parquet", "a.png", "a.html"):
        answer.save(tmp_path / name)
    saved = json.loads((tmp_path / "a.json").read_text())
    assert [row["image_id"] for row in saved["images"]] == answer.image_ids.tolist()
    assert saved["settings"]["timestep"] == [100]
    assert pq.read_table(tmp_path / "a.parquet").to_pylist() == answer.to_table().to_pylist()
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width > 600
    with pytest.raises(nda.ConfigError, match=r"must end in .arrow, .html, .json, .parquet, .png"):
        answer.save(tmp_path / "a.docx")
    with pytest.raises(nda.StorageError, match="cannot be written"):
        answer.save(tmp_path / "absent" / "a.html")


def test_an_index_of_one_grey_image(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 9, 9), np.uint8)
    index = nda.build_index(image, tmp_path / "one.nda", image_size=9, channels=1, scales=[nda.Scale(9), nda.Scale(2)])
    answer = index.attribute(image[0], timestep=500, top=1)
    assert answer.shares[0] == pytest.approx(1.0)
    answer.save(tmp_path / "a.png")
    answer.save(tmp_path / "a.html")


def test_the_options_of_attribute_are_those_of_a_question_with_the_same_defaults() -> None:
    known = {field.name: field.default for field in fields(Question) if field.name != "timesteps"}
    parameters = inspect.signature(nda.Index.attribute).parameters
    assert {name: parameters[name].default for name in known} == known
    assert set(known) == set(Options.__annotations__)

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from PIL import Image

import nda_index as nda
from nda_index.answer.heat import SIDE, heat_layer, lay_heat


class Page(HTMLParser):
    """Collects tags with their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def answer(index: nda.Index, pictures: NDArray[np.uint8]) -> nda.Attribution:
    return index.attribute(pictures[8], timestep=100, top=4, candidates=60)


def page_of(answer: nda.Attribution, folder: Path) -> tuple[str, Page]:
    answer.save(folder / "report.html")
    text = (folder / "report.html").read_text()
    return text, Page(text)


def test_the_page_holds_every_picture_and_asks_for_nothing_else(answer: nda.Attribution, tmp_path: Path) -> None:
    text, page = page_of(answer, tmp_path)
    images = [attributes["src"] or "" for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 1 + 4 * 4
    assert all(source.startswith("data:image/png;base64,") for source in images)
    assert "http://" not in text
    assert "https://" not in text
    assert not [tag for tag, _ in page.tags if tag in ("link", "iframe", "object")]
    assert all(attributes.get("alt") for tag, attributes in page.tags if tag == "img")


def test_the_page_says_what_was_found_and_on_what_ground(answer: nda.Attribution, tmp_path: Path) -> None:
    _, page = page_of(answer, tmp_path)
    assert f"Best match: {answer.keys[0]}, {answer.shares[0] * 100:.1f}% of this picture" in page.text
    assert "evidence, not proof" in page.text
    assert "60 of 300 images were compared" in page.text
    assert answer.index_hash in page.text
    assert answer.version in page.text
    assert "label" in page.text


def test_the_page_shows_the_picture_as_the_collection_explains_it(
    answer: nda.Attribution, index: nda.Index, pictures: NDArray[np.uint8], tmp_path: Path
) -> None:
    left_out = ((), answer.image_ids, answer.image_ids[:1])
    means = [index.denoise(pictures[8], 100, mode="exact", without=ids) for ids in left_out]
    answer.save(tmp_path / "report.html", explained=means)
    page = Page((tmp_path / "report.html").read_text())
    assert len([tag for tag, _ in page.tags if tag == "img"]) == 1 + 4 * 4 + 3 * 2
    assert "With all images compared" in page.text and "Without the 4 images above" in page.text
    assert "Without 1 image\n" in page.text
    assert all(f"{mean.distance:.3f}" in page.text for mean in means)
    assert "as the collection explains it" not in page_of(answer, tmp_path)[1].text
    with pytest.raises(nda.ConfigError, match="only .html"):
        answer.save(tmp_path / "report.png", explained=means)
    with pytest.raises(nda.ConfigError, match="another picture"):
        answer.save(tmp_path / "report.html", explained=[index.denoise(pictures[9], 100)])
    with pytest.raises(nda.ConfigError, match="counts every window"):
        index.attribute(pictures[8], per_image_topk=1).save(tmp_path / "report.html", explained=means)
    with pytest.raises(nda.ConfigError, match="timestep"):
        answer.save(tmp_path / "report.html", explained=[index.denoise(pictures[8], 200)])


def test_the_page_says_that_images_could_not_be_asked(answer: nda.Attribution, tmp_path: Path) -> None:
    _, page = page_of(replace(answer, scored=answer.collection, missing=1234), tmp_path)
    assert "1,234 more images" in page.text and "not whole" in page.text
    assert "All 300 images" not in page.text
    _, page = page_of(replace(answer, scored=answer.collection), tmp_path)
    assert "All 300 images" in page.text and "not whole" not in page.text


def test_the_picture_says_that_images_could_not_be_asked(answer: nda.Attribution, tmp_path: Path) -> None:
    pictures = []
    for missing in (0, 7, 1234):
        replace(answer, missing=missing).save(tmp_path / "answer.png")
        pictures.append(np.asarray(Image.open(tmp_path / "answer.png").convert("L")))
    changed = [np.unique(np.argwhere(pictures[0] != other)[:, 0]) for other in pictures[1:]]
    assert all(len(rows) and rows.max() < 68 for rows in changed)  # a line above the pictures
    assert not np.array_equal(pictures[1], pictures[2])


def test_options_as_numpy_numbers_are_written_as_any_others(
    index: nda.Index, pictures: NDArray[np.uint8], tmp_path: Path
) -> None:
    options: dict[str, Any] = {"timestep": np.arange(100, 301, 100), "seed": np.int64(3), "candidates": np.int32(60)}
    asked = index.attribute(pictures[8], top=2, noise="draw", **options)
    for name in ("a.html", "a.png", "a.json", "a.parquet", "a.arrow"):
        asked.save(tmp_path / name)
    settings = json.loads((tmp_path / "a.json").read_text())["settings"]
    assert (settings["timestep"], settings["seed"], settings["candidates"]) == ([100, 200, 300], 3, 60)
    assert nda.read_answer(tmp_path / "a.arrow").settings == settings


def test_keys_and_metadata_cannot_inject_code(answer: nda.Attribution, tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    metadata = pa.table({f"{evil}{column}": [evil] * 4 for column in range(9)})
    _, page = page_of(replace(answer, keys=(evil,) * 4, metadata=metadata), tmp_path)
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert evil in page.text


def test_the_script_is_allowed_by_its_hash(answer: nda.Attribution, tmp_path: Path) -> None:
    text, page = page_of(answer, tmp_path)
    policy = next(a["content"] or "" for tag, a in page.tags if tag == "meta" and "http-equiv" in a)
    assert "default-src 'none'" in policy
    script = text.split("<script>")[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in policy


def test_the_same_answer_gives_the_same_bytes(answer: nda.Attribution, tmp_path: Path) -> None:
    for name in ("a.html", "a.png", "a.json", "a.parquet"):
        answer.save(tmp_path / name)
        first = (tmp_path / name).read_bytes()
        answer.save(tmp_path / name)
        assert (tmp_path / name).read_bytes() == first


def test_heat_shows_where_the_map_is_high() -> None:
    heat = np.zeros((8, 16), np.float32)
    assert np.asarray(heat_layer(heat, (160, 80)))[..., 3].max() == 0
    heat[1, 14] = 5.0
    layer = np.asarray(heat_layer(heat, (160, 80)))[..., 3]
    row, column = np.unravel_index(layer.argmax(), layer.shape)
    assert (row // 10, column // 10) == (1, 14)
    faint = np.asarray(heat_layer(heat, (160, 80), highest=50.0))[..., 3]
    assert 0 < faint.max() < layer.max()
    image = np.full((8, 16, 1), 128, np.uint8)
    assert lay_heat(image, heat).size == (2 * SIDE, SIDE)


def test_the_picture_form_is_not_blank(answer: nda.Attribution, tmp_path: Path) -> None:
    answer.save(tmp_path / "a.png")
    picture = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    assert picture.shape[1] > 5 * SIDE
    assert picture.reshape(-1, 3).std(axis=0).min() > 20


def test_many_metadata_columns_are_folded_and_empty_values_left_out(answer: nda.Attribution, tmp_path: Path) -> None:
    columns = {f"column{i}": pa.array([None if i == 1 else i] * 4, pa.int64()) for i in range(20)}
    _, page = page_of(replace(answer, metadata=pa.table(columns)), tmp_path)
    assert "column0" in page.text
    assert "column1\n" not in page.text
    assert page.text.count("13 more") == 4


def test_odd_metadata_stays_apart_and_json_strict(answer: nda.Attribution, tmp_path: Path) -> None:
    odd = replace(answer, metadata=pa.table({"score": [float("nan")] * 4}))
    assert odd.to_table().column_names == [
        "rank",
        "image_id",
        "key",
        "score",
        "score_error",
        "share",
        "group",
        "group_share",
        "evidence",
        "percentile",
        "metadata.score",
    ]
    odd.save(tmp_path / "a.json")

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    row = json.loads((tmp_path / "a.json").read_text(), parse_constant=refuse)["images"][0]
    assert row["metadata.score"] is None
    assert row["score"] == pytest.approx(answer.scores[0])


def test_a_long_file_name_is_written(answer: nda.Attribution, tmp_path: Path) -> None:
    name = "a" * 250 + ".json"
    answer.save(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]

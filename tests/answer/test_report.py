from __future__ import annotations

import base64
import hashlib
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

import nda_index as nda


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


def test_the_page_says_that_images_could_not_be_searched(answer: nda.Attribution, tmp_path: Path) -> None:
    _, page = page_of(replace(answer, scored=answer.collection, missing=1234), tmp_path)
    assert "1,234 more images" in page.text and "not whole" in page.text
    assert "All 300 images" not in page.text
    _, page = page_of(replace(answer, scored=answer.collection), tmp_path)
    assert "All 300 images" in page.text and "not whole" not in page.text


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


def test_many_metadata_columns_are_folded_and_empty_values_left_out(answer: nda.Attribution, tmp_path: Path) -> None:
    columns = {f"column{i}": pa.array([None if i == 1 else i] * 4, pa.int64()) for i in range(20)}
    _, page = page_of(replace(answer, metadata=pa.table(columns)), tmp_path)
    assert "column0" in page.text
    assert "column1\n" not in page.text
    assert page.text.count("13 more") == 4

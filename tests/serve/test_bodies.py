"""Bodies of responses: the same fields in the models, in what is built, and in what `Attribution.save` writes."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

import nda_index as nda
from nda_index.answer.region import Colours, Region
from nda_index.serve import bodies

IDENTITY = "0" * 32


@pytest.fixture(scope="module")
def answer(index: nda.Index, pictures: NDArray[np.uint8]) -> nda.Attribution:
    return index.attribute(pictures[4], 50, top=2)


def test_a_saved_answer_has_the_fields_of_its_model(answer: nda.Attribution) -> None:
    values = answer.to_dict()
    assert set(values) == set(bodies.SavedAnswer.model_fields)
    columns = set(answer.metadata.column_names)
    assert columns == {"label", "year"}
    assert set(values["images"][0]) == set(bodies.SavedMatch.model_fields) | columns
    assert bodies.SavedAnswer.model_validate(values).model_dump() == values


def test_regions_have_the_fields_of_their_model() -> None:
    colours = Colours(1.0, 2.0, 3.0, (4.0, 5.0))
    region = Region(7, "a.jpg", None, (0, 0, 7, 7), (0, 0, 9, 9), (40, 30), False, 0.8, 0, 0.9, 0.1, 0.5, 199, colours)
    for each in (region, replace(region, colours=None)):
        values = json.loads(json.dumps(each.as_json()))
        assert bodies.RegionBody.model_validate(values).model_dump() == values


def test_a_field_without_a_model_is_an_error(answer: nda.Attribution) -> None:
    with pytest.raises(ValueError, match="extra"):
        bodies.SavedAnswer.model_validate({**answer.to_dict(), "new": 1})


def test_a_result_is_the_saved_answer_with_addresses(answer: nda.Attribution) -> None:
    result = json.loads(bodies.json_text(bodies.describe_result(answer, IDENTITY)))
    saved = json.loads(json.dumps(answer.to_dict()))
    assert {name: result[name] for name in saved if name != "images"} == {
        name: value for name, value in saved.items() if name != "images"
    }
    for rank, (image, row) in enumerate(zip(result["images"], saved["images"], strict=True), start=1):
        assert {name: image[name] for name in row} == row
        assert image["metadata"] == {"label": row["label"], "year": row["year"]}
        assert image["links"] == f"/v1/results/{IDENTITY}/links/{rank}"
        assert image["verdict"]["percentile"] == row["percentile"]


def test_metadata_cannot_replace_fields_and_nan_becomes_null(answer: nda.Attribution) -> None:
    metadata = pa.table({"url": ["javascript:0", "b"], "model_dump": [1.0, np.nan], "self": ["x", "y"]})
    result = bodies.describe_result(replace(answer, metadata=metadata), IDENTITY)
    first, second = json.loads(bodies.json_text(result))["images"]
    assert first["url"] == f"/v1/images/{answer.image_ids[0]}"
    assert first["metadata"] == {"url": "javascript:0", "model_dump": 1.0, "self": "x"}
    assert (second["metadata"]["model_dump"], second["model_dump"], second["self"]) == (None, None, "y")


def test_an_answer_without_a_null_has_no_verdicts(answer: nda.Attribution) -> None:
    without = replace(answer, percentiles=np.full(2, np.nan))
    assert [image.verdict for image in bodies.describe_result(without, IDENTITY).images] == [None, None]


def test_links_are_sorted_and_the_weakest_left_out() -> None:
    links = np.zeros((64, 64))
    links[3, 5], links[60, 2], links[9, 9] = 0.5, 2.0, 0.9e-3
    described = bodies.describe_links(links, score=1.0)
    assert json.loads(bodies.json_text(described)) == {"grid": [8, 8], "pairs": [[60, 2, 2.0], [3, 5, 0.5]]}

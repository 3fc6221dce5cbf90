from __future__ import annotations

import hashlib
import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

import nda_index as nda
from nda_index.answer.arrow import answer_bytes


@pytest.fixture(scope="module")
def answer(index: nda.Index, pictures: NDArray[np.uint8]) -> nda.Attribution:
    return index.attribute(pictures[4], [50, 300], top=3, noise="average", draws=2, mirror=True, where="year >= 2000")


def resealed(data: bytes, **changes: object) -> bytes:
    """The file with other values in its header, and the hash that fits."""
    table = pa.ipc.open_stream(data[:-32]).read_all()
    metadata = dict(table.schema.metadata)
    metadata[b"nda_index.answer"] = json.dumps({**json.loads(metadata[b"nda_index.answer"]), **changes})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.replace_schema_metadata(metadata).schema) as writer:
        writer.write_table(table)
    stream = sink.getvalue().to_pybytes()
    return bytes(stream + hashlib.sha256(stream).digest())


def test_an_answer_comes_back_as_it_was(answer: nda.Attribution, tmp_path: Path) -> None:
    answer.save(tmp_path / "a.arrow")
    again = nda.read_answer(tmp_path / "a.arrow")
    for field in fields(answer):
        before, after = getattr(answer, field.name), getattr(again, field.name)
        if isinstance(before, np.ndarray):
            assert before.dtype == after.dtype, field.name
            np.testing.assert_array_equal(before, after, err_msg=field.name)
        elif field.name == "log_normalisers":
            for one, other in zip(before, after, strict=True):
                np.testing.assert_array_equal(one, other)
        elif isinstance(before, pa.Table):
            assert before.equals(after)
        else:
            assert before == after, field.name
    assert str(again.verdict(0)) == str(answer.verdict(0))
    np.testing.assert_array_equal(again.links(1, "p5r1"), answer.links(1, "p5r1"))
    assert answer_bytes(again) == answer_bytes(answer)


def test_any_changed_or_missing_byte_is_noticed(answer: nda.Attribution) -> None:
    data = answer_bytes(answer)
    for place in range(0, len(data), len(data) // 50):
        changed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        for damaged in (changed, data[:place]):
            with pytest.raises(nda.AnswerFormatError, match="sha256 does not fit"):
                nda.read_answer(damaged)


def test_what_is_no_answer_or_a_newer_one_is_refused(answer: nda.Attribution, tmp_path: Path) -> None:
    data = answer_bytes(answer)
    assert nda.read_answer(resealed(data)).keys == answer.keys
    with pytest.raises(nda.VersionError, match="format version 3, this nda_index reads answers up to format version 2"):
        nda.read_answer(resealed(data, format_version=3))
    with pytest.raises(nda.AnswerFormatError, match="is not an answer"):
        nda.read_answer(resealed(data, shape=[24, 20, 4]))
    with pytest.raises(nda.AnswerFormatError, match="is not an answer"):
        nda.read_answer(b"text" + hashlib.sha256(b"text").digest())
    with pytest.raises(nda.AnswerFormatError, match="cannot be read"):
        nda.read_answer(tmp_path / "absent.arrow")


def test_maps_and_links_of_scales_add_up(answer: nda.Attribution) -> None:
    names = [scale.name for scale in answer.scales]
    assert names == ["p5r1", "p8r2"]
    for rank in range(3):
        for whole in (answer.query_map, answer.train_map, answer.links):
            parts = [whole(rank, name) for name in names]
            np.testing.assert_allclose(sum(parts), whole(rank), rtol=1e-5, atol=1e-7)
            assert all(part.sum() > 0 for part in parts)
        assert answer.links(rank).sum() == pytest.approx(answer.scores[rank], rel=1e-3)
    with pytest.raises(nda.QueryError, match="scale is 'p9r1'; this answer has p5r1, p8r2"):
        answer.query_map(0, "p9r1")
    with pytest.raises(nda.QueryError, match="rank is 3"):
        answer.links(3)

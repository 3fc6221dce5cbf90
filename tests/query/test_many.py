from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

import nda_index as nda
from nda_index.query import many
from nda_index.query.many import ask_many
from nda_index.question import Query

Questions = list[tuple[str, Any]]


@pytest.fixture
def questions(pictures: NDArray[Any]) -> Questions:
    return [(f"{number}.png", pictures[number]) for number in (7, 3, 200)] + [("broken.png", None)]


def ask(index: nda.Index, questions: Questions, path: Path, settings: dict[str, Any] | None = None) -> many.Summary:
    return ask_many(
        questions, path, settings or {"a": 1}, lambda picture: index.query(picture, 50, 1), index.attribute_batch,
        lambda done: None,
    )  # fmt: skip


def test_a_table_has_a_line_for_each_question(index: nda.Index, questions: Questions, tmp_path: Path) -> None:
    assert ask(index, questions, tmp_path / "out.parquet")[:3] == (4, 1, 0)
    table = pq.read_table(tmp_path / "out.parquet")
    rows = {row["question"]: row for row in table.to_pylist()}
    assert set(rows) == {name for name, _ in questions}
    assert [rows[f"{number}.png"]["image_id"] for number in (7, 3, 200)] == [7, 3, 200]
    assert "is no picture" in rows["broken.png"]["error"] and rows["broken.png"]["key"] is None
    assert table.schema.metadata[b"nda_index.a"] == b"1"
    assert ask(index, questions, tmp_path / "out.csv")[:3] == (4, 1, 0)
    read = pyarrow.csv.read_csv(tmp_path / "out.csv")
    assert read["image_id"].to_pylist() == table["image_id"].to_pylist()
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".part"] == []


def test_a_run_that_ended_goes_on_where_it_was(
    index: nda.Index, questions: Questions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, path = tmp_path / "whole.csv", tmp_path / "out.csv"
    ask(index, questions, whole)
    monkeypatch.setattr(many, "TOGETHER", 1)
    asked: list[int] = []

    def interrupted(queries: Sequence[Query]) -> Iterator[nda.Attribution | Exception]:
        asked.append(len(queries))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return index.attribute_batch(queries)

    def prepare(picture: Any) -> Query:
        return index.query(picture, 50, 1)

    with pytest.raises(KeyboardInterrupt):
        ask_many(questions, path, {"a": 1}, prepare, interrupted, lambda done: None)
    assert not path.exists()
    part = path.with_name("out.csv.part")
    part.write_text(part.read_text() + '["200.png", [{"quest')  # as a kill leaves it
    assert ask(index, questions, path)[:3] == (4, 1, 2)
    assert path.read_text() == whole.read_text()
    assert [line.split('"')[1] for line in path.read_text().splitlines()[1:]] == [name for name, _ in questions]


def test_answers_to_another_question_are_not_taken_over(index: nda.Index, questions: Questions, tmp_path: Path) -> None:
    part = tmp_path / "out.csv.part"
    part.write_text('{"a": 2}\n["7.png", [{"question": "7.png", "key": "wrong"}]]\n')
    assert ask(index, questions[:1], tmp_path / "out.csv")[:3] == (1, 0, 0)
    assert "wrong" not in (tmp_path / "out.csv").read_text()


def test_two_questions_of_one_name_both_have_a_line(index: nda.Index, questions: Questions, tmp_path: Path) -> None:
    ask(index, [("same", questions[0][1]), ("same", questions[1][1])], tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet")["image_id"].to_pylist() == [7, 3]


def test_another_ending_is_refused_before_anything_is_asked(index: nda.Index, tmp_path: Path) -> None:
    with pytest.raises(nda.ConfigError, match=r"must end in \.csv, \.parquet"):
        ask(index, [], tmp_path / "out.xlsx")

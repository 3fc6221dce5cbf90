"""Many questions, with their answers in one table; what is answered is kept, so that a run that ended can go on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numba

from nda_index.answer.attribution import Attribution
from nda_index.answer.rows import TABLES, Row, rows_of, rows_of_error, table_bytes
from nda_index.question import Query
from nda_index.store.files import ending_of, write_atomically, writing

SHOWN = 10  # of what has no answer, in a summary
TOGETHER = 16  # questions that are asked at a time, and kept

Prepare = Callable[[Any], Query]  # may raise for a picture that cannot be read
Ask = Callable[[Sequence[Query]], Iterator["Attribution | Exception"]]


class Summary(NamedTuple):
    """What became of many questions.

    Attributes:
        questions: how many there were.
        failed: how many have no answer.
        kept: how many have one from an earlier run.
        left_out: how many other things of the source are no questions.
        missing: name and reason of the first of those without an answer, and of what was left out.
    """

    questions: int
    failed: int
    kept: int
    left_out: int = 0
    missing: tuple[tuple[str, str], ...] = ()


def ask_many(
    questions: Iterable[tuple[str, Any]],
    path: Path,
    settings: Mapping[str, Any],
    prepare: Prepare,
    ask: Ask,
    report: Callable[[int], None],
) -> Summary:
    """Ask questions and write a table: a line for each strong region, or where there is none for the best image.

    Args:
        questions: a name and a picture each.
        path: of the table, .csv or .parquet. Until it is whole, NAME.part beside it keeps what is answered; a run with
            the same settings goes on from there.
        settings: the questions' options and the index's hash, as JSON values.
        prepare: makes a query of a picture; is called in several threads.
        ask: answers several queries.
        report: is called with the number of questions that are done.

    Raises:
        ConfigError: the ending is of no known form.
        StorageError: the disk is full or cannot be written.
    """
    form, part = ending_of(path, TABLES), path.with_name(f"{path.name}.part")
    known = _read_part(part, settings)
    names, kept = {name for name, _ in known}, len(known)
    write_atomically(part, "".join(json.dumps(line) + "\n" for line in [settings, *known]).encode())
    waiting = ((name, picture) for name, picture in questions if name not in names)
    report(len(known))
    with writing(path), part.open("a") as file:
        while some := list(islice(waiting, TOGETHER)):
            for answered in _answer(some, prepare, ask):
                known.append(answered)
                file.write(json.dumps(answered) + "\n")
                file.flush()
                report(len(known))
    rows = [row for _, rows in known for row in rows]
    write_atomically(path, table_bytes(rows, form, settings))
    with writing(part):
        part.unlink()
    failed = [(str(row["question"]), str(row["error"])) for row in rows if "error" in row]
    return Summary(len(known), len(failed), kept, missing=tuple(failed[:SHOWN]))


Answered = tuple[str, list[Row]]  # the name of a question, and its rows


def _answer(some: Sequence[tuple[str, Any]], prepare: Prepare, ask: Ask) -> Iterator[Answered]:
    """Answer some questions, in their order."""
    with ThreadPoolExecutor(numba.get_num_threads()) as pool:  # a large picture takes a tenth of its question to decode
        prepared = list(pool.map(lambda question: _attempt(prepare, question[1]), some))
    answers = ask([query for query in prepared if isinstance(query, Query)])
    for (name, _), query in zip(some, prepared, strict=True):
        answer = query if isinstance(query, Exception) else next(answers)
        yield name, rows_of_error(name, answer) if isinstance(answer, Exception) else rows_of(name, answer)


def _attempt(prepare: Prepare, picture: Any) -> Query | Exception:
    try:
        return prepare(picture)
    except Exception as error:  # one bad picture does not end a long run
        return error


def _read_part(part: Path, settings: Mapping[str, Any]) -> list[Answered]:
    """Read what an earlier run with the same settings answered; a last line that was cut off does not count."""
    if not part.is_file():
        return []
    first, *lines = part.read_text().split("\n")
    if first != json.dumps(settings):
        return []
    return [(name, rows) for name, rows in map(json.loads, lines[:-1])]

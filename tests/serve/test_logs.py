from __future__ import annotations

import json
import logging
from contextvars import copy_context

import pytest

from nda_index.serve.logs import REQUEST_ID, JsonFormatter, TextFormatter, choose_request_id


def record(**extra: object) -> logging.LogRecord:
    try:
        raise ValueError("broken\nhere")
    except ValueError as error:
        trace = (ValueError, error, error.__traceback__)
    made = logging.LogRecord("nda_index.x", logging.ERROR, "x.py", 1, "it %s", ("failed",), trace)
    made.__dict__.update(extra)
    return made


@pytest.mark.parametrize("sent", ["", "a b", "a\nb", "ä", "x" * 65, '"'])
def test_ids_that_could_write_lines_are_not_taken_over(sent: str) -> None:
    assert choose_request_id(sent) != sent
    assert choose_request_id(sent) != choose_request_id(sent)


def test_a_record_is_one_line_of_json_with_the_request_it_is_about() -> None:
    def format() -> str:
        REQUEST_ID.set("r-1")
        return JsonFormatter().format(record(facts={"status": 500}))

    line = copy_context().run(format)
    values = json.loads(line)
    assert "\n" not in line
    assert (values["message"], values["level"], values["request_id"], values["status"]) == (
        "it failed",
        "error",
        "r-1",
        500,
    )
    assert "ValueError: broken\nhere" in values["traceback"]
    assert "request_id" not in json.loads(JsonFormatter().format(record()))


def test_a_line_for_people_ends_with_the_request() -> None:
    def format() -> str:
        REQUEST_ID.set("r-1")
        return TextFormatter("%(message)s").format(record())

    assert copy_context().run(format).splitlines()[0] == "it failed [r-1]"
    assert TextFormatter("%(message)s").format(record()).splitlines()[0] == "it failed"

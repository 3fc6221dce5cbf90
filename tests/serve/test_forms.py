"""The options of a question, as the service spells them; `test_app` sends forms and JSON."""

from __future__ import annotations

import inspect
import json
import re
from dataclasses import fields
from typing import get_type_hints

import nda_index as nda
from nda_index.question import Options as QuestionOptions
from nda_index.question import Question
from nda_index.serve.app import STATIC
from nda_index.serve.forms import FormQuestion, JsonQuestion, Options

DEFAULTS = {field.name: field.default for field in fields(Question) if field.name != "timesteps"}
OF_A_REQUEST = {"timestep", "top"}  # arguments of `Index.attribute` that have no default in Question


def test_the_service_has_every_option_of_a_question() -> None:
    assert set(get_type_hints(QuestionOptions)) == set(DEFAULTS)
    assert set(Options.model_fields) == DEFAULTS.keys() | OF_A_REQUEST
    for body in (FormQuestion, JsonQuestion):
        assert set(body.model_fields) == set(Options.model_fields) | {"image", "image_id"}


def test_defaults_are_those_of_a_question() -> None:
    values = Options().model_dump()
    assert {name: values[name] for name in DEFAULTS} == DEFAULTS
    parameters = inspect.signature(nda.Index.attribute).parameters
    assert (values["timestep"], values["top"]) == (parameters["timestep"].default, parameters["top"].default)


def test_the_page_controls_known_options_and_repeats_all_others() -> None:
    """An option without a control is carried from an opened answer to the next question, by its name in `defaults`."""
    script = (STATIC / "settings.js").read_text()
    listed = re.search(r"const CONTROLLED = (\[.*?\]);", script)
    values = re.search(r"get values\(\) \{\s*return \{(.*?)\};", script, re.DOTALL)
    assert listed is not None and values is not None
    sent = re.findall(r"^\s*(\w+): ", values[1], re.MULTILINE)
    assert sorted(json.loads(listed[1])) == sorted(sent)
    assert set(sent) <= set(Options.model_fields)
    assert "...this.carried" in values[1]
    assert "Object.keys(index.defaults).filter((name) => !CONTROLLED.includes(name))" in script

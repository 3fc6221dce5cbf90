from __future__ import annotations

import inspect
import json
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from nda_index.answer import report as report_module
from nda_index.cli import questions
from nda_index.errors import ConfigError, QueryError
from nda_index.index import Index
from nda_index.question import Question, as_question
from tests.cli.running import Run
from tests.conftest import encoded

OPTIONS: dict[str, Any] = {  # every option of a question, with a value that is not its default
    "timesteps": (50, 200),
    "noise": "average",
    "seed": 3,
    "draws": 2,
    "temper": 2.5,
    "mode": "exact",
    "candidates": 7,
    "per_image_topk": 4,
    "mirror": True,
    "where": "year > 2000",
    "region": (1, 2, 30, 40),
}
RECIPE = "3@100 + 5@200(draws=2)"  # in place of timesteps, noise, draws and temper
AVERAGED = ("timesteps", "mode", "mirror", "where")  # the options of the command denoise


class Recorder:
    """Stands for an open index: keeps the question of a call, and ends the command."""

    latents = False

    def __init__(self) -> None:
        self.question: Question | None = None
        self.top: int | None = None

    def attribute(self, image: Any, timestep: Any, top: int, *, progress: Any, **options: Any) -> None:
        self.top = top
        self.denoise(image, timestep, progress=progress, **options)

    def denoise(self, image: Any, timestep: Any, *, progress: Any, **options: Any) -> None:
        self.question = as_question(timestep, **options)
        raise QueryError("recorded")


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    opened = Recorder()
    monkeypatch.setattr("nda_index.index.open_index", lambda folder: opened)
    return opened


def command_line(options: dict[str, Any]) -> list[str]:
    """Spell options as arguments."""
    arguments = []
    for name, value in options.items():
        option = "--" + ("timestep" if name == "timesteps" else name.replace("_", "-"))
        values = value if name == "timesteps" else [",".join(map(str, value)) if name == "region" else value]
        arguments += [option] if value is True else [part for each in values for part in (option, str(each))]
    return arguments


def defaults(function: Any, *others: str) -> dict[str, Any]:
    """Return a function's parameters with their defaults, without those named."""
    parameters = inspect.signature(function).parameters.values()
    return {each.name: each.default for each in parameters if each.name not in ("self", *others)}


def test_names_and_defaults_are_those_of_a_question() -> None:
    known = {field.name: field.default for field in fields(Question) if field.name != "timesteps"}
    assert {"timesteps", *known} == {"recipe", *OPTIONS}
    assert all(OPTIONS[name] != default for name, default in known.items() if name != "recipe")
    method = defaults(Index.attribute, "image", "progress")
    assert method == {"timestep": None, "top": questions.DEFAULT_TOP, **known}
    of_command = ("index", "image", "value_range", "picture", "ray", "save", "explain", "table", "as_json")
    assert defaults(questions.query_command, *of_command) == method
    others = ("index", "image", "output", "without_top", "value_range", "ray", "as_json")
    averaged = {name: known[name] for name in AVERAGED if name in known}
    assert defaults(questions.denoise_command, *others) == {"timestep": None, "recipe": None, **averaged}


def test_every_option_reaches_the_index(run: Run, recorder: Recorder) -> None:
    assert run("query", "x.nda", "x.png", "--top", 3, *command_line(OPTIONS))[0] == QueryError.exit_code
    assert (recorder.question, recorder.top) == (Question(**OPTIONS), 3)
    run("query", "x.nda", "x.png")
    assert (recorder.question, recorder.top) == (as_question(), questions.DEFAULT_TOP)
    run("query", "x.nda", "x.png", "--recipe", RECIPE)
    assert recorder.question == as_question(recipe=RECIPE)


def test_every_option_of_a_mean_reaches_the_index(run: Run, recorder: Recorder) -> None:
    options = {name: OPTIONS[name] for name in AVERAGED}
    assert run("denoise", "x.nda", "x.png", "-o", "x.png", *command_line(options))[0] == QueryError.exit_code
    assert recorder.question == Question(**options)
    run("denoise", "x.nda", "x.png", "-o", "x.png")
    assert recorder.question == as_question()
    run("denoise", "x.nda", "x.png", "-o", "x.png", "--recipe", RECIPE)
    assert recorder.question == as_question(recipe=RECIPE)


def test_build_query_info_and_verify(run: Run, tmp_path: Path, pictures: NDArray[np.uint8]) -> None:
    (tmp_path / "photos").mkdir()
    for i in range(30):
        Image.fromarray(pictures[i]).save(tmp_path / "photos" / f"{i:02d}.png")
    index = tmp_path / "x.nda"
    options = ["--image-size", 16, "--scale", "5", "--scale", "8/2", "--json"]
    code, out, _ = run("build", tmp_path / "photos", index, *options)
    built = json.loads(out)
    assert (code, built["images"], list(built["scales"])) == (0, 30, ["p5r1", "p8r2"])
    assert "fit the" in built["scales"]["p5r1"]

    query = [index, tmp_path / "photos" / "07.png", "--timestep", 50, "--top", 3]
    code, out, _ = run("query", *query, "--save", tmp_path / "r.html", "--json")
    assert code == 0
    assert json.loads(out)["images"][0]["key"] == "07.png"
    plain = (tmp_path / "r.html").read_text()
    code, out, _ = run("query", *query, "--save", tmp_path / "r.html", "--explain")
    assert "Without the 3 images above" in (tmp_path / "r.html").read_text() and "Without" not in plain
    report = ["--save", tmp_path / "r.html", "--explain"]
    for enough in (["--top", 30], ["--candidates", 3]):
        code, out, _ = run("query", *query, *enough, *report)
        assert code == 0
        assert ("Without the" in (tmp_path / "r.html").read_text()) == ("--candidates" in enough)
    for wrong in (["--explain"], ["--per-image-topk", 1, *report]):
        code, _, err = run("query", *query, *wrong)
        assert (code, "--explain" in err) == (ConfigError.exit_code, True)
    code, out, _ = run("query", *query)
    assert "07.png" in out
    assert "not proof" in out

    denoise = ["denoise", *query[:2], "--timestep", 20, "-o", tmp_path / "explained.png"]
    code, out, _ = run(*denoise, "--json")
    explained = json.loads(out)
    assert (code, explained["settings"]["without"], explained["averaged"]) == (0, [], 30)
    with Image.open(tmp_path / "explained.png") as picture:
        assert picture.size == (16, 16)
    code, out, _ = run(*denoise, "--without-top", 2, "--json")
    without = json.loads(out)
    assert (without["settings"]["without"][0], without["averaged"]) == (7, 28)
    assert without["distance"] > explained["distance"] + 0.1
    assert "0.000 away from the picture" in run(*denoise)[1]

    table = tmp_path / "found.csv"
    code, out, _ = run("query", index, tmp_path / "photos", "--timestep", 20, "--table", table, "--json")
    counts = {"questions": 30, "failed": 0, "kept": 0, "left_out": 0, "missing": []}
    assert (code, json.loads(out)) == (0, {"table": str(table), **counts})
    assert "1 question." in " ".join(run("query", *query[:2], "--table", tmp_path / "one.parquet")[1].split())
    for both in (["--save", tmp_path / "r.html"], ["--explain"]):
        assert "--table is given with" in run("query", *query[:2], "--table", table, *both)[2]
    code, _, err = run("query", index, tmp_path / "photos")
    assert (code, "--table FILE" in err) == (ConfigError.exit_code, True)

    code, out, _ = run("info", index, "--json")
    assert (code, json.loads(out)["images"]) == (0, 30)
    assert "30" in run("info", index)[1]
    assert run("verify", index)[0] == 0
    lists = index / "scales" / "p5r1" / "lists-00000.arrow"
    data = lists.read_bytes()
    lists.write_bytes(data[:-9] + b"X" + data[-8:])
    code, out, _ = run("verify", index, "--json")
    assert (code, json.loads(out)["intact"]) == (1, False)


def test_means_without_more_images_than_a_shortlist_holds(
    run: Run,
    tmp_path: Path,
    index_folder: Path,
    pictures: NDArray[np.uint8],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The page has 800 pictures, which take seconds to make as small as they can be.
    monkeypatch.setattr(report_module, "encode_png", partial(encoded, compress_level=1))
    Image.fromarray(pictures[7]).save(tmp_path / "7.png")
    arguments = [index_folder, tmp_path / "7.png", "--timestep", 100]
    report = tmp_path / "r.html"
    code, _, err = run("query", *arguments, "--top", 270, "--save", report, "--explain")
    assert (code, "Without the 270 images above" in report.read_text()) == (0, True), err
    picture = tmp_path / "without.png"
    code, out, err = run("denoise", *arguments, "--without-top", 270, "-o", picture, "--json")
    assert code == 0, err
    assert json.loads(out)["averaged"] == 30


def test_nothing_is_asked_where_a_form_is_unknown(run: Run, tmp_path: Path, index_folder: Path) -> None:
    saves = ["--save", tmp_path / "r.html", "--save", tmp_path / "r.doc"]
    code, _, err = run("query", index_folder, tmp_path / "none.png", *saves)
    assert (code, "r.doc" in err) == (ConfigError.exit_code, True)
    assert not list(tmp_path.iterdir())

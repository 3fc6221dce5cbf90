from __future__ import annotations

import dataclasses
import inspect
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import nda_index as nda
from nda_index import errors
from nda_index.cli import indexes, questions
from nda_index.cli.app import app, list_exit_codes, main
from nda_index.cli.options import TIMESTEP
from nda_index.errors import ConfigError
from nda_index.question import Question


def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object
) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["nda-index", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    captured = capsys.readouterr()
    return int(stopped.value.code or 0), captured.out, captured.err


def test_build_query_info_and_verify(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pictures: NDArray[np.uint8]
) -> None:
    (tmp_path / "photos").mkdir()
    for i in range(30):
        Image.fromarray(pictures[i]).save(tmp_path / "photos" / f"{i:02d}.png")
    index = tmp_path / "x.nda"
    options = ["--image-size", 16, "--scale", "5", "--scale", "8/2", "--json"]
    code, out, _ = run(capsys, monkeypatch, "build", tmp_path / "photos", index, *options)
    built = json.loads(out)
    assert (code, built["images"], list(built["scales"])) == (0, 30, ["p5r1", "p8r2"])
    assert "fit the" in built["scales"]["p5r1"]

    query = [index, tmp_path / "photos" / "07.png", "--timestep", 50, "--top", 3]
    code, out, _ = run(capsys, monkeypatch, "query", *query, "--save", tmp_path / "r.html", "--json")
    assert code == 0
    assert json.loads(out)["images"][0]["key"] == "07.png"
    plain = (tmp_path / "r.html").read_text()
    code, out, _ = run(capsys, monkeypatch, "query", *query, "--save", tmp_path / "r.html", "--explain")
    assert "Without the 3 images above" in (tmp_path / "r.html").read_text() and "Without" not in plain
    report = ["--save", tmp_path / "r.html", "--explain"]
    for enough in (["--top", 30], ["--candidates", 3]):
        code, out, _ = run(capsys, monkeypatch, "query", *query, *enough, *report)
        assert code == 0
        assert ("Without the" in (tmp_path / "r.html").read_text()) == ("--candidates" in enough)
    for wrong in (["--explain"], ["--per-image-topk", 1, *report]):
        code, _, err = run(capsys, monkeypatch, "query", *query, *wrong)
        assert (code, "--explain" in err) == (ConfigError.exit_code, True)
    code, out, _ = run(capsys, monkeypatch, "query", *query)
    assert "07.png" in out
    assert "not proof" in out

    denoise = ["denoise", *query[:2], "--timestep", 20, "-o", tmp_path / "explained.png"]
    code, out, _ = run(capsys, monkeypatch, *denoise, "--json")
    explained = json.loads(out)
    assert (code, explained["settings"]["without"], explained["averaged"]) == (0, [], 30)
    with Image.open(tmp_path / "explained.png") as picture:
        assert picture.size == (16, 16)
    code, out, _ = run(capsys, monkeypatch, *denoise, "--without-top", 2, "--json")
    without = json.loads(out)
    assert (without["settings"]["without"][0], without["averaged"]) == (7, 28)
    assert without["distance"] > explained["distance"] + 0.1
    assert "0.000 away from the picture" in run(capsys, monkeypatch, *denoise)[1]

    code, out, _ = run(capsys, monkeypatch, "info", index, "--json")
    assert (code, json.loads(out)["images"]) == (0, 30)
    assert "30" in run(capsys, monkeypatch, "info", index)[1]
    assert run(capsys, monkeypatch, "verify", index)[0] == 0
    lists = index / "scales" / "p5r1" / "lists-00000.arrow"
    data = lists.read_bytes()
    lists.write_bytes(data[:-9] + b"X" + data[-8:])
    code, out, _ = run(capsys, monkeypatch, "verify", index, "--json")
    assert (code, json.loads(out)["intact"]) == (1, False)


def test_means_without_more_images_than_a_shortlist_holds(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    index_folder: Path,
    pictures: NDArray[np.uint8],
) -> None:
    Image.fromarray(pictures[7]).save(tmp_path / "7.png")
    asked = [index_folder, tmp_path / "7.png"]
    report = tmp_path / "r.html"
    code, _, err = run(capsys, monkeypatch, "query", *asked, "--top", 270, "--save", report, "--explain")
    assert (code, "Without the 270 images above" in report.read_text()) == (0, True), err
    picture = tmp_path / "without.png"
    code, out, err = run(capsys, monkeypatch, "denoise", *asked, "--without-top", 270, "-o", picture, "--json")
    assert code == 0, err
    assert json.loads(out)["averaged"] == 30


def test_nothing_is_asked_where_a_form_is_unknown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, index_folder: Path
) -> None:
    saves = ["--save", tmp_path / "r.html", "--save", tmp_path / "r.doc"]
    code, _, err = run(capsys, monkeypatch, "query", index_folder, tmp_path / "none.png", *saves)
    assert (code, "r.doc" in err) == (ConfigError.exit_code, True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["query", "INDEX", "QUERY", "--timestep", "1000"], 2, "timestep is 1000"),
        (["query", "INDEX", "QUERY", "--top", "301"], 5, "top is 301"),
        (["query", "INDEX", "QUERY", "--top", "9", "--candidates", "5"], 5, "candidates is 5"),
        (["query", "INDEX", "QUERY", "--where", "x = 1"], 5, "where is 'x = 1'"),
        (["query", "INDEX", "absent.png"], 5, "no image at"),
        (["query", "INDEX", "TEXT"], 5, "cannot be read as an image"),
        (["query", "absent.nda", "QUERY", "--save", "r.doc"], 2, "must end in"),
        (["denoise", "absent.nda", "QUERY", "-o", "r.jpg"], 2, "must end in .png"),
        (["denoise", "INDEX", "QUERY", "-o", "r.png", "--without-top", "301"], 5, "top is 301"),
        (["denoise", "INDEX", "QUERY", "-o", "r.png", "--without-top", "-1"], 5, "top is -1"),
        (["query", "nowhere.nda", "QUERY"], 4, "no index at 'nowhere.nda'"),
        (["info", "FOLDER"], 4, "is not an index"),
        (["verify", "FOLDER"], 4, "is not an index"),
        (["build", "nowhere", "NEW"], 3, "nothing at 'nowhere'"),
        (["build", "EMPTY", "NEW"], 3, "holds no image"),
        (["build", "FOLDER", "INDEX"], 2, "exists and is an index"),
        (["build", "FOLDER", "NEW", "--scale", "7/2"], 2, "cannot be cut into blocks"),
        (["build", "FOLDER", "NEW", "--image-size", "6"], 2, "does not fit an image"),
    ],
)
def test_mistakes_are_one_line_and_an_exit_code(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    index_folder: Path,
    pictures: NDArray[np.uint8],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").mkdir()
    Image.fromarray(pictures[0]).save(tmp_path / "folder" / "q.png")
    (tmp_path / "text.png").write_text("text")
    places = {
        "INDEX": index_folder, "QUERY": tmp_path / "folder" / "q.png", "TEXT": tmp_path / "text.png",
        "FOLDER": tmp_path / "folder", "EMPTY": tmp_path / "empty", "NEW": tmp_path / "new.nda",
    }  # fmt: skip
    result = run(capsys, monkeypatch, *(places.get(argument, argument) for argument in arguments))
    assert result[0] == code
    assert message in result[2]
    assert len(result[2].strip().splitlines()) == 1
    assert "Traceback" not in result[2]


def test_help_has_examples_and_exit_codes(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    out = run(capsys, monkeypatch, "--help")[1]
    listed = {int(code) for code in re.findall(r"^ +(\d+)  ", out.split("Exit codes:")[1].split("Options:")[0], re.M)}
    assert listed == {0, 130, *(error.exit_code for error in every_error(nda.NdaIndexError))}
    for command in commands():
        code, out, _ = run(capsys, monkeypatch, command, "--help")
        assert code == 0
        assert f"nda-index {command} " in out.split("Example")[1]


def test_an_error_with_a_new_code_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    class WeatherError(nda.NdaIndexError):
        """The weather is bad."""

        exit_code = 77

    monkeypatch.setattr(errors, "WeatherError", WeatherError, raising=False)
    assert list_exit_codes()[77] == "the weather is bad"


def test_query_has_the_options_of_a_question() -> None:
    parameters = inspect.signature(questions.query).parameters
    attribute = inspect.signature(nda.Index.attribute).parameters
    fields = {field.name: field.default for field in dataclasses.fields(Question) if field.name != "timesteps"}
    assert {*fields} <= {*parameters}, "an option of Question is missing on the command line"
    assert {name: parameters[name].default for name in fields} == fields
    assert {name: attribute[name].default for name in fields} == fields
    others = {"index", "image", "timestep", "top", "ray", "save", "explain", "as_json"}
    assert {*parameters} == {*fields} | others
    assert parameters["top"].default == attribute["top"].default
    assert attribute["timestep"].default == TIMESTEP


def test_build_has_the_defaults_of_build_index() -> None:
    command, function = (inspect.signature(each).parameters for each in (indexes.build_command, nda.build_index))
    for name in ("image_size", "max_failures", "coarse_stride", "null", "resume"):
        assert command[name].default == function[name].default, name
    assert command["memory_mib"].default << 20 == function["memory"].default


def every_error(base: type[nda.NdaIndexError]) -> list[type[nda.NdaIndexError]]:
    return [base, *(found for each in base.__subclasses__() for found in every_error(each))]


def commands() -> list[str]:
    return [command.name or "" for command in app.registered_commands]


def test_the_command_is_installed() -> None:
    command = shutil.which("nda-index", path=str(Path(sys.executable).parent))
    assert command is not None
    assert subprocess.run([command, "--version"], capture_output=True, text=True, check=True).stdout.startswith("0.")


def test_an_index_grows_shrinks_and_forgets(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pictures: NDArray[np.uint8]
) -> None:
    for name, part in (("old", range(20)), ("new", range(20, 26))):
        (tmp_path / name).mkdir()
        for i in part:
            Image.fromarray(pictures[i]).save(tmp_path / name / f"{i:02d}.png")
    index = tmp_path / "x.nda"
    build = ["build", tmp_path / "old", index, "--image-size", 16, "--scale", "5", "--null", 0]
    code, out, _ = run(capsys, monkeypatch, *build, "--dry-run", "--json")
    assert (code, json.loads(out)["images"], index.exists()) == (0, 20, False)
    code, out, _ = run(capsys, monkeypatch, *build, "--dry-run")
    assert "minutes on this machine" in out
    assert run(capsys, monkeypatch, *build, "--resume")[0] == 0

    code, out, _ = run(capsys, monkeypatch, "add", index, tmp_path / "new", "--json")
    assert (code, json.loads(out)["images"], json.loads(out)["changed"]) == (0, 26, 6)
    code, out, _ = run(capsys, monkeypatch, "remove", index, "--key", "23.png", "--image-id", 4)
    assert "Removed 2 images" in out
    assert "has 24 now" in " ".join(out.split())
    code, out, _ = run(capsys, monkeypatch, "info", index)
    assert "their bytes are here" in out
    code, out, _ = run(capsys, monkeypatch, "compact", index)
    assert "Erased 2 images" in out
    assert run(capsys, monkeypatch, "verify", index)[0] == 0
    code, _, err = run(capsys, monkeypatch, "remove", index, "--key", "23.png")
    assert code == 5
    assert "keys has '23.png'" in err

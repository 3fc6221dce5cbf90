from __future__ import annotations

import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from numpy.typing import NDArray
from PIL import Image

from nda_index import errors
from nda_index.cli import app as app_module
from nda_index.cli import indexes, questions
from nda_index.cli.app import app, exit_codes
from nda_index.errors import NdaIndexError
from nda_index.evaluate.commands import evaluate
from nda_index.indexing.request import DEFAULT_MEMORY, PHOTOGRAPH
from nda_index.question import Question
from nda_index.recipe import DEFAULT, RECIPES
from nda_index.trust.null import DEFAULT_PICTURES
from tests.cli.running import Run

ERRORS = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, NdaIndexError)]
EXIT_CODES = {  # scripts rely on them: a class keeps its code, and a new class is written down here
    "NdaIndexError": 1,
    "ConfigError": 2,
    "SourceError": 3,
    "IndexFormatError": 4,
    "NotAnIndexError": 4,
    "VersionError": 4,
    "CorruptIndexError": 4,
    "MismatchError": 4,
    "AnswerFormatError": 4,
    "QueryError": 5,
    "ImageDecodeError": 5,
    "StorageError": 6,
    "LockedError": 6,
    "MissingDependencyError": 7,
    "ShardLostError": 8,
    "ServiceError": 9,
}
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["query", "INDEX", "QUERY", "--timestep", "1000"], 2, "timestep is 1000"),
        (["query", "INDEX", "QUERY", "--top", "0"], 5, "top is 0"),
        (["query", "INDEX", "QUERY", "--top", "9", "--candidates", "5"], 5, "candidates is 5"),
        (
            ["query", "INDEX", "QUERY", "--where", "x = 1"],
            5,
            "where cannot be answered: at character 1, 'x' is not a column",
        ),
        (["query", "INDEX", "absent.png"], 5, "no image at"),
        (["query", "INDEX", "TEXT"], 5, "cannot be read as an image"),
        (["query", "absent.nda", "QUERY", "--save", "r.doc"], 2, "must end in"),
        (["denoise", "absent.nda", "QUERY", "-o", "r.jpg"], 2, "must end in .npy, .npz, .png"),
        (["denoise", "INDEX", "QUERY", "-o", "r.png", "--without-top", "301"], 5, "without leaves none of the 300"),
        (
            ["denoise", "INDEX", "QUERY", "-o", "r.png", "--without-top", "-1"],
            2,
            "without_top is -1; it must",
        ),
        (["query", "nowhere.nda", "QUERY"], 4, "no index at 'nowhere.nda'"),
        (["info", "FOLDER"], 4, "is not an index"),
        (["verify", "FOLDER"], 4, "is not an index"),
        (["build", "nowhere", "NEW"], 3, "nothing at 'nowhere'"),
        (["build", "EMPTY", "NEW"], 3, "holds no image"),
        (["build", "FOLDER", "INDEX"], 2, "is an index already; add to it with"),
        (["build", "FOLDER", "NEW", "--scale", "7/2"], 2, "cannot be cut into blocks"),
        (["build", "FOLDER", "NEW", "--image-size", "6"], 2, "does not fit an image"),
        (
            ["build", "FOLDER", "http://example.org/x.nda"],
            2,
            "folder is 'http:/example.org/x.nda', an address",
        ),
        (["build", "FOLDER", "NEW", "--max-failures", "-1"], 2, "max_failures is -1"),
        (["build", "a.png", "b.png", "NEW"], 2, "put a pattern in quotes, as 'photos/*.png', or give the folder"),
        (["build", "FOLDER"], 2, "missing argument 'index'; see nda-index build --help"),
        (["bild"], 2, "no such command 'bild'. Did you mean 'build'?; see nda-index --help"),
        (["query", "INDEX", "QUERY", "--top", "ten"], 2, "'--top': 'ten' must be a whole number; see nda-index query"),
        (
            ["query", "absent.nda", "QUERY", "--save", "nowhere/r.html"],
            6,
            "no folder 'nowhere'; make it first",
        ),
        (["compact", "INDEX", "--wait", "-1"], 2, "wait is -1.0; it must be 0 or more"),
    ],
)
def test_mistakes_are_one_line_and_an_exit_code(
    run: Run,
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
    result = run(*(places.get(argument, argument) for argument in arguments))
    assert result[0] == code
    assert message in result[2]
    assert len(result[2].strip().splitlines()) == 1
    assert "Traceback" not in result[2]


def test_help_has_the_exit_code_of_every_error(run: Run) -> None:
    assert {error.__name__: error.exit_code for error in ERRORS} == EXIT_CODES
    table = run("--help")[1].partition("Exit codes:\n")[2].partition("\n\n")[0]
    rows = re.findall(r"^ +([0-9]+)  (.+)$", table, re.MULTILINE)
    shown = {int(code): meaning for code, meaning in rows}
    assert len(rows) == len(table.splitlines()) == len(shown)
    assert set(shown) == {0, 10, 11, 12, 130, *EXIT_CODES.values()}
    for error in ERRORS:
        if error is not NdaIndexError and "exit_code" in vars(error):
            assert str(error.__doc__).splitlines()[0] in shown[error.exit_code]


def test_a_new_exit_code_appears_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    new = type("NewError", (NdaIndexError,), {"__doc__": "It is new.", "exit_code": 77})
    monkeypatch.setattr(errors, "NewError", new, raising=False)
    assert exit_codes()[77] == "It is new."


@pytest.mark.parametrize(("error", "code"), [*((error, error.exit_code) for error in ERRORS), (KeyboardInterrupt, 130)])
def test_every_error_exits_with_its_code(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: type[BaseException], code: int
) -> None:
    def fail(**options: object) -> None:
        raise error("this\nbroke")

    monkeypatch.setattr(app_module, "app", fail)
    status, out, err = run()
    assert (status, out) == (code, "")
    expected = "interrupted" if error is KeyboardInterrupt else "error: this broke"
    assert err == f"{expected}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_an_example_and_help_for_each_option(run: Run, command: str) -> None:
    code, out, _ = run(command, "--help")
    assert code == 0
    assert f"nda-index {command} " in out.split("Example")[1]
    assert all(parameter.help for parameter in COMMANDS[command].params)


def test_the_commands_are_these() -> None:
    names = "build query denoise add remove compact push pull tune serve token evaluate info verify"
    assert list(COMMANDS) == names.split()


def test_the_command_is_installed() -> None:
    command = shutil.which("nda-index", path=str(Path(sys.executable).parent))
    assert command is not None
    assert subprocess.run([command, "--version"], capture_output=True, text=True, check=True).stdout.startswith("0.")


def test_options_have_the_defaults_of_what_the_commands_call() -> None:
    assert (indexes.MEMORY_MIB << 20, indexes.NULL) == (DEFAULT_MEMORY, DEFAULT_PICTURES)
    assert (PHOTOGRAPH, DEFAULT.name) == (indexes.PHOTOGRAPH, indexes.RECIPE)
    assert tuple(RECIPES) == questions.RECIPES
    assert questions.RECIPES[0] == DEFAULT.name
    for name in ("noise", "draws", "temper"):
        assert inspect.signature(evaluate).parameters[name].default == getattr(Question, name), name


def test_help_does_not_wait_for_what_commands_need() -> None:
    code = (
        "import sys; sys.argv = ['nda-index', 'query', '--help']\n"
        "from nda_index.cli import main\n"
        "try: main()\n"
        "except SystemExit: print('loaded', *sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    loaded = {name.partition(".")[0] for name in shown.partition("\nloaded ")[2].split()}
    assert "typer" in loaded
    assert not loaded & {"torch", "numba", "numpy", "pyarrow", "lancedb", "PIL", "faiss"}


@pytest.mark.parametrize("moment", ["typer", "numpy", "nda_index.store.manifest"])
def test_ctrl_c_is_one_line_and_exit_code_130_also_while_modules_are_imported(moment: str) -> None:
    code = (
        "import builtins, os, signal, sys\n"
        "import nda_index.cli\n"
        "load = builtins.__import__\n"
        "def interrupt(name, *rest):\n"
        f"    if name == {moment!r}: os.kill(os.getpid(), signal.SIGINT)\n"
        "    return load(name, *rest)\n"
        "builtins.__import__ = interrupt\n"
        "sys.argv = ['nda-index', 'info', '/nowhere']\n"
        "nda_index.cli.main()"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "interrupted\n")

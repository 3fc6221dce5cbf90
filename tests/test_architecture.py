"""The rules of docs/architecture.md hold for the package, and each of them can fail."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import nda_index
from tools import architecture

ROOT = Path(nda_index.__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
RULES = (
    "every room is in the order",
    "imports point down",
    "no circles",
    "libraries stay in their rooms",
    "the client and the question stay light",
    "modules are short and few at the top",
    "functions are short and narrow",
    "the page lists every module",
)


@pytest.fixture(scope="module")
def results() -> dict[str, list[str]]:
    return architecture.check_all(architecture.read_package(ROOT / "nda_index"), PAGE.read_text())


@pytest.mark.parametrize("rule", RULES)
def test_the_package_keeps_the_rule(results: dict[str, list[str]], rule: str) -> None:
    assert results[rule] == []


def test_every_rule_is_tested(results: dict[str, list[str]]) -> None:
    assert tuple(results) == RULES


def package(folder: Path, **files: str) -> dict[str, architecture.Module]:
    """A package `toy` of the given files, "a__b" being a/b.py."""
    root = folder / "toy"
    for name, text in files.items():
        path = root / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / "__init__.py").touch()
        path.write_text(text)
    (root / "__init__.py").touch()
    return architecture.read_package(root)


ORDER = {"low": frozenset[str](), "high": frozenset({"low"})}


def test_a_room_outside_the_order_and_a_room_that_is_not_there_are_named(tmp_path: Path) -> None:
    modules = package(tmp_path, low="", other="")
    assert architecture.check_rooms(modules, ORDER) == [
        "other: is not in the order",
        "high: is in the order, but there is no such room",
    ]


@pytest.mark.parametrize(
    "statement",
    [
        "import toy.high",
        "from toy import high",
        "from toy.high import name",
        "from . import high",
        "from .high import name",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from toy.high import name",
        "def function():\n    from toy.high import name",
        "try:\n    import toy.high\nexcept ImportError:\n    pass",
        "class Name:\n    def method(self):\n        import toy.high",
    ],
)
def test_an_upward_import_is_named_however_it_is_written(tmp_path: Path, statement: str) -> None:
    modules = package(tmp_path, low=statement, high="")
    (broken,) = architecture.check_direction(modules, ORDER)
    assert broken.startswith("low.py:") and "imports high upwards" in broken


def test_an_upward_import_between_folders_is_named(tmp_path: Path) -> None:
    modules = package(tmp_path, low__a="from ..high import b", high__b="from toy.low import a")
    assert architecture.check_direction(modules, ORDER) == ["low/a.py:1: imports high.b upwards"]


def test_imports_of_lower_rooms_and_the_own_room_are_not_named(tmp_path: Path) -> None:
    modules = package(tmp_path, low__a="from . import b", low__b="import json", high="from toy.low.a import name")
    assert architecture.check_direction(modules, ORDER) == []


def test_importing_the_package_itself_is_named(tmp_path: Path) -> None:
    modules = package(tmp_path, low="", high="import toy")
    assert architecture.check_direction(modules, ORDER) == ["high.py:1: imports the package upwards"]


def test_imports_for_types_and_inside_functions_are_marked(tmp_path: Path) -> None:
    text = "import toy.low\nif TYPE_CHECKING:\n    import toy.low\ndef function():\n    import toy.low"
    modules = package(tmp_path, low="", high=text)
    assert [one.kind for one in modules["high"].imports] == ["", "types", "function"]


def test_a_circle_is_named_also_where_it_is_closed_for_types(tmp_path: Path) -> None:
    typed = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from toy.low.a import Name"
    modules = package(tmp_path, low__a="import toy.low.b", low__b="import toy.low.c", low__c=typed)
    assert architecture.check_circles(modules) == ["circle: low.a, low.b, low.c"]
    assert architecture.check_circles(package(tmp_path / "line", a="import toy.b", b="import toy.c", c="")) == []


@pytest.mark.parametrize(
    "statement", ["import faiss", "from faiss import Index", "from faiss.contrib import ivf_tools"]
)
def test_a_library_outside_its_room_is_named(tmp_path: Path, statement: str) -> None:
    modules = package(tmp_path, coarse__ivf=statement, high=f"def function():\n    {statement}")
    assert architecture.check_libraries(modules) == ["high.py:2: uses faiss, which belongs to coarse"]


@pytest.mark.parametrize("library", ["faiss", "lancedb", "lance", "ray", "fastapi", "starlette", "uvicorn"])
def test_every_library_that_has_a_room_is_watched(tmp_path: Path, library: str) -> None:
    assert len(architecture.check_libraries(package(tmp_path, high=f"import {library}"))) == 1


@pytest.mark.parametrize("text", ["from toy.coarse import ivf\nivf.load_faiss()", "\nload_faiss()"])
def test_a_library_handed_out_of_its_room_is_named(tmp_path: Path, text: str) -> None:
    modules = package(tmp_path, coarse__ivf="def load_faiss(): ...", high=text)
    assert architecture.check_libraries(modules) == ["high.py:2: uses load_faiss, which belongs to coarse"]


def test_a_client_that_reaches_the_engine_is_named(tmp_path: Path) -> None:
    modules = package(tmp_path, client="import toy.answer", answer="from toy.query import gather", query__gather="")
    assert architecture.check_apart(modules) == ["client.py: reaches query"]


def test_a_folder_reaches_what_its_init_imports(tmp_path: Path) -> None:
    modules = package(tmp_path, question="import toy.answer.forms", answer__forms="", store__corpus="")
    assert architecture.check_apart(modules) == []
    (tmp_path / "toy" / "answer" / "__init__.py").write_text("import toy.store.corpus")
    modules = architecture.read_package(tmp_path / "toy")
    assert architecture.check_apart(modules) == ["question.py: reaches store.corpus"]


def test_a_long_module_and_a_crowded_top_are_named(tmp_path: Path) -> None:
    files = {f"m{number}": "" for number in range(architecture.TOP_LEVEL_MODULES)}
    files["m0"] = "\n" * (architecture.MODULE_LINES + 1)
    most = architecture.TOP_LEVEL_MODULES
    assert architecture.check_sizes(package(tmp_path, **files)) == [
        f"m0.py: has {architecture.MODULE_LINES + 1} lines",
        f"{most + 1} modules at the top; {most} is the most",
    ]


def test_a_module_and_a_top_at_the_bound_are_not_named(tmp_path: Path) -> None:
    files = {f"m{number}": "" for number in range(architecture.TOP_LEVEL_MODULES - 1)}
    files["m0"] = "\n" * architecture.MODULE_LINES
    assert architecture.check_sizes(package(tmp_path, **files)) == []


def function(lines: int, parameters: int = 0, docstring: str = "") -> str:
    names = ", ".join(f"p{number}" for number in range(parameters))
    return "\n".join([f"def function({names}):", *([docstring] if docstring else []), *["    pass"] * (lines - 1)])


def test_a_long_function_is_named_without_counting_its_docstring(tmp_path: Path) -> None:
    most = architecture.FUNCTION_LINES
    docstring = '    """First line.\n\n    More.\n    """'
    modules = package(tmp_path, low=function(most, docstring=docstring), high=function(most + 1, docstring=docstring))
    assert architecture.check_functions(modules, {}, {}) == [
        f"high.py:1: function has {most + 1} lines without its docstring"
    ]


def test_a_function_of_many_parameters_is_named(tmp_path: Path) -> None:
    method = "class Name:\n    def method(self, a, b, c, d, e, f, g, h, *, i, j): ..."
    modules = package(tmp_path, low=function(2, 9), high=function(2, 8), other=method)
    assert architecture.check_functions(modules, {}, {}) == ["low.py:1: function takes 9 parameters by position"]


def test_an_exception_is_let_pass_and_named_once_nothing_needs_it(tmp_path: Path) -> None:
    modules = package(tmp_path, low=function(90, 9))
    exception = {"low.function": "a kernel"}
    assert architecture.check_functions(modules, exception, exception) == []
    (broken,) = architecture.check_functions(modules, exception, {**exception, "low.gone": "a kernel"})
    assert broken == "low.gone: is an exception that nothing needs"


def test_the_order_is_read_with_all_that_lies_below() -> None:
    page = "text\n```order\na, b < c < d; e < d\nf\n```\n"
    assert architecture.read_order(page) == {
        "a": frozenset(),
        "b": frozenset(),
        "c": frozenset("ab"),
        "d": frozenset("abce"),
        "e": frozenset(),
        "f": frozenset(),
    }


@pytest.mark.parametrize(
    ("page", "message"), [("no block", "no block"), ("```order\na < b\nb < c < a\n```\n", "circle: a, b, c")]
)
def test_a_page_without_an_order_and_a_circle_in_it_are_refused(page: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        architecture.read_order(page)


def test_a_list_of_modules_that_is_old_and_a_missing_docstring_are_named(tmp_path: Path) -> None:
    text = '"""What it does.\n\nMore.\n"""'
    modules = package(tmp_path, low__a=f"{text}\nNAME = 1", high=text)
    for folder in ("", "low"):
        (tmp_path / "toy" / folder / "__init__.py").write_text('"""A room."""')
    modules = architecture.read_package(tmp_path / "toy")
    page = f"before\n{architecture.MODULES_BEGIN}\n{architecture.MODULES_END}\nafter"
    assert len(architecture.check_page(page, modules)) == 1
    page = architecture.write_modules(page, modules)
    assert "### low/\n\nA room.\n\n- `low/a.py`: What it does.\n" in page and "- `high.py`" in page
    assert page.startswith("before\n") and page.endswith("\nafter")
    assert architecture.check_page(page, modules) == []
    assert architecture.check_page(page.replace("before", "`low/b.py`"), modules) == [
        "docs/architecture.md: names low/b.py, which there is not"
    ]
    (tmp_path / "toy" / "low" / "a.py").write_text("NAME = 1")
    assert "low/a.py: has no docstring" in architecture.check_page(page, architecture.read_package(tmp_path / "toy"))


def test_the_tool_prints_the_rooms_and_exits_1_where_a_rule_is_broken(
    capsys: pytest.CaptureFixture[str], results: dict[str, list[str]]
) -> None:
    code = architecture.main([])
    printed = capsys.readouterr().out
    assert code == int(any(results.values()))
    assert "store" in printed and ("BROKEN" in printed) == any(results.values())


def test_every_module_has_tests_or_says_where_they_are() -> None:
    root = Path(__file__).parents[1]
    lacking = []
    for path in sorted((root / "nda_index").rglob("*.py")):
        module = path.relative_to(root / "nda_index").with_suffix("")
        folder = root / "tests" / module.parent
        page = folder / "__init__.py"
        said = page.read_text() if page.exists() else ""
        if module.name != "__init__" and not (folder / f"test_{module.name}.py").exists():
            lacking += [] if re.search(rf"[.`]{module.name}(\.py)?`", said) else [str(module)]
    assert lacking == []

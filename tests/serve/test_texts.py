"""The page's texts are in one file, which a translation can replace; `wording` finds those that are elsewhere."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import httpx
import pytest

import nda_index as nda
from nda_index.errors import ConfigError
from nda_index.serve.app import create_app
from nda_index.serve.settings import ServeSettings
from nda_index.serve.texts import ENGLISH, read_texts, text_names
from tests.serve.wording import read_literals, texts_of_module, texts_of_page

STATIC = ENGLISH.parent
MODULES = sorted(path for path in STATIC.glob("*.js") if path != ENGLISH)


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_a_module_holds_no_text(module: Path) -> None:
    assert texts_of_module(module.read_text()) == []


def test_the_page_and_its_style_hold_no_text() -> None:
    assert texts_of_page((STATIC / "index.html").read_text()) == []
    assert not re.search(r"""content: *["'][^"'\\]*[A-Za-z]""", (STATIC / "style.css").read_text())


def test_the_page_asks_for_all_modules_at_once() -> None:
    """It is seen when all have come, and each would else be found by the one before it."""
    asked = re.findall(r'<link rel="modulepreload" href="static/(.+)">', (STATIC / "index.html").read_text())
    assert asked == sorted(path.name for path in STATIC.glob("*.js") if path.name != "app.js")


@pytest.mark.parametrize(
    ("code", "texts"),
    [
        ('button.textContent = "copy";', ["copy"]),
        ('button.textContent = shown ? "copied" : texts.copy;', ["copied"]),
        ('element("p", { class: "small soft" }, "share")', ["share"]),
        ('element("p", {}, ...(known ? ["share"] : []))', ["share"]),
        ('element("img", { alt: `of ${name}` })', ["of \0"]),
        ('field.setAttribute("aria-label", "value")', ["value"]),
        ("announce(`ready`)", ["ready"]),
        ("notice.refuse('wrong', why)", ["wrong"]),
        ('const CLOSE = "Close";', ["Close"]),
        ("return `${count(n)} images`;", ["\0 images"]),
        ("return `${known ? `${n} found` : texts.none}`;", ["\0 found"]),
        ('return "étiquette";', ["étiquette"]),
        ('const words = x / 2 > 1 ? "no match" : "/";', ["no match"]),
        ('element("p", { class: "small soft", id: `row-${n}` }, texts.share)', []),
        ('box.querySelector("#pair .regions"); matchMedia("(min-width: 56rem)")', []),
        ("sql = `${column} IS NULL AND ${other} LIKE '%'`", []),
        ('// "a comment"\n/* \'another one\' */ name.split(/["\'] (of|and) [/"]/, 2)', []),
        ('import { page } from "./texts.js"; form.append("image", blob)', []),
        ('if (event.key === "Enter") headers = { Authorization: `Bearer ${token}` };', []),
    ],
)
def test_texts_are_told_from_names(code: str, texts: list[str]) -> None:
    assert texts_of_module(code + "\n") == texts


def test_texts_of_a_page_are_found() -> None:
    page = '<title>T</title><a class="brand">nda</a><p data-text="a.b">Read <b>on</b><img alt="A cat"></p><br alt="">'
    assert texts_of_page(page) == ["Read", "on", "A cat"]


def test_the_modules_are_read_to_their_end() -> None:
    """A string that is not closed where it should be would hide all that follow."""
    for module in MODULES:
        imports = re.findall(r'^(?:import|.*from) "(.+)";', module.read_text(), re.MULTILINE)
        assert [one.text for one in read_literals(module.read_text())][: len(imports)] == imports
    assert sum(len(read_literals(module.read_text())) for module in MODULES) > 500


def test_every_text_is_there_and_is_used() -> None:
    used = set(re.findall(r'data-text(?:-[a-z-]+)?="([\w.]+)"', (STATIC / "index.html").read_text()))
    whole = set[str]()  # groups of which a module takes any, by a name that it computes
    for module in MODULES:
        source = module.read_text()
        for imported in re.findall(r'import \{ ([^}]+) \} from "./texts.js"', source):
            for one in imported.split(", "):
                group, _, alias = one.partition(" as ")
                taken = rf"(?:(?<![\w./])|(?<=\.\.\.)){alias or group}"
                used |= {f"{group}.{name}" for name in re.findall(rf"{taken}\.(\w+)", source)}
                whole |= {group} if re.search(rf"{taken}\[", source) else set()
    there = {name for name in text_names(ENGLISH.read_text()) if "." in name}
    assert used - there == set()
    assert {name for name in there - used if name.split(".")[0] not in whole} == set()


def test_a_translation_is_served_in_place_of_the_english(index_folder: Path, tmp_path: Path) -> None:
    german = ENGLISH.read_text().replace('language = "en"', 'language = "de"').replace("Made of", "Besteht aus")
    (tmp_path / "german.js").write_text(german)
    settings = ServeSettings(tmp_path / "results", texts=tmp_path / "german.js")

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(create_app(nda.open_index(index_folder), settings))
        async with httpx.AsyncClient(transport=transport, base_url="http://photos.example") as client:
            first = await client.get("/static/texts.js")
            return [first, await client.get("/static/texts.js", headers={"If-None-Match": first.headers["etag"]})]

    served, again = asyncio.run(ask())
    assert (served.text, again.status_code) == (german, 304)
    assert served.headers["content-type"].startswith("text/javascript")
    assert "no-cache" in served.headers["cache-control"]


def test_a_translation_has_all_texts(tmp_path: Path) -> None:
    lines = ENGLISH.read_text().splitlines(keepends=True)
    short = tmp_path / "short.js"
    short.write_text("".join(line for line in lines if not line.startswith("  waits:")))
    with pytest.raises(ConfigError, match=r"short\.js have no jobs\.waits; .* copy the lines from .*texts\.js"):
        read_texts(short)
    short.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_texts(short)
    short.write_text("")
    with pytest.raises(ConfigError, match=r"and \d\d\d more"):
        read_texts(short)

"""Pages name files, modules and sections that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import nda_index

ROOT = Path(nda_index.__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def links(text: str) -> list[str]:
    """Targets of links and pictures, but for other hosts."""
    return [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]


def sections(text: str) -> set[str]:
    """Names by which links can point to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def exists(name: str) -> bool:
    """Whether a path is there, below the project or below the package."""
    return (ROOT / name).exists() or (ROOT / "nda_index" / name).exists()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in links(page.read_text()):
        path, _, section = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        assert not section or section in sections(file.read_text()), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_exist(page: Path) -> None:
    named = re.findall(r"(?<![\w/.\-])((?:[\w\-]+/)+[\w\-]+\.(?:py|sh|js|toml|txt))\b", page.read_text())
    assert [name for name in named if not exists(name)] == []


def test_the_tests_above_read_something() -> None:
    assert len(PAGES) >= 9
    assert links("[a](b.md#c) ![d](e.png) [f](https://g.h)") == ["b.md#c", "e.png"]
    assert sections("# The `exact` stage\n## A, b-c") == {"the-exact-stage", "a-b-c"}
    assert not exists("nda_index/nothing.py") and exists("exact/cpu.py") and exists("tools/setup.sh")

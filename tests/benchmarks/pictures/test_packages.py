"""The table of packages, and which files of a package are pictures."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.pictures.packages import PACKAGES, SETS, Package, fetch, find_files, packages_of, run, version_of


def test_sets_share_no_package() -> None:
    names = [package.name for name in SETS for package in packages_of(name)]
    assert len(names) == len(set(names)) == len(PACKAGES)
    assert all(package.licence and package.files for package in PACKAGES)
    assert not any("ND" in package.licence for package in PACKAGES)


def test_files_are_those_of_the_patterns(tmp_path: Path) -> None:
    for name in ("art/b.PNG", "art/a.jpg", "art/deep/left01.jpg", "art/note.txt", "icons/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "art/link.jpg").symlink_to(tmp_path / "art/a.jpg")
    package = Package("some", "choosing", "CC0-1.0", ("art/**/*",), ("left*",))
    assert [path.name for path in find_files(package, tmp_path)] == ["a.jpg", "b.PNG"]


def test_what_is_unpacked_is_not_downloaded_again(tmp_path: Path) -> None:
    package = Package("some", "choosing", "CC0-1.0", ("**/*",))
    assert version_of(package, tmp_path) == ""
    (tmp_path / "some.unpacked").write_text("some_1%3a2.0-1_all.deb\n")
    assert fetch(package, tmp_path) == tmp_path / "some"
    assert version_of(package, tmp_path) == "1:2.0-1"


def test_failures_name_the_package(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="some"):
        run(["false"], tmp_path, "some")
    with pytest.raises(SystemExit, match="not on this machine"):
        run(["no-such-command"], tmp_path, "some")

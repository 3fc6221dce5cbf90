"""Debian packages that the pictures come from: which folders of them, under which licence.

A set of packages is for one purpose: settings are chosen on `choosing` and judged on `confirming`. The names are those
of Debian 12. Composites are derived works, so a package whose pictures may not be changed (CC-BY-ND, as Stellarium's
figures) is none of these. Pictures stay on the machine that downloads them; a page that shows some must name their
authors, as the package's copyright file does.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

Set = Literal["choosing", "confirming"]
SETS: tuple[Set, ...] = get_args(Set)

WESNOTH = "usr/share/games/wesnoth/1.16/data/core/images"


@dataclass(frozen=True)
class Package:
    """What is taken from a package.

    Args:
        name: Debian's name of the package.
        set: the set that it belongs to.
        licence: of the pictures, a short name from the package's copyright file.
        files: patterns below the package's root, as of `Path.glob`. Narrow ones keep icons and screenshots out.
        leave_out: patterns of file names that are no pictures to search for, or show one scene many times.
        note: where one needs care.
    """

    name: str
    set: Set
    licence: str
    files: tuple[str, ...]
    leave_out: tuple[str, ...] = ()
    note: str = ""


PACKAGES = (
    Package(
        "plasma-workspace-wallpapers", "choosing", "LGPL-3 and CC-BY-SA-4.0", ("usr/share/wallpapers/**/*",),
        note="Each wallpaper is there in several sizes, some for day and night.",
    ),
    Package(
        "gnome-backgrounds", "choosing", "CC-BY-SA-3.0", ("usr/share/backgrounds/**/*",), ("truchet-*", "wood-*"),
        note="What is left out repeats itself. Names end in -l and -d for day and night. Some are CC-BY-2.0.",
    ),
    Package(
        "mate-backgrounds", "choosing", "GPL-2+ and CC-BY-SA-4.0", ("usr/share/backgrounds/**/*",),
        note="Elephants is there in three sizes; stripes and logos in several colours.",
    ),
    Package(
        "lxqt-themes", "choosing", "LGPL-2.1+ and CC-BY-SA-3.0", ("usr/share/lxqt/**/*",), ("debug.png",),
        note="Themes repeat the pictures of wallpapers/.",
    ),
    Package(
        "breeze", "choosing", "LGPL-3+", ("usr/share/wallpapers/**/*",),
        note="One wallpaper in many shapes, for day and night.",
    ),
    Package(
        "plasma-workspace-data", "choosing", "CC0-1.0", ("usr/share/plasma/avatars/photos/*",),
        note="Only the photographs among the avatars.",
    ),
    Package(
        "tuxpaint-data", "choosing", "GPL-2+", ("usr/share/tuxpaint/templates/*",),
        note="Photographs of 900 px, whose own licences the copyright file does not tell apart.",
    ),
    Package("palapeli-data", "choosing", "GPL-2+", ("usr/share/palapeli/collection/*",)),
    Package(
        "wesnoth-1.16-data", "choosing", "GPL-2+", (f"{WESNOTH}/story/*", f"{WESNOTH}/maps/*"),
        note="Paintings; some are variants of one another (with people and without).",
    ),
    Package(
        "opencv-doc", "choosing", "Apache-2.0", ("usr/share/doc/opencv-doc/examples/**/*",),
        (
            "left*", "right*", "*GT*", "*mask*", "*chess*", "digits*", "detect_blob*", "*synthetic*", "*pattern*",
            "*output*", "shape_sample/*", "aero3*", "aloeR*", "basketball2*", "box_in_scene*", "ela_modified*",
            "graf3*", "imageTextR*", "leuvenB*",
        ),
        note="Well-known test pictures, whose own licences are not all told. Of stereo pairs and series one is taken.",
    ),
    Package("ukui-wallpapers", "confirming", "CC-BY-SA-3.0", ("usr/share/backgrounds/**/*",)),
    Package("lomiri-wallpapers", "confirming", "CC-BY-SA-4.0", ("usr/share/**/*",)),
    Package("lomiri-wallpapers-16.04", "confirming", "CC-BY-4.0 and CC-BY-SA", ("usr/share/**/*",)),
    Package("lomiri-wallpapers-20.04", "confirming", "CC-BY-4.0 and CC-BY-SA", ("usr/share/**/*",)),
    Package(
        "endless-sky-high-dpi", "confirming", "CC-BY-SA-4.0, public domain",
        ("usr/share/games/endless-sky/plugins/endless-sky-high-dpi/images/land/*",),
        note="Photographs of 1,440 x 720 px. Each has its own author and licence in the copyright file, some CC-BY.",
    ),
    Package(
        "python3-skimage", "confirming", "BSD-3-Clause, CC0", ("usr/lib/python3/dist-packages/skimage/data/*",),
        ("motorcycle_left*", "phantom*", "*truncated*", "*checker*", "foo*", "mssim*", "palette*"),
    ),
    Package("renpy-thequestion", "confirming", "Expat", ("usr/share/games/renpy/the_question/game/images/*",)),
    Package(
        "supertux-data", "confirming", "GPL-3+ and CC-BY-SA-3.0", ("usr/share/games/supertux2/images/background/**/*",),
        ("*displacement*",), note="Drawings. Most are layers with transparent parts, and are not taken.",
    ),
)  # fmt: skip


def packages_of(name: Set) -> tuple[Package, ...]:
    """List the packages of a set."""
    return tuple(package for package in PACKAGES if package.set == name)


def fetch(package: Package, cache: Path) -> Path:
    """Download a package and unpack it, unless the cache has it.

    Args:
        package: what to fetch, from the Debian mirror that this machine uses. Run `apt-get update` once before.
        cache: a folder; it gets the package's file and a folder of the package's name.

    Returns:
        The folder of what was in the package.

    Raises:
        SystemExit: the package cannot be downloaded or unpacked.
    """
    root = cache / package.name
    done = cache / f"{package.name}.unpacked"
    if done.exists():
        return root
    cache.mkdir(parents=True, exist_ok=True)
    run(["apt-get", "download", package.name], cache, package.name)
    archive = max(cache.glob(f"{package.name}_*.deb"), key=lambda path: path.stat().st_mtime)
    run(["dpkg", "-x", str(archive.resolve()), str(root.resolve())], cache, package.name)
    done.write_text(archive.name + "\n")
    return root


def run(command: list[str], folder: Path, name: str) -> None:
    """Run a command in a folder; stop with what it said where it fails."""
    try:
        ended = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    except FileNotFoundError:
        raise SystemExit(f"{command[0]} is not on this machine: the pictures come from Debian packages.") from None
    if ended.returncode:
        raise SystemExit(
            f"{command[0]} failed for the package {name}. Run apt-get update; the names are those of Debian 12.\n"
            f"{ended.stderr.strip()}"
        )


def find_files(package: Package, root: Path) -> list[Path]:
    """List the pictures of an unpacked package, in the order of their names; links are left out."""
    found = {path for pattern in package.files for path in root.glob(pattern)}
    kinds = {".jpg", ".jpeg", ".png", ".webp"}
    return sorted(
        path
        for path in found
        if path.suffix.lower() in kinds
        and path.is_file()
        and not path.is_symlink()
        and not any(path.match(pattern) for pattern in package.leave_out)
    )


def version_of(package: Package, cache: Path) -> str:
    """Tell the version that was fetched, as in the file's name; empty where it was not."""
    done = cache / f"{package.name}.unpacked"
    return done.read_text().strip().split("_")[1].replace("%3a", ":") if done.exists() else ""

"""Every file of an index damaged in every way: is there an error of ours, or the right answer?

    python -m benchmarks.damage --flips 20

Each file is emptied, cut short, made longer, lost, given one flipped bit at many places, and swapped with the file of
the same name of another index. Then another process opens the index and asks about a picture and about all pixels.
Anything but a typed error or the right answer is wrong: a crash, a hang, another error, another answer. Writes a
section of benchmarks/results/damage.md; exits with 1 if anything was wrong. benchmarks/damaged_sources.py writes the
other one.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

import nda_index as nda
from benchmarks.crash import OPTIONS, START, in_child, make_source, picture
from benchmarks.machine import RESULTS, describe_machine
from nda_index.store.manifest import read_manifest

ASKED = 11  # the picture that is asked about


def main() -> None:
    """Damage, ask, and say what happened."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--flips", type=int, default=20, help="bits of each file that are flipped, one at a time")
    parser.add_argument("--quiet", action="store_true", help="do not write the results page")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", "lancedb fork support")  # nothing of Lance runs in the process that is forked
    with tempfile.TemporaryDirectory() as folder:
        found = cases(Path(folder), arguments.flips)
    page = as_markdown(found, arguments.flips)
    print(page)
    if not arguments.quiet:
        write_section("Files of an index", page)
    sys.exit(any(outcome.startswith("WRONG") for _, _, outcome in found))


def cases(work: Path, flips: int) -> Counter[tuple[str, str, str]]:
    """How often each kind of file, damaged in some way, ended in which outcome."""
    for name, numbers in (("x", range(START)), ("y", range(1000, 1000 + START))):
        make_source(work / f"{name}.parquet", numbers)
        in_child(partial(nda.build_index, work / f"{name}.parquet", work / f"{name}.nda", **OPTIONS))
    index, other = work / "x.nda", work / "y.nda"
    in_child(partial(nda.remove_images, index, image_ids=[3]))
    in_child(partial(nda.remove_images, other, image_ids=[4]))
    right = in_child(partial(answer, index))
    if right.startswith("WRONG"):
        raise RuntimeError(right)
    found: Counter[tuple[str, str, str]] = Counter()
    for name in ["manifest.json", *read_manifest(index).files]:
        path = index / name
        whole = path.read_bytes()
        for damage, data in damaged(whole, counterpart(other, name), flips):
            path.unlink() if data is None else path.write_bytes(data)
            outcome = in_child(partial(answer, index))
            path.write_bytes(whole)
            if outcome == right:
                outcome = "the right answer"
            elif not outcome.startswith("error:"):
                outcome = f"WRONG: {outcome[:200]}"
            found[kind_of(name), damage, outcome.partition(" at ")[0]] += 1
    if in_child(partial(answer, index)) != right:
        raise RuntimeError("the index was not put back as it was")
    return found


def damaged(whole: bytes, other: bytes, flips: int) -> Iterator[tuple[str, bytes | None]]:
    """What may become of a file's bytes; None: it is lost."""
    yield "lost", None
    yield "emptied", b""
    yield "cut short", whole[:-1]
    yield "cut in half", whole[: len(whole) // 2]
    yield "made longer", whole + b"\0"
    yield "swapped", other
    padded = other[: len(whole)] + whole[len(other) :]
    yield "swapped, same size", padded
    rng = np.random.default_rng(len(whole))
    for place in np.unique(rng.integers(0, len(whole), flips)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << int(rng.integers(8))
        yield "one bit flipped", bytes(flipped)


def counterpart(other: Path, name: str) -> bytes:
    """The file of another index that takes the same place."""
    same = other / name
    if same.exists():
        return same.read_bytes()
    return next(iter(sorted(path for path in same.parent.iterdir() if path.suffix == same.suffix))).read_bytes()


def kind_of(name: str) -> str:
    """Files of one kind are counted together."""
    folder, _, file = name.rpartition("/")
    return f"{folder}/*{Path(file).suffix}" if folder.startswith("images.lance") else name


def answer(index: Path) -> str:
    """What an index answers, or the error of ours that it gives."""
    try:
        with nda.open_index(index) as opened:
            found = opened.attribute(picture(ASKED), timestep=50, top=5, candidates=20)
            everything = opened.pixels(opened.image_ids)
    except nda.NdaIndexError as error:
        return f"error: {type(error).__name__}"
    scores = [f"{score:.2g}" for score in found.scores]
    return f"{found.keys} {scores} {found.images.sum()} {everything.sum()} {found.percentiles[0]:.2f} {len(opened)}"


def as_markdown(found: Counter[tuple[str, str, str]], flips: int) -> str:
    """The results page."""
    wrong = sum(count for (_, _, outcome), count in found.items() if outcome.startswith("WRONG"))
    lines = [f"`python -m benchmarks.damage --flips {flips}` on {describe_machine()}."]
    lines += [f"{found.total()} cases, {wrong} wrong.", "", "| file | damage | outcome | cases |", "|---|---|---|---|"]
    lines += [f"| {file} | {damage} | {outcome} | {n} |" for (file, damage, outcome), n in sorted(found.items())]
    return "\n".join(lines) + "\n"


def write_section(title: str, text: str) -> None:
    """Write a section of the results page, and keep the others."""
    page = RESULTS / "damage.md"
    old = page.read_text().split("\n## ")[1:] if page.exists() else []
    sections = dict(section.split("\n", 1) for section in old) | {title: f"\n{text.strip()}\n"}
    body = "".join(f"\n## {name}\n{sections[name]}" for name in sorted(sections))
    page.write_text(f"# Damaged files\n{body}")


if __name__ == "__main__":
    main()

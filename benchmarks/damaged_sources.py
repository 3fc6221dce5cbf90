"""Damaged pictures in every encoding, and random sources: is every image indexed with its own pixels, or listed?

    python -m benchmarks.damaged_sources --pictures 5000 --minutes 10

Pictures are damaged at random (bits, ranges, cuts, insertions) and decoded: anything but pixels or `ImageDecodeError`
is wrong, a crash of the process too. Random sources (benchmarks/random_sources.py) have broken images, odd names,
links, metadata and files of other kinds among the images. Each image must come under its own key with its own pixels,
or be listed. Only the readers run, no index is built. Writes a section of benchmarks/results/damage.md; exits with 1
if anything was wrong.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
import time
import warnings
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.crash import in_child
from benchmarks.damage import write_section
from benchmarks.machine import describe_machine
from benchmarks.random_sources import KINDS, LOSSLESS, SIDE, Made
from nda_index.errors import ImageDecodeError, NdaIndexError
from nda_index.images import decode_image
from nda_index.sources import open_source, read_batches

BLOCK = 100  # pictures, or sources, of one process
LOSSY = ("JPEG", "GIF", "AVIF", "ICO", "DDS")
ENCODINGS = [*(kind for kind, _ in LOSSLESS.values()), *LOSSY]


def main() -> None:
    """Damage, read, and say what happened."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=int, default=5000, help="damaged pictures")
    parser.add_argument("--minutes", type=float, default=10.0, help="time for random sources")
    parser.add_argument("--quiet", action="store_true", help="do not write the results page")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", "lancedb fork support")  # nothing of Lance runs in the process that is forked
    pictures = damage_pictures(arguments.pictures)
    sources = read_sources(arguments.minutes * 60)
    page = as_markdown(pictures, sources, arguments)
    print(page)
    if not arguments.quiet:
        write_section("Pictures and sources", page)
    sys.exit(any("WRONG" in outcome for _, outcome in (*pictures, *sources)))


def damage_pictures(count: int) -> Counter[tuple[str, str]]:
    """How many damaged pictures of each encoding ended in which outcome."""
    found: Counter[tuple[str, str]] = Counter()
    for start in range(0, count, BLOCK):
        text = in_child(partial(_damage_block, range(start, min(start + BLOCK, count))))
        if text.startswith("WRONG"):  # the process ended: find which picture it was
            for number in range(start, min(start + BLOCK, count)):
                found[ENCODINGS[number % len(ENCODINGS)], _summary(in_child(partial(_damage_block, [number])))] += 1
            continue
        for line in text.splitlines():
            encoding, outcome, times = line.rsplit("\t", 2)
            found[encoding, outcome] += int(times)
    return found


def _summary(text: str) -> str:
    return text if text.startswith("WRONG") else text.split("\t")[1]


def _damage_block(numbers: Any) -> str:
    found: Counter[tuple[str, str]] = Counter()
    for number in numbers:
        encoding = ENCODINGS[number % len(ENCODINGS)]
        try:
            decoded = decode_image(damaged_picture(number), (16, 16), 3)
            outcome = "decoded" if decoded.shape == (3, 16, 16) else "WRONG: another shape"
        except ImageDecodeError as error:
            outcome = "refused as truncated" if "is truncated" in str(error) else "refused"
        except BaseException as error:
            outcome = f"WRONG: {type(error).__name__} at {number}"
        found[encoding, outcome] += 1
    return "\n".join(f"{encoding}\t{outcome}\t{times}" for (encoding, outcome), times in found.items())


def damaged_picture(number: int) -> bytes:
    """A picture of a random mode in an encoding, damaged at random."""
    rng = np.random.default_rng(number)
    data = bytearray(_encode(ENCODINGS[number % len(ENCODINGS)], rng))
    for _ in range(rng.integers(1, 4)):
        if not data:
            break
        place, length = int(rng.integers(len(data))), int(rng.integers(1, 40))
        kind = rng.integers(6)
        if kind == 0:
            data[place] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            data[place : place + length] = rng.integers(0, 256, length, np.uint8).tobytes()[: len(data) - place]
        elif kind == 2:
            data = data[:place]
        elif kind == 3:
            data[place:place] = rng.integers(0, 256, length, np.uint8).tobytes()
        elif kind == 4:
            del data[place : place + length]
        else:
            place = int(rng.integers(min(64, len(data))))  # headers, where sizes are
            data[place] = int(rng.choice([0, 1, 127, 128, 255]))
    return bytes(data)


def _encode(encoding: str, rng: np.random.Generator) -> bytes:
    height, width = rng.integers(1, 40, 2)
    pixels = rng.integers(0, 256, (height, width, 4), np.uint8)
    picture = Image.fromarray(pixels)
    modes = ["RGB", "L", "RGBA", "P", "1", "LA", "CMYK", "I;16", "I", "F"]
    for mode in rng.permutation(modes).tolist():
        try:
            converted = picture.convert("L").convert("I").convert(mode) if mode == "I;16" else picture.convert(mode)
            buffer = io.BytesIO()
            several = encoding in Image.SAVE_ALL and rng.integers(4) == 0
            others = {"save_all": True, "append_images": [converted]} if several else {}
            converted.save(buffer, encoding, **others)
            return buffer.getvalue()
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # this encoding has no such mode
    raise RuntimeError(f"no mode can be saved as {encoding}")


def read_sources(seconds: float) -> Counter[tuple[str, str]]:
    """How many random sources of each kind ended in which outcome."""
    found: Counter[tuple[str, str]] = Counter()
    end, start = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        text = in_child(partial(_read_block, range(start, start + BLOCK)))
        if text.startswith("WRONG"):
            found["a process", f"{text[:200]} in sources from {start}"] += 1
        else:
            for line in text.splitlines():
                kind, outcome, times = line.rsplit("\t", 2)
                found[kind, outcome] += int(times)
        start += BLOCK
    return found


def _read_block(numbers: range) -> str:
    found: Counter[tuple[str, str]] = Counter()
    for number in numbers:
        kind, make = list(KINDS.items())[number % len(KINDS)]
        with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
            outcome = check_source(make(Path(folder), np.random.default_rng(number)))
        if outcome.startswith("WRONG"):  # the others of this block would not fit into the pipe
            return f"{kind}\t{outcome} at {number}\t1"
        found[kind, outcome] += 1
    return "\n".join(f"{kind}\t{outcome}\t{times}" for (kind, outcome), times in found.items())


def check_source(made: Made) -> str:
    """Read a source: is everything in it accounted for?"""
    try:
        opened = open_source(made.source, value_range="0..1")
        batches = list(read_batches(opened, (SIDE, SIDE), 3, batch_size=5))
    except NdaIndexError as error:
        return f"WRONG: refused: {error}"[:150] if made.whole else "nothing in it, refused"
    except BaseException as error:
        return f"WRONG: {type(error).__name__}: {error}"[:150]
    keys = [key for batch in batches for key in batch.keys]
    failed = [one.key for batch in batches for one in batch.failures]
    left_out = [one.key for one in opened.left_out] + [one.key for batch in batches for one in batch.left_out]
    colours = {
        key: tuple(image[:, 0, 0]) for batch in batches for key, image in zip(batch.keys, batch.images, strict=True)
    }
    if len(keys) + len(failed) != opened.count:
        return f"WRONG: {len(keys)} read and {len(failed)} failed of {opened.count}"
    if len(set(keys)) < len(keys):
        return "WRONG: two images of one key"
    for names, colour in made.whole:
        under = [name for name in names if colours.get(name) == colour]
        if len(under) != 1:
            return f"WRONG: {names} of colour {colour} is not there, or twice"
        del colours[under[0]]
    for names in made.broken:
        if not any(name in colours or name in failed for name in names):
            return f"WRONG: the broken {names} is neither read nor listed"
    for name in made.listed:
        if not any(each == name or each.endswith(f": {name}") for each in (*left_out, *failed)):
            return f"WRONG: {name} is not listed"
    return "all accounted for"


def as_markdown(
    pictures: Counter[tuple[str, str]], sources: Counter[tuple[str, str]], arguments: argparse.Namespace
) -> str:
    """The section of the results page."""
    wrong = sum(times for found in (pictures, sources) for (_, outcome), times in found.items() if "WRONG" in outcome)
    lines = [
        f"`python -m benchmarks.damaged_sources --pictures {arguments.pictures} --minutes {arguments.minutes:g}` on "
        f"{describe_machine()}.",
        f"{pictures.total():,} damaged pictures in {len(set(ENCODINGS))} encodings and {sources.total():,} random "
        f"sources, {wrong} wrong.",
        "",
        "| encoding or source | outcome | cases |",
        "|---|---|---|",
    ]
    lines += [
        f"| {kind} | {outcome} | {n} |" for found in (pictures, sources) for (kind, outcome), n in sorted(found.items())
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

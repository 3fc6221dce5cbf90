"""Make a collection, queries and their answers.

    python -m benchmarks.pictures.make FOLDER --set choosing --seed 1 [--packages CACHE] [--count 360]

Writes FOLDER/collection/, FOLDER/queries/, FOLDER/queries.json (the fields of `composites.Query`) and
FOLDER/collection.json (where each picture is from, packages with versions and licences). Takes some minutes.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

from rich.console import Console

from benchmarks.pictures.collection import HELD_OUT_SMALLEST, Crop, Tile, cut_collection, find_crops
from benchmarks.pictures.composites import write_composites, write_unrelated, write_whole
from benchmarks.pictures.originals import Original, find_originals, hold_out
from benchmarks.pictures.packages import SETS, Set, fetch, find_files, packages_of, version_of

SHARE = 0.22  # of the originals, held out
EACH = 4  # queries for a pair of edit and area
WHOLE = 15  # queries for each edit of a whole picture
UNRELATED = 100
CROPS = 20  # of one held-out original, at most

console = Console()


def main() -> None:
    """Make what the command line asks for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--set", choices=SETS, default="choosing")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--packages", type=Path)
    parser.add_argument("--count", type=int, default=360)
    options = parser.parse_args()
    make(options.folder, options.set, options.seed, options.packages or options.folder / "packages", options.count)


def make(folder: Path, name: Set, seed: int, cache: Path, count: int) -> None:
    """Make a set.

    Args:
        folder: where to; what was in its collection/ and queries/ is removed.
        name: of the set of packages.
        seed: of all chance. The same seed and package versions give the same pictures.
        cache: where downloaded packages are kept.
        count: pictures of the collection at most.
    """
    for part in ("collection", "queries"):
        (folder / part).mkdir(parents=True, exist_ok=True)
        for old in (folder / part).iterdir():
            old.unlink()
    files = [
        (package.name, path) for package in packages_of(name) for path in find_files(package, fetch(package, cache))
    ]
    originals = find_originals(files)
    kept, held_out = hold_out(originals, seed, SHARE, HELD_OUT_SMALLEST)
    console.print(f"{len(originals)} originals, {len(held_out)} of them held out")
    tiles = cut_collection(kept, folder / "collection", count, seed)
    unrelated, bases = part_crops(find_crops(held_out, CROPS, seed))
    console.print(f"{len(tiles)} pictures, {len(bases)} bases, {len(unrelated)} unrelated queries")
    queries = [
        *write_composites(tiles, folder, bases, EACH, seed),
        *write_whole(tiles, folder, WHOLE, seed),
        *write_unrelated(unrelated, folder),
    ]
    (folder / "queries.json").write_text(json.dumps([query.as_row() for query in queries], indent=1) + "\n")
    (folder / "collection.json").write_text(
        json.dumps(tell_sources(name, seed, cache, tiles, held_out), indent=1) + "\n"
    )
    console.print(f"{len(queries)} queries")


def part_crops(crops: list[Crop]) -> tuple[list[Crop], list[Crop]]:
    """Part crops into unrelated queries and bases, so that both are of many originals.

    Args:
        crops: in rounds of the originals, as `find_crops` gives them.

    Returns:
        Up to UNRELATED unrelated queries, three of four crops of an original; and the bases.
    """
    unrelated: list[Crop] = []
    bases: list[Crop] = []
    turns: Counter[Path] = Counter()
    for crop in crops:
        turns[crop.original.path] += 1
        wanted = turns[crop.original.path] % 4 != 2 and len(unrelated) < UNRELATED
        (unrelated if wanted else bases).append(crop)
    return unrelated, bases


def tell_sources(name: Set, seed: int, cache: Path, tiles: list[Tile], held_out: list[Original]) -> dict[str, object]:
    """Tell where the pictures are from, for credits and for a look at what was found."""
    roots = {package.name: cache / package.name for package in packages_of(name)}
    return {
        "set": name,
        "seed": seed,
        "packages": [
            {
                "name": package.name,
                "version": version_of(package, cache),
                "licence": package.licence,
                "pictures": sum(tile.original.package == package.name for tile in tiles),
            }
            for package in packages_of(name)
        ],
        "pictures": {
            tile.key: {
                "package": tile.original.package,
                "file": str(tile.original.path.relative_to(roots[tile.original.package])),
                "family": tile.original.family,
                "box": tile.box,
            }
            for tile in tiles
        },
        "held_out": sorted(
            f"{original.package}/{original.path.relative_to(roots[original.package])}" for original in held_out
        ),
    }


if __name__ == "__main__":
    main()

"""A first look: index photographs, query pictures whose sources are known, and write a report.

Without arguments the photographs are those inside scikit-image, cut into a few thousand tiles at several zooms.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import skimage.data
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import nda_index as nda

SIZE = 64  # pixels of a tile
ZOOMS = (64, 96, 160, 256)  # sides of the squares that become tiles
PHOTOGRAPHS = ("astronaut", "brick", "chelsea", "coffee", "coins", "grass", "gravel", "hubble_deep_field", "rocket")
TIMESTEP = 50
TOP = 10  # images in an answer, where there are as many
HALVES = ("astronaut/256px/0-128", "chelsea/256px/0-128")  # pasted together for the first question
SCALES = [nda.Scale(patch=7), nda.Scale(patch=16, downscale=4)]

console = Console()


@dataclass(frozen=True)
class Question:
    """A picture made of known tiles."""

    name: str
    picture: NDArray[np.uint8]
    sources: tuple[int, ...]


def main() -> int:
    """Run the demo; the exit code is 1 if a known source is not among the first 10."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, help="your own folder of images")
    parser.add_argument("--query", type=Path, help="your own picture to explain")
    parser.add_argument("--output", type=Path, default=Path("demo-output"), help="folder for the index and reports")
    options = parser.parse_args()
    if (options.images is None) != (options.query is None):
        parser.error("--images and --query belong together")
    try:
        if options.images:
            return explain_own(options.images, options.query, options.output)
        return explain_known(options.output)
    except nda.NdaIndexError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


def explain_own(images: Path, query: Path, output: Path) -> int:
    """Index a folder and explain one picture."""
    index = build(str(images), clear_index(output))
    write_report(index, query, index.attribute(query, timestep=TIMESTEP, top=min(TOP, len(index))), output)
    return 0


def explain_known(output: Path) -> int:
    """Index the tiles, ask questions whose answers are known, and print the ranks of the sources."""
    tiles, keys = photograph_tiles()
    source = output / "tiles.npz"
    folder = clear_index(output)
    np.savez(source, images=tiles, keys=np.array(keys), photograph=np.array([key.split("/")[0] for key in keys]))
    index = build(str(source), folder)
    table = Table("picture", "made of", "rank", "share", "found")
    missed = 0
    for number, question in enumerate(questions(tiles, keys)):
        answer = index.attribute(question.picture, timestep=TIMESTEP, top=TOP)
        ranks = {image_id: rank for rank, image_id in enumerate(answer.image_ids.tolist(), start=1)}
        for image_id in question.sources:
            rank = ranks.get(image_id)
            missed += rank is None
            share = f"{answer.shares[rank - 1]:.1%}" if rank else "-"
            table.add_row(question.name, keys[image_id], str(rank or "over 10"), share, "yes" if rank else "no")
        if number == 0:
            write_report(index, question.picture, answer, output)
    console.print(table)
    console.print("Every source was found." if not missed else f"{missed} sources were not among the first 10.")
    return 1 if missed else 0


def photograph_tiles() -> tuple[NDArray[np.uint8], list[str]]:
    """Cut the photographs into squares at several zooms, half overlapping: uint8 [N, 64, 64, 3], and their names."""
    tiles, keys = [], []
    for name in PHOTOGRAPHS:
        photograph = Image.fromarray(getattr(skimage.data, name)()).convert("RGB")
        for side in ZOOMS:
            for top in range(0, photograph.height - side + 1, side // 2):
                for left in range(0, photograph.width - side + 1, side // 2):
                    square = photograph.crop((left, top, left + side, top + side))
                    tiles.append(np.asarray(square.resize((SIZE, SIZE), Image.Resampling.LANCZOS)))
                    keys.append(f"{name}/{side}px/{top}-{left}")
    return np.stack(tiles), keys


def questions(tiles: NDArray[np.uint8], keys: list[str]) -> list[Question]:
    """Make pictures of tiles: pasted together, darker, blurred, cropped, noisy."""
    rng = np.random.default_rng(7)
    busy = np.flatnonzero(tiles.astype(float).std(axis=(1, 2, 3)) > 45)  # an empty sky could come from anywhere
    chosen = [int(i) for i in rng.choice(busy, 10, replace=False)]
    half = SIZE // 2
    left, right = keys.index(HALVES[0]), keys.index(HALVES[1])
    collage = tiles[left].copy()
    collage[:, half:] = tiles[right][:, half:]
    quarters = tiles[chosen[2]].copy()
    quarters[:half, half:] = tiles[chosen[3]][:half, half:]
    quarters[half:, :half] = tiles[chosen[4]][half:, :half]
    edits: dict[str, Callable[[Image.Image], Image.Image]] = {
        "darker": lambda image: image.point([int(value * 0.85) for value in range(256)] * 3),
        "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(1)),
        "cropped": lambda image: image.crop((3, 3, SIZE - 3, SIZE - 3)).resize((SIZE, SIZE), Image.Resampling.LANCZOS),
    }
    pictures = [
        Question("two halves", collage, (left, right)),
        Question("three pieces", quarters, (chosen[2], chosen[3], chosen[4])),
    ]
    for (name, edit), i in zip(edits.items(), chosen[5:], strict=False):
        pictures.append(Question(name, np.asarray(edit(Image.fromarray(tiles[i]))), (i,)))
    noisy = tiles[chosen[8]] + rng.normal(0, 15, tiles[0].shape)
    pictures.append(Question("noisy", noisy.clip(0, 255).astype(np.uint8), (chosen[8],)))
    return pictures


def build(source: str, folder: Path) -> nda.Index:
    """Build with a progress bar."""
    with Progress(console=console) as bars:
        tasks = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage)
            bars.update(tasks[stage], completed=done, total=total)

        return nda.build_index(source, folder, image_size=SIZE, scales=SCALES, progress=report)


def clear_index(output: Path) -> Path:
    """Delete the index that an earlier demo left in `output`, and return its folder."""
    folder = output / "demo.nda"
    shutil.rmtree(folder, ignore_errors=True)
    output.mkdir(parents=True, exist_ok=True)
    return folder


def write_report(index: nda.Index, picture: Path | NDArray[np.uint8], answer: nda.Attribution, output: Path) -> None:
    """Write the answer as a page and as a picture."""
    left_out = ((), answer.image_ids) if len(index) > len(answer) else ((),)
    explained = [index.denoise(picture, TIMESTEP, without=ids) for ids in left_out]
    answer.save(output / "report.html", explained=explained)
    answer.save(output / "report.png")
    console.print(answer)
    console.print(f"Open {output / 'report.html'} to see it.")


if __name__ == "__main__":
    sys.exit(main())

"""A first look: index photographs at their own size, find pieces of them in other pictures, and write a report.

Without arguments the photographs are those inside scikit-image, and the questions are pictures of 1,024 pixels with
pieces of them.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from rich.console import Console
from rich.table import Table

import nda_index as nda
from nda_index.progress import progress_bars

PHOTOGRAPHS = (
    "astronaut", "brick", "camera", "cell", "chelsea", "clock", "coins", "colorwheel", "grass", "gravel", "horse",
    "hubble_deep_field",
    "immunohistochemistry", "moon", "page", "retina", "rocket", "text",
)  # fmt: skip
GROUND = "coffee"  # is not indexed; the pieces are laid on it
SIDE = 1024  # pixels of a question's longer side
TOP = 10  # images in an answer, where there are as many

console = Console()


@dataclass(frozen=True)
class Piece:
    """What is cut out of a photograph, what is done to it, and where it is put.

    Attributes:
        photograph: its name.
        cut: left, top, right, bottom in the photograph.
        zoom: size in the question over size in the photograph.
        at: left and top in the question.
        edit: "mirrored", "recoloured", "blurred" or "as it is".
    """

    photograph: str
    cut: tuple[int, int, int, int]
    zoom: float
    at: tuple[int, int]
    edit: str = "as it is"

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom in the question."""
        width, height = (round((self.cut[i + 2] - self.cut[i]) * self.zoom) for i in (0, 1))
        return self.at[0], self.at[1], self.at[0] + width, self.at[1] + height


QUESTIONS = {
    "three pieces": (
        Piece("astronaut", (110, 10, 350, 250), 1.4, (40, 60), "mirrored"),
        Piece("hubble_deep_field", (100, 400, 500, 750), 0.8, (620, 40)),
        Piece("chelsea", (60, 20, 360, 280), 1.0, (560, 370), "recoloured"),
    ),
    "a corner": (Piece("rocket", (230, 60, 450, 400), 0.7, (800, 400), "blurred"),),
    "nothing of them": (),
}


def main() -> int:
    """Run the demo; the exit code is 1 if a piece was not found, or something was found where there is nothing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, help="your own folder of images")
    parser.add_argument("--query", type=Path, help="your own picture to explain")
    parser.add_argument("--output", type=Path, default=Path("demo-output"), help="folder for the index and reports")
    options = parser.parse_args()
    if (options.images is None) != (options.query is None):
        parser.error("--images and --query belong together")
    shutil.rmtree(options.output / "demo.nda", ignore_errors=True)
    options.output.mkdir(parents=True, exist_ok=True)
    try:
        if options.images:
            return explain_own(options.images, options.query, options.output)
        return explain_known(options.output)
    except nda.NdaIndexError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


def explain_own(images: Path, query: Path, output: Path) -> int:
    """Index a folder and explain one picture."""
    index = build(images, output)
    answer = index.attribute(query, top=TOP)
    write_report(answer, output)
    for region in answer.leading_regions:
        console.print(region.tell(), markup=False)
    return 0


def explain_known(output: Path) -> int:
    """Index the photographs, ask for pieces of them, and print what was found where."""
    index = build(write_photographs(output / "photographs"), output)
    table = Table("question", "piece of", "what was done", "found", "overlap of the boxes")
    wrong = 0
    for number, (name, pieces) in enumerate(QUESTIONS.items()):
        picture = compose(pieces)
        picture.save(output / f"question-{number + 1}.png")
        answer = index.attribute(picture, top=TOP)
        strong = {region.key.split(".")[0]: region for region in answer.regions if region.strong}
        for piece in pieces:
            region = strong.pop(piece.photograph, None)
            wrong += region is None
            what = f"{piece.edit}, {piece.zoom:.2g} times the size"
            overlap = f"{measure_overlap(region.box, piece.box):.0%}" if region else "-"
            table.add_row(name, piece.photograph, what, "yes" if region else "no", overlap)
        wrong += len(strong)
        for key in strong:
            table.add_row(name, "-", "-", f"{key}, wrongly", "-")
        if not pieces and not strong:
            table.add_row(name, "-", "-", "no strong match", "-")
        if number == 0:
            write_report(answer, output)
    console.print(table)
    console.print("Every piece was found, and nothing else." if not wrong else f"{wrong} answers are wrong.")
    return 1 if wrong else 0


def write_photographs(folder: Path) -> Path:
    """Write the photographs at their own size."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in PHOTOGRAPHS:
        open_photograph(name).save(folder / f"{name}.png", compress_level=1)
    return folder


def open_photograph(name: str) -> Image.Image:
    """Open a photograph of scikit-image."""
    return Image.fromarray(np.asarray(getattr(skimage.data, name)())).convert("RGB")


def compose(pieces: tuple[Piece, ...]) -> Image.Image:
    """Lay pieces on the ground."""
    ground = open_photograph(GROUND)
    picture = ground.resize((SIDE, round(SIDE * ground.height / ground.width)), Image.Resampling.BICUBIC)
    for piece in pieces:
        left, top, right, bottom = piece.box
        cut = open_photograph(piece.photograph).crop(piece.cut)
        cut = cut.resize((right - left, bottom - top), Image.Resampling.LANCZOS)
        if piece.edit == "mirrored":
            cut = ImageOps.mirror(cut)
        elif piece.edit == "recoloured":
            cut = ImageEnhance.Brightness(ImageOps.colorize(cut.convert("L"), "#101840", "#ffe0b0")).enhance(1.1)
        elif piece.edit == "blurred":
            cut = cut.filter(ImageFilter.GaussianBlur(1.5))
        picture.paste(cut, (left, top))
    return picture


def measure_overlap(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    """Return the area that two boxes share, over the area that either covers."""
    width, height = (min(one[i + 2], other[i + 2]) - max(one[i], other[i]) for i in (0, 1))
    shared = max(0, width) * max(0, height)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared)


def build(images: Path, output: Path) -> nda.Index:
    """Build with progress bars."""
    with progress_bars(console) as report:
        return nda.build_index(images, output / "demo.nda", progress=report)


def write_report(answer: nda.Attribution, output: Path) -> None:
    """Write the answer as a page and as a picture."""
    answer.save(output / "report.html")
    answer.save(output / "report.png")
    console.print(f"Open {output / 'report.html'} to see the answer.")


if __name__ == "__main__":
    sys.exit(main())

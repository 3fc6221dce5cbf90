"""Queries: pieces of pictures in held-out bases, whole pictures edited, and bases alone.

Each query has chance of its own, from the seed and what it is, so that another edit or area changes no other query.
"""

from __future__ import annotations

import math
import random
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image, ImageOps

from benchmarks.pictures.collection import QUERY, Box, Crop, Tile
from benchmarks.pictures.edits import EDITS, Edit, code, recolour
from benchmarks.pictures.originals import is_rich, share_of_detail

AREAS = (0.05, 0.1, 0.2, 0.4)  # of the query
WHOLE_EDITS = ("exact copy", "coded again", "cropped to 70%", "whole recoloured")
UNRELATED = "unrelated"
TRIES = 300  # of places for a piece
DEVIATION, GRADIENT, DETAIL = 14.0, 4.0, 0.5  # of a piece at least: levels, levels, share of its cells


@dataclass(frozen=True)
class Query:
    """A query and the answer.

    Args:
        query: the file's name in queries/.
        key: of the picture that it has a piece of, or None.
        edit: what was done, a name of EDITS, of WHOLE_EDITS, or UNRELATED.
        area: the piece's share of the query as planned; 1 for whole pictures, 0 for unrelated ones.
        box: of the piece in the query: left, top, right, bottom in px.
        source_box: of what the piece was made of in the picture, in px.
    """

    query: str
    key: str | None
    edit: str
    area: float
    box: Box | None = None
    source_box: Box | None = None

    def as_row(self) -> dict[str, object]:
        """List the fields for queries.json."""
        return asdict(self)


@dataclass(frozen=True)
class Piece:
    """An edited piece, and the box in the picture that it was made of."""

    picture: Image.Image
    source_box: Box


def piece_size(area: float, rng: random.Random) -> tuple[int, int]:
    """Draw width and height in px of a piece that covers a share of the query; one side is up to 1.7 of the other."""
    aspect = math.exp(rng.uniform(-0.5, 0.5))
    side = QUERY * math.sqrt(area)
    return round(side * math.sqrt(aspect)), round(side / math.sqrt(aspect))


def source_size(size: tuple[int, int], edit: Edit) -> tuple[int, int]:
    """Give width and height in px of the box in the source that a piece of this size is made of."""
    width, height = (length / edit.zoom for length in size)
    sine, cosine = math.sin(math.radians(edit.turn)), math.cos(math.radians(edit.turn))
    return math.ceil(width * cosine + height * sine), math.ceil(width * sine + height * cosine)


def cut_piece(source: Image.Image, box: Box, size: tuple[int, int], edit: Edit, sign: int) -> Image.Image:
    """Cut a box of a source and bring it to a piece's size, turned and mirrored as the edit says.

    Args:
        source: the picture.
        box: in px of it, as large as `source_size` says.
        size: of the piece in px.
        edit: its geometry is used.
        sign: of the turn, 1 or -1; 1 is against the clock.
    """
    if edit.turn:
        region = source.crop(box).rotate(sign * edit.turn, Image.Resampling.BICUBIC)
        left, top = (region.width - size[0]) // 2, (region.height - size[1]) // 2
        piece = region.crop((left, top, left + size[0], top + size[1]))
    else:
        piece = source.resize(size, Image.Resampling.LANCZOS, box=box)
    return ImageOps.mirror(piece) if edit.mirror else piece


def find_piece(edit: Edit, area: float, tiles: list[Tile], folder: Path, rng: random.Random) -> tuple[Tile, Piece]:
    """Find a piece for a query: a picture that is large enough, and a place in it where there is something to find.

    Args:
        edit: of the piece.
        area: the piece's share of the query.
        tiles: the collection.
        folder: where its pictures are.
        rng: decides.

    Raises:
        ValueError: no picture of the collection is large enough, or none shows enough.
    """
    for _ in range(TRIES):
        size = piece_size(area, rng)
        needed = source_size(size, edit)
        if edit.whole:
            # Pictures are only shrunk: where a whole picture is enlarged, little of it is wrong with a system.
            fitting = [tile for tile in tiles if tile.size[0] * tile.size[1] >= area * QUERY**2]
        else:
            fitting = [tile for tile in tiles if needed[0] <= tile.size[0] and needed[1] <= tile.size[1]]
        if not fitting:
            continue
        tile = rng.choice(fitting)
        if edit.whole:
            scale = math.sqrt(area * QUERY**2 / (tile.size[0] * tile.size[1]))
            size = round(tile.size[0] * scale), round(tile.size[1] * scale)
            box = 0, 0, *tile.size
        else:
            left, top = rng.randint(0, tile.size[0] - needed[0]), rng.randint(0, tile.size[1] - needed[1])
            box = left, top, left + needed[0], top + needed[1]
        if max(size) > QUERY:
            continue
        with Image.open(folder / tile.key) as source:
            picture = cut_piece(source.convert("RGB"), box, size, edit, rng.choice([-1, 1]))
        if is_rich(picture, DEVIATION, GRADIENT) and share_of_detail(picture) >= DETAIL:
            return tile, Piece(picture, box)
    raise ValueError(f"No picture of the collection has a piece for the edit {edit.name} and the area {area:g}.")


def paste(base: Image.Image, piece: Image.Image, rng: random.Random) -> tuple[Image.Image, Box]:
    """Paste a piece into a base, at an edge or anywhere; return the picture and the piece's box."""
    free = base.width - piece.width, base.height - piece.height
    left, top = (rng.choice([0, length, rng.randint(0, length)]) for length in free)
    picture = base.copy()
    picture.paste(piece, (left, top))
    return picture, (left, top, left + piece.width, top + piece.height)


def write_composites(
    tiles: list[Tile],
    folder: Path,
    bases: list[Crop],
    each: int,
    seed: int,
    edits: Sequence[Edit] = EDITS,
    areas: Sequence[float] = AREAS,
) -> list[Query]:
    """Write queries with pieces: `each` for every pair of edit and area.

    Args:
        tiles: the collection, whose pictures are in folder / "collection".
        folder: queries go to its queries/.
        bases: crops to paste into, used in turn.
        each: queries of a pair.
        seed: of all chance.
        edits: of the pieces.
        areas: shares of the query that pieces cover.
    """
    queries = []
    plan = [(edit, area, turn) for turn in range(each) for edit in edits for area in areas]
    pictures = [crop.open() for crop in bases]
    random.Random(f"{seed} bases").shuffle(pictures)
    for place, (edit, area, turn) in enumerate(plan):
        rng = random.Random(f"{seed} {edit.name} {area} {turn}")
        tile, piece = find_piece(edit, area, tiles, folder / "collection", rng)
        base = pictures[place % len(pictures)]
        changed = edit.change(piece.picture, base, rng) if edit.change else piece.picture
        picture, box = paste(base, changed, rng)
        if edit.quality is None:
            name = f"p{place:03d}.png"
            picture.save(folder / "queries" / name)
        else:
            name = f"p{place:03d}.jpg"
            (folder / "queries" / name).write_bytes(code(picture, "JPEG", edit.quality))
        queries.append(Query(name, tile.key, edit.name, area, box, piece.source_box))
    return queries


def write_whole(tiles: list[Tile], folder: Path, each: int, seed: int) -> list[Query]:
    """Write queries that are whole pictures: `each` of the file itself, coded again, cropped and recoloured."""
    queries = []
    rng = random.Random(f"{seed} whole")
    chosen = rng.sample(tiles, each * len(WHOLE_EDITS))
    for place, tile in enumerate(chosen):
        edit = WHOLE_EDITS[place % len(WHOLE_EDITS)]
        path = folder / "collection" / tile.key
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
        box: Box = (0, 0, *picture.size)
        stem = folder / "queries" / f"w{place:03d}"
        if edit == "exact copy":
            written = stem.with_suffix(path.suffix)
            shutil.copyfile(path, written)
        elif edit == "coded again":
            kind, suffix, quality = rng.choice([("JPEG", ".jpg", 40), ("WEBP", ".webp", 60)])
            written = stem.with_suffix(suffix)
            written.write_bytes(code(picture, kind, quality))
        else:
            if edit == "cropped to 70%":
                width, height = (round(length * math.sqrt(0.7)) for length in picture.size)
                left, top = rng.randint(0, picture.width - width), rng.randint(0, picture.height - height)
                box = left, top, left + width, top + height
                picture = picture.crop(box)
            else:
                picture = recolour(picture, picture, rng)
            written = stem.with_suffix(".png")
            picture.save(written)
        queries.append(Query(written.name, tile.key, edit, 1.0, (0, 0, *picture.size), box))
    return queries


def write_unrelated(crops: list[Crop], folder: Path) -> list[Query]:
    """Write queries without a piece."""
    queries = []
    for place, crop in enumerate(crops):
        name = f"u{place:03d}.png"
        crop.open().save(folder / "queries" / name)
        queries.append(Query(name, None, UNRELATED, 0.0))
    return queries

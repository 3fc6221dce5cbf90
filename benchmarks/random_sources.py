"""Random folders, shards, arrays, lists and generators, with what is known of the images in each."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nda_index.sources.base import to_text

SIDE = 6  # of the images of random sources
LOSSLESS: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {}),
    ".bmp": ("BMP", {}),
    ".tif": ("TIFF", {}),
    ".TIFF": ("TIFF", {"compression": "tiff_lzw"}),
    ".webp": ("WEBP", {"lossless": True}),
    ".ppm": ("PPM", {}),
    ".tga": ("TGA", {}),
    ".QOI": ("QOI", {}),
    ".pcx": ("PCX", {}),
    ".sgi": ("SGI", {}),
    ".jp2": ("JPEG2000", {}),
    ".PNG": ("PNG", {"interlace": 1}),
}  # by the ending of a name
OTHERS = ("notes.txt", "x.wav", "logo.svg", ".DS_Store", "table.csv", "READ ME")
STEMS = ("a", "A", "0", "22.05", "a.left", "b b", "\u00e9t\u00e9", "caf\udce9", "c.d.e", "%41", "-x", "_")


@dataclass
class Made:
    """A random source, and what is known of it.

    Attributes:
        source: for `open_source`.
        whole: the colour that is to be found under any of these keys, of images that are whole.
        broken: keys of images that may be read or be listed.
        listed: names that must be listed as left out or as failures.
    """

    source: Any = None
    whole: list[tuple[tuple[str, ...], tuple[int, ...]]] = field(default_factory=list)
    broken: list[tuple[str, ...]] = field(default_factory=list)
    listed: list[str] = field(default_factory=list)


def colour_of(rng: np.random.Generator) -> tuple[int, ...]:
    """A colour that hardly comes twice."""
    return tuple(int(value) for value in rng.integers(0, 256, 3))


def picture_of(colour: tuple[int, ...]) -> NDArray[np.uint8]:
    """A picture of one colour."""
    return np.tile(np.array(colour, np.uint8), (SIDE, SIDE, 1))


def file_of(colour: tuple[int, ...], ending: str) -> bytes:
    """A file of a picture of one colour."""
    kind, options = LOSSLESS[ending]
    buffer = io.BytesIO()
    Image.fromarray(picture_of(colour)).save(buffer, kind, **options)
    return buffer.getvalue()


def spoil(data: bytes, rng: np.random.Generator) -> bytes:
    """Make a file one that cannot be read."""
    return [b"", b"<html>404</html>", data[: len(data) // 3], bytes(len(data))][int(rng.integers(4))]


def random_names(rng: np.random.Generator, deep: bool) -> Iterator[tuple[str, str]]:
    """Names of images, no two alike: what comes before the last ending, and that ending."""
    seen = set()
    for _ in range(int(rng.integers(1, 14))):
        stem = "/".join(str(part) for part in rng.choice(STEMS, int(rng.integers(1, 4 if deep else 2))))
        ending = str(rng.choice(list(LOSSLESS)))
        if stem + ending not in seen:
            seen.add(stem + ending)
            yield stem, ending


def make_folder(folder: Path, rng: np.random.Generator) -> Made:
    """A folder with folders, links, broken images and files of other kinds in it."""
    made, source, outside = Made(folder / "source"), folder / "source", folder / "outside"
    source.mkdir()
    outside.mkdir()
    linked = rng.integers(3) == 0
    if linked:
        (source / "linked").symlink_to(outside)
        (outside / "back").symlink_to(source)
        made.listed.append("linked/back")
    for stem, ending in random_names(rng, deep=True):
        inside = not linked or rng.integers(2) == 0
        name, colour = stem + ending, colour_of(rng)
        path = (source if inside else outside) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = file_of(colour, ending)
        key = (to_text(name if inside else f"linked/{name}"),)
        if rng.integers(5) == 0:
            path.write_bytes(spoil(data, rng))
            made.broken.append(key)
        else:
            path.write_bytes(data)
            made.whole.append((key, colour))
            if rng.integers(6) == 0:
                link = path.with_name(f"link {path.name}")
                link.symlink_to(path)
                made.whole.append(((to_text(link.relative_to(source if inside else outside).as_posix()),), colour))
                if not inside:
                    made.whole[-1] = ((f"linked/{made.whole[-1][0][0]}",), colour)
    for name in rng.choice(OTHERS, int(rng.integers(3)), replace=False):
        (source / str(name)).write_bytes(b"...")
        made.listed.append(str(name))
    return made


def make_shards(folder: Path, rng: np.random.Generator) -> Made:
    """One or two shards with links, metadata, broken images and members of other kinds."""
    made, paths = Made(), []
    for number in range(int(rng.integers(1, 3))):
        paths.append(folder / f"{number}.tar")
        members: list[tuple[str, bytes | str, bytes]] = []  # name, contents or target, type
        for stem, ending in random_names(rng, deep=True):
            stem, colour = f"{number}/{stem}", colour_of(rng)
            data, name = file_of(colour, ending), f"{stem}{ending}"
            keys = (to_text(stem), to_text(name))
            if rng.integers(5) == 0:
                members.append((name, spoil(data, rng), tarfile.REGTYPE))
                made.broken.append(keys)
            else:
                members.append((name, data, tarfile.REGTYPE))
                made.whole.append((keys, colour))
                if rng.integers(5) == 0:
                    link = f"{number}/link{len(members)}{ending}"
                    members.append((link, name, tarfile.LNKTYPE))
                    made.whole.append(((link.rpartition(".")[0], link), colour))
            if rng.integers(3) == 0:
                where = int(rng.integers(len(members) + 1))
                members.insert(where, (f"{stem}.json", b'{"year": 1999}', tarfile.REGTYPE))
        for name in rng.choice(OTHERS, int(rng.integers(3)), replace=False):
            members.insert(int(rng.integers(len(members) + 1)), (f"{number}/{name}", b"...", tarfile.REGTYPE))
            made.listed.append(f"{number}/{name}") if not str(name).endswith(".txt") else None
        if rng.integers(3) == 0:
            members.append((f"{number}/out.png", "/nowhere.png", tarfile.SYMTYPE))
            made.listed.append(f"{number}/out")
        _write_shard(paths[-1], members)
    made.source = paths if rng.integers(2) else folder
    return made


def _write_shard(path: Path, members: list[tuple[str, bytes | str, bytes]]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, held, kind in members:
            member = tarfile.TarInfo(name)
            member.type = kind
            if isinstance(held, str):
                member.linkname = held
                archive.addfile(member)
            else:
                member.size = len(held)
                archive.addfile(member, io.BytesIO(held))


def make_array(folder: Path, rng: np.random.Generator) -> Made:
    """An array of any type and order of axes, in memory or in a file."""
    colours = [colour_of(rng) for _ in range(int(rng.integers(1, 9)))]
    made = Made(whole=[((f"{i:08d}",), colour) for i, colour in enumerate(colours)])
    images: NDArray[Any] = np.stack([picture_of(colour) for colour in colours])
    form = rng.integers(4)
    images = [images, images.astype(np.uint16) * 257, (images / 255).astype(np.float32), images / 255][int(form)]
    images = images.transpose(0, 3, 1, 2) if rng.integers(2) else images
    where = rng.integers(3)
    made.source = images if where == 0 else folder / ("a.npy" if where == 1 else "a.npz")
    if where == 1:
        np.save(made.source, images)
    elif where == 2:
        np.savez(made.source, images=images, more=np.zeros((2, 2)))
        made.listed.append("more")
    return made


def make_list(folder: Path, rng: np.random.Generator) -> Made:
    """A list or generator of images in every form, or of (key, image)."""
    made, items = Made(), list[Any]()
    keyed = bool(rng.integers(2))
    for number in range(int(rng.integers(1, 12))):
        colour, key = colour_of(rng), f"key {number}" if keyed else f"{number:08d}"
        pixels = picture_of(colour)
        forms: list[Any] = [
            pixels, pixels.transpose(2, 0, 1), Image.fromarray(pixels), file_of(colour, ".png"),
            {"bytes": file_of(colour, ".QOI"), "path": None}, pixels.astype(np.float32) / 255,
        ]  # fmt: skip
        if rng.integers(5) == 0:
            image: Any = [b"", None, 7, "nowhere.png", np.zeros(3), {"text": "x"}][int(rng.integers(6))]
            names = (key, "nowhere.png") if not keyed else (key,)
            made.broken.append(names)
        else:
            image = forms[int(rng.integers(len(forms)))]
            made.whole.append(((key,), colour))
        items.append((key, image) if keyed else image)
    plain_paths = all(isinstance(item, str) for item in items)  # such a list names files
    made.source = iter(items) if rng.integers(2) or plain_paths else items
    return made


KINDS: dict[str, Callable[[Path, np.random.Generator], Made]] = {
    "folder": make_folder, "shards": make_shards, "array": make_array, "list or generator": make_list,
}  # fmt: skip

"""Original pictures of the packages: which can be used, which are one picture again, and which are related.

Relations decide what a benchmark says. A variant of a held-out picture in the collection would be found, rightly, and
counted as a false alarm; so a *family* (sizes, day and night, a series, what looks alike) stays on one side.
"""

from __future__ import annotations

import random
import re
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from scipy.ndimage import gaussian_filter

SMALLEST = 500  # px of the shorter side
CLEAR = 0.02  # share of transparent pixels that a picture may have
SIDE = 48  # px of a signature
SAME = 0.6  # correlation of signatures from which on two originals are one picture
RELATED = 0.38  # and from which on they are a family
SIZES = re.compile(r"^\d+x\d+$")
VARIANT = re.compile(
    r"([-_. ](l|d|day|night|dark|light|bright|sun|nohumans|no-logo|logo|\d+x\d+)|@2x)+$", re.IGNORECASE
)
Signature = NDArray[np.float32]


@dataclass(frozen=True)
class Original:
    """A picture of a package.

    Args:
        path: the file.
        package: the package's name.
        family: pictures of one family are related, and are held out together.
        size: width and height in px.
    """

    path: Path
    package: str
    family: str
    size: tuple[int, int]


def name_variants(path: Path) -> str:
    """Name what the sizes and the times of day of one picture have in common.

    Args:
        path: the file, in its folder.

    Returns:
        The wallpaper's folder where files have sizes for names, else the file's name without its variant.

    >>> name_variants(Path("wallpapers/Next/contents/images_dark/1080x1920.png"))
    'next'
    >>> name_variants(Path("gnome/adwaita-d.webp")), name_variants(Path("land/sea12-harro@2x.jpg"))
    ('adwaita', 'sea12-harro')
    """
    if SIZES.match(path.stem):
        return path.parents[2].name.lower()
    return VARIANT.sub("", path.stem.lower()) or path.stem.lower()


def name_family(path: Path) -> str:
    """Name what a series of pictures has in common: the first word of what its variants have in common.

    >>> name_family(Path("land/sea12-harro@2x.jpg")), name_family(Path("Ubuntu-Mate-Cold-no-logo.png"))
    ('sea', 'ubuntu')
    >>> name_family(Path("aloeL.jpg")), name_family(Path("03.jpg"))
    ('aloe', '03')
    """
    if SIZES.match(path.stem):
        return name_variants(path)
    stem = re.sub(r"(?<=[a-z])[LR]$", "", path.stem)
    return re.split(r"[-_ 0-9.@]", stem.lower())[0] or name_variants(path)


def open_picture(path: Path, shorter: int | None = None) -> Image.Image:
    """Open a picture as RGB and upright, its shorter side reduced to some px; transparent pixels become grey."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(path) as opened:
            if shorter is not None:
                opened.draft("RGB", (shorter, shorter))
            picture = flatten(ImageOps.exif_transpose(opened))
    if shorter is None or min(picture.size) <= shorter:
        return picture
    scale = shorter / min(picture.size)
    return picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.LANCZOS)


def flatten(picture: Image.Image) -> Image.Image:
    """Bring a picture of any mode to RGB, on grey where it is transparent."""
    if picture.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8)).convert("RGB")
    if picture.has_transparency_data:
        grey = Image.new("RGBA", picture.size, (90, 90, 90, 255))
        grey.alpha_composite(picture.convert("RGBA"))
        return grey.convert("RGB")
    return picture.convert("RGB")


def is_rich(picture: Image.Image, deviation: float = 12, gradient: float = 2.5) -> bool:
    """Tell whether there is something to find in a picture.

    Args:
        picture: of any size; it is looked at in 128 x 128.
        deviation: the least standard deviation of luma, in levels of 255.
        gradient: the least mean step between neighbours, down and across together, in levels.
    """
    luma = np.asarray(picture.convert("L").resize((128, 128), Image.Resampling.BOX), np.float32)
    steps = np.abs(np.diff(luma, axis=0)).mean() + np.abs(np.diff(luma, axis=1)).mean()
    return bool(luma.std() > deviation and steps > gradient)


def share_of_detail(picture: Image.Image, deviation: float = 4) -> float:
    """Tell in how much of a picture there is something to find: the share of 8 x 8 cells whose luma deviates more."""
    luma = np.asarray(picture.convert("L").resize((128, 128), Image.Resampling.BOX), np.float32)
    return float((luma.reshape(8, 16, 8, 16).std((1, 3)) > deviation).mean())


def is_opaque(path: Path) -> bool:
    """Tell whether hardly any pixel of a picture is transparent."""
    with Image.open(path) as picture:
        if not picture.has_transparency_data:
            return True
        alpha = picture.convert("RGBA").resize((128, 128), Image.Resampling.BOX).getchannel("A")
    return bool((np.asarray(alpha) < 250).mean() <= CLEAR)


def describe(picture: Image.Image) -> Signature:
    """Reduce a picture to the fine luma of its centre square, evened out: [2304] of 48 x 48, of length one.

    Skies above dark ground look alike in a thumbnail, and one strong edge makes a correlation high. Without what is
    coarse, and with equal strength everywhere, only pictures of one scene are alike: others stay below 0.35.
    """
    luma = np.asarray(ImageOps.fit(picture.convert("L"), (SIDE, SIDE), Image.Resampling.BOX), np.float32)
    fine = luma - gaussian_filter(luma, 2.5)
    fine /= np.sqrt(gaussian_filter(fine * fine, 2.5)) + 3
    fine -= fine.mean()
    return np.asarray(fine / (np.linalg.norm(fine) + 1e-6), np.float32).ravel()


def alikeness(one: Signature, others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Correlate a signature with others [n, 2304], as they are and mirrored, light and dark changed too: [n]."""
    turned = one.reshape(SIDE, SIDE)[:, ::-1].ravel()
    return np.asarray(np.maximum(np.abs(others @ one), np.abs(others @ turned)), np.float32)


def find_originals(files: list[tuple[str, Path]]) -> list[Original]:
    """Choose the pictures that can be used: large, opaque, rich, each picture once; and name their families.

    Args:
        files: names of packages and paths. Earlier packages go before later ones.

    Returns:
        In the order given. Of a picture's variants it is the largest.
    """
    largest: dict[tuple[str, str], Original] = {}
    for package, path in files:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                with Image.open(path) as picture:
                    size = picture.size
        except (OSError, ValueError):
            continue
        if min(size) < SMALLEST:
            continue
        key = package, name_variants(path)
        known = largest.get(key)
        if known is None or size[0] * size[1] > known.size[0] * known.size[1]:
            largest[key] = Original(path, package, f"{package}/{name_family(path)}", size)
    kept: list[Original] = []
    signatures: list[Signature] = []
    for original in largest.values():
        try:
            picture = open_picture(original.path, 600) if is_opaque(original.path) else None
        except (OSError, ValueError):
            continue
        if picture is None or not is_rich(picture):
            continue
        signature = describe(picture)
        if signatures and alikeness(signature, np.stack(signatures)).max() > SAME:
            continue
        kept.append(original)
        signatures.append(signature)
    return join_families(kept, signatures)


def join_families(originals: list[Original], signatures: list[Signature]) -> list[Original]:
    """Give one family to originals that share a family's name or look alike, and to all that such pairs connect."""
    parent: dict[str, str] = {original.family: original.family for original in originals}

    def root(family: str) -> str:
        while parent[family] != family:
            family = parent[family]
        return family

    for place, signature in enumerate(signatures):
        for other in np.flatnonzero(alikeness(signature, np.stack(signatures)) > RELATED):
            parent[root(originals[other].family)] = root(originals[place].family)
    return [replace(original, family=root(original.family)) for original in originals]


def hold_out(
    originals: list[Original], seed: int, share: float, smallest: int
) -> tuple[list[Original], list[Original]]:
    """Part the originals by families into those of the collection and those that are held out.

    Args:
        originals: with their families.
        seed: of the choice.
        share: of the originals that is held out, about.
        smallest: px of the shorter side that some original of a held-out family has.

    Returns:
        Originals of the collection, and those held out. A family of more than a twentieth of the originals is not
        held out, since one of it would decide the sizes of both parts.
    """
    members: dict[str, list[Original]] = {}
    for original in originals:
        members.setdefault(original.family, []).append(original)
    names = sorted(
        family
        for family, group in members.items()
        if max(min(original.size) for original in group) >= smallest and len(group) <= max(3, len(originals) // 20)
    )
    random.Random(f"{seed} families").shuffle(names)
    chosen: set[str] = set()
    count = 0
    for name in names:
        if count >= share * len(originals):
            break
        chosen.add(name)
        count += len(members[name])
    return (
        [original for original in originals if original.family not in chosen],
        [original for original in originals if original.family in chosen],
    )

"""From a picture to its regions: windows, placements, pixels, verdicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nda_index.answer.region import Box, Region, choose_leading
from nda_index.errors import ImageDecodeError
from nda_index.images import encode_jpeg, open_upright
from nda_index.pictures.catalogue import Catalogue, read_numbered
from nda_index.pictures.colour import compare_colours
from nda_index.pictures.comparison import Fit, compare, take_agreed
from nda_index.pictures.placements import Matches, Placement, find_placements, match_windows, place_matches
from nda_index.pictures.record import IndexedPicture
from nda_index.pictures.windows import ASKED, find_windows
from nda_index.progress import Progress, quiet
from nda_index.trust.verdict import STRONG, find_percentile

REGIONS = 10  # of an answer, at most
_LARGEST = 1024  # pixels of the question's shorter side, where pixels are compared
_CLOSELY = 5  # placements whose pixels are compared, and all strong ones
_SHOWN = 480  # pixels of a crop's longer side, at most
_SAME = 0.6  # of two boxes that overlap by more, with one picture, the less evident is left out

Name = Callable[[Sequence[int]], Sequence[str]]  # image ids to keys


def find_regions(
    catalogues: Sequence[Catalogue],
    picture: Image.Image,
    null: NDArray[np.float64],
    name: Name,
    allowed: Sequence[NDArray[np.bool_]] | None = None,
    report: Progress = quiet,
) -> tuple[Region, ...]:
    """Find the regions of a picture that indexed pictures explain, the most evident first.

    Args:
        catalogues: the collection, in parts.
        picture: of any size.
        null: float64 [m], evidence of unrelated pictures; empty where there is none.
        name: returns keys of images.
        allowed: for each catalogue bool [N], the pictures that may be found; all by default.
        report: is called with (stage, done, total) after windows, placements and pixels.

    Returns:
        At most `REGIONS`, each of another picture or another place.
    """
    windows = find_windows(picture, ASKED)
    report("regions", 1, 3)
    placements = find_placements(catalogues, windows, allowed)
    report("regions", 2, 3)
    regions = _look_at(catalogues, picture, placements, null, name)
    report("regions", 3, 3)
    return regions


def find_regions_together(
    catalogues: Sequence[Catalogue],
    pictures: Sequence[Image.Image],
    null: NDArray[np.float64],
    name: Name,
    allowed: Sequence[NDArray[np.bool_]] | None = None,
    report: Progress = quiet,
    threads: int = 1,
) -> list[tuple[Region, ...]]:
    """Find the regions of several pictures, whose windows are looked for in one search.

    Args:
        catalogues, null, name, allowed, report: as for `find_regions`.
        pictures: of any size.
        threads: that look at pixels, each at those of one picture.

    Returns:
        For each picture what `find_regions` returns.
    """
    with ThreadPoolExecutor(threads) as pool:
        windows = list(pool.map(lambda picture: find_windows(picture, ASKED), pictures))
        report("regions", 1, 3)
        matches = match_windows(catalogues, windows, allowed)
        sizes = np.concatenate([catalogue.sizes for catalogue in catalogues])
        report("regions", 2, 3)

        def finish(picture: Image.Image, found: Matches) -> tuple[Region, ...]:
            return _look_at(catalogues, picture, place_matches(found, sizes), null, name)

        regions = list(pool.map(finish, pictures, matches))
    report("regions", 3, 3)
    return regions


def _look_at(
    catalogues: Sequence[Catalogue],
    picture: Image.Image,
    placements: Sequence[Placement],
    null: NDArray[np.float64],
    name: Name,
) -> tuple[Region, ...]:
    """Compare the pixels where placements lay pictures; arguments and result as for `find_regions`."""
    scale = min(1.0, _LARGEST / min(picture.size))
    size = [max(1, round(length * scale)) for length in picture.size]
    luma = np.asarray(picture.convert("L").resize((size[0], size[1]), Image.Resampling.BILINEAR, reducing_gap=2.0))
    regions: list[Region] = []
    numbers = [placement.picture for placement in placements]
    keys, pictures = name(numbers), read_numbered(catalogues, numbers)
    for rank, (placement, key) in enumerate(zip(placements, keys, strict=True)):
        indexed = pictures[placement.picture]
        percentile = find_percentile(placement.odds, null) if len(null) else float("nan")
        closely = rank < _CLOSELY or percentile >= STRONG
        copy = indexed.open_copy() if closely else None
        fit = _compare(luma, scale, indexed, copy, placement) if copy else take_agreed(placement, picture.size)
        box = _round_box(fit.box, picture.size)
        source_box = _map_box(box, fit.to_picture, indexed.size, placement.mirrored)
        if any(other.image_id == placement.picture and _overlap(other.box, box) > _SAME for other in regions):
            continue
        regions.append(
            Region(
                image_id=placement.picture,
                key=key,
                path=indexed.path,
                box=box,
                source_box=source_box,
                size=indexed.size,
                mirrored=placement.mirrored,
                zoom=abs(placement.zoom),
                turn=float(np.degrees(np.angle(placement.zoom))) * (-1 if placement.mirrored else 1),
                correlation=fit.correlation,
                evidence=placement.odds,
                percentile=percentile,
                null_pictures=len(null),
                colours=(
                    compare_colours(picture.crop(box), _crop_copy(copy, indexed.size, source_box)) if copy else None
                ),
            )
        )
    return tuple(regions[:REGIONS])


def crop_sources(catalogues: Sequence[Catalogue], regions: Sequence[Region]) -> tuple[bytes, ...]:
    """Cut the leading regions out of their indexed pictures; arguments and result of `find_regions`, JPEG files."""
    leading = choose_leading(regions)
    pictures = read_numbered(catalogues, [region.image_id for region in leading])
    return tuple(_crop_source(region, pictures[region.image_id]) for region in leading)


def _crop_source(region: Region, indexed: IndexedPicture) -> bytes:
    """Cut a region out of the file of an indexed picture, where that is there as it was, or else of the small copy.

    Returns:
        A JPEG file with sides of at most `_SHOWN` pixels.
    """
    picture = indexed.open_copy()
    if region.path is not None and Path(region.path).is_file():
        with suppress(ImageDecodeError):
            original = open_upright(region.path)
            picture = original if original.size == region.size else picture
    return encode_jpeg(_crop_copy(picture, region.size, region.source_box), _SHOWN)


def _compare(
    luma: NDArray[np.uint8], scale: float, indexed: IndexedPicture, small: Image.Image, placement: Placement
) -> Fit:
    """Compare at the question's reduced size; the fit is in pixels of the question as it was asked."""
    copy = np.asarray(small.convert("L"))
    if placement.mirrored:
        copy = np.ascontiguousarray(copy[:, ::-1])
    reduced = Placement(
        placement.picture, placement.mirrored, placement.zoom * scale, placement.shift * scale, placement.odds,
        placement.asked * (scale, scale, scale, 1),
    )  # fmt: skip
    fit = compare(luma, copy, copy.shape[1] / indexed.size[0], reduced)
    left, top, right, bottom = (edge / scale for edge in fit.box)
    return Fit((left, top, right, bottom), fit.to_picture * (scale, scale, 1), fit.correlation, fit.share)


def _crop_copy(copy: Image.Image, size: tuple[int, int], box: Box) -> Image.Image:
    """Cut a box, in pixels of a picture of this size, out of a copy that is smaller or as large."""
    across, down = copy.width / size[0], copy.height / size[1]
    left, top, right, bottom = box
    return copy.crop(_round_box((left * across, top * down, right * across, bottom * down), copy.size))


def _round_box(box: tuple[float, float, float, float], size: tuple[int, int]) -> Box:
    left, top, right, bottom = (round(edge) for edge in box)
    left, top = min(max(left, 0), size[0] - 1), min(max(top, 0), size[1] - 1)
    return left, top, min(max(right, left + 1), size[0]), min(max(bottom, top + 1), size[1])


def _map_box(box: Box, to_picture: NDArray[np.float64], size: tuple[int, int], mirrored: bool) -> Box:
    """Box of the indexed picture that a box of the question comes from."""
    left, top, right, bottom = box
    corners = np.array([[left, top, 1], [right, top, 1], [right, bottom, 1], [left, bottom, 1]]) @ to_picture.T
    if mirrored:
        corners[:, 0] = size[0] - corners[:, 0]
    (x0, y0), (x1, y1) = corners.min(axis=0), corners.max(axis=0)
    return _round_box((float(x0), float(y0), float(x1), float(y1)), size)


def _overlap(one: Box, other: Box) -> float:
    """Area that two boxes share, over that of the smaller."""
    width = max(0, min(one[2], other[2]) - max(one[0], other[0]))
    height = max(0, min(one[3], other[3]) - max(one[1], other[1]))
    smaller = min((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return width * height / smaller

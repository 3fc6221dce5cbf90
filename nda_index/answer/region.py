"""A region of a question's picture that a region of an indexed picture explains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from nda_index.trust.verdict import FEWEST, Verdict, judge

Box = tuple[int, int, int, int]
LIKELY = 3  # regions that are looked at where none is strong

BRIGHTER, WARMER = 12.0, 12.0  # levels of 255 from which on a change is told
STEEPER = 1.25  # ratio of contrasts from which on it is
GREY = 6.0  # levels of saturation below which a picture is grey


@dataclass(frozen=True)
class Colours:
    """How the colours of a region differ from those of the indexed picture's region.

    Attributes:
        brightness: difference of the mean luma, in levels of 255; above 0 the question is brighter.
        contrast: ratio of the deviations of the luma.
        warmth: difference of red less blue, in levels; above 0 the question is warmer.
        saturation: of the question's region and of the other: mean distance of the largest from the smallest of red,
            green and blue, in levels.
    """

    brightness: float
    contrast: float
    warmth: float
    saturation: tuple[float, float]

    def describe(self) -> list[str]:
        """Describe the changes that a person sees, in words.

        Example:
            >>> Colours(-30.0, 0.7, 2.0, (1.0, 40.0)).describe()
            ['darker', 'of less contrast', 'in grey']
        """
        words = []
        if abs(self.brightness) >= BRIGHTER:
            words.append("brighter" if self.brightness > 0 else "darker")
        if not 1 / STEEPER < self.contrast < STEEPER:
            words.append("of more contrast" if self.contrast > 1 else "of less contrast")
        asked, indexed = self.saturation
        if asked < GREY <= indexed:
            return [*words, "in grey"]
        if abs(self.warmth) >= WARMER:
            words.append("warmer" if self.warmth > 0 else "cooler")
        ratio = (asked + 1) / (indexed + 1)
        if not 1 / STEEPER**2 < ratio < STEEPER**2:
            words.append("more colourful" if ratio > 1 else "paler")
        return words


@dataclass(frozen=True)
class Region:
    """A region of the question and the region of an indexed picture that it matches, at their own sizes.

    Attributes:
        image_id: of the indexed picture.
        key: of it.
        path: of its file when it was indexed, or None.
        box: left, top, right, bottom in pixels of the question.
        source_box: the same in pixels of the indexed picture.
        size: width and height of the indexed picture in pixels.
        mirrored: whether left and right are changed.
        zoom: size in the question over size in the indexed picture.
        turn: degrees, clockwise.
        correlation: of the structure of the two regions, 0 to 1; 0 where they are too soft to tell.
        evidence: sum of the log odds of the windows that agree (docs/pictures.md).
        percentile: fraction of unrelated pictures with less evidence; NaN where there is no null.
        null_pictures: number of unrelated pictures.
        colours: how they differ; None where the pixels were not compared.
    """

    image_id: int
    key: str
    path: str | None
    box: Box
    source_box: Box
    size: tuple[int, int]
    mirrored: bool
    zoom: float
    turn: float
    correlation: float
    evidence: float
    percentile: float
    null_pictures: int
    colours: Colours | None = None

    @property
    def verdict(self) -> Verdict:
        """Whether this is more than unrelated pictures get."""
        return judge(self.evidence, self.percentile, self.null_pictures)

    @property
    def strong(self) -> bool:
        """Whether the verdict is a strong match."""
        return self.verdict.strong

    def describe(self) -> str:
        """Describe what was done to the region.

        Example:
            >>> region = Region(7, "a.jpg", None, (0, 0, 70, 70), (0, 0, 100, 100), (400, 300), True, 0.7, 4.8, 0.9,
            ...                 20.0, 0.995, 199, Colours(3.0, 1.0, 25.0, (60.0, 50.0)))
            >>> region.describe()
            'mirrored, 0.7 times the size, turned by 5 degrees, warmer'
        """
        words = ["mirrored"] if self.mirrored else []
        words.append("at its own size" if abs(self.zoom - 1) < 0.03 else f"{self.zoom:.2g} times the size")
        if abs(self.turn) >= 1.5:
            words.append(f"turned by {self.turn:.0f} degrees")
        return ", ".join(words + (self.colours.describe() if self.colours else []))

    def tell(self) -> str:
        """Tell in a sentence what was found.

        Example:
            >>> Region(7, "a.jpg", None, (0, 0, 7, 7), (0, 0, 9, 9), (40, 30), False, 0.8, 0, 0.9, 0.1, 0.5, 199).tell()
            'No strong match: region (0, 0)-(7, 7) of the picture, region (0, 0)-(9, 9) of a.jpg, 0.8 times the size'
        """
        where = f"region {format_box(self.source_box)} of {self.key}, {self.describe()}"
        if self.strong:
            return f"Strong match: region {format_box(self.box)} of the picture is {where}; {self.verdict.place}"
        return f"No strong match: region {format_box(self.box)} of the picture, {where}"

    def as_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        values = asdict(self) | {"strong": self.strong, "what": self.describe()}
        return values | {name: list(values[name]) for name in ("box", "source_box", "size")}


class FoundRegions(NamedTuple):
    """Regions of a picture, the most evident first, and JPEG files of the leading ones' regions of indexed pictures."""

    regions: tuple[Region, ...] = ()
    crops: tuple[bytes, ...] = ()


def format_box(box: Box) -> str:
    """Write a box as its corners.

    Example:
        >>> format_box((289, 0, 475, 282))
        '(289, 0)-(475, 282)'
    """
    left, top, right, bottom = box
    return f"({left}, {top})-({right}, {bottom})"


def move_box(box: Box, right: int, down: int) -> Box:
    """Move a box by pixels to the right and down.

    Example:
        >>> move_box((0, 0, 10, 10), 5, 2)
        (5, 2, 15, 12)
    """
    return box[0] + right, box[1] + down, box[2] + right, box[3] + down


def choose_leading(regions: Sequence[Region]) -> tuple[Region, ...]:
    """Choose the regions that an answer is about: the strong ones, or where none is strong the first `LIKELY`."""
    return tuple(region for region in regions if region.strong) or tuple(regions[:LIKELY])


def say_no_region_is_strong(regions: Sequence[Region]) -> str:
    """Say that no region is strong, and why where none can be.

    Example:
        >>> say_no_region_is_strong([])
        'No region of the picture matches strongly.'
    """
    known = min((region.null_pictures for region in regions), default=FEWEST)
    why = f" With only {known} unrelated pictures to compare with, none can." if known < FEWEST else ""
    return f"No region of the picture matches strongly.{why}"


def read_region(values: dict[str, Any]) -> Region:
    """Read what `Region.as_json` wrote.

    Example:
        >>> region = Region(7, "a.jpg", None, (0, 0, 70, 70), (0, 0, 100, 100), (400, 300), False, 1.0, 0.0, 0.9, 20.0,
        ...                 0.995, 199)
        >>> read_region(region.as_json()) == region
        True
    """
    known = {name: value for name, value in values.items() if name in Region.__dataclass_fields__}
    for name in ("box", "source_box", "size"):
        known[name] = tuple(known[name])
    if known.get("colours") is not None:
        known["colours"] = Colours(**known["colours"] | {"saturation": tuple(known["colours"]["saturation"])})
    return Region(**known)

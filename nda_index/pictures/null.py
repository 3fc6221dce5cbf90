"""The null of the regions' verdicts: the evidence that pictures get which the collection has nothing to do with.

Pictures of the collection are asked turned by a quarter, without themselves. Windows know their direction, and a piece
may be turned by 20 degrees at most, so near-copies do not count, but regular patterns, which fit anywhere, do. Where
there are fewer pictures than are wanted, each is asked again, turned otherwise and made smaller.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nda_index.pictures.catalogue import FOLDER, Catalogue, read_numbered
from nda_index.pictures.placements import find_placements
from nda_index.pictures.windows import ASKED, find_windows
from nda_index.progress import Progress
from nda_index.store.arrow import read_arrow, write_arrow

NULL = f"{FOLDER}/null.arrow"
_TOGETHER = 2  # pictures that are asked at the same time
_TURNS = (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270, Image.Transpose.ROTATE_180)
_ENLARGED = (3, 2)  # a small copy, so that it has as many windows as a picture that is asked about, or fewer
_FEW = 1.5  # by which the evidence of a null counts more whose pictures were asked several times: they vary less
WAYS = tuple((turn, enlarged) for enlarged in _ENLARGED for turn in _TURNS)  # of asking one picture, in this order


def make_null(catalogues: Sequence[Catalogue], pictures: int, report: Progress) -> NDArray[np.float64]:
    """Ask turned pictures of a collection, and return the best evidence of each.

    Args:
        catalogues: the collection, in parts.
        pictures: how many are asked, of the collection or, where it is small, in one of the `WAYS` each. 99 or more are
            needed for a strong verdict; each takes a third of a second.
        report: is called with ("null of regions", done, total).
    """
    there = np.flatnonzero(np.concatenate([catalogue.sizes[:, 0] for catalogue in catalogues]))
    order = np.random.default_rng(0).permutation(there).tolist()
    chosen = list(islice(((number, way) for way in WAYS for number in order), pictures))
    best: list[float] = []
    with ThreadPoolExecutor(_TOGETHER) as pool:
        for odds in pool.map(lambda asked: _ask_turned(catalogues, *asked), chosen):
            best.append(odds)
            report("null of regions", len(best), len(chosen))
    return np.array(best, np.float64) * (_FEW if len(chosen) > len(there) else 1.0)


def _ask_turned(catalogues: Sequence[Catalogue], number: int, way: tuple[Image.Transpose, int]) -> float:
    """Evidence of the best placement in a picture of the collection, turned and asked without itself."""
    turn, enlarged = way
    copy = read_numbered(catalogues, [number])[number].open_copy().convert("L").transpose(turn)
    asked = copy.resize((copy.width * enlarged, copy.height * enlarged), Image.Resampling.BICUBIC)
    cuts = np.cumsum([len(catalogue.sizes) for catalogue in catalogues])
    others = np.split(np.arange(cuts[-1]) != number, cuts[:-1])
    placements = find_placements(catalogues, find_windows(asked, ASKED), others)
    return placements[0].odds if placements else 0.0


def write_null(folder: Path, evidence: NDArray[np.float64]) -> None:
    """Write a null into an index's folder."""
    write_arrow(folder / NULL, {"evidence": evidence}, {})


def read_null(folder: Path, files: Container[str]) -> NDArray[np.float64]:
    """Read what `write_null` wrote, if it is among the files of the index; empty where it is not."""
    if NULL not in files:
        return np.empty(0)
    return np.asarray(read_arrow(folder / NULL)[0]["evidence"].to_numpy(), np.float64)

"""The pictures of a collection, open for questions: the codes of all their windows, in cells."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nda_index.coarse.neighbours import assign_cells, train_centroids
from nda_index.pictures.cpu import HostLists
from nda_index.pictures.gpu import DeviceLists, usable_bytes
from nda_index.pictures.lists import WindowLists
from nda_index.pictures.record import IndexedPicture, read_record
from nda_index.pictures.windows import DIMENSIONS, KINDS, Kind
from nda_index.store.arrow import read_arrow, write_arrow
from nda_index.store.corpus import Corpus
from nda_index.store.files import writing

FEATURE = "pictures"  # of the format: the table has records of pictures, and the folder `FOLDER` their cells
FOLDER = "pictures"
_TRAINED_ON = 4000  # pictures
_READ = 256  # records at a time


class Members(NamedTuple):
    """All windows of one kind.

    Attributes:
        lists: their codes, to be searched.
        owners: int32 [n], the image of each.
        frames: float32 [n, 4].
    """

    lists: WindowLists
    owners: NDArray[np.int32]
    frames: NDArray[np.float32]


@dataclass(frozen=True)
class Catalogue:
    """The pictures of an index.

    Attributes:
        sizes: int32 [N, 2], width and height; 0 for images that were removed.
        windows: of each kind.
        read: reads pictures' records, by their numbers.
    """

    sizes: NDArray[np.int32]
    windows: dict[Kind, Members]
    read: Callable[[Sequence[int]], list[IndexedPicture]]


def centroids_name(kind: Kind) -> str:
    """Return the name of the file of a kind's cells."""
    return f"{FOLDER}/{kind}.arrow"


def segment_name(number: int) -> str:
    """Return the name of the file that says in which cells the windows of a stretch of images lie."""
    return f"{FOLDER}/lists-{number:05d}.arrow"


def segment_names(files: Sequence[str]) -> list[str]:
    """Return the names of these files among those of an index, in their order."""
    return sorted(name for name in files if name.startswith(f"{FOLDER}/lists-"))


def next_segment(files: Sequence[str]) -> int:
    """Return the number of the next of these files, which none has had.

    Example:
        >>> next_segment(["pictures/lists-00004.arrow", "null.arrow"])
        5
    """
    return 1 + max((int(name[-len("00000.arrow") : -len(".arrow")]) for name in segment_names(files)), default=-1)


def train_catalogue(folder: Path, corpus: Corpus) -> None:
    """Train the cells of both kinds on pictures drawn at random, and write them.

    Args:
        folder: of the index.
        corpus: images with records of pictures.
    """
    chosen = np.random.default_rng(0).choice(corpus.count, min(corpus.count, _TRAINED_ON), replace=False)
    pictures = [picture for _, picture in read_pictures(corpus, np.sort(chosen))]
    for kind in KINDS:
        codes = np.concatenate([np.zeros((1, DIMENSIONS), np.uint8), *(picture.codes[kind] for picture in pictures)])
        centroids = train_centroids(codes, round(len(codes) * corpus.count / len(chosen)))
        rows = pa.FixedSizeListArray.from_arrays(pa.array(centroids.reshape(-1)), DIMENSIONS)
        with writing(folder):
            (folder / FOLDER).mkdir(exist_ok=True)
        write_arrow(folder / centroids_name(kind), {"centroid": rows}, {"dimensions": DIMENSIONS})


def write_segment(folder: Path, name: str, corpus: Corpus, image_ids: NDArray[np.int64], first: int) -> None:
    """Write the cells of images' windows, which will be numbered from `first`."""
    columns: dict[str, pa.Array] = {}
    pictures = [picture for _, picture in read_pictures(corpus, image_ids)]
    for kind in KINDS:
        counts = np.array([len(picture.codes[kind]) for picture in pictures])
        codes = np.concatenate([np.zeros((0, DIMENSIONS), np.uint8), *(picture.codes[kind] for picture in pictures)])
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        columns[kind] = pa.LargeListArray.from_arrays(offsets, assign_cells(codes, read_centroids(folder, kind)))
    write_arrow(folder / name, columns, {"first": first, "images": len(image_ids)})


def read_centroids(folder: Path, kind: Kind) -> NDArray[np.float32]:
    """Read the cells of a kind, float32 [C, DIMENSIONS]."""
    batch, header = read_arrow(folder / centroids_name(kind))
    return np.asarray(batch["centroid"].flatten().to_numpy().reshape(-1, header["dimensions"]), np.float32)


def open_catalogue(
    folder: Path, files: Sequence[str], corpus: Corpus, present: NDArray[np.bool_], device: str | None = None
) -> Catalogue:
    """Open the pictures of an index.

    Args:
        folder: of the index.
        files: of the index, by name.
        corpus: its images.
        present: bool [N], False for images that were removed.
        device: that looks for windows, as torch names it; FAISS does on the CPU by default.
    """
    batches = [read_arrow(folder / name)[0] for name in segment_names(files)]
    kept = np.flatnonzero(present)
    sizes = np.zeros((corpus.count, 2), np.int32)
    frames: dict[Kind, list[NDArray[np.float32]]] = {kind: [] for kind in KINDS}
    codes: dict[Kind, list[NDArray[np.uint8]]] = {kind: [] for kind in KINDS}
    for image_id, picture in read_pictures(corpus, kept):
        sizes[image_id] = picture.size
        for kind in KINDS:
            frames[kind].append(picture.frames[kind])
            codes[kind].append(picture.codes[kind])
    windows: dict[Kind, Members] = {}
    for kind in KINDS:
        cells = [batch[kind][i].values.to_numpy() for batch in batches for i in range(len(batch))]
        chosen = np.concatenate([np.empty(0, np.int32), *(cells[image_id] for image_id in kept)])
        owners = np.repeat(kept, [len(part) for part in codes[kind]]).astype(np.int32)
        laid = np.concatenate([np.zeros((0, DIMENSIONS), np.uint8), *codes[kind]])
        lists = _make_lists(laid, chosen, read_centroids(folder, kind), owners, device)
        windows[kind] = Members(lists, owners, np.concatenate([np.zeros((0, 4), np.float32), *frames[kind]]))

    def read(image_ids: Sequence[int]) -> list[IndexedPicture]:
        return [read_record(record) for record in corpus.pictures(np.array(image_ids, np.int64))]

    return Catalogue(sizes, windows, read)


def _make_lists(
    codes: NDArray[np.uint8],
    cells: NDArray[np.int32],
    centroids: NDArray[np.float32],
    owners: NDArray[np.int32],
    device: str | None,
) -> WindowLists:
    if device is None:
        return HostLists(codes, cells, centroids, owners)
    room = usable_bytes(device)
    return DeviceLists(codes, cells, centroids, owners, device=device, spare=HostLists, resident=room)


def read_numbered(catalogues: Sequence[Catalogue], numbers: Sequence[int]) -> dict[int, IndexedPicture]:
    """Read the records of pictures, which have these numbers over all catalogues."""
    pictures: dict[int, IndexedPicture] = {}
    first = 0
    for catalogue in catalogues:
        here = sorted({number for number in numbers if first <= number < first + len(catalogue.sizes)})
        if here:
            pictures |= zip(here, catalogue.read([number - first for number in here]), strict=True)
        first += len(catalogue.sizes)
    return pictures


def read_pictures(corpus: Corpus, image_ids: NDArray[np.int64]) -> Iterator[tuple[int, IndexedPicture]]:
    """Read the records of images, in the order of their ids."""
    for start in range(0, len(image_ids), _READ):
        some = image_ids[start : start + _READ]
        for image_id, record in zip(some.tolist(), corpus.pictures(some), strict=True):
            yield image_id, read_record(record)

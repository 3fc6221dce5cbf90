"""SIFT: a baseline of interest points (Lowe 2004), whose matches RANSAC sorts by one similarity.

Points at 768 px of the shorter side, descriptors by RootSIFT (Arandjelovic and Zisserman 2012), an inverted file with
scalar quantisation (FAISS), votes by how much nearer a neighbour is than the last one asked for, and for the best
pictures the number of points that one zoom, turn and displacement explains. OpenCV is needed:
`pip install opencv-python-headless`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from benchmarks.pictures.judge import Candidate

SIDE = 768  # px of the shorter side of pictures; queries are left at 1,024
POINTS, QUERY_POINTS = 1000, 2000  # at most, of a picture and of a query
NEIGHBOURS = 10
PROBES = 16  # lists of the inverted file that are looked at
VERIFIED = 20  # pictures for each of a query and its mirror image
TOLERANCE = 8.0  # px in the query that an explained point may be off

Points = NDArray[np.float32]  # [n, 2], x and y in px


@dataclass(frozen=True)
class Sift:
    """The collection.

    Args:
        keys: of the pictures.
        points: [n, 2] of all pictures, px of the whole picture.
        owners: [n], the place in `keys`.
        index: of the n descriptors.
    """

    keys: tuple[str, ...]
    points: Points
    owners: NDArray[np.int64]
    index: Any


def build(collection: Path) -> Sift:
    """Find the points of the pictures of a folder, and index them."""
    paths = sorted(collection.iterdir())
    points, descriptors, owners = [], [], []
    for place, path in enumerate(paths):
        with Image.open(path) as picture:
            found, described = find_points(picture, SIDE, POINTS)
        points.append(found)
        descriptors.append(described)
        owners.append(np.full(len(found), place))
    described = np.concatenate(descriptors)
    index: Any = faiss.index_factory(128, f"IVF{max(1, min(512, len(described) // 40))},SQ8")
    index.train(described)
    index.add(described)
    index.nprobe = PROBES
    return Sift(tuple(path.name for path in paths), np.concatenate(points), np.concatenate(owners), index)


def ask(state: Sift, picture: Image.Image) -> list[Candidate]:
    """Name pictures by the points that one placement of theirs explains; their box is that of these points."""
    best: dict[int, Candidate] = {}
    for mirrored in (False, True):
        seen = ImageOps.mirror(picture) if mirrored else picture
        points, descriptors = find_points(seen, 1024, QUERY_POINTS)
        if len(points) < 4:
            continue
        distances, neighbours = state.index.search(descriptors, NEIGHBOURS)
        nearer = 1 - distances / (distances[:, -1:] + 1e-6)
        weights = np.where(neighbours >= 0, nearer, 0).ravel()
        neighbours = np.maximum(neighbours, 0).ravel()
        rows = np.repeat(np.arange(len(points)), NEIGHBOURS)
        owners = state.owners[neighbours]
        votes = np.bincount(owners, weights, len(state.keys))
        for owner in np.argsort(-votes)[:VERIFIED]:
            chosen = (owners == owner) & (weights > 0)
            explained = explain(state.points[neighbours[chosen]], points[rows[chosen]])
            agreeing = np.unique(rows[chosen][explained])
            if len(agreeing) < 4 or (owner in best and best[owner].score >= len(agreeing)):
                continue
            left, top = (float(edge) for edge in points[agreeing].min(0))
            right, bottom = (float(edge) for edge in points[agreeing].max(0))
            if mirrored:
                left, right = picture.width - right, picture.width - left
            best[owner] = Candidate(state.keys[owner], float(len(agreeing)), (left, top, right, bottom))
    return sorted(best.values(), key=lambda candidate: -candidate.score)


def find_points(picture: Image.Image, side: int, most: int) -> tuple[Points, NDArray[np.float32]]:
    """Find points and describe them.

    Args:
        picture: of any size.
        side: px to which the shorter side is reduced where it is larger.
        most: of the points, the strongest.

    Returns:
        Points in px of the picture as given, [n, 2], and their descriptors, [n, 128], of length one.
    """
    import cv2  # of benchmarks only

    scale = min(1.0, side / min(picture.size))
    size = round(picture.width * scale), round(picture.height * scale)
    luma = np.asarray(picture.convert("L").resize(size, Image.Resampling.LANCZOS))
    found, described = cv2.SIFT_create(nfeatures=most).detectAndCompute(luma, None)
    if described is None:
        return np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32)
    described = np.sqrt(described / (described.sum(1, keepdims=True) + 1e-6))
    return np.array([point.pt for point in found], np.float32) / scale, described.astype(np.float32)


def explain(points: Points, seen: Points) -> NDArray[np.bool_]:
    """Tell which matches the best zoom, turn and displacement explains: [n]."""
    import cv2

    if len(points) < 4:
        return np.zeros(len(points), bool)
    cv2.setRNGSeed(0)
    _, explained = cv2.estimateAffinePartial2D(
        points, seen, method=cv2.RANSAC, ransacReprojThreshold=TOLERANCE, maxIters=2000
    )
    return np.zeros(len(points), bool) if explained is None else explained.ravel() > 0

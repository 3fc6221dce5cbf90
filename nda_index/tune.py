"""How many cells to visit and how many images to score, measured on an index for a wanted recall or a wanted time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nda_index.errors import ConfigError
from nda_index.index import Index
from nda_index.progress import Progress, quiet
from nda_index.store.locks import write_lock
from nda_index.store.manifest import commit, read_manifest

PROBES = (1, 2, 4, 8, 16)
CANDIDATES = (128, 256, 512, 1024, 2500, 5000, 10_000)
DEPTH = 100  # of the exact ranking that is to be found
SEED = 0


@dataclass(frozen=True)
class Trial:
    """One setting, measured.

    Attributes:
        probes: cells that a window of the query visits at most.
        candidates: images that are scored.
        recall: fraction of the exact top 100 among them, mean over queries.
        mass: fraction of the whole posterior that they hold, mean over queries.
        seconds: time of a question: the coarse stage, and the exact stage for as many images.
    """

    probes: int
    candidates: int
    recall: float
    mass: float
    seconds: float


@dataclass(frozen=True)
class Tuning:
    """The setting that was chosen, the timestep and number of queries it was measured with, and all trials."""

    chosen: Trial
    timestep: int
    queries: int
    trials: tuple[Trial, ...]


def tune(
    index: Index,
    *,
    recall: float | None = None,
    seconds: float | None = None,
    timestep: int = 100,
    queries: int = 8,
    progress: Progress | None = None,
) -> Tuning:
    """Measure settings on an index, with mirror images of its own images as queries, and keep the best in its manifest.

    From then on questions without `candidates` use it. The index hash changes, since the manifest does.

    Args:
        index: open on the CPU or a GPU, as it will be asked.
        recall: wanted fraction of the exact top 100, 0 to 1: the fastest setting that reaches it is chosen.
        seconds: wanted time of a question: the setting of the best recall within it is chosen. One of both is given.
        timestep: of the questions, without noise.
        queries: number of questions. Each scores the whole collection once.
        progress: is called with (stage, done, total).

    Returns:
        What was measured and chosen.

    Raises:
        ConfigError: not one of `recall` and `seconds` is given, or no setting reaches it.

    Example:
        >>> import tempfile, nda_index as nda
        >>> images = np.random.default_rng(0).integers(0, 256, (200, 16, 16, 3), np.uint8)
        >>> index = nda.build_index(images, tempfile.mkdtemp() + "/x.nda", image_size=16, scales=[nda.Scale(5)], null=0)
        >>> tune(index, recall=0.9, queries=1).chosen.recall >= 0.9
        True
    """
    if (recall is None) == (seconds is None):
        raise ConfigError(f"recall is {recall} and seconds is {seconds}; give one of both")
    if queries < 1:
        raise ConfigError(f"queries is {queries}; it must be 1 or more")
    chosen = np.random.default_rng(SEED).choice(index.image_ids, min(queries, len(index)), replace=False)
    pictures = np.ascontiguousarray(index.pixels(np.sort(chosen))[..., ::-1]).transpose(0, 2, 3, 1)  # [Q, H, W, C]
    trials = _measure(index, pictures, timestep, progress or quiet)
    best = _chosen(trials, recall, seconds)
    tuning = {**asdict(best), "timestep": timestep, "queries": len(pictures)}
    with write_lock(index.path):
        manifest = read_manifest(index.path)
        commit(index.path, replace(manifest, tuning=tuning, index_hash=""), synced=manifest.files)
    return Tuning(best, timestep, len(pictures), tuple(trials))


def _measure(index: Index, pictures: NDArray[np.uint8], timestep: int, report: Progress) -> list[Trial]:
    count = len(index)
    lengths = sorted({min(candidates, count) for candidates in CANDIDATES})
    index.votes(pictures[0], timestep)  # compiles
    index.scores(pictures[:1], timestep, mode="ann", candidates=1)
    found: dict[tuple[int, int], list[tuple[float, float, float]]] = {}
    for number, picture in enumerate(pictures):
        start = time.perf_counter()
        exact = index.scores(picture[None], timestep)[0]
        per_image = (time.perf_counter() - start) / count
        ranking = np.argsort(-exact)[: min(DEPTH, count)]
        for probes in PROBES:
            start = time.perf_counter()
            votes = index.votes(picture, timestep, probes=probes)
            coarse = time.perf_counter() - start
            order = np.argsort(-votes, kind="stable")
            for length in lengths:
                kept = order[:length]
                figures = float(np.isin(ranking, kept).mean()), float(exact[kept].sum() / exact.sum())
                found.setdefault((probes, length), []).append((*figures, coarse + per_image * length))
        report("tune", number + 1, len(pictures))
    return [Trial(*setting, *np.mean(rows, axis=0).tolist()) for setting, rows in found.items()]


def _chosen(trials: Sequence[Trial], recall: float | None, seconds: float | None) -> Trial:
    if recall is not None:
        enough = [trial for trial in trials if trial.recall >= recall]
        if not enough:
            best = max(trial.recall for trial in trials)
            raise ConfigError(f"recall is {recall}; the most that any setting reaches here is {best:.2f}, ask for less")
        return min(enough, key=lambda trial: trial.seconds)
    fast = [trial for trial in trials if seconds is not None and trial.seconds <= seconds]
    if not fast:
        least = min(trial.seconds for trial in trials)
        raise ConfigError(f"seconds is {seconds}; the fastest setting here takes {least:.2f} s, allow more")
    return max(fast, key=lambda trial: (trial.recall, -trial.seconds))


def tuning_summary(tuning: dict[str, Any]) -> str:
    """A manifest's tuning in one line.

    Example:
        >>> tuning_summary(asdict(Trial(4, 2500, 0.97, 0.8, 1.2)) | {"timestep": 100, "queries": 8})
        '2,500 candidates, 4 probes: recall@100 0.97, mass 0.80, 1.20 s (t = 100, 8 queries)'
    """
    return (
        f"{tuning['candidates']:,} candidates, {tuning['probes']} probes: recall@{DEPTH} {tuning['recall']:.2f}, "
        f"mass {tuning['mass']:.2f}, {tuning['seconds']:.2f} s (t = {tuning['timestep']}, {tuning['queries']} queries)"
    )

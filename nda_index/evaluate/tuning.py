"""Measure on an index how many cells to visit and how many images to score, for a wanted recall or a wanted time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from nda_index.errors import ConfigError
from nda_index.images import Pixels
from nda_index.index import Index
from nda_index.progress import Progress, quiet
from nda_index.question import Question, as_question
from nda_index.recipe import Recipe, parse_recipe
from nda_index.store.locks import write_lock
from nda_index.store.manifest import commit, read_manifest

PROBES = (1, 2, 4, 8, 16)
CANDIDATES = (128, 256, 512, 1024, 2500, 5000, 10_000)
DEPTH = 100  # images of the exact ranking that a shortlist should hold
SEED = 0


@dataclass(frozen=True)
class Trial:
    """One setting, measured.

    Attributes:
        probes: cells that a window of the query visits at most.
        candidates: images that are scored.
        recall: fraction of the exact top 100 among the candidates, mean over queries.
        mass: fraction of the whole posterior that the candidates hold, mean over queries.
        seconds: time of a question, mean over queries: the coarse stage, and the exact stage over the candidates.
    """

    probes: int
    candidates: int
    recall: float
    mass: float
    seconds: float


@dataclass(frozen=True)
class Tuning:
    """The setting that was chosen, the timestep or recipe and number of queries it was measured with; all trials."""

    chosen: Trial
    timestep: int | None
    recipe: str | None
    queries: int
    trials: tuple[Trial, ...]


def tune(
    index: Index,
    *,
    recall: float | None = None,
    seconds: float | None = None,
    timestep: int | None = None,
    recipe: str | Recipe | None = None,
    queries: int = 8,
    progress: Progress | None = None,
) -> Tuning:
    """Measure settings on an index, with mirror images of its own images as queries, and keep the best in its manifest.

    From then on, questions without `candidates` use it. The index hash changes, since the manifest does.

    Args:
        index: open on the device that will answer questions, CPU or GPU: the times are those of this device.
        recall: wanted fraction of the exact top 100, 0 to 1: the fastest setting that reaches it is chosen. More of it
            makes questions slower. Give either `recall` or `seconds`.
        seconds: wanted time of a question: the setting of the best recall within it is chosen.
        timestep, recipe: of the questions, as for `Index.attribute`.
        queries: number of questions. More of them make the figures steadier; each scores the whole collection once.
        progress: is called with (stage, done, total).

    Returns:
        What was measured and chosen.

    Raises:
        ConfigError: both or neither of `recall` and `seconds` are given, or no setting reaches the one given.

    Example:
        >>> import tempfile, nda_index as nda
        >>> images = np.random.default_rng(0).integers(0, 256, (200, 16, 16, 3), np.uint8)
        >>> index = nda.build_index(images, tempfile.mkdtemp() + "/x.nda", image_size=16, scales=[nda.Scale(5)], null=0)
        >>> tune(index, recall=0.9, queries=1).chosen.recall >= 0.9
        True
    """
    if (recall is None) == (seconds is None):
        given = "neither recall nor seconds is given" if recall is None else f"recall is {recall} and seconds {seconds}"
        raise ConfigError(f"{given}; give one of the two")
    if recall is not None and not 0 < recall <= 1:
        raise ConfigError(f"recall is {recall}; it must be above 0 and at most 1, as 0.95")
    if seconds is not None and not seconds > 0:
        raise ConfigError(f"seconds is {seconds}; it must be above 0")
    if queries < 1:
        raise ConfigError(f"queries is {queries}; it must be 1 or more")
    chosen = np.random.default_rng(SEED).choice(index.image_ids, min(queries, len(index)), replace=False)
    pictures = np.ascontiguousarray(index.pixels(np.sort(chosen))[..., ::-1])  # [Q, C, H, W]
    if not index.latents:
        pictures = pictures.transpose(0, 2, 3, 1)  # [Q, H, W, C]
    question = as_question(timestep, recipe=recipe)
    trials = _measure(index, pictures, question, progress or quiet)
    best = choose_trial(trials, recall, seconds)
    terms = None if question.recipe is None else str(question.recipe)
    tuning = {**asdict(best), "timestep": timestep, "recipe": terms, "queries": len(pictures)}
    with write_lock(index.path, "a tuning"):
        manifest = read_manifest(index.path)
        commit(index.path, replace(manifest, tuning=tuning, index_hash=""), synced=manifest.files)
    return Tuning(best, timestep, terms, len(pictures), tuple(trials))


def _measure(index: Index, pictures: Pixels, question: Question, report: Progress) -> list[Trial]:
    count, timestep, recipe = len(index), question.timesteps or None, question.recipe
    lengths = sorted({min(candidates, count) for candidates in CANDIDATES})
    index.votes(pictures[0], timestep, recipe=recipe)  # compiles
    index.scores(pictures[:1], timestep, recipe=recipe, mode="ann", candidates=1)
    figures: dict[tuple[int, int], list[tuple[float, float, float]]] = {}  # recall, mass and seconds of each query
    for number, picture in enumerate(pictures):
        start = time.perf_counter()
        exact = index.scores(picture[None], timestep, recipe=recipe)[0]
        per_image = (time.perf_counter() - start) / count
        ranking = np.argsort(-exact)[: min(DEPTH, count)]
        for probes in PROBES:
            start = time.perf_counter()
            votes = index.votes(picture, timestep, recipe=recipe, probes=probes)
            coarse = time.perf_counter() - start
            order = np.argsort(-votes, kind="stable")
            for length in lengths:
                kept = order[:length]
                recall, mass = float(np.isin(ranking, kept).mean()), float(exact[kept].sum() / exact.sum())
                figures.setdefault((probes, length), []).append((recall, mass, coarse + per_image * length))
        report("tune", number + 1, len(pictures))
    return [Trial(*setting, *np.mean(rows, axis=0).tolist()) for setting, rows in figures.items()]


def choose_trial(trials: Sequence[Trial], recall: float | None, seconds: float | None) -> Trial:
    """Choose the fastest trial that reaches a recall, or the one of the best recall within a time.

    Args:
        trials: one or more.
        recall: wanted fraction of the exact top 100, or None where `seconds` is given.
        seconds: wanted time of a question.

    Raises:
        ConfigError: no trial reaches it.

    Example:
        >>> trials = [Trial(1, 128, 0.7, 0.5, 0.1), Trial(8, 2500, 0.98, 0.9, 2.0)]
        >>> choose_trial(trials, recall=0.9, seconds=None).candidates
        2500
    """
    if recall is not None:
        enough = [trial for trial in trials if trial.recall >= recall]
        if not enough:
            best = max(trial.recall for trial in trials)
            raise ConfigError(f"recall is {recall}; the most that any setting reaches here is {best:.2f}; lower it")
        return min(enough, key=lambda trial: trial.seconds)
    fast = [trial for trial in trials if seconds is not None and trial.seconds <= seconds]
    if not fast:
        least = min(trial.seconds for trial in trials)
        raise ConfigError(f"seconds is {seconds}; the fastest setting here takes {least:.2f} s; allow more")
    return max(fast, key=lambda trial: (trial.recall, -trial.seconds))


def summarize_tuning(tuning: dict[str, Any]) -> str:
    """Describe a manifest's tuning in one line.

    Example:
        >>> trial = asdict(Trial(4, 2500, 0.97, 0.8, 1.2))
        >>> summarize_tuning(trial | {"timestep": 100, "queries": 8})  # as version 0.1.0 wrote it
        '2,500 candidates, 4 probes: recall@100 0.97, mass 0.80, 1.20 s (t = 100, 8 queries)'
    """
    recipe = tuning.get("recipe")
    asked = f"recipe {parse_recipe(recipe).name or recipe}" if recipe else f"t = {tuning['timestep']}"
    return (
        f"{tuning['candidates']:,} candidates, {tuning['probes']} probes: recall@{DEPTH} {tuning['recall']:.2f}, "
        f"mass {tuning['mass']:.2f}, {tuning['seconds']:.2f} s ({asked}, {tuning['queries']} queries)"
    )

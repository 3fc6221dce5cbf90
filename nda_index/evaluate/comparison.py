"""A table of attribution methods: how well the scores of each predict the models of a study."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nda_index.errors import ConfigError
from nda_index.evaluate.lds import Estimate, linear_datamodeling_scores, mean_with_interval
from nda_index.evaluate.methods import Method, pixel_cosine, pixel_distance, posterior_scores, random_scores
from nda_index.evaluate.study import Study
from nda_index.question import Options
from nda_index.scales import Scale

if TYPE_CHECKING:
    from typing_extensions import Unpack

BASELINES: Mapping[str, Method] = {
    "pixel distance": pixel_distance,
    "pixel cosine": pixel_cosine,
    "random": random_scores,
}


@dataclass(frozen=True)
class Row:
    """A method's linear datamodeling score on each group of pictures.

    Attributes:
        method: its name.
        lds: for each group, the mean over pictures with its interval.
        by_picture: for each group, float64 [Q], of each picture.
        seconds: time that its scores took; NaN where that is not known.
    """

    method: str
    lds: Mapping[str, Estimate]
    by_picture: Mapping[str, NDArray[np.float64]]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return means and intervals as JSON values."""
        lds = {group: asdict(estimate) for group, estimate in self.lds.items()}
        return {"method": self.method, "lds": lds, "seconds": None if np.isnan(self.seconds) else self.seconds}

    def minus(self, other: Row) -> dict[str, Estimate]:
        """Estimate by how much it is better than another on the same pictures, for each group.

        Raises:
            ConfigError: the other row has other pictures.
        """
        ours, theirs = self.by_picture, other.by_picture
        if {group: len(lds) for group, lds in ours.items()} != {group: len(lds) for group, lds in theirs.items()}:
            raise ConfigError(
                f"{self.method} and {other.method} have scores of different pictures; compare rows of one study"
            )
        return {group: mean_with_interval(lds - theirs[group]) for group, lds in ours.items()}


def judge_scores(study: Study, method: str, scores: Mapping[str, NDArray[np.floating]], seconds: float) -> Row:
    """Measure how well scores predict the models of a study.

    Args:
        study: models and their losses.
        method: name of the method.
        scores: for each group of the study's pictures, floats [Q, N].
        seconds: time that they took; NaN where that is not known.

    Raises:
        ConfigError: the scores have another shape, or a group has fewer than 2 pictures.
        MissingDependencyError: SciPy is not installed.
    """
    by_picture = {
        group: linear_datamodeling_scores(scores[group], study.masks, losses) for group, losses in study.losses.items()
    }
    lds = {group: mean_with_interval(values) for group, values in by_picture.items()}
    return Row(method, lds, by_picture, seconds)


def baseline_rows(study: Study, methods: Mapping[str, Method] = BASELINES) -> list[Row]:
    """Make a row for each method, and one for each whose scores are in the study.

    Args:
        study: models and their losses.
        methods: by name; for instance an embedding of your own.

    Raises:
        MissingDependencyError: SciPy is not installed.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> pictures, masks = rng.integers(0, 256, (8, 8, 8, 3), np.uint8), rng.random((6, 8)) < 0.5
        >>> study = Study(pictures, masks, {"new": pictures}, {"new": rng.random((6, 8))})
        >>> [row.method for row in baseline_rows(study)]
        ['pixel distance', 'pixel cosine', 'random']
    """
    rows = []
    for name, method in methods.items():
        start = time.perf_counter()
        scores = {group: method(study.train, queries) for group, queries in study.queries.items()}
        rows.append(judge_scores(study, name, scores, time.perf_counter() - start))
    return rows + [judge_scores(study, name, scores, float("nan")) for name, scores in study.scores.items()]


def posterior_rows(
    study: Study, scales: Sequence[Scale], timesteps: Sequence[int], **options: Unpack[Options]
) -> list[Row]:
    """Make rows of the patch posterior: each scale and all together, at each timestep and averaged over all.

    Args:
        study: models and their losses.
        scales: patch sizes; together, their scores are summed with their weights. Each costs a pass.
        timesteps: 0 to 999. Each costs a pass.
        **options: as for `posterior_scores`.

    Raises:
        ConfigError: an option breaks a rule.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> pictures, masks = rng.integers(0, 256, (8, 8, 8, 3), np.uint8), rng.random((6, 8)) < 0.5
        >>> study = Study(pictures, masks, {"new": pictures}, {"new": rng.random((6, 8))})
        >>> [row.method for row in posterior_rows(study, [Scale(3), Scale(5)], [50])]
        ['p3r1, t = 50', 'p5r1, t = 50', 'p3r1 + p5r1, t = 50']
    """
    single: dict[str, dict[str, NDArray[np.float64]]] = {}
    seconds: dict[str, float] = {}

    def add(label: str, parts: Sequence[str]) -> None:
        single[label] = {group: np.mean([single[part][group] for part in parts], axis=0) for group in study.queries}
        seconds[label] = sum(seconds[part] for part in parts)

    names = [scale.name for scale in scales]
    together = " + ".join(names)
    for timestep in timesteps:
        for scale in scales:
            start, label = time.perf_counter(), f"{scale.name}, t = {timestep}"
            single[label] = {
                group: posterior_scores(study.train, queries, [scale], timestep, **options)
                for group, queries in study.queries.items()
            }
            seconds[label] = time.perf_counter() - start
        if len(scales) > 1:
            add(f"{together}, t = {timestep}", [f"{name}, t = {timestep}" for name in names])
    if len(timesteps) > 1:
        every = ", ".join(str(timestep) for timestep in timesteps)
        for name in dict.fromkeys([*names, together]):
            add(f"{name}, t = {every}", [f"{name}, t = {timestep}" for timestep in timesteps])
    return [judge_scores(study, label, scores, seconds[label]) for label, scores in single.items()]


def as_markdown(rows: Sequence[Row]) -> str:
    """Write rows as a Markdown table."""
    groups = list(rows[0].lds)
    lines = ["| method | " + " | ".join(groups) + " | seconds |", "|---" * (len(groups) + 2) + "|"]
    for row in rows:
        cells = " | ".join(str(row.lds[group]) for group in groups)
        lines.append(f"| {row.method} | {cells} | {'' if np.isnan(row.seconds) else f'{row.seconds:.1f}'} |")
    return "\n".join(lines) + "\n"

"""A question: the options that say how a picture is scored, and the picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from nda_index.diffusion import NoiseSetting, NoisyImage, noise_level, noisy_images
from nda_index.errors import ConfigError
from nda_index.exact.posterior import PosteriorSettings
from nda_index.images import to_float
from nda_index.progress import Progress

if TYPE_CHECKING:
    from typing_extensions import Unpack

Mode = Literal["ann", "exact"]


class Options(TypedDict, total=False):
    """The options of `Index.attribute` that say how a query is scored; `Question` has their defaults."""

    noise: NoiseSetting
    seed: int
    draws: int
    temper: float
    mode: Mode
    candidates: int | None
    per_image_topk: int | None
    mirror: bool
    where: str | None


@dataclass(frozen=True)
class Question:
    """The options of a query; `Index.attribute` has the meaning of each field."""

    timesteps: tuple[int, ...]
    noise: NoiseSetting = "none"
    seed: int = 0
    draws: int = 8
    temper: float = 1.0
    mode: Mode = "ann"
    candidates: int | None = None
    per_image_topk: int | None = None
    mirror: bool = False
    where: str | None = None

    def __post_init__(self) -> None:
        if not self.timesteps:
            raise ConfigError("timestep is empty; give an integer from 0 to 999, or several")
        for timestep in self.timesteps:
            noise_level(timestep)  # raises for what is not a timestep
        if self.mode not in ("ann", "exact"):
            raise ConfigError(f"mode is {self.mode!r}; it must be 'ann' or 'exact'")
        if self.candidates is not None and self.candidates < 1:
            raise ConfigError(f"candidates is {self.candidates}; it must be 1 or more, or None")

    @property
    def posterior(self) -> PosteriorSettings:
        """The options of the exact stage."""
        return PosteriorSettings(per_image_topk=self.per_image_topk, mirror=self.mirror)

    def posterior_on(self, backend: str) -> PosteriorSettings:
        """Return the options of the exact stage on a backend."""
        return replace(self.posterior, backend=backend)

    @property
    def grouping(self) -> tuple[int, int]:
        """Numbers of timesteps and of draws; there is a noisy version for each pair."""
        return len(self.timesteps), self.draws if self.noise == "average" else 1

    def noisy_versions(self, image: NDArray[np.uint8]) -> list[NoisyImage]:
        """Make all noisy versions of a query uint8 [C, H, W], over timesteps and draws."""
        clean = to_float(image)
        return [
            noisy
            for timestep in self.timesteps
            for noisy in noisy_images(clean, timestep, self.noise, seed=self.seed, draws=self.draws, temper=self.temper)
        ]

    def as_settings(self) -> dict[str, Any]:
        """Return the fields as JSON values; what has no effect on this question is left out."""
        settings: dict[str, Any] = {"timestep": list(self.timesteps), "noise": self.noise, "mode": self.mode}
        if self.noise != "none":
            settings["seed"] = self.seed
        if self.noise == "average":
            settings["draws"] = self.draws
        settings |= {"temper": self.temper, "mirror": self.mirror}
        settings |= {"candidates": self.candidates, "per_image_topk": self.per_image_topk, "where": self.where}
        return settings

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Question:
        """Return the question with these settings; what `as_settings` left out takes a value without effect.

        Example:
            >>> question = Question((100,), draws=1)
            >>> Question.from_settings(question.as_settings()) == question
            True
        """
        names = ("noise", "temper", "mode", "candidates", "per_image_topk", "mirror", "where")
        options = {name: settings[name] for name in names}
        seed, draws = settings.get("seed", 0), settings.get("draws", 1)
        return cls(timesteps=tuple(settings["timestep"]), seed=seed, draws=draws, **options)


def as_question(timestep: int | Sequence[int], **options: Unpack[Options]) -> Question:
    """Make a question of options as `Index.attribute` takes them: one timestep or several.

    Raises:
        ConfigError: an option breaks a rule.

    Example:
        >>> as_question(100) == as_question([100], noise="none")
        True
    """
    one = isinstance(timestep, int | np.integer | float | str)
    timesteps = map(_plain, (timestep,) if one else timestep)  # type: ignore[arg-type]
    return Question(tuple(timesteps), **{name: _plain(value) for name, value in options.items()})


def _plain(value: Any) -> Any:
    """A NumPy number as Python's own, which generators take and JSON writes."""
    return value.item() if isinstance(value, np.generic) else value


@dataclass(frozen=True)
class Query:
    """A picture with a question about it, ready to be answered.

    Attributes:
        pixels: uint8 [C, H, W], the picture as the index compares it.
        question: how it is to be scored.
        top: number of images in the answer.
        progress: is called with (stage, done, total). What it raises ends this query, and no other of a batch.
        decode_seconds: what it took to read the picture.
    """

    pixels: NDArray[np.uint8]
    question: Question
    top: int
    progress: Progress | None = None
    decode_seconds: float = 0.0

"""A question: how a query is to be scored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nda_index.build import Progress
from nda_index.diffusion import NoiseSetting, NoisyImage, noisy_images
from nda_index.errors import ConfigError
from nda_index.exact.evidence import to_float
from nda_index.exact.posterior import PosteriorSettings

Mode = Literal["ann", "exact"]


@dataclass(frozen=True)
class Question:
    """A query as it was asked; `Index.attribute` has the meaning of each field."""

    timesteps: tuple[int, ...]
    noise: NoiseSetting
    seed: int
    draws: int
    temper: float
    mode: Mode
    candidates: int | None
    per_image_topk: int | None
    mirror: bool
    where: str | None

    def __post_init__(self) -> None:
        if not self.timesteps:
            raise ConfigError("timestep is empty; give an integer from 0 to 999, or several")
        if self.mode not in ("ann", "exact"):
            raise ConfigError(f"mode is {self.mode!r}; it must be 'ann' or 'exact'")
        if self.candidates is not None and self.candidates < 1:
            raise ConfigError(f"candidates is {self.candidates}; it must be 1 or more, or None")

    @property
    def posterior(self) -> PosteriorSettings:
        """The part of the question that the exact stage is told."""
        return PosteriorSettings(per_image_topk=self.per_image_topk, mirror=self.mirror)

    def posterior_on(self, backend: str) -> PosteriorSettings:
        """`posterior`, computed by a backend."""
        return replace(self.posterior, backend=backend)

    @property
    def grouping(self) -> tuple[int, int]:
        """Numbers of timesteps and of draws: of each noisy version there are as many."""
        return len(self.timesteps), self.draws if self.noise == "average" else 1

    def noisy_versions(self, image: NDArray[np.uint8]) -> list[NoisyImage]:
        """All noisy versions of a query uint8 [C, H, W], over timesteps and draws."""
        clean = to_float(image)
        return [
            noisy
            for timestep in self.timesteps
            for noisy in noisy_images(clean, timestep, self.noise, seed=self.seed, draws=self.draws, temper=self.temper)
        ]

    def as_settings(self) -> dict[str, Any]:
        """The fields as JSON values; what has no effect on this question is left out."""
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
        """The question that has these settings; what `as_settings` left out takes a value without effect.

        Example:
            >>> question = Question((100,), "none", 0, 1, 1.0, "ann", None, None, False, None)
            >>> Question.from_settings(question.as_settings()) == question
            True
        """
        names = ("noise", "temper", "mode", "candidates", "per_image_topk", "mirror", "where")
        options = {name: settings[name] for name in names}
        seed, draws = settings.get("seed", 0), settings.get("draws", 1)
        return cls(timesteps=tuple(settings["timestep"]), seed=seed, draws=draws, **options)


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

"""What a service is told when it starts, and the bounds of what it may be asked."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from nda_index.errors import ConfigError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")  # of uploads: what browsers show, no format with a parser of its own
TIMESTEPS, DRAWS = 8, 64  # of a question, and of both together DRAWS at most
PER_IMAGE_TOPK = 100
CONDITION_CHARACTERS = 3600  # as sent, and as written anew for the index, which an answer tells and can be sent again
PNG_SIDES = (32, 512)  # shorter side of pictures that are sent, smallest and largest
READERS = 64  # requests for images and answers, in the house at most
LINKS = 16  # requests for links, in the house at most; the page asks for one after the other
TEXT_BYTES = 1 << 16  # of a question without its picture


@dataclass(frozen=True)
class ServeSettings:
    """Settings of a service.

    Args:
        results: folder of the answers, made if it is not there.
        results_bytes: what they may take there; the ones that were not used for longest are dropped.
        tokens: sha256, in hexadecimal, of each bearer token that is accepted; none: everyone may ask.
        hosts: names by which a browser may call the service; None: any.
        queue: questions in the house at most, from the upload to the answer; more are refused.
        batch: questions that the index is asked at once.
        deadline: seconds from the first byte of a question to its answer, and for a part of an answer.
        upload_bytes: size of a picture's file.
        pixels: width times height of a picture.
        top: images in an answer.
        reload_seconds: how often to look whether the index has changed.
        threads: of computation; by default one for each core.

    Raises:
        ConfigError: a number is below its least value.
    """

    results: Path
    results_bytes: int = 1 << 30
    tokens: frozenset[str] = frozenset()
    hosts: frozenset[str] | None = None
    queue: int = 64
    batch: int = 8
    deadline: float = 60.0
    upload_bytes: int = 20 << 20
    pixels: int = 1 << 25
    top: int = 100
    reload_seconds: float = 1.0
    threads: int = field(default_factory=lambda: os.cpu_count() or 1)

    def __post_init__(self) -> None:
        for name in ("results_bytes", "queue", "batch", "upload_bytes", "pixels", "top", "threads"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        for name in ("deadline", "reload_seconds"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be above 0 seconds")

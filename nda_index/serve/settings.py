"""Settings of a service, and the bounds of its requests."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nda_index.errors import ConfigError
from nda_index.serve.tokens import Quota

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")  # of uploads: what browsers show, no format with a parser of its own
TIMESTEPS, DRAWS = 8, 64  # of a question; timesteps times draws is at most DRAWS too: time grows with the product
PER_IMAGE_TOPK = 100  # of a question; the exact stage keeps as many weights for each position and image
TEMPERS, WEIGHTS = (0.01, 100.0), (1e-6, 1e6)  # of a question, and of a term of its recipe
RECIPE_CHARACTERS = 500  # of `recipe`
CONDITION_CHARACTERS = 3600  # of `where`, as sent and as rewritten; an answer shows it, and it can be sent again
PNG_SIDES = (32, 512)  # shorter side of pictures in responses, smallest and largest
ROOT_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)+")
TEXT_BYTES = 1 << 16  # of a question without its picture


@dataclass(frozen=True)
class ServeSettings:
    """Settings of a service.

    Args:
        results: folder of the stored answers, made if it does not exist.
        results_bytes: size of that folder. Above it the least recently used answers are deleted; more keeps more of
            them from being computed again.
        tokens: by sha256, in hexadecimal, of each accepted bearer token, whose it is and how many questions its owner
            may send; empty: the service is open to everyone.
        reread_tokens: returns them as they are at a moment; None: they stay as they are.
        root_path: path at which a proxy shows the service, as "/photos"; the proxy may take it away or leave it.
        audit: file of the audit log, to which a line is added for each question; None: there is none.
        texts: a translation of the page's texts, served in their place; None: they are English.
        hosts: host names by which a browser may call the service; None: any.
        queue: questions in flight at most, from upload to answer; more are refused. More means longer waits under load,
            and a decoded picture in memory for each.
        batch: questions that the index answers at once. More gives more throughput under load and later first answers.
        deadline: seconds from the first byte of a question to its answer, and for a part of an answer.
        upload_bytes: size of a picture's file. Each question in flight may hold that much memory.
        pixels: width times height of a picture. Decoding takes several bytes of memory for each.
        top: images in an answer.
        jobs: jobs that are not finished at most; more are refused. Each may hold `job_bytes` on the disk. 0: none
            is taken.
        job_pictures: pictures of a job.
        job_bytes: size of a job's pictures; an archive takes as much again until it is unpacked.
        reads: requests for images and answers in flight at most; more are refused.
        links: requests for links in flight at most; more are refused. Each takes seconds on large images, and the page
            sends one after the other.
        reload_seconds: time between two looks at the index on disk, and at the tokens. Less shows changes sooner, and
            costs one `stat` of each manifest and a read of the token file.
        linger: seconds after SIGTERM for which questions are still taken, where something has looked at /readyz in the
            minute before: until it has seen that the service ends. More suits proxies that look seldom.
        threads: threads of computation; by default one for each core.

    Raises:
        ConfigError: a number is below its least value, or the root path is none.
    """

    results: Path
    results_bytes: int = 1 << 30
    tokens: Mapping[str, Quota] = field(default_factory=dict)
    reread_tokens: Callable[[], Mapping[str, Quota]] | None = None
    root_path: str = ""
    audit: Path | None = None
    texts: Path | None = None
    hosts: frozenset[str] | None = None
    queue: int = 64
    batch: int = 8
    deadline: float = 60.0
    upload_bytes: int = 20 << 20
    pixels: int = 1 << 25
    top: int = 100
    jobs: int = 16
    job_pictures: int = 10_000
    job_bytes: int = 1 << 30
    reads: int = 64
    links: int = 16
    reload_seconds: float = 1.0
    linger: float = 10.0
    threads: int = field(default_factory=lambda: os.cpu_count() or 1)

    def __post_init__(self) -> None:
        positive = ("results_bytes", "queue", "batch", "upload_bytes", "pixels", "top", "reads", "links", "threads")
        for name in (*positive, "job_pictures", "job_bytes"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if self.jobs < 0:
            raise ConfigError(f"jobs is {self.jobs}; it must be 0, for none, or more")
        if self.root_path and not ROOT_PATH.fullmatch(self.root_path):
            raise ConfigError(f"root_path is {self.root_path!r}; it must begin with / and not end with one: /photos")
        for name in ("deadline", "reload_seconds"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be above 0 seconds")

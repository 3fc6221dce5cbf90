"""A part of a collection that lies together: the coarse and the exact stage run where it is.

A question is put to every shard as a coroutine (`Shard.asked`). What it yields are sums over its own images; the sums
of all shards are merged and sent back, and each shard goes on as if it held the whole collection. So an answer does not
depend on how a collection is divided. An index on one machine has one shard.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from nda_index.coarse.cells import Cells, Census, merge_census
from nda_index.coarse.probe import CellVisit, Probe, sum_votes, visit_cells
from nda_index.coarse.storage import read_cells
from nda_index.coarse.windows import query_windows
from nda_index.errors import ConfigError, MismatchError
from nda_index.exact import gpu
from nda_index.exact.means import sum_mean
from nda_index.exact.posterior import View, sum_posterior, views_of
from nda_index.exact.resident import ResidentPixels
from nda_index.images import to_float
from nda_index.indexing.pipeline import manifest_scales
from nda_index.indexing.segments import segment_names
from nda_index.progress import Progress
from nda_index.query.timing import Clock
from nda_index.question import Question
from nda_index.store.corpus import Corpus
from nda_index.store.locks import ReadLease
from nda_index.store.manifest import Manifest, read_manifest
from nda_index.store.tombstones import read_removed
from nda_index.trust.coverage import outside_ratios
from nda_index.trust.null import read_null

BLOCK = 1024  # images that are read and scored at a time
BACKENDS_BY_DEVICE = {"auto": "auto", "cpu": "cpu", "cuda": "gpu"}
RESIDENT_BYTES = 8 << 30  # pixels kept on a GPU between questions

Answer = TypeVar("Answer")
Steps: TypeAlias = "Generator[Any, Any, None]"


@dataclass(frozen=True)
class Ask:
    """What a shard is asked: a question about a picture uint8 [C, H, W], and how many cells a window visits.

    With `mean` it is the posterior mean that is wanted, and not the scores.
    """

    question: Question
    query: NDArray[np.uint8]
    probes: int
    progress: Progress | None = None
    mean: bool = False


class Conversation(Protocol):
    """A question that all shards are working on."""

    def advance(self, messages: Sequence[Any]) -> list[Any]:
        """Send each shard a message, and wait for what each yields next; None from a shard that is lost."""

    def end(self) -> None:
        """Say that no message follows."""


class Shards(Protocol):
    """The shards of an index, here or on other machines.

    Attributes:
        present: bool [images of the shard] each, False for those that were removed.
        concurrent: whether questions may be put from several threads at a time.
    """

    present: list[NDArray[np.bool_]]
    concurrent: bool

    def ask(self, ask: Ask) -> Conversation:
        """Put a question to all shards."""

    def pixels(self, image_ids: Sequence[NDArray[np.int64]]) -> list[NDArray[np.uint8]]:
        """Pixels of some images of each shard, by ids of the shard, uint8 [n, C, H, W] each."""

    def missing(self) -> int:
        """Number of images that cannot be asked about now."""

    def attempt(self, answer: Callable[[], Answer]) -> Answer:
        """Answer a question, again where a shard was lost on the way."""

    def close(self) -> None:
        """Say that nothing more will be asked."""


class Shard:
    """Images, their inverted lists, and what is needed to score them.

    Attributes:
        manifest: of the index that it was opened from.
        scales: of that index.
        null: the best evidence of unrelated pictures.
        present: bool [N], False for images that were removed.
    """

    def __init__(self, folder: Path, device: str) -> None:
        """Open an index's folder; `open_index` has the errors."""
        self._lease = ReadLease(folder)
        self.manifest = read_manifest(folder)
        height, width = self.manifest.config["image_size"]
        self._corpus = Corpus(folder, (self.manifest.config["channels"], height, width), self.manifest.table)
        self.scales = manifest_scales(self.manifest.config)
        self.coarse = open_coarse(folder, self.manifest)
        self.null = read_null(folder)
        self.present = np.ones(self._corpus.count, np.bool_)
        self.present[read_removed(folder, self.manifest)] = False
        self._backend = BACKENDS_BY_DEVICE[device]
        self._resident = (
            ResidentPixels(self._corpus.pixels, self._corpus.count, self._corpus.shape, gpu.DEVICE, RESIDENT_BYTES)
            if device != "cpu" and gpu.available()
            else None
        )

    @property
    def on_gpu(self) -> bool:
        """Whether the exact stage runs on a GPU."""
        return self._resident is not None

    def close(self) -> None:
        """Let its files be erased."""
        self._lease.release()

    def census(self) -> list[Census]:
        """How many members each cell of each scale has, and their moments."""
        return [cells.census for cells in self.coarse]

    def join(self, census: Sequence[Census]) -> None:
        """Be one of several shards, which have this census together: cells are chosen as if all lay here."""
        self.coarse = tuple(
            replace(cells, joint_census=whole) for cells, whole in zip(self.coarse, census, strict=True)
        )

    def pixels(self, image_ids: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Pixels of some images, uint8 [n, C, H, W]."""
        return self._corpus.pixels(image_ids)

    def asked(self, ask: Ask) -> Steps:
        """Work on a question. Yields, and is sent, in turn:

        1. the log masses of its windows' visits to cells, [V] for each view, none in exact mode; those of all shards;
        2. the votes [N] (none in exact mode) and which images are asked about, bool [N].

        Then, where scores are wanted, it is sent the ids to score, and those of a sample of the others, and goes on:

        3. the log totals of the exact stage, [P] for each view, and those of the coarse stage for the images to score,
           [W] for each view; those of all shards;
        4. what the sample weighs over those, [m, P] for each view, and what the coarse stage holds of each position,
           [rows, columns]; the log normalisers, [P] for each view;
        5. the scores [n], the backend and what it left out; the ids of the images that the answer names;
        6. their pixels, keys and metadata, and the seconds of each stage.

        Where the posterior mean is wanted, it is sent the ids of the images that it runs over:

        3. the log totals of the exact stage, [P] for each view; those of all shards;
        4. the weighted pixels, [scales, H, W, C + 1], and the seconds of each stage.
        """
        return self._averaged(ask) if ask.mean else self._scored(ask)

    def _scored(self, ask: Ask) -> Steps:
        question, clock = ask.question, Clock()
        views = views_of(question.noisy_versions(ask.query), self.scales)
        probes, (ids, sampled) = yield from self._probed(ask, views, clock)
        with clock.stage("exact"):
            sums = sum_posterior(
                views, self._blocks(ids, clock), len(ids), question.posterior_on(self._backend), _of(ask)
            )
            totals = sums.log_totals
        with clock.stage("coverage"):
            inside = _mask(ids, len(self.present))
            held = [found.totals_of(inside) for found in probes if sampled is not None]
        totals, held = yield totals, held
        with clock.stage("coverage"):
            ratios = (
                outside_ratios(views, totals, to_float(self._corpus.pixels(sampled)), question.posterior)
                if sampled is not None
                else []
            )
            strides = [view.scale.query_stride for view in views]
            parts = [p.held(part)[::s, ::s] for p, part, s in zip(probes, held, strides, strict=False)]
        normalisers = yield ratios, parts
        with clock.stage("exact"):
            result = sums.scores(normalisers)
        chosen = yield result.scores, result.backend, result.left_out
        with clock.stage("fetch"):
            pixels = self._corpus.pixels(chosen)
            keys, metadata = self._corpus.rows(chosen)
        yield pixels, keys, metadata, clock.seconds

    def _averaged(self, ask: Ask) -> Steps:
        question, clock = ask.question, Clock()
        views = views_of(question.noisy_versions(ask.query), self.scales)
        _, ids = yield from self._probed(ask, views, clock)
        with clock.stage("exact"):
            first = sum_mean(views, self._blocks(ids, clock), len(ids), question.posterior_on(self._backend), _of(ask))
        normalisers = yield first.log_totals
        with clock.stage("exact"):
            sums = first.pixels(normalisers)
        yield sums, clock.seconds

    def _probed(self, ask: Ask, views: Sequence[View], clock: Clock) -> Generator[Any, Any, tuple[list[Probe], Any]]:
        """The first two steps of a question: what the coarse stage found, and what is sent then."""
        with clock.stage("probe"):
            allowed = self._allowed(ask.question.where)
            probings = (
                [] if ask.question.mode == "exact" else [self._probing(ask, view, allowed, clock) for view in views]
            )
            totals = [visit.log_masses for visit in probings]
        merged = yield totals
        with clock.stage("probe"):
            probes = [visit.probe(total) for visit, total in zip(probings, merged, strict=True)]
            votes = sum_votes([view.factor for view in views], probes) if probes else None
        message = yield votes, allowed
        return probes, message

    def _probing(self, ask: Ask, view: View, allowed: NDArray[np.bool_], clock: Clock) -> CellVisit:
        cells = self.coarse[self.scales.index(view.scale)]
        with clock.stage("embed"):
            windows = query_windows(cells.embedding, cells.stride, ask.query, view.noisy, ask.question.mirror)
        some = None if allowed.all() else allowed
        return visit_cells(cells, windows, len(allowed), probes=ask.probes, allowed=some)

    def _allowed(self, where: str | None) -> NDArray[np.bool_]:
        if where is None:
            return self.present
        return self.present & _mask(self._corpus.matching(where), len(self.present))

    def _blocks(self, ids: NDArray[np.int64], clock: Clock) -> Callable[[], Iterator[NDArray[np.float32] | Tensor]]:
        def blocks() -> Iterator[NDArray[np.float32] | Tensor]:
            for start in range(0, len(ids), BLOCK):
                chosen = ids[start : start + BLOCK]
                with clock.stage("fetch"):
                    pixels = self._resident.take(chosen) if self._resident else to_float(self._corpus.pixels(chosen))
                yield pixels

        return blocks


class LocalShards:
    """Shards in this process."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        """Put shards together, in the order of their images' ids."""
        self._shards = list(shards)
        self.present = [shard.present for shard in shards]
        self.concurrent = not any(shard.on_gpu for shard in shards)  # whose memory one question may fill
        if len(shards) > 1:
            census = [merge_census(parts) for parts in zip(*(shard.census() for shard in shards), strict=True)]
            for shard in shards:
                shard.join(census)

    def ask(self, ask: Ask) -> Conversation:
        """Put a question to all shards."""
        return _LocalConversation([shard.asked(ask) for shard in self._shards])

    def pixels(self, image_ids: Sequence[NDArray[np.int64]]) -> list[NDArray[np.uint8]]:
        """Pixels of some images of each shard, by ids of the shard."""
        return [shard.pixels(ids) for shard, ids in zip(self._shards, image_ids, strict=True)]

    def missing(self) -> int:
        """None: they are here."""
        return 0

    def attempt(self, answer: Callable[[], Answer]) -> Answer:
        """Answer a question."""
        return answer()

    def close(self) -> None:
        """Let the files be erased."""
        for shard in self._shards:
            shard.close()


class _LocalConversation:
    def __init__(self, steps: Sequence[Steps]) -> None:
        self._steps = steps

    def advance(self, messages: Sequence[Any]) -> list[Any]:
        return [steps.send(message) for steps, message in zip(self._steps, messages, strict=True)]

    def end(self) -> None:
        for steps in self._steps:
            steps.close()


def check_device(device: str) -> None:
    """Raise `ConfigError` where there is no such device."""
    if device not in BACKENDS_BY_DEVICE:
        raise ConfigError(f"device is {device!r}; it must be one of {', '.join(map(repr, BACKENDS_BY_DEVICE))}")
    if device == "cuda" and not gpu.available():
        raise ConfigError("device is 'cuda', but there is no CUDA device with Triton; it must be 'auto' or 'cpu'")


def whole_manifest(folder: Path, parts: Sequence[Manifest]) -> Manifest:
    """The manifest of an index in shards, as they are now.

    Raises:
        MismatchError: the shards do not have the same cells.
    """
    manifest = read_manifest(folder)
    for part, name in zip(parts, manifest.shards, strict=True):
        for file, expected in manifest.files.items():
            if file.startswith("scales/") and part.files.get(file, {}).get("sha256") != expected["sha256"]:
                raise MismatchError(
                    f"{name} of the index {str(folder)!r} has another {file} than the index; it was built with other "
                    f"cells, build it again with those of the index"
                )
    counts = {name: sum(part.counts[name] for part in parts) for name in ("images", "removed", "failures")}
    hashes = [manifest.index_hash, *(part.index_hash for part in parts)]
    index_hash = hashlib.sha256("".join(hashes).encode()).hexdigest()
    return replace(manifest, counts=counts, index_hash=index_hash)


def open_coarse(folder: Path, manifest: Manifest) -> tuple[Cells, ...]:
    """The coarse stage of every scale of an index."""
    strides = manifest.config["coarse"]
    return tuple(
        read_cells(
            folder / "scales" / scale.name, scale, strides[scale.name]["stride"], segment_names(manifest.files, scale)
        )
        for scale in manifest_scales(manifest.config)
    )


def _mask(ids: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
    mask = np.zeros(count, np.bool_)
    mask[ids] = True
    return mask


def _of(ask: Ask) -> Callable[[int, int], None]:
    if ask.progress is None:
        return lambda done, total: None
    report = ask.progress
    return lambda done, total: report("score", done, total)

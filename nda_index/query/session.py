"""A question on a shard of this process: what each step computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from nda_index.coarse.lists import join_backends
from nda_index.coarse.probe import CellVisit, Probe, visit_cells
from nda_index.coarse.windows import query_windows
from nda_index.exact.means import MeanSums, sum_mean
from nda_index.exact.posterior import PosteriorSettings, PosteriorSums, ViewScores, sum_posterior
from nda_index.query.protocol import (
    Floats,
    Outside,
    Rows,
    Selection,
    ShardMean,
    ShardQuestion,
    ShardScores,
    Totals,
    Votes,
)
from nda_index.query.shard import Shard, mask_of
from nda_index.query.timing import StageTimer
from nda_index.trust.coverage import weigh_outside

Result = TypeVar("Result")


class LocalSession:
    """A question on a shard; `nda_index.query.protocol.ShardSession` has its steps."""

    def __init__(self, shard: Shard, question: ShardQuestion) -> None:
        """Begin; nothing is computed before the first step."""
        self._shard, self._question, self._timer = shard, question, StageTimer()
        self._visits: list[CellVisit] = []
        self._probes: list[Probe] = []
        self._allowed = np.empty(0, np.bool_)
        self._selected = np.empty(0, np.int64)
        self._sampled: NDArray[np.int64] | None = None
        self._sums: PosteriorSums | MeanSums | None = None
        self._on_gpu = shard.on_gpu  # as long as it does not fail

    def probe(self) -> list[Floats]:
        """Visit cells: the log mass (base 2) of every visit, for each scale."""
        with self._timer.stage("probe"):
            self._allowed = self._shard.allow(self._question.question.where)
            if self._question.question.mode != "exact":
                self._visits = [self._visit(numbers) for numbers in self._question.lookups.by_scale()]
        return [visit.log_masses for visit in self._visits]

    def vote(self, log_masses: list[Floats]) -> Votes:
        """Estimate scores, from the log masses of all shards."""
        with self._timer.stage("probe"):
            self._probes = [visit.probe(total) for visit, total in zip(self._visits, log_masses, strict=True)]
            votes = [probe.votes for probe in self._probes]
        backend = join_backends(probe.backend for probe in self._probes)
        return Votes(np.sum(votes, axis=0) if votes else None, self._allowed, backend)

    def total(self, selection: Selection) -> Totals:
        """Sum the masses of selected images."""
        self._selected = ids = selection.image_ids
        self._sampled = selection.sampled
        with self._timer.stage("exact"):
            self._sums = self._outlive_gpu(self._sum_selected)
        if self._sampled is None:
            return Totals(self._sums.log_totals, [])
        with self._timer.stage("coverage"):
            inside = mask_of(ids, len(self._shard.present))
            return Totals(self._sums.log_totals, [probe.totals_of(inside) for probe in self._probes])

    def weigh(self, totals: Totals) -> Outside:
        """Weigh the sampled images against the totals of all shards."""
        if self._sampled is None:
            return Outside([], [])
        with self._timer.stage("coverage"):
            views = self._question.views
            ratios = self._outlive_gpu(lambda: self._weigh_sampled(totals.exact))
            lookups = self._question.lookups
            known: dict[int, Floats] = {}
            for numbers, probe, total in zip(lookups.by_scale(), self._probes, totals.coarse, strict=True):
                known |= zip(numbers, probe.held(total), strict=True)
            held = lookups.spread([known[number] for number in range(len(known))], views)
        return Outside(ratios, held)

    def score(self, log_normalisers: list[Floats]) -> ShardScores:
        """Score the selected images in the whole posterior."""

        def second_pass() -> ViewScores:
            if not isinstance(self._sums, PosteriorSums):
                raise RuntimeError("score is called before total, or of a question about a mean")
            return self._sums.scores(log_normalisers)

        with self._timer.stage("exact"):
            result = self._outlive_gpu(second_pass)
        return ShardScores(result.scores, result.backend, result.left_out)

    def average(self, log_normalisers: list[Floats]) -> ShardMean:
        """Sum the pixels of the selected images by their weights in the whole posterior."""

        def second_pass() -> Floats:
            if not isinstance(self._sums, MeanSums):
                raise RuntimeError("average is called before total, or of a question about scores")
            return self._sums.pixels(log_normalisers)

        with self._timer.stage("exact"):
            pixels = self._outlive_gpu(second_pass)
        return ShardMean(pixels, self._timer.seconds)

    def fetch(self, image_ids: NDArray[np.int64]) -> Rows:
        """Read images of the shard, in the order of these ids."""
        with self._timer.stage("fetch"):
            pixels = self._shard.corpus.pixels(image_ids)
            keys, metadata = self._shard.corpus.rows(image_ids)
            previews = self._shard.corpus.pictures(image_ids) if self._shard.shows_pictures else ()
        return Rows(pixels, keys, metadata, self._timer.seconds, tuple(previews))

    def end(self) -> None:
        """Let go of what the steps kept."""
        self._visits, self._probes, self._sums = [], [], None

    def _visit(self, numbers: Sequence[int]) -> CellVisit:
        question, names = self._question, [scale.name for scale in self._shard.scales]
        lookups = [question.lookups.views[number] for number in numbers]
        place = names.index(lookups[0].scale.name)
        cells, lists = self._shard.coarse[place], self._shard.lists[place]
        with self._timer.stage("embed"):
            queries = [
                query_windows(
                    cells.embedding, cells.stride, question.pixels, lookup.noisy, question.question.mirror,
                    train_stride=lookup.scale.train_stride,
                )
                for lookup in lookups
            ]  # fmt: skip
        factors = [lookup.factor for lookup in lookups]
        some = None if self._allowed.all() else self._allowed
        return visit_cells(lists, queries, factors, len(self._allowed), probes=question.probes, allowed=some)

    def _sum_selected(self) -> PosteriorSums | MeanSums:
        """Sum the masses of the selected images."""
        views, ids = self._question.views, self._selected
        blocks = self._shard.blocks(ids, self._timer, on_gpu=self._on_gpu)
        sum_images = sum_mean if self._question.mean else sum_posterior
        return sum_images(views, blocks, len(ids), self._settings(), self._report())

    def _weigh_sampled(self, log_totals: list[Floats]) -> list[Floats]:
        """Weigh the sampled images against totals; none where there is no sample."""
        if self._sampled is None:
            return []
        pixels = self._shard.pixels(self._sampled, on_gpu=self._on_gpu)
        return weigh_outside(self._question.views, log_totals, pixels, self._settings())

    def _settings(self) -> PosteriorSettings:
        return self._question.question.posterior_on(self._shard.backend if self._on_gpu else "cpu")

    def _outlive_gpu(self, step: Callable[[], Result]) -> Result:
        """Take a step; if the GPU fails in it, take it again on the CPU, which then answers the question."""
        try:
            return step()
        except Exception as error:
            if not self._on_gpu:
                raise
            self._shard.leave_gpu(error)
        self._on_gpu = False
        if self._sums is not None:  # they lie on the GPU
            self._sums = self._sum_selected()
        return step()

    def _report(self) -> Callable[[int, int], None]:
        progress = self._question.progress

        def report(done: int, total: int) -> None:
            if progress is not None:
                progress("score", done, total)

        return report

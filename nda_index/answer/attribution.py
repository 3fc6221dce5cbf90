"""The answer to a question: which training images a picture is made of, how much of each, and where."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nda_index.answer.arrow import answer_fields
from nda_index.answer.data import AnswerData
from nda_index.answer.denoised import Denoised
from nda_index.answer.forms import FORMS
from nda_index.answer.report import as_html
from nda_index.errors import AnswerFormatError, ConfigError
from nda_index.exact.links import cell_links
from nda_index.question import Question
from nda_index.store.files import ending_of, write_atomically


@dataclass(frozen=True, repr=False)
class Attribution(AnswerData):
    """Training images in descending order of their score, with the evidence for it; `AnswerData` has the fields."""

    def links(
        self, rank: int, scale: str | None = None, check: Callable[[], None] = lambda: None
    ) -> NDArray[np.float64]:
        """Tell which part of the training image at `rank` (0 is the best) explains which part of the query.

        Both are cut into 8 x 8 cells, numbered row * 8 + column.

        Args:
            rank: of the image.
            scale: name of a scale, as "p7r1"; None for all together.
            check: is called at intervals while this runs; what it raises ends the work.

        Returns:
            float64 [64, 64], from cell of the query to cell of the image: the score that the one gets from the other.
            Summed over the second axis it is the query's map, summed over cells.

        Raises:
            QueryError: no image has this rank, or no scale this name.
        """
        self.check_rank(rank)
        chosen = self.scale_places(scale)
        question = Question.from_settings(self.settings)
        views = question.views(np.ascontiguousarray(self.query.transpose(2, 0, 1)), self.scales)
        wanted = [i for i, view in enumerate(views) if self.scales.index(view.scale) in chosen]
        links = cell_links(
            [views[i] for i in wanted],
            [self.log_normalisers[i] for i in wanted],
            self.images[rank].transpose(2, 0, 1),
            question.posterior_on("auto" if "gpu" in str(self.settings["backend"]) else "cpu"),
            check,
        )
        return np.asarray(links.sum(axis=0), np.float64)

    def save(self, path: str | PathLike[str], *, explained: Sequence[Denoised] = ()) -> None:
        """Write the answer to a file; its name's ending says in which form.

        Args:
            path: ".html" is a report in one file for a person, ".png" its picture alone, ".json" all numbers,
                ".parquet" the table of images, ".arrow" all of it, for `read_answer`.
            explained: means from `Index.denoise` for the report to show, for instance one over every image and one
                without the images of this answer. Each adds two pictures to the page.

        Raises:
            ConfigError: another ending; or `explained` for another form than ".html", of another picture or index, or
                with other options than the answer's.
            StorageError: the file cannot be written.
        """
        path = Path(path)
        form = ending_of(path, FORMS)
        if explained and form != "html":
            raise ConfigError(f"explained is given for {path.name!r}; only .html shows it")
        for mean in explained:
            self._check_same_question(mean)
        write_atomically(path, as_html(self, explained) if explained else FORMS[form](self))

    def _check_same_question(self, mean: Denoised) -> None:
        if mean.index_hash != self.index_hash or not np.array_equal(mean.query, self.query):
            raise ConfigError(
                "explained is of another picture or index; call `denoise` on the same index with the same picture"
            )
        if self.settings["per_image_topk"] is not None:
            raise ConfigError(
                "explained is given for an answer with per_image_topk; a mean counts every window; leave one out"
            )
        for name in ("recipe", "timestep", "noise", "seed", "draws", "temper", "mirror", "where"):
            ours, theirs = self.settings.get(name), mean.settings.get(name)
            if ours != theirs:
                raise ConfigError(
                    f"explained has {name} {theirs!r} and the answer {ours!r}; call `attribute` and `denoise` with the "
                    "same options"
                )


def read_answer(source: str | PathLike[str] | bytes) -> Attribution:
    """Read an answer that was saved as ".arrow".

    Args:
        source: the file, or its content.

    Raises:
        AnswerFormatError: there is no such file, it is not an answer, or a byte of it was changed.
        VersionError: a newer nda_index wrote it.
    """
    if isinstance(source, bytes):
        return Attribution(**answer_fields(source, f"the {len(source)} bytes"))
    try:
        data = Path(source).read_bytes()
    except OSError as error:
        raise AnswerFormatError(f"{str(source)!r} cannot be read: {error.strerror}; give a saved answer") from error
    return Attribution(**answer_fields(data, repr(str(source))))

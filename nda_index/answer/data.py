"""What an answer holds: images, scores, maps, verdicts, and all that is needed to check them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from nda_index.answer.notebook import show_table
from nda_index.answer.region import Region, choose_leading
from nda_index.errors import QueryError
from nda_index.images import Pixels, is_latent, open_upright
from nda_index.scales import Scale
from nda_index.trust.verdict import Verdict, judge

NOTES_OF_LATENTS = (
    "Latents were compared as they are, and no pixels: maps are at the resolution of the latents.",
    "There is no verdict on a match: what unrelated latents get was not measured.",
    "Near-copies are not looked for: only equal latents are grouped.",
)
NOTE_OF_DRAWINGS = (
    "A latent without its picture is shown as a drawing: its first three channels as red, green and blue."
)
SHOWN = 10  # images of an answer that a notebook shows


@dataclass(frozen=True, repr=False)
class AnswerData:
    """Training images in descending order of their score, with the evidence for it.

    Attributes:
        image_ids: int64 [top], position of each image in the indexed source.
        scores: float64 [top], sum of posterior weights over patches and scales. With everything scored exactly, the
            scores of all images sum to the number of query patches times the weight, summed over scales.
        shares: float64 [top], the scores as a fraction of that sum: how much of the picture goes to this image.
        keys: names of the images in the source.
        metadata: one row for each image, with the columns given at build.
        images: uint8 [top, H, W, C], the images; latents are float16.
        query: uint8 [H, W, C], the picture as it was compared: resized and cropped to the index's size; float16 for a
            latent.
        query_maps: float32 [scales, top, H, W], where on the query the score comes from; summed over scales, each sums
            to the score.
        train_maps: float32 [scales, top, H, W], where on the training image it comes from; likewise.
        mass_covered: estimated fraction of the whole posterior that the scored images hold; 1 with mode "exact".
        mass_error: its standard error. `scores` and `shares` are parts of the whole posterior, by the same estimate.
        score_errors: float64 [top], standard error of each score because of what was not scored; 0 with mode "exact".
        draw_errors: float64 [top], standard error of each score because of the noise, with noise="average"; else 0.
        evidence: float64 [top], how much of the picture each image explains by its own fit
            (`nda_index.trust.evidence`); NaN after the first 32.
        percentiles: float64 [top], fraction of unrelated pictures whose best match has less evidence; NaN where there
            is no evidence, or the index has no null.
        null_pictures: number of these pictures.
        groups: int64 [top], for each image the rank of the first of its near-duplicates among the first 1,000, or its
            own.
        scored: number of images that were scored exactly.
        collection: number of images that the question was about: the index's, or those that `where` leaves.
        missing: number of images that could not be searched, because their shard was lost; 0 on one machine.
        settings: the question's options, as JSON values.
        scales: the index's scales, in the order of the maps.
        log_normalisers: float64 [P] each, log of the whole posterior at every position of the query, for each scale and
            each noisy version of the query.
        regions: regions of the picture that indexed pictures explain, the most evident first; none where the index
            holds no pictures at their own size.
        picture_size: width and height of the picture in pixels, where regions were looked for.
        picture: JPEG file of the picture, made smaller, where regions were looked for; of a latent, a PNG or JPEG file
            of the picture that was given with it, if one was.
        crops: JPEG files of what the `leading_regions` show of their indexed pictures.
        previews: beside each latent, a PNG or JPEG file of its picture, empty where it has none; none for pictures.
        index_hash: sha256 of the index's manifest: names the data that was searched.
        version: version of nda_index that answered.
        seconds: time spent, by stage.
    """

    image_ids: NDArray[np.int64]
    scores: NDArray[np.float64]
    shares: NDArray[np.float64]
    keys: tuple[str, ...]
    metadata: pa.Table
    images: Pixels
    query: Pixels
    query_maps: NDArray[np.float32]
    train_maps: NDArray[np.float32]
    evidence: NDArray[np.float64]
    percentiles: NDArray[np.float64]
    null_pictures: int
    groups: NDArray[np.int64]
    mass_covered: float
    mass_error: float
    score_errors: NDArray[np.float64]
    draw_errors: NDArray[np.float64]
    scored: int
    collection: int
    missing: int
    settings: dict[str, Any]
    scales: tuple[Scale, ...]
    log_normalisers: tuple[NDArray[np.float64], ...]
    index_hash: str
    version: str
    seconds: dict[str, float] = field(default_factory=dict)
    regions: tuple[Region, ...] = ()
    picture_size: tuple[int, int] | None = None
    picture: bytes = b""
    crops: tuple[bytes, ...] = ()
    previews: tuple[bytes, ...] = ()

    def __len__(self) -> int:
        return len(self.image_ids)

    def __repr__(self) -> str:
        best = ", ".join(f"{key} {share:.1%}" for key, share in zip(self.keys[:3], self.shares[:3], strict=True))
        return f"<Attribution of {len(self)} images: {best}{', ...' if len(self) > 3 else ''}>"

    def _repr_html_(self) -> str:
        """Show the best images in a notebook."""
        rows = [
            (rank + 1, self.image_ids[rank], self.keys[rank], format_share(self.shares[rank]))
            for rank in range(min(SHOWN, len(self)))
        ]
        of = f"the first {SHOWN} of {len(self)} images" if len(self) > SHOWN else f"{len(self)} images"
        title = f"Attribution: {of}; {self.scored:,} of {self.collection:,} were scored exactly"
        return show_table(title, ("rank", "image", "key", "share"), rows)

    @property
    def latents(self) -> bool:
        """Whether latents were compared, and not pictures."""
        return is_latent(self.query)

    @property
    def shown_query(self) -> Pixels | Image.Image:
        """The picture that is shown: as it was compared, or of a latent what was given with it, else the latent."""
        return open_upright(self.picture) if self.latents and self.picture else self.query

    def shown_image(self, rank: int) -> Pixels | Image.Image:
        """The image at `rank` as it is shown: as it was compared, or of a latent its picture, else the latent."""
        preview = self.previews[rank] if self.previews else b""
        return open_upright(preview) if preview else self.images[rank]

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of this answer beyond its numbers, in sentences."""
        if not self.latents:
            return ()
        drawn = not self.picture or not self.previews or not all(self.previews)
        return (*NOTES_OF_LATENTS, NOTE_OF_DRAWINGS) if drawn else NOTES_OF_LATENTS

    @property
    def group_shares(self) -> NDArray[np.float64]:
        """Shares of each image's whole group of near-duplicates in the answer, float64 [top]."""
        return np.asarray(np.bincount(self.groups, self.shares, len(self))[self.groups])

    @property
    def leading_regions(self) -> tuple[Region, ...]:
        """The regions that the answer is about: the strong ones, or where none is strong the first few."""
        return choose_leading(self.regions)

    def verdict(self, rank: int) -> Verdict:
        """Judge the image at `rank` (0 is the best): the `str` of a verdict is a sentence.

        Raises:
            QueryError: no image has this rank, or it has no percentile.
        """
        self.check_rank(rank)
        place = float(self.percentiles[rank])
        if np.isnan(place):
            raise QueryError(
                f"rank {rank} has no verdict; the first 32 images have one, where the index was built with a null"
            )
        return judge(float(self.evidence[rank]), place, self.null_pictures)

    def query_map(self, rank: int, scale: str | None = None) -> NDArray[np.float32]:
        """Return where on the query the image at `rank` (0 is the best) is found.

        Args:
            rank: of the image.
            scale: name of a scale, as "p7r1"; None for all together.

        Returns:
            float32 [H, W], summing to the image's score, or to what the scale adds to it.

        Raises:
            QueryError: no image has this rank, or no scale this name.
        """
        return self._map(self.query_maps, rank, scale)

    def train_map(self, rank: int, scale: str | None = None) -> NDArray[np.float32]:
        """Return where on the training image at `rank` the match lies; as `query_map`."""
        return self._map(self.train_maps, rank, scale)

    def to_table(self) -> pa.Table:
        """Return a table with one row for each image.

        Its columns are rank (from 1), image_id, key, score, score_error, share, group (rank of its first
        near-duplicate), group_share, evidence, percentile, then the metadata columns. A metadata column with one of
        these names is called `metadata.NAME`.
        """
        columns: dict[str, Any] = {
            "rank": pa.array(range(1, len(self) + 1), pa.int32()),
            "image_id": self.image_ids,
            "key": pa.array(self.keys, pa.string()),
            "score": self.scores,
            "score_error": self.score_errors,
            "share": self.shares,
            "group": pa.array(self.groups + 1, pa.int32()),
            "group_share": self.group_shares,
            "evidence": self.evidence,
            "percentile": self.percentiles,
        }
        for name in self.metadata.column_names:
            columns[f"metadata.{name}" if name in columns else name] = self.metadata[name]
        return pa.table(columns)

    def to_dict(self) -> dict[str, Any]:
        """Return the answer without pixels and maps, as JSON values."""
        return {
            "version": self.version,
            "index_hash": self.index_hash,
            "settings": self.settings,
            "scored": self.scored,
            "collection": self.collection,
            "missing": self.missing,
            "mass_covered": self.mass_covered,
            "mass_error": self.mass_error,
            "null_pictures": self.null_pictures,
            "seconds": self.seconds,
            "picture_size": list(self.picture_size) if self.picture_size else None,
            "regions": [region.as_json() for region in self.regions],
            "images": self.to_table().to_pylist(),
            **({"notes": list(self.notes)} if self.notes else {}),
        }

    def _map(self, maps: NDArray[np.float32], rank: int, scale: str | None) -> NDArray[np.float32]:
        self.check_rank(rank)
        return np.asarray(maps[self.scale_places(scale), rank].sum(axis=0))

    def scale_places(self, name: str | None) -> list[int]:
        """Return the places of a scale, or of all, among the answer's scales; `QueryError` for an unknown name."""
        names = [scale.name for scale in self.scales]
        if name is not None and name not in names:
            raise QueryError(f"scale is {name!r}; this answer has {', '.join(names)}, or None for all together")
        return [i for i, known in enumerate(names) if name in (None, known)]

    def check_rank(self, rank: int) -> None:
        """Raise `QueryError` where no image has this rank."""
        if not 0 <= rank < len(self):
            raise QueryError(f"rank is {rank}; this answer has ranks 0 to {len(self) - 1}, ask for more with top=")


def format_share(share: float) -> str:
    """Write a share as people read it.

    Example:
        >>> format_share(0.4123), format_share(0.0001)
        ('41.2%', 'under 0.1%')
    """
    return f"{share:.1%}" if share >= 0.001 or share == 0 else "under 0.1%"

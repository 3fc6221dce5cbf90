"""An index, open for questions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numba
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nda_index.answer.attribution import Attribution
from nda_index.answer.denoised import Denoised
from nda_index.coarse.probe import DEFAULT_PROBES
from nda_index.diffusion import NoiseSetting
from nda_index.exact.posterior import View, views_of
from nda_index.images import decode_image
from nda_index.indexing.pipeline import DEFAULT_MEMORY, DEFAULT_SCALES, build, manifest_scales
from nda_index.progress import Progress
from nda_index.query.attribute import Opened, answered, check_counts
from nda_index.query.denoise import denoised
from nda_index.query.gather import Scored, coarse_votes, conversing, divided, score
from nda_index.query.shard import Ask, LocalShards, Shard, Shards, check_device, whole_manifest
from nda_index.query.timing import Clock
from nda_index.question import Mode, Options, Query, as_question
from nda_index.scales import Scale
from nda_index.sources import Source
from nda_index.store.corpus import Corpus
from nda_index.store.manifest import Manifest, read_manifest
from nda_index.trust.null import DEFAULT_PICTURES, read_null

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Index:
    """An index on disk, read-only; get one from `open_index` or `build_index`.

    Attributes:
        path: its folder.
        manifest: what it holds.
        scales: its scales.
        shape: (C, H, W) of its images.
    """

    def __init__(self, path: Path, manifest: Manifest, null: NDArray[np.float64], shards: Shards) -> None:
        """Put together by `open_index`."""
        self.path = path
        self.manifest = manifest
        self.scales: tuple[Scale, ...] = manifest_scales(manifest.config)
        height, width = manifest.config["image_size"]
        self.shape: tuple[int, int, int] = (manifest.config["channels"], height, width)
        self._shards = shards
        self._present = np.concatenate(shards.present)
        self._offsets = np.cumsum([0, *(len(part) for part in shards.present)])
        self._opened = Opened(
            shards=shards,
            offsets=self._offsets,
            scales=self.scales,
            null=null,
            probes=manifest.tuning.get("probes", DEFAULT_PROBES),
            candidates=manifest.tuning.get("candidates"),
            index_hash=manifest.index_hash,
        )

    def __len__(self) -> int:
        return int(self._present.sum())

    @property
    def image_ids(self) -> NDArray[np.int64]:
        """Ids of its images, ascending: 0 to N-1 unless some were removed."""
        return np.flatnonzero(self._present)

    @property
    def null_pictures(self) -> int:
        """Number of unrelated pictures that verdicts are set against; 0: there are no verdicts."""
        return len(self._opened.null)

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Say that nothing more will be asked: `compact` may erase files that only this index still needs."""
        self._shards.close()

    def __repr__(self) -> str:
        return f"<Index {str(self.path)!r}: {len(self):,} images {self.shape}, {len(self.scales)} scales>"

    def attribute(
        self,
        image: Any,
        timestep: int | Sequence[int] = 100,
        top: int = 10,
        *,
        noise: NoiseSetting = "none",
        seed: int = 0,
        draws: int = 8,
        temper: float = 1.0,
        mode: Mode = "ann",
        candidates: int | None = None,
        per_image_topk: int | None = None,
        mirror: bool = False,
        where: str | None = None,
        progress: Progress | None = None,
    ) -> Attribution:
        """Which training images a picture is made of (arXiv 2510.14269).

        Args:
            image: PIL image, path, bytes of an image file, or uint8 array [H, W, C]. It is resized so that it covers
                the index's image size, and cropped at its centre.
            timestep: 0 to 999: how much noise the diffusion model sees, from fine detail to broad composition.
                Several are averaged.
            top: number of images in the answer.
            noise: "none" leaves the query clean, which gives the most stable ranking; "draw" is one noise draw, as
                published; "average" is `draws` of them.
            seed: the first draw's seed.
            draws: number of draws of "average".
            temper: divides the logits: above 1 the posterior is broader.
            mode: "ann" scores a shortlist exactly, "exact" all images.
            candidates: length of the shortlist, at most all images. None chooses it from the width of the posterior.
            per_image_topk: for each query position only an image's K largest weights count.
            mirror: the mirror images of the training images count as part of them.
            where: SQL condition on the metadata columns: only these images are asked about.
            progress: is called with (stage, done, total).

        Returns:
            The images with the highest scores, with the evidence.

        Raises:
            ConfigError: an option breaks a rule.
            QueryError: `top` or `where` cannot be fulfilled.
            ImageDecodeError: the image cannot be read.
            CorruptIndexError: the index is damaged.

        Example:
            >>> import numpy as np, tempfile, nda_index as nda
            >>> images = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), np.uint8)
            >>> folder = tempfile.mkdtemp() + "/noise.nda"
            >>> index = nda.build_index(images, folder, image_size=16, scales=[nda.Scale(5)])
            >>> index.attribute(images[7], timestep=50, top=3).image_ids[0]
            np.int64(7)
        """
        query = self.query(
            image, timestep, top, noise=noise, seed=seed, draws=draws, temper=temper, mode=mode, candidates=candidates,
            per_image_topk=per_image_topk, mirror=mirror, where=where, progress=progress,
        )  # fmt: skip
        return answered(self._opened, query)

    def query(
        self,
        image: Any,
        timestep: int | Sequence[int] = 100,
        top: int = 10,
        *,
        progress: Progress | None = None,
        **options: Unpack[Options],
    ) -> Query:
        """What `attribute` would answer, for `attribute_batch`; arguments and errors as there."""
        question = as_question(timestep, **options)
        clock = Clock()
        with clock.stage("decode"):
            pixels = decode_image(image, self.shape[1:], self.shape[0])
        return Query(pixels, question, top, progress, clock.seconds["decode"])

    def attribute_batch(self, queries: Sequence[Query]) -> Iterator[Attribution | Exception]:
        """Answer several queries; on a CPU at the same time, each on some of its cores, which do not wait for others.

        Args:
            queries: from `query`.

        Yields:
            For each, in their order and as soon as it is known, its answer or the error that ended it: those of
            `attribute`, or whatever its `progress` raises.

        Example:
            >>> import numpy as np, tempfile, nda_index as nda
            >>> images = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), np.uint8)
            >>> folder = tempfile.mkdtemp() + "/noise.nda"
            >>> index = nda.build_index(images, folder, image_size=16, scales=[nda.Scale(5)])
            >>> answers = index.attribute_batch([index.query(image, timestep=50) for image in images[:2]])
            >>> [int(answer.image_ids[0]) for answer in answers]
            [0, 1]
        """
        threads = numba.get_num_threads() if self._shards.concurrent else 1
        whole = len(queries) - len(queries) % threads
        for some in (queries[:whole], queries[whole:]):  # those that are left over share all cores, none waits for one
            workers = min(threads, len(some))
            if workers < 2:
                yield from map(self._outcome, some)
                continue
            with ThreadPoolExecutor(workers, "question", numba.set_num_threads, (threads // workers,)) as pool:
                yield from pool.map(self._outcome, some)

    def _outcome(self, query: Query) -> Attribution | Exception:
        try:
            return answered(self._opened, query)
        except Exception as error:  # one query's failure is not the others'
            return error

    def denoise(
        self,
        image: Any,
        timestep: int | Sequence[int] = 100,
        *,
        without: Sequence[int] | NDArray[np.int64] = (),
        noise: NoiseSetting = "none",
        seed: int = 0,
        draws: int = 8,
        temper: float = 1.0,
        mode: Mode = "ann",
        candidates: int | None = None,
        mirror: bool = False,
        where: str | None = None,
        progress: Progress | None = None,
    ) -> Denoised:
        """A picture as the collection explains it: the posterior mean (Kamb and Ganguli, arXiv 2412.20292).

        Each pixel is the mean of the training pixels at the centres of all windows, by the posterior weights of these
        windows for the window of the query about the pixel: the weights that scores are sums of.

        Args:
            image, timestep, noise, seed, draws, temper, mirror, where, progress: as for `attribute`. Several timesteps
                and draws are averaged.
            without: ids of images that take no part: the posterior is that of a collection without them.
            mode: "ann" averages over a shortlist, as if it were the whole collection; "exact" over all images.
            candidates: length of the shortlist, before `without` takes images from it. None chooses it as `attribute`
                does.

        Returns:
            The picture, that of each scale, and what it leaves unexplained where.

        Raises:
            ConfigError: an option breaks a rule, or the index's strides leave pixels out.
            QueryError: `where` or `without` leaves no image, or `without` holds no ids of the index.
            ImageDecodeError: the image cannot be read.
            CorruptIndexError: the index is damaged.

        Example:
            >>> import numpy as np, tempfile, nda_index as nda
            >>> images = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), np.uint8)
            >>> folder = tempfile.mkdtemp() + "/noise.nda"
            >>> index = nda.build_index(images, folder, image_size=16, scales=[nda.Scale(5)])
            >>> bool((index.denoise(images[7], timestep=50).picture == images[7]).all())
            True
            >>> bool(index.denoise(images[7], timestep=50, without=[7]).unexplained.mean() > 0.3)
            True
        """
        question = as_question(
            timestep, noise=noise, seed=seed, draws=draws, temper=temper, mode=mode, candidates=candidates,
            mirror=mirror, where=where,
        )  # fmt: skip
        clock = Clock()
        with clock.stage("decode"):
            pixels = decode_image(image, self.shape[1:], self.shape[0])
        return denoised(self._opened, question, pixels, without, progress, clock.seconds["decode"])

    def scores(
        self,
        images: Sequence[Any] | NDArray[np.uint8],
        timestep: int | Sequence[int] = 100,
        *,
        progress: Progress | None = None,
        **options: Unpack[Options],
    ) -> NDArray[np.float64]:
        """Scores of all images for several queries.

        Args:
            images: queries, each as for `attribute`.
            timestep, progress, **options: as for `attribute`, but that `mode` is "exact" by default: every image is
                scored. "ann" leaves 0 for images outside the shortlist.

        Returns:
            float64 [Q, N], columns by image id. Images outside `where`, and removed ones, have 0.

        Raises:
            As `attribute`.

        Example:
            >>> import numpy as np, tempfile, nda_index as nda
            >>> images = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), np.uint8)
            >>> folder = tempfile.mkdtemp() + "/noise.nda"
            >>> index = nda.build_index(images, folder, image_size=16, scales=[nda.Scale(5)])
            >>> index.scores(images[:2], timestep=50).shape
            (2, 20)
        """
        asked: Options = {"mode": "exact"}
        asked.update(options)
        question = as_question(timestep, **asked)
        matrix = np.zeros((len(images), len(self._present)))

        def choose(allowed: NDArray[np.bool_]) -> int:
            check_counts(question, 1, int(allowed.sum()))
            return 1

        candidates = question.candidates or self._opened.candidates
        for row, image in zip(matrix, images, strict=True):
            query = decode_image(image, self.shape[1:], self.shape[0])
            views = views_of(question.noisy_versions(query), self.scales)
            ask = Ask(question, query, self._opened.probes, progress)

            def converse(ask: Ask = ask, views: Sequence[View] = views) -> Scored:
                with conversing(self._shards, ask) as conversation:
                    return score(conversation, views, self._offsets, candidates, choose, question.seed, Clock())

            result = self._shards.attempt(converse)
            row[result.ids] = result.scores
        return matrix

    def votes(
        self,
        image: Any,
        timestep: int | Sequence[int] = 100,
        *,
        noise: NoiseSetting = "none",
        seed: int = 0,
        draws: int = 8,
        probes: int = DEFAULT_PROBES,
    ) -> NDArray[np.float64]:
        """The coarse stage alone: estimated scores of all images.

        Args:
            image, timestep, noise, seed, draws: as for `attribute`.
            probes: cells that each window of the query visits at most.

        Returns:
            float64 [N], 0 for removed images.

        Raises:
            As `attribute`.
        """
        question = as_question(timestep, noise=noise, seed=seed, draws=draws)
        query = decode_image(image, self.shape[1:], self.shape[0])
        with conversing(self._shards, Ask(question, query, probes)) as conversation:
            votes, _ = coarse_votes(conversation, self._offsets)
        assert votes is not None  # the mode is "ann"
        return votes

    def pixels(self, image_ids: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Images as they were indexed: uint8 [n, C, H, W].

        Raises:
            CorruptIndexError: the index is damaged.
        """
        order = np.argsort(image_ids, kind="stable")
        parts = self._shards.pixels(divided(image_ids[order], self._offsets))
        return np.concatenate(parts)[np.argsort(order)]

    def metadata_schema(self) -> pa.Schema:
        """Names and types of the metadata columns, which `where` may name beside "key".

        Raises:
            CorruptIndexError: the index is damaged.
        """
        folder = self.path / self.manifest.shards[0] if self.manifest.shards else self.path
        corpus = Corpus(folder, self.shape, read_manifest(folder).table)
        return pa.schema([corpus.schema.field(name) for name in corpus.metadata_columns])


def build_index(
    source: Source,
    path: str | PathLike[str],
    *,
    image_size: int | tuple[int, int] = 32,
    channels: int = 3,
    scales: Sequence[Scale] = DEFAULT_SCALES,
    columns: Sequence[str] | None = None,
    max_failures: int | None = None,
    coarse_stride: int | None = None,
    memory: int = DEFAULT_MEMORY,
    null: int | Sequence[Any] = DEFAULT_PICTURES,
    resume: bool = False,
    progress: Progress | None = None,
) -> Index:
    """Index a collection of images.

    Memory does not grow with their number. `estimate_build` says beforehand how long it takes and how large it becomes.

    Args:
        source: a folder of images, Parquet file(s) with an image column, WebDataset .tar shard(s), an .npz, or a uint8
            array [N, H, W, C].
        path: folder to write the index to; it must not exist, or be empty, or have an interrupted build.
        image_size: side of the square images that are compared, or (height, width). Images are resized to cover it and
            cropped at their centre.
        channels: 3 for colour, 1 for grey.
        scales: patch sizes; by default 7, and 14 with downscale 2.
        columns: metadata columns of the source to keep; all by default.
        max_failures: images that may be unreadable before the build stops; by default 1%, and at least 10.
        coarse_stride: every how many pixels a patch goes into the coarse stage; by default the smallest stride with at
            most 256 patches an image that fits the memory.
        memory: bytes that the coarse stage may take when the index is open; patches are taken as densely, and their
            codes are made as precise, as fits.
        null: unrelated pictures that verdicts are set against, as for `Index.attribute`; or how many of the
            collection's own to take, each as if it were not there. 0: no verdicts.
        resume: go on with an interrupted build of the same source and settings, instead of starting over.
        progress: is called with (stage, done, total).

    Returns:
        The index, open.

    Raises:
        ConfigError: an option breaks a rule, or the folder is taken.
        SourceError: the images cannot be read, there are none, or too many are broken.
        StorageError: the disk is full or cannot be written; LockedError: another process builds there.
        MissingDependencyError: FAISS is not installed.

    Example:
        >>> import numpy as np, tempfile
        >>> images = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), np.uint8)
        >>> len(build_index(images, tempfile.mkdtemp() + "/noise.nda", image_size=16, scales=[Scale(5)]))
        20
    """
    build(
        source,
        path,
        image_size=image_size,
        channels=channels,
        scales=scales,
        columns=columns,
        max_failures=max_failures,
        coarse_stride=coarse_stride,
        memory=memory,
        null=null,
        resume=resume,
        progress=progress,
    )
    return open_index(path)


def open_index(path: str | PathLike[str], device: str = "auto") -> Index:
    """Open an index for questions.

    Args:
        path: the folder that `build_index` wrote.
        device: "cpu"; "cuda" for the exact stage on a GPU; or "auto", a GPU where there is one.

    Returns:
        The index. It goes on answering from what it opened, whatever is added or removed meanwhile.

    Raises:
        NotAnIndexError: the folder is no index.
        VersionError: a newer nda_index wrote it.
        CorruptIndexError, MismatchError: it is damaged.
        ConfigError: an unknown device, or "cuda" where there is none.
    """
    check_device(device)
    folder = Path(path)
    parts = read_manifest(folder).shards
    if not parts:
        shard = Shard(folder, device)
        return Index(folder, shard.manifest, shard.null, LocalShards([shard]))
    shards = [Shard(folder / name, device) for name in parts]
    manifest = whole_manifest(folder, [shard.manifest for shard in shards])
    return Index(folder, manifest, read_null(folder), LocalShards(shards))

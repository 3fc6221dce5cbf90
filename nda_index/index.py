"""An index, open for questions."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nda_index.answer.attribution import Attribution
from nda_index.answer.denoised import Denoised
from nda_index.coarse.probe import DEFAULT_PROBES
from nda_index.device import choose_device
from nda_index.diffusion import NoiseSetting
from nda_index.images import Pixels
from nda_index.indexing.missing import read_missing, warn_of_missing
from nda_index.indexing.pipeline import build
from nda_index.indexing.request import DEFAULT_MEMORY, DEFAULT_SCALES
from nda_index.paths import as_path
from nda_index.pictures.null import read_null as read_regions_null
from nda_index.progress import Progress
from nda_index.query.attribute import attribute, attribute_batch
from nda_index.query.contents import Contents
from nda_index.query.conversation import Collection
from nda_index.query.denoise import denoise
from nda_index.query.local import LocalShards
from nda_index.query.prepare import prepare_query
from nda_index.query.protocol import Shards
from nda_index.query.scores import score_collection, vote_collection
from nda_index.query.shard import Shard
from nda_index.question import Mode, Options, Query, Question, as_question
from nda_index.recipe import Recipe, Term
from nda_index.scales import Scale
from nda_index.sources import Source
from nda_index.store.manifest import Manifest, merge_manifests, read_manifest
from nda_index.trust.null import DEFAULT_PICTURES, Null, read_null

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Index(Contents):
    """An index on disk, read-only; get one from `open_index` or `build_index`.

    `nda_index.query.contents.Contents` has its attributes and the look-ups of images, keys and metadata.
    """

    def __init__(self, path: Path, manifest: Manifest, null: Null, shards: Shards) -> None:
        """Put together by `open_index`."""
        collection = Collection(
            shards=shards,
            scales=manifest.config.scales,
            null=null,
            regions_null=read_regions_null(path, manifest.files),
            probes=manifest.tuning.get("probes", DEFAULT_PROBES),
            candidates=manifest.tuning.get("candidates"),
            index_hash=manifest.index_hash,
        )
        super().__init__(path, manifest, collection)

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let `compact` erase files that only this index still needs; no question may follow."""
        self._collection.shards.close()

    def attribute(
        self,
        image: Any,
        timestep: int | Sequence[int] | None = None,
        top: int = 10,
        *,
        recipe: str | Recipe | Sequence[Term] | None = None,
        noise: NoiseSetting = "none",
        seed: int = 0,
        draws: int = 8,
        temper: float = 1.0,
        mode: Mode = "ann",
        candidates: int | None = None,
        per_image_topk: int | None = None,
        mirror: bool = False,
        where: str | None = None,
        region: Sequence[int] | None = None,
        progress: Progress | None = None,
    ) -> Attribution:
        """Find the training images that a picture is made of (arXiv 2510.14269).

        Args:
            image: path, bytes of an image file, PIL image, array or tensor [H, W, C], [C, H, W] or [H, W]; floats by
                `read_picture`. It is resized to cover the index's image size, and cropped at its centre. Of an index of
                latents: floats [C, H, W], the path of an .npy, .npz or .safetensors, or a `Latent` (docs/latents.md).
            timestep: 0 to 999: how much noise the model sees, from fine detail to broad composition, at all scales of
                the index. Several are averaged, each at the cost of one. None: as `recipe`; with `noise`, 100.
            top: number of images in the answer, all where there are fewer; each costs its two maps.
            recipe: the patches and timesteps that are compared: a name of `nda_index.recipe.RECIPES`, terms as text,
                as "3@100 + 5@200", or a `Recipe`. Each term costs a pass, and one more for each further draw. None:
                `timestep`, or where that is None too "models".
            noise: "none" leaves the query clean, which gives the most stable ranking; "draw" is one noise draw, as
                published; "average" is `draws` of them.
            seed: the first draw's seed.
            draws: number of draws of "average": more are steadier, at a cost that grows alike.
            temper: divides the logits: above 1 the posterior is broader.
            mode: "ann" scores a shortlist exactly, "exact" all images, at a cost that grows with their number.
            candidates: length of the shortlist: more leave less to estimate, at a cost that grows alike. None chooses
                it from the width of the posterior.
            per_image_topk: for each query position only an image's K largest weights count. It costs several times
                the time of a score without it.
            mirror: the mirror images of the training images count as part of them, at twice the cost.
            where: condition on the metadata columns (docs/columns.md): the posterior runs over these images only.
            region: left, top, right, bottom in pixels of the picture: the question is about this part of it.
            progress: is called with (stage, done, total).

        Returns:
            The images with the highest scores, with the evidence.

        Raises:
            ConfigError: an option breaks a rule.
            QueryError: `where` is not a condition or finds no image; `top` is below 1.
            ImageDecodeError: the image cannot be read.
            CorruptIndexError: the index is damaged.

        Example:
            >>> import numpy as np, tempfile, nda_index as nda
            >>> images = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), np.uint8)
            >>> index = nda.build_index(images, tempfile.mkdtemp() + "/x.nda", image_size=16, scales=[nda.Scale(5)])
            >>> index.attribute(images[7], timestep=50, top=3).image_ids[0]
            np.int64(7)
        """
        query = self.query(
            image, timestep, top, recipe=recipe, noise=noise, seed=seed, draws=draws, temper=temper, mode=mode,
            candidates=candidates, per_image_topk=per_image_topk, mirror=mirror, where=where, region=region,
            progress=progress,
        )  # fmt: skip
        return attribute(self._collection, query)

    def query(
        self,
        image: Any,
        timestep: int | Sequence[int] | None = None,
        top: int = 10,
        *,
        progress: Progress | None = None,
        **options: Unpack[Options],
    ) -> Query:
        """Prepare what `attribute` would answer, for `attribute_batch`; arguments and errors as there."""
        question = as_question(timestep, **options)
        return self._prepare(image, question, top, progress)

    def attribute_batch(self, queries: Sequence[Query]) -> Iterator[Attribution | Exception]:
        """Answer several queries; on a CPU at the same time, each on some of the cores.

        Args:
            queries: from `query`.

        Returns:
            For each, in their order and as soon as it is known, its answer or the error that ended it: those of
            `attribute`, or whatever its `progress` raises.

        Example:
            >>> import numpy as np, tempfile, nda_index as nda
            >>> images = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), np.uint8)
            >>> index = nda.build_index(images, tempfile.mkdtemp() + "/x.nda", image_size=16, scales=[nda.Scale(5)])
            >>> answers = index.attribute_batch([index.query(image, timestep=50) for image in images[:2]])
            >>> [int(answer.image_ids[0]) for answer in answers]
            [0, 1]
        """
        return attribute_batch(self._collection, queries)

    def denoise(
        self,
        image: Any,
        timestep: int | Sequence[int] | None = None,
        *,
        recipe: str | Recipe | Sequence[Term] | None = None,
        without: Sequence[int] | NDArray[np.int64] = (),
        noise: NoiseSetting = "none",
        seed: int = 0,
        draws: int = 8,
        temper: float = 1.0,
        mode: Mode = "ann",
        candidates: int | None = None,
        mirror: bool = False,
        where: str | None = None,
        region: Sequence[int] | None = None,
        progress: Progress | None = None,
    ) -> Denoised:
        """Explain a picture by the collection: the posterior mean (Kamb and Ganguli, arXiv 2412.20292).

        Each pixel is the mean of the training pixels at the centres of all windows, by the posterior weights of these
        windows for the window of the query about the pixel: the weights that scores are sums of.

        Args:
            image, timestep, recipe, noise, seed, draws, temper, mirror, where, region, progress: as for `attribute`.
                Several timesteps and draws are averaged.
            without: ids of images that take no part: the posterior is that of a collection without them.
            mode: "ann" averages over a shortlist, as if it were the whole collection; "exact" over all images.
            candidates: length of the shortlist, before `without` takes images from it. None: as `attribute`.

        Returns:
            The picture, that of each scale, and what it leaves unexplained where.

        Raises:
            ConfigError: an option breaks a rule, or the index's strides leave pixels out.
            QueryError: `where` or `without` leaves no image, or `without` holds no ids of the index.
            ImageDecodeError, CorruptIndexError: as `attribute`.

        Example:
            >>> import numpy as np, tempfile, nda_index as nda
            >>> images = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), np.uint8)
            >>> index = nda.build_index(images, tempfile.mkdtemp() + "/x.nda", image_size=16, scales=[nda.Scale(5)])
            >>> [round(index.denoise(images[7], timestep=50, without=ids).distance, 1) for ids in ([], [7])]
            [0.0, 0.6]
        """
        question = as_question(
            timestep, recipe=recipe, noise=noise, seed=seed, draws=draws, temper=temper, mode=mode,
            candidates=candidates, mirror=mirror, where=where, region=region,
        )  # fmt: skip
        return denoise(self._collection, self._prepare(image, question, 1, progress), without)

    def scores(
        self,
        images: Sequence[Any] | Pixels,
        timestep: int | Sequence[int] | None = None,
        *,
        progress: Progress | None = None,
        **options: Unpack[Options],
    ) -> NDArray[np.float64]:
        """Score all images for several queries.

        Args:
            images: queries, each as for `attribute`.
            timestep, progress, **options: as for `attribute`, and errors too; but `mode` is "exact" by default: every
                image is scored. "ann" leaves 0 for images outside the shortlist.

        Returns:
            float64 [Q, N], columns by image id. Images outside `where`, and removed ones, have 0.

        Example:
            >>> import numpy as np, tempfile, nda_index as nda
            >>> images = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), np.uint8)
            >>> index = nda.build_index(images, tempfile.mkdtemp() + "/x.nda", image_size=16, scales=[nda.Scale(5)])
            >>> index.scores(images[:2], timestep=50).shape
            (2, 20)
        """
        wanted: Options = {"mode": "exact"}
        wanted.update(options)
        question = as_question(timestep, **wanted)
        queries = (self._prepare(image, question, 1, progress) for image in images)
        rows = [score_collection(self._collection, query) for query in queries]
        return np.array(rows).reshape(len(images), len(self._present))

    def votes(
        self,
        image: Any,
        timestep: int | Sequence[int] | None = None,
        *,
        recipe: str | Recipe | Sequence[Term] | None = None,
        noise: NoiseSetting = "none",
        seed: int = 0,
        draws: int = 8,
        probes: int = DEFAULT_PROBES,
    ) -> NDArray[np.float64]:
        """Estimate the scores of all images by the coarse stage alone.

        Args:
            image, timestep, recipe, noise, seed, draws: as for `attribute`.
            probes: cells that a window of the query visits at most: more find sharper posteriors, and cost alike.

        Returns:
            float64 [N], 0 for removed images. A term's only view counts double beside terms of several draws.
        """
        question = as_question(timestep, recipe=recipe, noise=noise, seed=seed, draws=draws)
        return vote_collection(self._collection, self._prepare(image, question, 1, None), probes)

    def missing(self) -> pa.Table:
        """List what the sources had and the index lacks: `key`, `reason`, `kind` ("unreadable" or "left out")."""
        return read_missing(self.path, self.manifest)

    def _prepare(self, image: Any, question: Question, top: int, progress: Progress | None) -> Query:
        return prepare_query(image, self.manifest.config, question, top, progress)


def build_index(
    source: Source,
    path: str | PathLike[str],
    *,
    image_size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    scales: Sequence[Scale] = DEFAULT_SCALES,
    columns: Sequence[str] | None = None,
    image_column: str | None = None,
    split: str | None = None,
    max_failures: int | None = None,
    coarse_stride: int | None = None,
    memory: int = DEFAULT_MEMORY,
    pictures: bool | None = None,
    value_range: str | tuple[float, float] | None = None,
    latents: bool = False,
    null: int | Sequence[Any] = DEFAULT_PICTURES,
    resume: bool = False,
    device: str = "auto",
    progress: Progress | None = None,
) -> Index:
    """Index a collection of images.

    Memory does not grow with their number. `estimate_build` says beforehand how long it takes and how large it becomes.

    Args:
        source: a folder; Parquet, WebDataset .tar or image file(s), .npz, .npy; an array [N, H, W, C]; or a list,
            dataset or generator of images (docs/sources.md).
        path: folder to write the index to; it must not exist, or be empty, or have an interrupted build.
        image_size: side, or (height, width), that images are compared at: resized to cover it, cropped at the centre.
            32 by default.
        channels: 3 for colour, the default, or 1 for grey.
        scales: patches that find the shortlist: by default 4, and 10 with downscale 2; a recipe may compare others.
        columns: metadata columns of the source to keep; all by default. A warning names those that are kept under
            another name, or not at all.
        image_column: column of Parquet files that holds the images; found by default.
        split: of a folder or glob of Parquet files, as "train" or "train+test"; needed where there are several.
        max_failures: images that may be unreadable before the build stops; by default 1%, and at least 10.
        coarse_stride: every how many pixels a patch is kept; by default such that 256 at most are, and fit the memory.
        memory: bytes that the coarse stage may take when the index is open: more keep more patches, more precisely.
        pictures: find regions of pictures at their own size too, at 50 KB each. None: where most sides are 128 or more.
        value_range: black and white of floats: "0..1", "-1..1", "0..255", or two numbers. None: floats are refused.
        latents: the source holds latents, floats [C, H, W] as the model sees them (docs/latents.md). They are compared
            as they are, so no `image_size`, `channels`, `pictures` or `value_range` may be given; there is no null.
        null: unrelated pictures that verdicts are set against; or how many of the collection's own. 0: no verdicts.
        resume: go on with an interrupted build of the same source and settings, instead of starting over.
        device: "cpu"; "cuda" to find cells and codes of patches on a GPU; or "auto", a GPU where one works. The index
            is the same but for rounding (docs/usage.md), and opens on any device.
        progress: is called with (stage, done, total).

    Returns:
        The index, open; a warning where it lacks anything of the source, see `Index.missing`.

    Raises:
        ConfigError: an option breaks a rule, the folder is taken, or device is "cuda" and no GPU works.
        SourceError: the images cannot be read, there are none, or too many are broken.
        StorageError, LockedError, MissingDependencyError: the disk is full, another process builds there, no FAISS.

    Example:
        >>> import numpy as np, tempfile
        >>> images = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), np.uint8)
        >>> len(build_index(images, tempfile.mkdtemp() + "/noise.nda", image_size=16, scales=[Scale(5)]))
        20
    """
    summary = build(
        source, path, image_size=image_size, channels=channels, scales=scales, columns=columns,
        image_column=image_column, split=split, max_failures=max_failures, coarse_stride=coarse_stride, memory=memory,
        pictures=pictures, value_range=value_range, latents=latents, null=null, resume=resume, device=device,
        progress=progress,
    )  # fmt: skip
    if summary.notes:
        warnings.warn("; ".join(summary.notes), stacklevel=2)
    warn_of_missing(summary.failures, summary.left_out, summary.missing)
    return open_index(path)


def open_index(path: str | PathLike[str], device: str = "auto") -> Index:
    """Open an index for questions.

    Args:
        path: the folder that `build_index` wrote.
        device: "cpu"; "cuda" for questions on a GPU; or "auto", a GPU where there is one.

    Returns:
        The index. It goes on answering from what it opened, whatever is added or removed meanwhile.

    Raises:
        NotAnIndexError, VersionError: the folder is not an index, or a newer nda_index wrote it.
        CorruptIndexError, MismatchError: it is damaged.
        ConfigError: an unknown device, or "cuda" where there is none.
    """
    works = choose_device(device, kernels=True).type
    folder = as_path(path, "the index")
    parts = read_manifest(folder).shards
    shards = [Shard(folder / name, device if works == "cuda" else "cpu") for name in parts or [""]]
    manifest = merge_manifests(folder, [shard.manifest for shard in shards]) if parts else shards[0].manifest
    return Index(folder, manifest, read_null(folder, manifest.config.scales), LocalShards(shards))

"""Building an index: images into the corpus, patches into the coarse stage, and a manifest that makes it one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from nda_index.coarse import ivf, storage
from nda_index.corpus import Corpus, write_corpus
from nda_index.embedding import embed, fit_embedding, positions_taken
from nda_index.errors import ConfigError, SourceError
from nda_index.manifest import BUILDING, MANIFEST, Manifest, commit, hash_files, writing
from nda_index.null import DEFAULT_PICTURES, make_null, write_null
from nda_index.scales import Scale
from nda_index.sources import Failure, ImageBatch, OpenSource, Source, open_source, read_batches
from nda_index.version import __version__

DEFAULT_SCALES = (Scale(patch=7), Scale(patch=14, downscale=2))
DEFAULT_MEMORY = 1 << 30
EMBEDDED_DIMENSIONS = 28  # even, for product quantisation
PATCHES_PER_IMAGE = 256  # at most, unless coarse_stride says otherwise
FIT_PATCHES = 200_000
SEGMENT_BYTES = 256 << 20
READ_BATCH = 1024
SEED = 0

Progress = Callable[[str, int, int], None]  # stage, done, total


@dataclass(frozen=True)
class BuildSummary:
    """What was built: numbers of images and failures, and for each scale how patches are kept and why."""

    images: int
    failures: int
    scales: dict[str, str]
    started_over: bool


def build(
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
    progress: Progress | None = None,
) -> BuildSummary:
    """Index a collection of images; `nda_index.build_index` has the arguments."""
    folder = Path(path)
    height, width = _checked_size(image_size)
    if channels not in (1, 3):
        raise ConfigError(f"channels is {channels}; it must be 3 (colour) or 1 (grey)")
    if not scales:
        raise ConfigError("scales is empty; give at least one, such as Scale(patch=7)")
    names = [scale.name for scale in scales]
    if len(set(names)) < len(names):
        raise ConfigError(f"scales are {', '.join(names)}; no two may have the same patch and downscale")
    for scale in scales:
        scale.check_fits(height, width)
    if coarse_stride is not None and coarse_stride < 1:
        raise ConfigError(f"coarse_stride is {coarse_stride}; it must be 1 or more")
    if isinstance(null, int) and null < 0:
        raise ConfigError(f"null is {null}; it must be a number of pictures, 0 or more, or the pictures")
    ivf.load_faiss()
    report = progress or (lambda stage, done, total: None)
    opened = open_source(source, columns=columns)
    allowed = max(10, opened.count // 100) if max_failures is None else max_failures
    started_over = _prepare_folder(folder)

    failures: list[Failure] = []
    batches = _reported(_images(opened, (height, width), channels, failures, allowed), failures, opened.count, report)
    images = write_corpus(folder, (channels, height, width), opened.schema, batches)
    if images == 0:
        raise SourceError(
            f"none of the {opened.count} images could be read; the first: {failures[0].key}: {failures[0].reason}"
        )
    _write_failures(folder, failures)
    corpus = Corpus(folder, (channels, height, width))
    described, coarse = dict[str, str](), dict[str, Any]()
    config = {
        "image_size": [height, width],
        "channels": channels,
        "scales": [asdict(scale) for scale in scales],
        "source": opened.kind,
        "coarse": coarse,
    }
    for scale in scales:
        stride = coarse_stride or default_coarse_stride(scale, height, width)
        per_image = positions_taken(scale, height, width, stride)
        choice = ivf.choose_codec(images * per_image, EMBEDDED_DIMENSIONS, memory // len(scales))
        _build_scale(folder / "scales" / scale.name, corpus, scale, stride, per_image, choice, report)
        coarse[scale.name] = {"stride": stride, "patches_per_image": per_image, "codec": choice.codec}
        described[scale.name] = (
            f"{images * per_image:,} patches (every {stride} px), {choice.codec} codes of {choice.bytes_per_patch} "
            f"bytes: {choice.reason}"
        )
    cells = [storage.read_cells(folder / "scales" / s.name, s, coarse[s.name]["stride"]) for s in scales]
    write_null(folder, make_null(corpus, cells, null, SEED, report))
    report("commit", 0, 1)
    counts = {"images": images, "failures": len(failures)}
    commit(folder, Manifest(config=config, counts=counts, files=hash_files(folder), version=__version__))
    report("commit", 1, 1)
    return BuildSummary(images, len(failures), described, started_over)


def default_coarse_stride(scale: Scale, height: int, width: int) -> int:
    """The smallest stride that leaves at most 256 patches an image.

    Example:
        >>> default_coarse_stride(Scale(7), 32, 32)
        2
    """
    stride = 1
    while positions_taken(scale, height, width, stride) > PATCHES_PER_IMAGE:
        stride += 1
    return stride


def _checked_size(image_size: int | tuple[int, int]) -> tuple[int, int]:
    size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if len(size) != 2 or any(not isinstance(side, int) or side < 1 for side in size):
        raise ConfigError(f"image_size is {image_size!r}; it must be a number of pixels, or (height, width)")
    return size[0], size[1]


def _prepare_folder(folder: Path) -> bool:
    """Make an empty folder that says that a build goes on; True if an interrupted build was cleared away."""
    interrupted = (folder / BUILDING).exists() and not (folder / MANIFEST).exists()
    if interrupted:
        shutil.rmtree(folder)
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        what = "an index" if (folder / MANIFEST).exists() else "not empty"
        raise ConfigError(f"the output folder {str(folder)!r} exists and is {what}; choose another, or delete it first")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / BUILDING).write_text(json.dumps({"version": __version__}))
    return interrupted


def _images(
    opened: OpenSource, size: tuple[int, int], channels: int, failures: list[Failure], allowed: int
) -> Iterator[ImageBatch]:
    for batch in read_batches(opened, size, channels, READ_BATCH):
        failures += batch.failures
        if len(failures) > allowed:
            last = failures[-1]
            raise SourceError(
                f"{len(failures)} images could not be read, {allowed} are allowed (max_failures); "
                f"the last: {last.key}: {last.reason}"
            )
        yield batch


def _reported(
    batches: Iterable[ImageBatch], failures: list[Failure], total: int, report: Progress
) -> Iterator[ImageBatch]:
    done = 0
    for batch in batches:
        yield batch
        done += len(batch.images)
        report("read", done + len(failures), total)


def _write_failures(folder: Path, failures: list[Failure]) -> None:
    table = pa.table(
        {
            "key": pa.array([failure.key for failure in failures], pa.string()),
            "reason": pa.array([failure.reason for failure in failures], pa.string()),
        }
    )
    with writing(folder):
        pq.write_table(table, folder / "failures.parquet")


def _build_scale(
    folder: Path,
    corpus: Corpus,
    scale: Scale,
    stride: int,
    per_image: int,
    choice: ivf.CodecChoice,
    report: Progress,
) -> None:
    with writing(folder):
        folder.mkdir(parents=True)
    stage = f"train {scale.name}"
    report(stage, 0, 1)
    fit_images = -(-FIT_PATCHES // positions_taken(scale, *corpus.shape[1:], 1))
    embedding = fit_embedding(_sample(corpus, fit_images), scale, EMBEDDED_DIMENSIONS)
    storage.write_embedding(folder, embedding)
    lists = ivf.list_count(corpus.count * per_image)
    index = ivf.new_index(choice.codec, embedding.dimensions, lists)
    train_images = -(-max(256, ivf.POINTS_PER_LIST * lists) // per_image)
    patches = embed(embedding, _sample(corpus, train_images), stride)  # [n, P, d]
    index.train(patches.reshape(-1, embedding.dimensions))
    storage.write_quantizer(folder, index, choice.codec)
    report(stage, 1, 1)

    segment, patch_bytes = 0, index.code_size + ivf.ID_BYTES
    for image_ids, images in corpus.batches(READ_BATCH):
        patches = embed(embedding, images, stride)
        index.add_with_ids(patches.reshape(-1, embedding.dimensions), np.repeat(image_ids, per_image))
        last = int(image_ids[-1]) + 1 == corpus.count
        if last or index.ntotal * patch_bytes > SEGMENT_BYTES:
            storage.write_lists(folder / f"lists-{segment:05d}.arrow", index, choice.codec)
            index.reset()
            segment += 1
        report(f"encode {scale.name}", int(image_ids[-1]) + 1, corpus.count)


def _sample(corpus: Corpus, count: int) -> NDArray[np.uint8]:
    chosen = np.random.default_rng(SEED).choice(corpus.count, min(count, corpus.count), replace=False)
    return corpus.pixels(np.sort(chosen))


def manifest_scales(config: dict[str, Any]) -> tuple[Scale, ...]:
    """The scales that a manifest's config names."""
    return tuple(Scale(**values) for values in config["scales"])

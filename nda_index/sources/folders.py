"""Image files in a folder and the folders in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa

from nda_index.sources.base import IMAGE_ENDINGS, OpenSource, RawImage
from nda_index.sources.parquet import open_parquet


def open_folder(folder: Path, open_tables: Callable[[list[Path]], OpenSource] = open_parquet) -> OpenSource:
    """Open a folder of image files, in the order of their paths, which are the keys; or of Parquet files alone.

    Args:
        folder: is searched at every depth; names that begin with a dot are left out.
        open_tables: opens the Parquet files.

    Raises:
        SourceError: as `open_parquet`, where the folder holds Parquet files and no image files.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / "a.png").touch()
        >>> [image.key for image in open_folder(folder).read()]
        ['a.png']
    """
    files = list_files(folder)
    images = [path for path in files if path.suffix.lower() in IMAGE_ENDINGS]
    tables = sorted(path for path in files if path.suffix.lower() == ".parquet")  # folder by folder
    if tables and not images:
        return open_tables(tables)

    def read() -> Iterator[RawImage]:
        for path in images:
            yield RawImage(path.relative_to(folder).as_posix(), path, {})

    return OpenSource("folder", len(images), pa.schema([]), read)


def list_files(folder: Path) -> list[Path]:
    """List the files at every depth of a folder, sorted by path, without hidden ones.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("b", "a", ".c"): (folder / name).touch()
        >>> [path.name for path in list_files(folder)]
        ['a', 'b']
    """
    files = [
        path
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    return sorted(files, key=lambda path: path.as_posix())

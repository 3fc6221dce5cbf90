"""Files in a folder and the folders in it, and what of them is read."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from nda_index.errors import SourceError
from nda_index.images import PICTURE_ENDINGS, explain_ending
from nda_index.sources.base import Failure, OpenSource, RawImage, to_text
from nda_index.sources.parquet import list_image_columns, open_parquet
from nda_index.sources.webdataset import open_webdataset

_INDEX_FILES = frozenset(["writer.lock"])  # of an index or of a build: never a source
_INDEX_NOTES = ("manifest.json", "building.json")
_HIDDEN = "is hidden: its name begins with a dot; rename it if it belongs to the collection"


@dataclass
class Listing:
    """The files of a folder, and what of it cannot be read.

    Attributes:
        files: sorted by path.
        left_out: names below the folder, and why each is left out.
    """

    files: list[Path] = field(default_factory=list)
    left_out: list[Failure] = field(default_factory=list)


def open_folder(folder: Path, open_tables: Callable[[list[Path]], OpenSource] = open_parquet) -> OpenSource:
    """Open a folder of image files, in the order of their paths, which are the keys; or of Parquet files or shards.

    Linked folders are followed, each folder once.

    Args:
        folder: is searched at every depth; names that begin with a dot are left out.
        open_tables: opens the Parquet files.

    Raises:
        SourceError: it holds several kinds of source at once; or as `open_parquet` and `open_webdataset`.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("a.png", "notes.txt"): (folder / name).touch()
        >>> opened = open_folder(folder)
        >>> [image.key for image in opened.read()], [one.key for one in opened.left_out]
        (['a.png'], ['notes.txt'])
    """
    if any((folder / lock).exists() and (folder / name).exists() for lock in _INDEX_FILES for name in _INDEX_NOTES):
        raise SourceError(
            f"the source {to_text(folder)!r} is an index of nda-index, or the beginning of one; give the folder of its "
            f"pictures (to ask it: nda-index query)"
        )
    listing = list_files(folder)
    left_out = list(listing.left_out)
    images, tables, shards = list[Path](), list[Path](), list[Path]()
    for path in listing.files:
        ending = path.suffix.lower()
        if ending in PICTURE_ENDINGS:
            images.append(path)
        elif ending == ".tar":
            shards.append(path)
        else:
            reason = _why_no_table(path) if ending == ".parquet" else explain_other(ending)
            if reason is None:
                tables.append(path)
            else:
                left_out.append(Failure(name_below(folder, path), reason))
    _check_one_kind(folder, images, tables, shards)
    opened = (
        open_tables(sorted(tables))  # folder by folder
        if tables
        else replace(open_webdataset(sorted(shards)), files=tuple(sorted(shards)))
        if shards
        else open_files(images, folder)
    )
    return replace(opened, left_out=[*sorted(left_out, key=lambda one: one.key), *opened.left_out])


def open_files(paths: Sequence[Path], folder: Path | None = None) -> OpenSource:
    """Open image files. Their keys are their paths, below the folder if one is given.

    Example:
        >>> [image.key for image in open_files([Path("b/1.png"), Path("a/2.png")]).read()]
        ['b/1.png', 'a/2.png']
    """

    def read() -> Iterator[RawImage]:
        for path in paths:
            yield RawImage(to_text(path.as_posix()) if folder is None else name_below(folder, path), path, {})

    return OpenSource("folder", len(paths), pa.schema([]), read)


def list_files(folder: Path) -> Listing:
    """List the files at every depth of a folder, sorted by path, without hidden ones.

    Folders that links lead to are walked after all others; a folder that was walked already is left out, so that links
    in a circle end.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("b", "a", ".c"): (folder / name).touch()
        >>> listing = list_files(folder)
        >>> [path.name for path in listing.files], [one.key for one in listing.left_out]
        (['a', 'b'], ['.c'])
    """
    found = Listing()
    walked: dict[tuple[int, int], Path] = {}
    waiting = [folder]
    while waiting:
        links: list[Path] = []
        for start in waiting:
            _walk(folder, start, found, walked, links)
        waiting = sorted(links, key=Path.as_posix)
    found.files.sort(key=Path.as_posix)
    return found


def _walk(folder: Path, start: Path, found: Listing, walked: dict[tuple[int, int], Path], links: list[Path]) -> None:
    """Add what lies in a folder and the folders in it; linked folders go to `links`."""

    def leave_out(path: Path, reason: str) -> None:
        found.left_out.append(Failure(name_below(folder, path), reason))

    pending = [start]
    while pending:
        current = pending.pop()
        try:
            identity = os.stat(current)
            earlier = walked.setdefault((identity.st_dev, identity.st_ino), current)
            if earlier != current:
                leave_out(current, f"leads to the folder {name_below(folder, earlier)!r}, which is read already")
                continue
            entries = sorted(os.scandir(current), key=lambda entry: entry.name)
        except OSError as error:
            leave_out(current, f"cannot be opened: {error.strerror or error}; check its permissions")
            continue
        if current != folder and any(entry.name in _INDEX_FILES for entry in entries):
            leave_out(current, "is an index of nda-index, or the beginning of one; it is not read")
            continue
        for entry in entries:
            _sort_in(Path(entry.path), entry, found, pending, links, leave_out)


def _sort_in(
    path: Path,
    entry: os.DirEntry[str],
    found: Listing,
    pending: list[Path],
    links: list[Path],
    leave_out: Callable[[Path, str], None],
) -> None:
    """Take one entry of a folder for a file, a folder to walk now or later, or leave it out."""
    try:
        if entry.name.startswith("."):
            leave_out(path, _HIDDEN)
        elif entry.is_dir():
            (links if entry.is_symlink() else pending).append(path)
        elif entry.is_file():
            found.files.append(path)
        elif entry.is_symlink():
            leave_out(path, "is a link to nothing; restore what it leads to")
        else:
            leave_out(path, "is neither a file nor a folder")
    except OSError as error:
        leave_out(path, f"cannot be opened: {error.strerror or error}; check where it leads")


def _check_one_kind(folder: Path, images: list[Path], tables: list[Path], shards: list[Path]) -> None:
    """Refuse a folder of several kinds: which of them is the collection, only its owner can say."""
    kinds = (("images", images, ""), ("Parquet files with images", tables, "parquet"), ("shards", shards, "tar"))
    present = [(name, paths, ending) for name, paths, ending in kinds if paths]
    if len(present) < 2:
        return
    held = " and ".join(f"{len(paths):,} {name} ({name_below(folder, paths[0])!r})" for name, paths, _ in present)
    globs = " or ".join(repr(f"{to_text(folder)}/**/*.{ending}") for _, _, ending in present if ending)
    raise SourceError(
        f"the folder {to_text(folder)!r} holds {held}; give one kind, as {globs}, or move the others elsewhere"
    )


def _why_no_table(path: Path) -> str | None:
    """Say why a Parquet file gives no images; None where it gives some, or is broken, which `open_parquet` says."""
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowInvalid, OSError):
        return None
    if list_image_columns(schema):
        return None
    return f"is a table without images; it has the columns {', '.join(schema.names)}"


def explain_other(ending: str) -> str:
    """Say why a file of another kind than images is left out of a folder, by the ending of its name."""
    if ending in (".npz", ".npy"):
        return f"is a {ending} beside other files; give it as a source of its own"
    return explain_ending(ending)


def name_below(folder: Path, path: Path) -> str:
    """Return the name of a file below a folder, as text."""
    return to_text(path.relative_to(folder).as_posix())

"""WebDataset shards: .tar files, each picture with the .json, .cls and .txt of the same name."""

from __future__ import annotations

import tarfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import pyarrow as pa

from nda_index.errors import NdaIndexError, SourceError
from nda_index.images import PICTURE_ENDINGS, explain_ending
from nda_index.sources.base import Failure, OpenSource, RawImage, Unreadable, to_text
from nda_index.sources.samples import METADATA_ENDINGS, choose_type, read_metadata

LINKS = 40  # that lead to one another at most, as on Linux


@dataclass
class _Shard:
    """What a shard holds.

    Attributes:
        pictures: key, name and member of each picture, in the order of the file.
        metadata: members of metadata, by name.
        left_out: other members, and why.
    """

    pictures: list[tuple[str, str, tarfile.TarInfo]] = field(default_factory=list)
    metadata: dict[str, tarfile.TarInfo] = field(default_factory=dict)
    left_out: list[Failure] = field(default_factory=list)


def open_webdataset(paths: list[Path]) -> OpenSource:
    """Open WebDataset shards. This reads all of them once, to count images and to learn the metadata columns.

    Every picture is an image. Its key is its name without the last ending; pictures that this would give the same key
    keep their whole names. Its metadata are the .json (plain values), .cls (a number) and .txt of the same key, or of
    the name up to its first dot, wherever in the shard they are. Links lead to pictures of the same shard.

    Args:
        paths: of the shards, one or more, in the order in which they are read.

    Raises:
        SourceError: a shard is not a .tar file, or is cut short.

    Example:
        >>> import io, tempfile
        >>> path = Path(tempfile.mkdtemp(), "shard.tar")
        >>> with tarfile.open(path, "w") as archive:
        ...     for name, data in (("a.png", b"..."), ("a.cls", b"7")):
        ...         member = tarfile.TarInfo(name)
        ...         member.size = len(data)
        ...         archive.addfile(member, io.BytesIO(data))
        >>> [(image.key, image.metadata) for image in open_webdataset([path]).read()]
        [('a', {'cls': 7})]
    """
    count, left_out = 0, list[Failure]()
    values: dict[str, set[type]] = {}
    for path in paths:
        with _reading(path) as archive:
            shard = _list_members(archive)
            count += len(shard.pictures)
            prefix = f"{to_text(path.name)}: " if len(paths) > 1 else ""
            left_out += [Failure(prefix + one.key, one.reason) for one in shard.left_out]
            for name in shard.metadata:
                row, problem = read_metadata({_ending(name): _read_member(archive, shard.metadata[name])})
                if problem:
                    left_out.append(Failure(prefix + to_text(name), problem))
                for column, value in row.items():
                    values.setdefault(column, set()).add(type(value))
    schema = pa.schema([(name, choose_type(types)) for name, types in values.items()])
    texts = {field.name for field in schema if pa.types.is_string(field.type)}

    def read() -> Iterator[RawImage]:
        for path in paths:
            with _reading(path) as archive:
                for raw in _read_shard(archive):
                    row = {name: str(value) if name in texts else value for name, value in raw.metadata.items()}
                    yield RawImage(raw.key, raw.data, row)

    return OpenSource("webdataset", count, schema, read, left_out=left_out)


def split_name(name: str) -> tuple[str, str]:
    """Split a member's name into its key and its last ending, in small letters.

    Example:
        >>> split_name("train/007.left.PNG")
        ('train/007.left', '.png')
    """
    folder, _, file_name = name.rpartition("/")
    stem, dot, ending = file_name.rpartition(".")
    if not dot:
        stem, ending = ending, ""
    return f"{folder}/{stem}" if folder else stem, f".{ending.lower()}"


def _first_part(name: str) -> str:
    """The name up to the first dot of its last part: what WebDataset takes for the key of a sample."""
    folder, _, file_name = name.rpartition("/")
    stem = file_name.partition(".")[0]
    return f"{folder}/{stem}" if folder else stem


def _ending(name: str) -> str:
    return split_name(name)[1]


@contextmanager
def _reading(path: Path) -> Iterator[tarfile.TarFile]:
    """Open a shard; whatever goes wrong while it is open becomes a `SourceError` that names it."""
    name = to_text(path)
    try:
        size = path.stat().st_size
        if size % tarfile.BLOCKSIZE:  # tarfile takes a header that is cut short for the end
            raise SourceError(f"{name!r} is not a whole number of blocks; check that the shard is complete")
        with tarfile.open(path) as archive:
            yield archive
    except NdaIndexError:
        raise
    except Exception as error:  # a damaged shard makes tarfile raise almost anything
        raise SourceError(f"{name!r} cannot be read to its end: {error}; check that the shard is complete") from error


def _look_behind(archive: tarfile.TarFile) -> Failure | None:
    """Check that the shard ends where its members do: tarfile takes a damaged header for the end.

    Raises:
        SourceError: what is there is no end.
    """
    file = archive.fileobj
    if file is None:
        return None
    file.seek(archive.offset)
    end = file.read(tarfile.BLOCKSIZE)
    place = f"after byte {archive.offset:,}"
    if end.strip(b"\0"):
        raise tarfile.ReadError(f"the header {place} is damaged")
    if not end:
        return Failure(place, "the shard has no end mark; check that it is complete")
    while block := file.read(1 << 20):
        if block.strip(b"\0"):
            return Failure(place, "the archive ends here, but the file goes on; unpack it with tar --ignore-zeros")
    return None


def _list_members(archive: tarfile.TarFile) -> _Shard:
    """Sort the members of a shard: pictures, metadata, and what is left out."""
    shard = _Shard()
    members = archive.getmembers()
    beyond = _look_behind(archive)
    shard.left_out += [beyond] if beyond else []
    last = {member.name: number for number, member in enumerate(members)}  # a later one replaces an earlier one
    pictures: list[tuple[str, tarfile.TarInfo]] = []
    for number, member in enumerate(members):
        name, ending = member.name, _ending(member.name)
        if member.isdir():
            continue
        reason = None
        if PurePosixPath(name).name.startswith(".") or PurePosixPath(name).name == "":
            reason = "is hidden: its name begins with a dot; rename it if it belongs to the collection"
        elif last[name] != number:
            reason = "is replaced by a later member of the same name, as when the shard is unpacked"
        elif not (member.isfile() or member.islnk() or member.issym()):
            reason = "is neither a file nor a link"
        elif ending in PICTURE_ENDINGS:
            pictures.append((name, member))
        elif ending in METADATA_ENDINGS:
            shard.metadata[name] = member
        else:
            reason = explain_ending("" if ending == "." else ending)
        if reason is not None:
            shard.left_out.append(Failure(to_text(name), reason))
    keys = Counter(split_name(name)[0] for name, _ in pictures)
    for name, member in pictures:
        stem = split_name(name)[0]
        shard.pictures.append((to_text(stem if keys[stem] == 1 else name), name, member))
    used = {found for _, name, _ in shard.pictures for found in _metadata_names(name, shard)}
    shard.left_out += [
        Failure(to_text(name), "belongs to no picture of this shard: none has its name")
        for name in shard.metadata
        if name not in used
    ]
    shard.metadata = {name: member for name, member in shard.metadata.items() if name in used}
    return shard


def _metadata_names(picture: str, shard: _Shard) -> list[str]:
    """Names of the members that hold a picture's metadata: for each ending the one whose name is nearest to its own."""
    found = []
    for ending in METADATA_ENDINGS:
        for stem in dict.fromkeys((picture, split_name(picture)[0], _first_part(picture))):
            if stem + ending in shard.metadata:
                found.append(stem + ending)
                break
    return found


def _read_shard(archive: tarfile.TarFile) -> Iterator[RawImage]:
    """Read the pictures of a shard with their metadata, in the order of the file."""
    shard = _list_members(archive)
    by_name = {member.name: member for member in archive.getmembers()}
    for key, name, member in shard.pictures:
        parts = {_ending(part): _read_member(archive, shard.metadata[part]) for part in _metadata_names(name, shard)}
        target = _follow(member, by_name)
        if isinstance(target, Unreadable):
            yield RawImage(key, target, {})
        else:
            yield RawImage(key, _read_member(archive, target), read_metadata(parts)[0])


def _follow(member: tarfile.TarInfo, by_name: dict[str, tarfile.TarInfo]) -> tarfile.TarInfo | Unreadable:
    """Find the file that a member is or leads to, in the same shard."""
    for _ in range(LINKS):
        if not (member.islnk() or member.issym()):
            return member
        place = member.linkname if member.islnk() else _join(member.name, member.linkname)
        if place not in by_name:
            return Unreadable(
                f"is a link to {to_text(place)!r}, which is not in this shard; pack it with what it names"
            )
        member = by_name[place]
    return Unreadable("is a link in a circle")


def _join(name: str, target: str) -> str:
    """The place in the archive that a symbolic link at `name` leads to."""
    if target.startswith("/"):
        return target
    parts: list[str] = []
    for part in (*PurePosixPath(name).parent.parts, *PurePosixPath(target).parts):
        if part == "..":
            parts = parts[:-1]
        elif part != ".":
            parts.append(part)
    return "/".join(parts)


def _read_member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    if member.islnk() or member.issym():
        return b""
    file = archive.extractfile(member)
    return b"" if file is None else file.read()

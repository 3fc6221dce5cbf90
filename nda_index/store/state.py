"""What goes on with an index: whether it is one yet, who changes it, and who reads which state of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nda_index.store.locks import find_writer
from nda_index.store.manifest import read_manifest
from nda_index.store.pulled import pulled_obsolete
from nda_index.store.readers import Reader, list_readers


@dataclass(frozen=True)
class State:
    """What goes on with an index.

    Attributes:
        writer: who changes it, as `find_writer`; empty if nobody does.
        readers: who has it open as it is.
        earlier: who has an earlier state open, or has not said which.
        old_files: number of files that are no part of it any more, but are there still.
    """

    writer: str
    readers: tuple[Reader, ...]
    earlier: tuple[Reader, ...]
    old_files: int

    def describe(self) -> list[str]:
        """Describe it in sentences."""
        sentences = [f"being edited by {self.writer}"] if self.writer else []
        sentences += [f"open in {reader}" for reader in self.readers]
        sentences += [f"an earlier state is open in {reader}" for reader in self.earlier]
        if self.old_files:
            sentences.append(
                f"{self.old_files} old files are there still, until nobody reads them; see nda-index compact"
            )
        return sentences or ["at rest: nobody changes it or has it open"]


def look(folder: Path) -> State:
    """Look at what goes on with an index and its shards.

    Raises:
        NotAnIndexError: it is none; the message says whether it is being built, by whom and how far.
        VersionError, CorruptIndexError: as `read_manifest`.
    """
    manifest = read_manifest(folder, check_files=False)
    folders = [folder, *(folder / name for name in manifest.shards)]
    parts = [manifest, *(read_manifest(shard, check_files=False) for shard in folders[1:])]
    found = [(reader, part) for each, part in zip(folders, parts, strict=True) for reader in list_readers(each)]
    return State(
        writer=next(filter(None, map(find_writer, folders)), ""),
        readers=tuple(reader for reader, part in found if reader.index_hash == part.index_hash),
        earlier=tuple(reader for reader, part in found if reader.index_hash != part.index_hash),
        old_files=sum(
            (each / name).exists()
            for each, part in zip(folders, parts, strict=True)
            for name in {*part.obsolete, *pulled_obsolete(each)}.difference(part.files)
        ),
    )

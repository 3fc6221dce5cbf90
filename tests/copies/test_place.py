from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

import nda_index as nda
from nda_index.copies import place as places
from nda_index.copies.place import GoneError, open_place


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "is no path"),
        ("ftp://machine/x", r"give a folder, file://, s3://BUCKET/PATH"),
        ("s3://?region=x", "the address of a copy is 's3:"),
        (Path("s3://bucket/x"), "an address; give a path"),
        ("file:///", "names no folder"),
    ],
)
def test_what_is_no_address_is_refused(url: str | Path, message: str) -> None:
    with pytest.raises(nda.ConfigError, match=message):
        open_place(url)


def test_keys_are_in_no_message() -> None:
    place = open_place("s3://name:secret@bucket/x.nda/?region=eu-central-1&endpoint_override=127.0.0.1:1&scheme=http")
    assert (place.shown, place.root) == ("s3://bucket/x.nda", "bucket/x.nda")
    with pytest.raises(nda.ConfigError) as refused:
        open_place("s3://name:secret@bucket/x.nda?nonsense=1")
    assert "secret" not in str(refused.value) and "nonsense" in str(refused.value)


def test_a_folder_is_a_place(tmp_path: Path) -> None:
    place, counts = open_place(f"file://{tmp_path}/there"), list[int]()
    assert places.list_sizes(place) == {}
    assert places.read(place, "a/b.gz") is None
    data = b"12345" * 400_000
    (tmp_path / "source").write_bytes(data)
    places.send(place, tmp_path / "source", "a/b.gz", counts.append)
    assert places.read(place, "a/b.gz") == data  # as it is, whatever its name
    assert (sum(counts), len(counts)) == (2_000_000, 2)
    digest = places.fetch(place, "a/b.gz", tmp_path / "target", counts.append)
    assert (digest, (tmp_path / "target").read_bytes()) == (hashlib.sha256(data).hexdigest(), data)
    assert places.has_sha256(place, "a/b.gz", digest) and not places.has_sha256(place, "a/b.gz", "0" * 64)
    places.put(place, "c.json", b"{}")
    assert places.list_sizes(place) == {"a/b.gz": 2_000_000, "c.json": 2}
    assert places.list_sizes(place.below("a")) == {"b.gz": 2_000_000}
    places.delete(place, ["a/b.gz", "gone"])
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["c.json"]
    with pytest.raises(GoneError):
        places.fetch(place, "a/b.gz", tmp_path / "target", counts.append)


def test_a_store_that_cannot_be_reached_or_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(nda.StorageError, match="cannot be written: .*check the address, the network and the rights"):
        places.put(open_place(tmp_path / "file"), "manifest.json", b"")

"""Copies in a server of S3 on this machine: moto's, where `pip install "moto[server]"` was run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pyarrow.fs import FileSystem

import nda_index as nda
from nda_index.store.verify import verify
from tests.copies.conftest import Room, hash_of, named

server = pytest.importorskip("moto.server")


@pytest.fixture(scope="module")
def options() -> Iterator[str]:
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    found = f"?endpoint_override={host}:{port}&scheme=http&region=us-east-1&allow_bucket_creation=true"
    FileSystem.from_uri(f"s3://key:secret@photos{found}")[0].create_dir("photos")
    yield found
    running.stop()


def test_copies_travel_over_s3(room: Room, options: str) -> None:
    url = f"s3://key:secret@photos/copies/x.nda{options}"
    with pytest.raises(nda.NotAnIndexError, match="there is nothing at 's3://photos/copies/x.nda'"):
        nda.pull_index(url, room.copy)
    assert nda.push_index(room.index, url).files == len(named(room.index))
    assert nda.pull_index(url, room.copy).files == len(named(room.index))
    system, root = FileSystem.from_uri(url)
    with system.open_output_stream(f"{root}/notes.txt") as stream:
        stream.write(b"mine")
    for change in (room.grow, room.erase):
        before = named(room.index)
        change()
        for summary in (nda.push_index(room.index, url), nda.pull_index(url, room.copy)):
            assert summary.files == len(named(room.index) - before)
            assert summary.deleted == len(before - named(room.index))
        assert nda.push_index(room.index, url).foreign == ("notes.txt",)
    assert (hash_of(room.copy), verify(room.copy)) == (hash_of(room.index), [])
    name = sorted(named(room.index))[0]
    system.delete_file(f"{root}/{name}")
    with pytest.raises(nda.CorruptIndexError, match=f"there is no {name}"):
        nda.pull_index(url, room.copy.with_name("second.nda"))
    assert nda.push_index(room.index, url).files == 1
    assert nda.pull_index(url, room.copy.with_name("second.nda")).index_hash == hash_of(room.index)

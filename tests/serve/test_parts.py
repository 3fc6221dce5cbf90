"""Slow parts of answers: they are bounded, they end, and questions do not wait for them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

import nda_index as nda
from nda_index.serve import results
from nda_index.serve.pool import Abandoned
from tests.serve.conftest import PATIENCE, Served, serving, until


@dataclass
class Slow:
    """Links that take until their check raises, or until they are let go on."""

    opened: threading.Event = field(default_factory=threading.Event)
    begun: list[int] = field(default_factory=list)
    ended: list[Exception] = field(default_factory=list)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slow]:
    slow, original = Slow(), nda.Attribution.links

    def links(answer: nda.Attribution, rank: int, scale: str | None, check: Callable[[], None]) -> NDArray[np.float64]:
        slow.begun.append(rank)
        try:
            while not slow.opened.wait(0.005):
                check()
        except Exception as error:
            slow.ended.append(error)
            raise
        return original(answer, rank, scale, check)

    monkeypatch.setattr(nda.Attribution, "links", links)
    yield slow
    slow.opened.set()


def links_of(served: Served, upload: bytes, rank: int) -> str:
    return str(served.ask(upload, top=3).json()["images"][rank]["links"])


def test_a_part_ends_at_its_deadline(index_folder: Path, tmp_path: Path, upload: bytes, slow: Slow) -> None:
    with serving(index_folder, tmp_path / "results", deadline=1.0) as served:
        response = served.http.get(links_of(served, upload, 0))
        assert (response.status_code, response.json()["error"]["code"]) == (503, "deadline")
        assert int(response.headers["retry-after"]) >= 1
        until(lambda: [type(error) for error in slow.ended] == [Abandoned])
        slow.opened.set()
        assert served.http.get(links_of(served, upload, 0)).status_code == 200


def test_a_part_ends_when_its_client_hangs_up(index_folder: Path, tmp_path: Path, upload: bytes, slow: Slow) -> None:
    with serving(index_folder, tmp_path / "results") as served:
        place = links_of(served, upload, 1)
        host, port = served.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(f"GET {place} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            until(lambda: slow.begun == [1])
        until(lambda: [type(error) for error in slow.ended] == [Abandoned])


def test_links_beyond_their_bound_are_refused_and_all_else_is_answered(
    index_folder: Path, tmp_path: Path, upload: bytes, slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[int] = []
    read_answer = nda.read_answer

    def counted(data: bytes) -> nda.Attribution:
        loaded.append(len(data))
        return read_answer(data)

    with serving(index_folder, tmp_path / "results", links=3) as served, ThreadPoolExecutor(3) as pool:
        place = links_of(served, upload, 0)
        monkeypatch.setattr(results, "read_answer", counted)
        waiting = [pool.submit(served.http.get, place) for _ in range(3)]
        until(lambda: len(slow.begun) == 2 and served.metric("nda_index_links") == 3)
        assert_busy(served.http.get(place))
        assert len(loaded) == 2  # the third waits without its answer in memory
        result = place.partition("/links")[0]
        for path in (result, f"{result}?format=png", f"{result}/maps/1/query.png", "/v1/images/3"):
            assert served.http.get(path).status_code == 200
        assert served.ask(upload, top=2).status_code == 200  # computed, and stored
        assert served.ask(upload, top=2).status_code == 200  # read
        assert not any(future.done() for future in waiting)
        slow.opened.set()
        assert [future.result().status_code for future in waiting] == [200] * 3
        assert served.http.get(place).status_code == 200
        assert served.metric("nda_index_links") == 0


def test_reads_beyond_their_bound_are_refused_and_links_are_answered(
    index_folder: Path, tmp_path: Path, upload: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, pixels = threading.Event(), nda.Index.pixels

    def held(index: nda.Index, image_ids: NDArray[np.int64]) -> NDArray[np.uint8]:
        assert opened.wait(PATIENCE)
        return pixels(index, image_ids)

    with serving(index_folder, tmp_path / "results", reads=3) as served, ThreadPoolExecutor(3) as pool:
        place = links_of(served, upload, 0)
        monkeypatch.setattr(nda.Index, "pixels", held)
        waiting = [pool.submit(served.http.get, "/v1/images/3") for _ in range(3)]
        try:
            until(lambda: served.metric("nda_index_readers") == 3)
            for path in (place.partition("/links")[0], "/v1/images/3"):
                assert_busy(served.http.get(path))
            assert served.http.get(place).status_code == 200
            assert served.ask(upload, top=2).status_code == 200
        finally:
            opened.set()
        assert [future.result().status_code for future in waiting] == [200] * 3
        assert served.http.get("/v1/images/3").status_code == 200
        assert served.metric("nda_index_readers") == 0


def assert_busy(response: httpx.Response) -> None:
    assert (response.status_code, response.json()["error"]["code"]) == (429, "busy")
    assert int(response.headers["retry-after"]) >= 1

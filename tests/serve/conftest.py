"""A service on a free port of this machine, configured as `nda-index serve` does."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

import nda_index as nda
from nda_index.question import Query
from nda_index.serve.app import create_app
from nda_index.serve.guard import LOCAL_HOSTS
from nda_index.serve.server import DrainingServer, listen, make_config
from nda_index.serve.settings import ServeSettings
from tests.conftest import encoded

PATIENCE = 300.0  # seconds after which what does not happen has failed; a cold start compiles for a minute or more
GRACE = 5.0  # seconds that requests in flight have at the end


@dataclass(frozen=True)
class Served:
    """A running service."""

    url: str
    http: httpx.Client
    results: Path
    terminate: Callable[[], object] = lambda: None

    def ask(self, picture: bytes, **options: Any) -> httpx.Response:
        """`POST /v1/attribute` as a form."""
        fields = {name: str(value) for name, value in options.items()}
        return self.http.post("/v1/attribute", files={"image": ("a.png", picture)}, data=fields)

    def metric(self, name: str) -> float:
        """The value of a counter, as "name" or 'name{label="value"}'; 0 where it has not counted yet."""
        lines = (line.rpartition(" ") for line in self.http.get("/metrics").text.splitlines())
        return next((float(value) for known, _, value in lines if known == name), 0.0)


def until(condition: Callable[[], object]) -> None:
    """Return when a condition holds."""
    end, pause = time.monotonic() + PATIENCE, threading.Event()
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        pause.wait(0.01)


@contextmanager
def serving(
    folder: Path,
    results: Path,
    *,
    ready: bool = True,
    opener: Callable[[Path], nda.Index] = nda.open_index,
    **settings: Any,
) -> Iterator[Served]:
    """Serve an index until the block ends."""
    settings = {
        "hosts": LOCAL_HOSTS,
        "reload_seconds": 0.05,
        "linger": 0.0,
        "threads": 1,
        "deadline": PATIENCE,
        **settings,
    }
    app = create_app(opener(folder), ServeSettings(results, **settings), opener)
    with listen("127.0.0.1", 0) as listening:
        server, loops = DrainingServer(make_config(app, GRACE)), list[asyncio.AbstractEventLoop]()

        async def serve() -> None:
            loops.append(asyncio.get_running_loop())
            await server.serve([listening])

        thread = threading.Thread(target=asyncio.run, args=(serve(),))
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        try:
            with httpx.Client(base_url=url, timeout=PATIENCE) as http:
                until(lambda: server.started)
                if ready:
                    until(lambda: http.get("/readyz").status_code == 200)
                terminate = partial(loops[0].call_soon_threadsafe, server.handle_exit, signal.SIGTERM, None)
                yield Served(url, http, results, terminate)
        finally:
            server.should_exit = True
            thread.join()


@dataclass
class Gate:
    """Holds the index: a query that has begun goes on when the gate is opened, or ends when its check raises."""

    opened: threading.Event = field(default_factory=threading.Event)
    begun: list[Query] = field(default_factory=list)
    ended: list[Exception] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Put the gate before `Index.attribute_batch`."""
        original = nda.Index.attribute_batch

        def held(index: nda.Index, queries: Sequence[Query]) -> Iterator[nda.Attribution | Exception]:
            self.batches.append(len(queries))
            for query in queries:
                self.begun.append(query)
                try:
                    while not self.opened.wait(0.005):
                        assert query.progress is not None
                        query.progress("score", 0, 1)
                except Exception as error:
                    self.ended.append(error)
                    yield error
                else:
                    yield from original(index, [query])

        monkeypatch.setattr(nda.Index, "attribute_batch", held)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """An open gate."""
    gate = Gate()
    gate.opened.set()
    gate.install(monkeypatch)
    yield gate
    gate.opened.set()


@pytest.fixture(scope="session")
def served(index_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The session's index, served; for tests that leave it as it is."""
    with serving(index_folder, tmp_path_factory.mktemp("served") / "results") as served:
        yield served


@pytest.fixture(scope="session")
def collage(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Halves of pictures 3 and 250."""
    return np.concatenate([pictures[3][:, :10], pictures[250][:, 10:]], axis=1)


@pytest.fixture(scope="session")
def upload(collage: NDArray[np.uint8]) -> bytes:
    """The collage's file."""
    return encoded(collage)

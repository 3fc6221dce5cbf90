from __future__ import annotations

import asyncio
import gc
import socket
import threading
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

import nda_index as nda
from nda_index.question import Query
from nda_index.serve.engine import Engine
from nda_index.serve.metrics import Metrics
from nda_index.serve.pool import Abandoned
from nda_index.serve.reload import Snapshot
from nda_index.serve.settings import ServeSettings
from tests.conftest import encoded
from tests.serve.conftest import Gate, Served, serving, until


def raw_question(served: Served, picture: bytes) -> socket.socket:
    """A question on a connection that can be cut."""
    request = httpx.Request("POST", f"{served.url}/v1/attribute", files={"image": ("a", picture)})
    host, port = served.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)))
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    connection.sendall(f"POST /v1/attribute HTTP/1.1\r\n{head}\r\n".encode() + request.read())
    return connection


def test_questions_beyond_the_queue_are_refused_and_the_service_recovers(
    index_folder: Path, tmp_path: Path, gate: Gate, pictures: NDArray[np.uint8]
) -> None:
    uploads = [encoded(picture) for picture in pictures[:12]]
    with serving(index_folder, tmp_path / "results", queue=4, batch=2) as served, ThreadPoolExecutor(12) as pool:
        gate.opened.clear()
        waiting = [pool.submit(served.ask, upload, top=1) for upload in uploads[:4]]
        until(lambda: served.metric("nda_index_queue_length") == 4)
        for upload in uploads[4:]:
            refused = served.ask(upload, top=1)
            assert (refused.status_code, refused.json()["error"]["code"]) == (429, "busy")
            assert int(refused.headers["retry-after"]) >= 1
        assert served.http.get("/healthz").status_code == 200
        assert served.http.get("/v1/images/3").status_code == 200
        gate.opened.set()
        answers = [future.result() for future in waiting]
        assert [answer.json()["images"][0]["image_id"] for answer in answers] == [0, 1, 2, 3]
        assert served.metric("nda_index_queue_length") == 0
        assert [served.ask(upload, top=1).status_code for upload in uploads[4:]] == [200] * 8
        assert served.metric('nda_index_questions_ended_total{reason="refused"}') == 8


def test_waiting_questions_are_answered_in_batches(
    index_folder: Path, tmp_path: Path, gate: Gate, pictures: NDArray[np.uint8]
) -> None:
    with serving(index_folder, tmp_path / "results", batch=3) as served, ThreadPoolExecutor(8) as pool:
        gate.opened.clear()
        gate.batches.clear()
        first = pool.submit(served.ask, encoded(pictures[0]), top=1)
        until(lambda: gate.batches == [1])
        rest = [pool.submit(served.ask, encoded(pictures[i]), top=1) for i in range(1, 6)]
        until(lambda: served.metric("nda_index_line_length") == 6)
        gate.opened.set()
        found = [future.result().json()["images"][0]["image_id"] for future in (first, *rest)]
        assert found == list(range(6))
        assert gate.batches == [1, 3, 2]


def test_one_failure_in_a_batch_is_not_the_others(
    index_folder: Path, tmp_path: Path, gate: Gate, upload: bytes
) -> None:
    with serving(index_folder, tmp_path / "results") as served, ThreadPoolExecutor(8) as pool:
        gate.opened.clear()
        gate.batches.clear()
        pool.submit(served.ask, upload, top=9)
        until(lambda: gate.batches)
        good = [pool.submit(served.ask, upload, top=top) for top in (1, 2)]
        bad = pool.submit(served.ask, upload, top=3, where="year > 3000")
        until(lambda: served.metric("nda_index_line_length") == 4)
        gate.opened.set()
        assert [len(future.result().json()["images"]) for future in good] == [1, 2]
        assert bad.result().status_code == 422
        assert gate.batches == [1, 3]


def test_identical_questions_share_one_answer(index_folder: Path, tmp_path: Path, gate: Gate, upload: bytes) -> None:
    with serving(index_folder, tmp_path / "results") as served, ThreadPoolExecutor(4) as pool:
        gate.opened.clear()
        asked = len(gate.begun)
        misses = served.metric('nda_index_results_total{outcome="miss"}')
        first = raw_question(served, upload)
        until(lambda: len(gate.begun) == asked + 1)
        others = [pool.submit(served.ask, upload) for _ in range(3)]
        until(lambda: served.metric('nda_index_results_total{outcome="miss"}') == misses + 4)  # all four wait
        first.close()  # the first client leaves; the others still wait
        until(lambda: served.metric("nda_index_queue_length") == 3)
        gate.opened.set()
        assert len({future.result().text for future in others}) == 1
        assert served.ask(upload).json() == others[0].result().json()
        assert len(gate.begun) == asked + 1
        assert not gate.ended


def test_a_question_ends_when_its_client_hangs_up(
    index_folder: Path, tmp_path: Path, gate: Gate, pictures: NDArray[np.uint8]
) -> None:
    with serving(index_folder, tmp_path / "results", batch=1) as served:
        gate.opened.clear()
        asked = len(gate.begun)
        running = raw_question(served, encoded(pictures[0]))
        until(lambda: len(gate.begun) == asked + 1)
        waiting = raw_question(served, encoded(pictures[1]))
        until(lambda: served.metric("nda_index_line_length") == 2)
        waiting.close()
        until(lambda: served.metric("nda_index_queue_length") == 1)
        running.close()
        until(lambda: served.metric("nda_index_queue_length") == 0)
        until(lambda: served.metric('nda_index_questions_ended_total{reason="cancelled"}') == 2)
        assert [type(error) for error in gate.ended] == [Abandoned]
        assert len(gate.begun) == asked + 1  # the one that waited was never begun
        gate.opened.set()
        assert served.ask(encoded(pictures[0]), top=1).status_code == 200


def test_a_question_ends_at_its_deadline(index_folder: Path, tmp_path: Path, gate: Gate, upload: bytes) -> None:
    with serving(index_folder, tmp_path / "results", deadline=1.0) as served:
        assert served.ask(upload, top=1).status_code == 200
        gate.opened.clear()
        late = served.ask(upload, top=2)
        assert (late.status_code, late.json()["error"]["code"]) == (503, "deadline")
        assert int(late.headers["retry-after"]) >= 1
        until(lambda: [type(error) for error in gate.ended] == [Abandoned])
        assert served.metric('nda_index_questions_ended_total{reason="deadline"}') == 1
        gate.opened.set()
        assert served.ask(upload, top=2).status_code == 200


def test_a_client_that_hangs_up_leaves_nothing_in_memory(index: nda.Index, tmp_path: Path) -> None:
    metrics, sizes = Metrics(), []
    picture = index.pixels(index.image_ids[:1])[0].transpose(1, 2, 0)

    async def scenario() -> None:
        engine = Engine(ServeSettings(tmp_path), metrics)  # it does not run: all questions stay queued
        snapshot = Snapshot(index, "", {})
        queries = [index.query(picture, top=1) for _ in range(3)]
        alive = [weakref.ref(query) for query in queries]
        tasks: list[asyncio.Task[nda.Attribution] | None] = [
            asyncio.create_task(engine.answer(f"{i % 3}", queries[i % 3], snapshot, float("inf"))) for i in range(4)
        ]
        del queries
        for number in (None, 0, 3, 1, 2):
            await asyncio.sleep(0)
            if number is not None and (task := tasks[number]) is not None:
                task.cancel()
                await asyncio.wait([task])
                tasks[number] = task = None
            gc.collect()
            sizes.append((len(engine), sum(query() is not None for query in alive)))
        assert snapshot.users == 0
        engine.close()

    asyncio.run(scenario())
    assert sizes == [(3, 3), (3, 3), (2, 2), (1, 1), (0, 0)]  # two questions were identical
    assert b'nda_index_questions_ended_total{reason="cancelled"} 4.0' in metrics.text()


def test_an_upload_has_a_deadline_too(index_folder: Path, tmp_path: Path) -> None:
    with serving(index_folder, tmp_path / "results", deadline=0.2, queue=1) as served:
        host, port = served.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as slow:
            slow.sendall(
                b"POST /v1/attribute HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: 1000\r\n\r\n{"
            )
            assert b"408" in slow.recv(4096).split(b"\r\n")[0]
        until(lambda: served.metric("nda_index_queue_length") == 0)


class Panic(BaseException):
    """As a panic in Rust, which is not an Exception in Python."""


def test_a_failure_of_the_index_is_reported_without_its_reason(
    index_folder: Path, tmp_path: Path, upload: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(index_folder, tmp_path / "results") as served:
        for error in (
            nda.CorruptIndexError("a secret place is damaged"), RuntimeError("a secret value"), Panic("a secret panic"),
        ):  # fmt: skip

            def broken(index: nda.Index, queries: object, error: BaseException = error) -> list[Exception]:
                if not isinstance(error, Exception):
                    raise error
                return [error]

            with monkeypatch.context() as patch:
                patch.setattr(nda.Index, "attribute_batch", broken)
                response = served.ask(upload, top=1)
            assert (response.status_code, response.json()["error"]["code"]) == (500, "internal")
            assert "content-security-policy" in response.headers
            assert "secret" not in response.text
            assert "secret" in caplog.text
            caplog.clear()
        assert served.ask(upload, top=1).status_code == 200


def test_the_warm_up_query_is_repeated_until_it_is_answered(
    index_folder: Path, tmp_path: Path, upload: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    original, errors = nda.Index.attribute_batch, [RuntimeError("not yet"), Panic("not yet")]

    def late(index: nda.Index, queries: Sequence[Query]) -> Iterator[nda.Attribution | Exception]:
        if errors:
            raise errors.pop()
        return original(index, queries)

    monkeypatch.setattr(nda.Index, "attribute_batch", late)
    with serving(index_folder, tmp_path / "results") as served:  # it becomes ready
        assert not errors
        assert served.ask(upload, top=1).status_code == 200
    assert caplog.text.count("the index does not answer") == 2


def test_a_question_that_waits_for_the_decoder_runs_out_of_time(
    index_folder: Path, tmp_path: Path, upload: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = threading.Event()
    with serving(index_folder, tmp_path / "results", deadline=0.2) as served:
        with monkeypatch.context() as patch:
            patch.setattr(nda.Index, "query", lambda *_, **__: decoded.wait())
            response = served.ask(upload, top=1)
            decoded.set()
        assert (response.status_code, response.json()["error"]["code"]) == (503, "deadline")
        assert served.metric('nda_index_questions_ended_total{reason="deadline"}') == 1

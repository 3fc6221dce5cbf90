"""Jobs of a running service: `routes`, `intake`, `worker`, `events`, and the part of the engine that is theirs."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import shutil
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

import nda_index as nda
from nda_index.question import Query, as_question
from nda_index.serve.collection import present_images
from nda_index.serve.engine import Engine
from nda_index.serve.jobs import folder as on_disk
from nda_index.serve.metrics import Metrics
from nda_index.serve.reload import Snapshot
from nda_index.serve.settings import ServeSettings
from nda_index.serve.tokens import Quota
from tests.conftest import encoded
from tests.serve.conftest import Gate, Served, serving, until
from tests.serve.jobs.test_archives import tar
from tests.serve.jobs.test_folder import lines_of

TAR = {"Content-Type": "application/x-tar"}


@pytest.fixture(scope="module")
def uploads(pictures: NDArray[np.uint8]) -> dict[str, bytes]:
    """Four files, of images 7, 3 and 200 of the index, and one that is none."""
    return {**{f"{number}.png": encoded(pictures[number]) for number in (7, 3, 200)}, "broken.png": b"no picture"}


def submit(served: Served, uploads: dict[str, bytes], **options: Any) -> httpx.Response:
    """`POST /v1/jobs` as a form."""
    fields = {name: str(value) for name, value in {"top": 1, "timestep": 50, **options}.items()}
    return served.http.post("/v1/jobs", files=[("image", file) for file in uploads.items()], data=fields)


def state(served: Served, place: str) -> dict[str, Any]:
    return dict(served.http.get(place).json())


def ended(served: Served, place: str) -> dict[str, Any]:
    until(lambda: state(served, place)["state"] in ("done", "failed"))
    return state(served, place)


def test_a_job_is_watched_and_its_results_are_read(served: Served, uploads: dict[str, bytes], index: nda.Index) -> None:
    counted = served.metric('nda_index_job_pictures_total{outcome="answered"}')
    submitted = submit(served, uploads)
    job, place = submitted.json(), submitted.headers["location"]
    assert (submitted.status_code, place) == (202, f"/v1/jobs/{job['id']}")
    assert (job["state"], job["total"], job["options"]["timestep"]) == ("queued", 4, [50])
    with served.http.stream("GET", job["events"], headers={"Last-Event-ID": "2"}) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        text = ""
        for part in stream.iter_text():
            assert not part.startswith(": "), "the job stands still"  # else this would wait for ever
            text += part
        events = [event.split("\n") for event in text.split("\n\n") if "event:" in event]
    assert {event[1] for event in events[:-1]} <= {"event: progress"}
    assert events[-1][:2] == ["id: 4", "event: end"]
    whole = state(served, place)
    assert json.loads(events[-1][2].removeprefix("data: ")) == whole
    assert (whole["state"], whole["done"], whole["failures"], whole["seconds_left"]) == ("done", 4, 1, None)
    assert whole["index_hash"] == index.manifest.index_hash
    lines = [json.loads(line) for line in served.http.get(whole["results"]).text.splitlines()]
    assert [(line["picture"], line["question"]) for line in lines] == list(enumerate(uploads))
    assert [line["rows"][0].get("image_id") for line in lines] == [7, 3, 200, None]
    assert "is not a picture" in lines[3]["rows"][0]["error"]
    table = pq.read_table(io.BytesIO(served.http.get(whole["results"], params={"format": "parquet"}).content))
    again = served.http.get(whole["results"], headers={"Accept": "application/vnd.apache.parquet"})
    assert pq.read_table(io.BytesIO(again.content)) == table
    answer = index.attribute(io.BytesIO(uploads["7.png"]).getvalue(), 50, 1)
    assert (table["key"][0].as_py(), table["share"][0].as_py()) == (answer.keys[0], float(answer.shares[0]))
    assert json.loads(table.schema.metadata[b"nda_index.job"]) == job["id"]
    found = pyarrow.csv.read_csv(io.BytesIO(served.http.get(whole["results"], params={"format": "csv"}).content))
    assert found["question"].to_pylist() == table["question"].to_pylist() == list(uploads)
    assert served.metric('nda_index_job_pictures_total{outcome="answered"}') == counted + 3
    assert served.http.head(whole["events"]).status_code == 200
    assert not list((served.results / "jobs" / job["id"]).glob("pictures"))


def test_an_archive_is_a_job_too_and_its_options_are_in_the_address(served: Served, uploads: dict[str, bytes]) -> None:
    files = {"../7.png": uploads["7.png"], "a/.hidden.png": b"x"}
    response = served.http.post("/v1/jobs", params={"top": 2, "where": "year>=2000"}, content=tar(files), headers=TAR)
    assert (response.status_code, response.json()["total"]) == (202, 1)
    assert response.json()["options"]["where"] == "(`year` >= 2000)"
    whole = ended(served, response.headers["location"])
    (line,) = served.http.get(whole["results"]).text.splitlines()
    assert json.loads(line)["question"] == "../7.png"
    assert response.json()["id"] in [job["id"] for job in served.http.get("/v1/jobs").json()["jobs"]]
    assert served.http.delete(response.headers["location"]).status_code == 204
    assert served.http.get(response.headers["location"]).status_code == 404


FORM = {"Content-Type": "multipart/form-data; boundary=x"}
PART = b'--x\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
WRONG: list[tuple[bytes, dict[str, str], int, str]] = [
    (b"", TAR, 400, "archive"),
    (tar({}), TAR, 400, "pictures"),
    (b"text", {"Content-Type": "text/plain"}, 415, "type"),
    (b"no form", FORM, 400, "form"),
    (b"no form", {"Content-Type": "multipart/form-data"}, 400, "form"),
    (PART % (b"image", b'; filename="a"', b"a"), FORM, 400, "form"),
    (PART % (b"top", b"", b"2") + b"--x--", FORM, 400, "pictures"),
    (PART % (b"image", b"", b"text") + b"--x--", FORM, 400, "pictures"),
    (PART % (b"other", b'; filename="a"', b"a") + b"--x--", FORM, 400, "form"),
    (PART % (b"where", b"", b"x" * 70_000) + b"--x--", FORM, 400, "form"),
    (b"".join(PART % (b"x%d" % n, b"", b"1") for n in range(70)) + b"--x--", FORM, 400, "form"),
    (b"--x\r\nX-Long: " + b"y" * 9000 + b"\r\n\r\n--x--", FORM, 400, "form"),
]


@pytest.mark.parametrize(("body", "headers", "status", "code"), WRONG)
def test_bodies_that_are_no_job_are_refused(
    served: Served, body: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    response = served.http.post("/v1/jobs", content=body, headers=headers)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert not list((served.results / "jobs").glob(".*"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top": 0}, "top is '0'"),
        ({"region": "0,0,9,9"}, "region is about one picture"),
        ({"image_id": 3}, "image_id is about one picture"),
        ({"colour": 1}, "there is no such option"),
        ({"where": "colour = 1"}, "'colour' is not a column"),
    ],
)
def test_options_are_checked_before_the_job_is_taken(
    served: Served, uploads: dict[str, bytes], options: dict[str, Any], message: str
) -> None:
    response = submit(served, uploads, **options)
    assert response.status_code == 400
    assert message in response.json()["error"]["message"]


def test_a_job_goes_on_after_a_restart_with_its_next_picture(
    index_folder: Path, tmp_path: Path, gate: Gate, uploads: dict[str, bytes]
) -> None:
    audit = tmp_path / "audit.jsonl"
    with serving(index_folder, tmp_path / "results", audit=audit) as served, ThreadPoolExecutor(1) as pool:
        gate.opened.clear()
        begun = len(gate.begun)
        place = submit(served, uploads).headers["location"]
        until(lambda: len(gate.begun) > begun)
        assert state(served, place)["state"] == "running"
        with httpx.stream("GET", f"{served.url}{place}/events") as stream:
            parts = stream.iter_text()
            assert "event: progress" in "".join(next(parts) for _ in range(2))
            served.terminate()
            until(lambda: served.http.get("/readyz").status_code == 503)
            assert submit(served, uploads).json()["error"]["code"] == "draining"
            assert pool.submit(list, parts).result() == []  # no end: the client comes back
        gate.opened.set()
        folder = tmp_path / "results" / place.removeprefix("/v1/")
        until(lambda: lines_of(folder))  # it is given the time for its picture
    assert [line["picture"] for line in map(json.loads, lines_of(folder))] == [0]
    with (folder / "results.jsonl").open("ab") as file:
        file.write(b'{"picture": 1, "ques')  # as a kill leaves it
    asked = len(gate.begun)
    with serving(index_folder, tmp_path / "results", audit=audit) as served:
        whole = ended(served, place)
        assert (whole["done"], whole["failures"]) == (4, 1)
        rows = [json.loads(line)["rows"][0] for line in served.http.get(whole["results"]).text.splitlines()]
        assert [row["question"] for row in rows] == list(uploads)
        assert len(gate.begun) - asked == 3  # the warm-up, and the two pictures that had no answer yet
    events = [json.loads(line) for line in audit.read_text().splitlines()]
    assert [event["outcome"] for event in events] == ["answered"] * 3 + ["image"]
    assert [event["picture"] for event in events] == [hashlib.sha256(data).hexdigest() for data in uploads.values()]
    assert {event["job"] for event in events} == {whole["id"]}


def test_a_token_has_its_own_jobs_and_its_limits_hold_for_their_pictures(
    index_folder: Path, tmp_path: Path, uploads: dict[str, bytes]
) -> None:
    digests = [hashlib.sha256(name.encode()).hexdigest() for name in ("ada", "bob", "gone")]
    tokens = dict(zip(digests, (Quota("Ada", per_day=2), Quota("Bob"), Quota()), strict=True))
    ada, bob, gone = ({"Authorization": f"Bearer {name}"} for name in ("ada", "bob", "gone"))
    with serving(
        index_folder, tmp_path / "results", tokens=tokens, jobs=3, job_pictures=3,
        upload_bytes=4000, job_bytes=9000,
    ) as served:  # fmt: skip
        good = {name: data for name, data in uploads.items() if data != b"no picture"}

        def send(headers: dict[str, str], files: dict[str, bytes]) -> httpx.Response:
            return served.http.post("/v1/jobs", content=tar(files), headers={**headers, **TAR})

        slow = send(ada, good).headers["location"]
        until(lambda: served.http.get(slow, headers=ada).json()["done"] == 2)
        quick = send(bob, good).headers["location"]  # it does not wait for the other
        until(lambda: served.http.get(quick, headers=bob).json()["state"] == "done")
        assert served.http.get(slow, headers=ada).json()["done"] == 2
        for path in ("", "/events", "/results"):
            assert served.http.get(f"{slow}{path}", headers=bob).status_code == 404
        assert served.http.delete(slow, headers=bob).status_code == 404
        assert served.http.get(slow).status_code == 401
        listed = served.http.get("/v1/jobs", headers=bob).json()["jobs"]
        assert [f"/v1/jobs/{job['id']}" for job in listed] == [quick]
        assert [send(ada, good).status_code for _ in range(3)] == [202, 202, 429]
        assert served.metric("nda_index_jobs_queued") == 0  # /metrics needs a token too
        text = served.http.get("/metrics", headers=gone).text
        assert "nda_index_jobs_queued 2.0" in text and "nda_index_jobs_running 1.0" in text
        for job in served.http.get("/v1/jobs", headers=ada).json()["jobs"]:
            assert served.http.delete(f"/v1/jobs/{job['id']}", headers=ada).status_code == 204
        assert send(ada, {f"{n}": b"x" for n in range(4)}).json()["error"]["code"] == "pictures"
        assert send(ada, {"a": bytes(9001)}).json()["error"]["code"] == "bytes"
        large = send(ada, {"a": bytes(100_000)})
        assert (large.status_code, "the job is too large" in large.json()["error"]["message"]) == (413, True)


def test_a_job_that_is_cancelled_ends_at_once(served: Served, gate: Gate, uploads: dict[str, bytes]) -> None:
    gate.opened.clear()
    begun = len(gate.begun)
    place = submit(served, uploads, timestep=51).headers["location"]
    until(lambda: len(gate.begun) > begun)
    with served.http.stream("GET", f"{place}/events") as stream:
        parts = stream.iter_text()
        assert "progress" in "".join(next(parts) for _ in range(2))
        assert httpx.delete(f"{served.url}{place}").status_code == 204
        assert '"state": "cancelled"' in "".join(parts)
    until(lambda: gate.ended)
    assert not (served.results / "jobs" / place.rpartition("/")[2]).exists()


def test_a_service_that_fails_at_every_picture_ends_the_job(
    served: Served, uploads: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(index: nda.Index, queries: object) -> list[Exception]:
        return [RuntimeError("a secret place")]

    monkeypatch.setattr(nda.Index, "attribute_batch", broken)
    files = {f"{number}.png": uploads["7.png"] for number in range(7)}
    whole = ended(served, submit(served, files, timestep=52).headers["location"])
    assert (whole["state"], whole["done"], whole["failures"]) == ("failed", 5, 5)
    assert "5 pictures in a row" in whole["reason"]
    assert "secret" not in served.http.get(whole["results"]).text
    assert served.http.get("/readyz").status_code == 200


def test_results_name_no_image_that_was_removed(
    index_folder: Path, tmp_path: Path, uploads: dict[str, bytes], index: nda.Index
) -> None:
    copy = Path(shutil.copytree(index_folder, tmp_path / "copy.nda"))
    key = index.keys([7])[0].as_py()
    with serving(copy, tmp_path / "results") as served:
        whole = ended(served, submit(served, uploads).headers["location"])
        assert key in served.http.get(whole["results"]).text
        nda.remove_images(copy, image_ids=[7])
        until(lambda: key not in served.http.get(whole["results"]).text)
        rows = [json.loads(line)["rows"][0] for line in served.http.get(whole["results"]).text.splitlines()]
        assert [row.get("image_id") for row in rows] == [None, 3, 200, None]
        assert rows[0]["error"] == on_disk.REMOVED
        assert state(served, f"/v1/jobs/{whole['id']}")["failures"] == 2
    assert present_images(copy, [key, rows[1]["key"]]) == {rows[1]["key"]: [3]}


def test_a_picture_of_a_job_pauses_while_a_question_is_answered(tmp_path: Path) -> None:
    """Each begins before the other has ended; the question ends first."""
    order = list[str]()
    paused, question_comes, goes_on, job_goes_on = (threading.Event() for _ in range(4))

    def attribute_batch(queries: Sequence[Query]) -> Iterator[Exception]:
        (query,) = queries
        assert query.progress is not None
        if query.top == 1:  # of the job
            order.append("job")
            question_comes.set()
            goes_on.wait()
            paused.set()
            query.progress("score", 1, 2)
            order.append("job goes on")
            job_goes_on.set()
        else:
            order.append("question")
            goes_on.set()
            paused.wait()
            job_goes_on.wait(0.1)  # it must not
            order.append("question ends")
        yield ValueError("of both")

    index: Any = SimpleNamespace(attribute_batch=attribute_batch, concurrent=True, close=lambda: None)
    queries = [Query(np.zeros((3, 8, 8), np.uint8), as_question(), top) for top in (1, 2)]

    async def scenario() -> None:
        engine, snapshot = Engine(ServeSettings(tmp_path), Metrics()), Snapshot(index, "", {})
        running = asyncio.create_task(engine.run())
        job = asyncio.create_task(engine.answer_in_gaps(queries[0], snapshot, lambda: True))
        await asyncio.to_thread(question_comes.wait)
        question = asyncio.create_task(engine.answer("a", queries[1], snapshot, float("inf")))
        await asyncio.wait([job, question])
        assert [str(task.exception()) for task in (job, question)] == ["of both"] * 2
        running.cancel()
        await asyncio.wait([running])
        engine.close()

    asyncio.run(scenario())
    assert order == ["job", "question", "question ends", "job goes on"]

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

import nda_index as nda
from nda_index.question import Query
from tests.conftest import encoded, photographs
from tests.serve.conftest import Gate, Served, serving, until


@pytest.fixture
def copy(index_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(index_folder, tmp_path / "copy.nda"))


def more(tmp_path: Path, seed: int) -> tuple[Path, NDArray[np.uint8]]:
    """A source of five new pictures."""
    pictures = photographs(5, seed=seed)
    path = tmp_path / f"more{seed}.npz"
    np.savez(path, images=pictures, label=np.array(["new"] * 5), year=np.full(5, 2030))
    return path, pictures


def images(served: Served) -> int:
    return int(served.http.get("/v1/index").json()["images"])


def test_added_images_are_found_and_old_answers_stay(copy: Path, tmp_path: Path, upload: bytes) -> None:
    source, pictures = more(tmp_path, 5)
    with serving(copy, tmp_path / "results") as served:
        old = served.ask(upload, top=2).json()
        nda.add_images(copy, source)
        until(lambda: images(served) == 305)
        found = served.ask(encoded(pictures[2]), top=1).json()
        assert found["images"][0]["image_id"] == 302
        assert found["images"][0]["metadata"] == {"label": "new", "year": 2030}
        assert served.http.get("/v1/images/302").status_code == 200
        assert served.http.get(f"/v1/results/{old['id']}").json() == old
        again = served.ask(upload, top=2).json()
        assert again["id"] != old["id"]
        assert again["collection"] == 305
        assert served.metric('nda_index_reloads_total{outcome="done"}') == 1


def test_earlier_questions_are_answered_by_the_old_index(
    copy: Path, tmp_path: Path, gate: Gate, upload: bytes, pictures: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[str] = []
    original = nda.Index.close

    def close(index: nda.Index) -> None:
        closed.append(index.manifest.index_hash)
        original(index)

    monkeypatch.setattr(nda.Index, "close", close)
    source, _ = more(tmp_path, 5)
    with serving(copy, tmp_path / "results") as served, ThreadPoolExecutor(4) as pool:
        before = served.http.get("/v1/index").json()["index_hash"]
        gate.opened.clear()
        begun = len(gate.begun)
        questions = [pool.submit(served.ask, data, top=1) for data in (upload, encoded(pictures[8]))]
        until(lambda: len(gate.begun) == begun + 1 and served.metric("nda_index_line_length") == 2)
        nda.add_images(copy, source)
        gate.opened.set()
        for future in questions:
            assert future.result().json()["index_hash"] == before
            assert future.result().json()["collection"] == 300
        until(lambda: images(served) == 305)
        until(lambda: before in closed)
        assert served.ask(upload, top=1).json()["collection"] == 305
    assert len(closed) == 2


def test_a_removed_image_is_gone_from_everywhere(copy: Path, tmp_path: Path, upload: bytes) -> None:
    with serving(copy, tmp_path / "results") as served:
        old = served.ask(upload, top=3).json()
        removed = old["images"][0]["image_id"]
        nda.remove_images(copy, image_ids=[removed])
        until(lambda: images(served) == 299)
        until(lambda: served.http.get(f"/v1/results/{old['id']}").status_code == 404)
        assert served.http.get(f"/v1/images/{removed}").status_code == 404
        assert served.http.post("/v1/attribute", json={"image_id": removed}).status_code == 404
        again = served.ask(upload, top=3).json()
        assert removed not in [image["image_id"] for image in again["images"]]
    with serving(copy, tmp_path / "results") as served:
        assert served.http.get(f"/v1/results/{again['id']}").json() == again
    nda.compact(copy)
    with serving(copy, tmp_path / "results") as served:  # ids have changed while the service was down
        assert served.http.get(f"/v1/results/{again['id']}").status_code == 404


def test_a_removed_image_is_gone_before_queued_questions_are_answered(
    copy: Path, tmp_path: Path, gate: Gate, upload: bytes
) -> None:
    with serving(copy, tmp_path / "results") as served, ThreadPoolExecutor(1) as pool:
        old = served.ask(upload, top=3).json()
        removed = old["images"][0]["image_id"]
        gate.opened.clear()
        begun = len(gate.begun)
        waits = pool.submit(served.ask, upload, top=2)
        until(lambda: len(gate.begun) == begun + 1)
        nda.remove_images(copy, image_ids=[removed])
        until(lambda: images(served) == 299)
        assert served.http.get(f"/v1/results/{old['id']}").status_code == 404
        assert served.http.get(f"/v1/images/{removed}").status_code == 404
        assert not waits.done()
        gate.opened.set()
        earlier = waits.result().json()
        assert earlier["collection"] == 300
        assert served.http.get(f"/v1/results/{earlier['id']}").status_code == 404


def test_an_index_that_does_not_open_is_tried_again_and_logged_once(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    closed: list[nda.Index] = []
    opened: list[nda.Index] = []
    original, close, metadata_schema = nda.Index.attribute_batch, nda.Index.close, nda.Index.metadata_schema
    source, _ = more(tmp_path, 5)

    def failing(index: nda.Index, queries: Sequence[Query]) -> Iterator[nda.Attribution | Exception]:
        """The first of the fresh index's queries fail."""
        if len(index) == 305 and len(opened) < 4:
            raise OSError("the disk is away for a moment")
        return original(index, queries)

    def counted(index: nda.Index) -> pa.Schema:
        if len(index) == 305:
            opened.append(index)
            if len(opened) == 1:
                raise OSError("the disk is away for a moment")
        return metadata_schema(index)

    def counted_close(index: nda.Index) -> None:
        closed.append(index)
        close(index)

    monkeypatch.setattr(nda.Index, "attribute_batch", failing)
    monkeypatch.setattr(nda.Index, "close", counted_close)
    monkeypatch.setattr(nda.Index, "metadata_schema", counted)
    with serving(copy, tmp_path / "results") as served:
        nda.add_images(copy, source)
        until(lambda: images(served) == 305)
        assert [index in closed for index in opened] == [True, True, True, False]
        assert caplog.text.count("the index cannot be opened again") == 1
        assert served.metric('nda_index_reloads_total{outcome="failed"}') == 1
        assert served.metric('nda_index_reloads_total{outcome="done"}') == 1


def test_a_damaged_index_does_not_replace_the_open_one(copy: Path, tmp_path: Path, upload: bytes) -> None:
    with serving(copy, tmp_path / "results") as served:
        data = (copy / "manifest.json").read_bytes()
        (copy / "manifest.json").write_bytes(data.replace(b'"images": 300', b'"images": 301'))
        until(lambda: served.metric('nda_index_reloads_total{outcome="failed"}') == 1)
        assert served.ask(upload, top=1).status_code == 200
        assert images(served) == 300
        assert served.http.get("/readyz").status_code == 200


def test_an_index_that_never_answered_is_replaced_when_it_is_repaired(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, repaired = nda.Index.attribute_batch, threading.Event()
    source, _ = more(tmp_path, 5)

    def broken(index: nda.Index, queries: Sequence[Query]) -> Iterator[nda.Attribution | Exception]:
        if len(index) == 305:
            return original(index, queries)
        if not repaired.is_set():
            nda.add_images(copy, source)
            repaired.set()
        raise OSError("the lists are damaged")

    monkeypatch.setattr(nda.Index, "attribute_batch", broken)
    with serving(copy, tmp_path / "results") as served:  # it becomes ready
        assert images(served) == 305

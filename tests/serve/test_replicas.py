"""Several services behind one name: on one shared folder, and on copies that are pulled."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import nda_index as nda
from nda_index.store.readers import list_readers
from nda_index.store.verify import verify
from tests.serve.conftest import Served, serving, until

ANSWERED = 'nda_index_job_pictures_total{outcome="answered"}'


@pytest.fixture
def copy(index_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(index_folder, tmp_path / "copy.nda"))


@contextmanager
def replicas(results: Path, *folders: Path) -> Iterator[list[Served]]:
    """Services of these folders, which share their answers."""
    with ExitStack() as stack:
        yield [stack.enter_context(serving(folder, results)) for folder in folders]


def is_at(served: Served, images: int) -> bool:
    return bool(served.http.get("/v1/index").json()["images"] == images)


def has_left(served: Served, index_hash: str) -> bool:
    return bool(served.http.get("/v1/index").json()["index_hash"] != index_hash)


def has_none(served: Served, identities: list[str]) -> bool:
    return {stored(served, identity) for identity in identities} == {404}


def is_done(served: Served, job: dict[str, Any]) -> bool:
    return bool(served.http.get(f"/v1/jobs/{job['id']}").json()["state"] == "done")


def stored(served: Served, identity: str) -> int:
    return served.http.get(f"/v1/results/{identity}").status_code


def test_an_answer_of_one_is_read_from_the_other(copy: Path, tmp_path: Path, upload: bytes) -> None:
    with replicas(tmp_path / "results", copy, copy) as (first, second):
        answer = first.ask(upload, top=3).json()
        assert second.http.get(f"/v1/results/{answer['id']}").json() == answer
        picture = f"/v1/results/{answer['id']}/query.png"
        assert second.http.get(picture).content == first.http.get(picture).content
        assert second.ask(upload, top=3).json() == answer
        assert second.metric('nda_index_results_total{outcome="hit"}') == 1
        assert len(list_readers(copy)) == 2


def test_a_job_of_one_is_seen_through_the_other_and_done_once(copy: Path, tmp_path: Path, upload: bytes) -> None:
    with replicas(tmp_path / "results", copy, copy) as both:
        first, second = both
        files = [("image", (f"{number}.png", upload)) for number in range(3)]
        jobs = [
            served.http.post("/v1/jobs", files=files, data={"top": "1", "timestep": "50"}).json() for served in both
        ]
        for job, other in zip(jobs, (second, first), strict=True):
            until(partial(is_done, other, job))
            lines = [json.loads(line) for line in other.http.get(job["results"]).text.splitlines()]
            assert [line["question"] for line in lines] == ["0.png", "1.png", "2.png"]
        assert sorted(served.metric(ANSWERED) for served in both) == [0, 6]
        listed = [[job["id"] for job in served.http.get("/v1/jobs").json()["jobs"]] for served in both]
        assert listed[0] == listed[1] == [jobs[1]["id"], jobs[0]["id"]]


def test_the_other_goes_on_with_the_jobs_of_one_that_ends(copy: Path, tmp_path: Path, upload: bytes) -> None:
    with serving(copy, tmp_path / "results") as second:
        with serving(copy, tmp_path / "results") as first:
            done = first.http.post("/v1/jobs", files=[("image", ("a.png", upload))], data={"top": "1"}).json()
            until(partial(is_done, first, done))
        job = second.http.post("/v1/jobs", files=[("image", ("a.png", upload))], data={"top": "1"}).json()
        until(partial(is_done, second, job))


def test_a_removal_reaches_both(copy: Path, tmp_path: Path, upload: bytes) -> None:
    with replicas(tmp_path / "results", copy, copy) as both:
        answers = [served.ask(upload, top=top).json() for served, top in zip(both, (2, 3), strict=True)]
        removed = answers[0]["images"][0]["image_id"]
        nda.remove_images(copy, image_ids=[removed])
        for served in both:
            until(partial(is_at, served, 299))
            until(partial(has_none, served, [answer["id"] for answer in answers]))
            assert served.http.get(f"/v1/images/{removed}").status_code == 404
        again = both[0].ask(upload, top=2).json()
        assert removed not in [image["image_id"] for image in again["images"]]
        assert both[1].http.get(f"/v1/results/{again['id']}").json() == again
        nda.compact(copy, wait=60)
        for served in both:
            until(partial(has_left, served, again["index_hash"]))
        until(lambda: verify(copy) == [])


def test_a_folder_that_may_only_be_read_is_served_and_followed(
    copy: Path, tmp_path: Path, upload: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mount that is read-only for the services, while somebody edits the index elsewhere."""
    original, editing = os.open, [True]

    def read_only(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
        if not editing[0] and str(path).startswith(str(copy)) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(30, "Read-only file system", str(path))
        return original(path, flags, *arguments, **options)

    nda.remove_images(copy, image_ids=[0])  # makes the lock that such readers share
    monkeypatch.setattr(os, "open", read_only)
    editing[0] = False
    with replicas(tmp_path / "results", copy, copy) as both:
        answer = both[0].ask(upload, top=2).json()
        assert stored(both[1], answer["id"]) == 200
        assert not list((copy / "readers").glob(f"{os.getpid()}-*"))
        editing[0] = True
        nda.remove_images(copy, image_ids=[answer["images"][0]["image_id"]])
        editing[0] = False
        for served in both:
            until(partial(is_at, served, 298))
            until(partial(has_none, served, [answer["id"]]))


def test_pulled_copies_answer_alike_and_forget_alike(copy: Path, tmp_path: Path, upload: bytes) -> None:
    store, results = f"file://{tmp_path}/store", tmp_path / "results"
    nda.push_index(copy, store)
    folders = [tmp_path / "a.nda", tmp_path / "b.nda"]
    for folder in folders:
        nda.pull_index(store, folder)
    with replicas(results, *folders) as (first, second):
        old = first.ask(upload, top=2).json()
        assert second.ask(upload, top=2).json() == old  # the stored one: the copies have one index hash
        removed = old["images"][0]["image_id"]
        nda.remove_images(copy, image_ids=[removed])
        nda.compact(copy)
        nda.push_index(copy, store)
        assert nda.pull_index(store, folders[0], wait=60).waiting == 0
        until(partial(is_at, first, 299))
        for served in (first, second):
            until(partial(has_none, served, [old["id"]]))
        late = second.ask(upload, top=2).json()  # from the state that it has still
        assert late["id"] == old["id"] and stored(first, late["id"]) == stored(second, late["id"]) == 404
        fresh = first.ask(upload, top=2).json()
        assert old["images"][0]["key"] not in [image["key"] for image in fresh["images"]]
        assert nda.pull_index(store, folders[1], wait=60).waiting == 0
        until(partial(is_at, second, 299))
        assert second.http.get(f"/v1/results/{fresh['id']}").json() == fresh
    assert [verify(folder) for folder in folders] == [[], []]


def test_a_copy_that_is_late_does_not_keep_answers_from_being_stored(copy: Path, tmp_path: Path, upload: bytes) -> None:
    """It starts with an earlier state than the other one has, and takes the folder of answers back to it."""
    late, results = tmp_path / "late.nda", tmp_path / "results"
    nda.pull_index(copy, late)
    nda.remove_images(copy, image_ids=[0])
    with serving(copy, results) as first, serving(late, results) as second:
        nda.pull_index(copy, late, wait=60)
        until(partial(is_at, second, 299))
        answer = first.ask(upload, top=2).json()
        assert stored(first, answer["id"]) == stored(second, answer["id"]) == 200

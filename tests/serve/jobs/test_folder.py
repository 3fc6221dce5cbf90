from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nda_index.serve.jobs import folder as on_disk
from nda_index.serve.jobs.folder import REMOVED, Job, JobGone

TOTAL = 3
ROWS = [
    [{"question": f"{number}.png", "key": f"key {number}", "image_id": number, "strong": True}]
    for number in range(TOTAL)
]


def new_job(jobs: Path, total: int = TOTAL) -> Path:
    with on_disk.incoming(jobs) as folder:
        for number in range(total):
            on_disk.picture_path(folder, number).write_bytes(b"picture %d" % number)
        job = Job(
            id="0" * 31 + str(len(list(jobs.iterdir()))), owner="o", who="", request_id="", created=1, total=total
        )
        return on_disk.accept(folder, job, [(f"{number}.png", "") for number in range(total)])


def go_on(folder: Path) -> None:
    """What a worker does, after a restart too."""
    on_disk.resume(folder)
    job = on_disk.read_job(folder)
    assert job is not None
    for number in range(job.done, job.total):
        assert on_disk.read_picture(folder, number) == (f"{number}.png", "", b"picture %d" % number)
        on_disk.append(folder, number, ROWS[number], "hash", 2.0)
    if job.state != "done":
        on_disk.finish(folder, "done")


def lines_of(folder: Path) -> list[bytes]:
    """The lines of its results."""
    return b"".join(on_disk.read_results(folder)).splitlines()


def state(folder: Path) -> Job:
    job = on_disk.read_job(folder)
    assert job is not None
    return job


def test_a_job_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), on_disk.incoming(tmp_path) as folder:
        on_disk.picture_path(folder, 0).write_bytes(b"a")
        on_disk.drop_leftovers(tmp_path)  # another process starts
        assert on_disk.picture_path(folder, 0).exists()
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    folder = new_job(tmp_path)
    assert (state(folder).state, state(folder).done, state(folder).seconds_left) == ("queued", 0, None)
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_pictures_are_answered_in_order_and_erased_at_the_end(tmp_path: Path) -> None:
    folder = new_job(tmp_path)
    on_disk.begin(folder)
    on_disk.append(folder, 0, [{"question": "0.png", "error": "no picture"}], "hash", None)
    assert state(folder).pace is None
    job = on_disk.append(folder, 1, ROWS[1], "hash", 4.0)
    assert (job.state, job.done, job.strong, job.failures, job.index_hash) == ("running", 2, 1, 1, "hash")
    assert job.seconds_left == 4.0
    for wrong in (0, 3):
        with pytest.raises(JobGone):
            on_disk.append(folder, wrong, ROWS[0], "hash", 1.0)
    with pytest.raises(JobGone):
        on_disk.append(folder, 2, ROWS[2], "hash", 1.0, lambda: False)
    go_on(folder)
    assert state(folder).state == "done"
    assert list(folder.rglob("0000*")) == []
    assert [row["question"] for row in on_disk.read_rows(folder)] == [f"{number}.png" for number in range(TOTAL)]


@settings(max_examples=25, deadline=None)
@given(
    answered=st.integers(0, TOTAL),
    counted=st.integers(0, TOTAL),
    lost=st.floats(0, 1),
    junk=st.sampled_from([b"", b"{", b'{"picture": 2}\n', b"\xff\n", b"null\n", b"\0" * 9]),
)
def test_a_job_goes_on_wherever_its_process_was_killed(answered: int, counted: int, lost: float, junk: bytes) -> None:
    """A kill leaves any part of the results, and `job.json` of any moment before."""
    with tempfile.TemporaryDirectory() as name:
        folder = new_job(Path(name))
        facts = [(folder / "job.json").read_bytes()]
        for number in range(answered):
            on_disk.append(folder, number, ROWS[number], "hash", 2.0)
            facts.append((folder / "job.json").read_bytes())
        results = (folder / "results.jsonl").read_bytes()
        (folder / "results.jsonl").write_bytes(results[: round(lost * len(results))] + junk)
        (folder / "job.json").write_bytes(facts[min(counted, answered)])
        (folder / ".results.jsonl.0.part").write_bytes(b"half")
        go_on(folder)
        lines = [json.loads(line) for line in lines_of(folder)]
        assert [line["picture"] for line in lines] == list(range(TOTAL))
        assert [line["rows"] for line in lines] == ROWS
        assert (state(folder).done, state(folder).strong, state(folder).failures) == (TOTAL, TOTAL, 0)
        assert not list(folder.glob(".*"))


def test_results_that_are_read_meanwhile_are_whole_lines(tmp_path: Path) -> None:
    folder = new_job(tmp_path)
    on_disk.append(folder, 0, ROWS[0], "hash", None)
    with (folder / "results.jsonl").open("ab") as file:
        file.write(b'{"picture": 1, "que')
    assert len(lines_of(folder)) == len(on_disk.read_rows(folder)) == 1


def test_an_erased_job_is_gone_for_whoever_waits_for_it(tmp_path: Path) -> None:
    folder = new_job(tmp_path)
    with ThreadPoolExecutor(1) as pool:
        with on_disk.changing(folder):
            erasing = pool.submit(on_disk.erase, folder)
            assert folder.exists()
        erasing.result()
    for change in (
        lambda: on_disk.begin(folder), lambda: on_disk.append(folder, 0, ROWS[0], "", None),
        lambda: on_disk.read_picture(folder, 0), lambda: on_disk.finish(folder, "done"),
    ):  # fmt: skip
        with pytest.raises(JobGone):
            change()
    on_disk.erase(folder)
    assert on_disk.read_job(folder) is None
    assert (on_disk.read_rows(folder), lines_of(folder)) == ([], [])
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_killed_processes_are_erased(tmp_path: Path) -> None:
    folder = new_job(tmp_path)
    shutil.copytree(folder, tmp_path / ".incoming-0")
    shutil.copytree(folder, tmp_path / ".erased-0")
    os.unlink(tmp_path / ".erased-0" / "lock")
    on_disk.drop_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def gone(*removed: int) -> on_disk.Present:
    """The images that are left have new ids, as after `compact`; two have key 2."""

    def present(keys: Sequence[str]) -> dict[str, list[int]]:
        left = {f"key {number}": [number + 10] for number in range(TOTAL) if number not in removed}
        left["key 2"] = [12, 14]
        return {key: ids for key, ids in left.items() if key in keys}

    return present


def test_results_lose_what_names_a_removed_image(tmp_path: Path) -> None:
    ended, running = new_job(tmp_path), new_job(tmp_path)
    go_on(ended)
    for number in range(2):
        on_disk.append(running, number, ROWS[number], "hash", 1.0)
    for folder in (ended, running):
        on_disk.forget_removed(folder, gone(1))
    rows = on_disk.read_rows(ended)
    assert [row.get("image_id") for row in rows] == [10, None, None]
    assert rows[1] == {"question": "1.png", "error": REMOVED}
    assert (state(ended).done, state(ended).failures, state(ended).state) == (TOTAL, 1, "done")
    assert b"key 1" not in (ended / "results.jsonl").read_bytes() + (running / "results.jsonl").read_bytes()
    assert [row["image_id"] for row in on_disk.read_rows(running)] == [10]
    assert state(running).done == 1  # it asks again from there on
    go_on(running)
    assert len(on_disk.read_rows(running)) == TOTAL

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nda_index.serve.jobs import queue as queues
from nda_index.serve.jobs.queue import JobQueue
from nda_index.serve.refusal import Refusal
from nda_index.serve.settings import ServeSettings
from tests.serve.jobs.test_folder import go_on, lines_of, new_job, state


def test_one_process_works_and_another_one_goes_on_when_it_ends(tmp_path: Path) -> None:
    first, second = (JobQueue(tmp_path, ServeSettings(tmp_path)) for _ in range(2))
    assert first.is_working() and first.is_working()
    assert not second.is_working()
    folder = new_job(second.folder)  # it takes jobs in all the same
    assert [job.id for job in first.unfinished()] == [folder.name]
    (folder / "results.jsonl").write_bytes(b'{"pict')
    first.close()
    assert second.is_working()
    assert lines_of(folder) == [] and (folder / "results.jsonl").read_bytes() == b""
    second.close()


def test_jobs_are_erased_when_they_were_kept_long_enough_or_are_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queues, "KEPT_JOBS", 1)
    queue = JobQueue(tmp_path, ServeSettings(tmp_path))
    forgotten, older, newer, waiting = (new_job(queue.folder) for _ in range(4))
    os.utime(forgotten / "job.json", (1000, 1000))
    for folder in (older, newer):
        go_on(folder)
    queue.sweep()
    assert [job.id for job in queue.of("o")] == [waiting.name, newer.name]
    assert state(newer).state == "done"
    for owner, name in (("other", newer.name), ("o", older.name)):
        with pytest.raises(Refusal, match="there is no job"):
            queue.find(owner, name)
    with pytest.raises(ValueError, match="not the name of a job"):
        queue.path("../secret")
    queue.close()

"""What was removed leaves the disk: the index and the stored answers, also while several processes read."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

import nda_index as nda
from nda_index.serve.collection import state
from nda_index.serve.results import Results, default_folder, drop_stale_answers
from nda_index.store.corpus import Corpus
from nda_index.store.manifest import read_manifest
from nda_index.store.readers import list_readers
from nda_index.store.verify import verify
from tests.conftest import encoded
from tests.pictures.scenes import scene
from tests.serve.conftest import PATIENCE, Gate, serving, until

REMOVED = 2


@pytest.fixture
def copy(photograph_index_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(photograph_index_folder, tmp_path / "copy.nda"))


def marks(folder: Path) -> list[bytes]:
    """What an image is known by on disk: key, pixels plane by plane and pixel by pixel, and its encoded copy."""
    manifest = read_manifest(folder)
    corpus = Corpus(folder, manifest.config.shape, manifest.table)
    ids = np.array([REMOVED])
    pixels, (key,) = corpus.pixels(ids)[0], corpus.rows(ids)[0]
    return [
        key.encode(), pixels.tobytes(), pixels.transpose(1, 2, 0).tobytes(), corpus.pictures(ids)[0]["copy"],
    ]  # fmt: skip


def found(wanted: list[bytes], *folders: Path) -> set[int]:
    """Numbers of the marks that a file of the folders holds."""
    files = [path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()]
    return {number for number, mark in enumerate(wanted) if any(mark in data for data in files)}


def test_nothing_holds_a_removed_image_after_the_deadline(copy: Path, tmp_path: Path) -> None:
    wanted, answers = marks(copy), [tmp_path / "a", tmp_path / "b"]
    with ExitStack() as stack:
        services = [stack.enter_context(serving(copy, folder)) for folder in answers]
        for served in services:
            assert served.ask(encoded(scene(REMOVED)), top=2, timestep=50).status_code == 200
        assert len(list_readers(copy)) == 2
        assert found(wanted, copy) == {0, 1, 3}
        assert found(wanted, *answers) == {0, 2}
        (answers[0] / f".{'0' * 32}.arrow.0.part").write_bytes(wanted[2])  # of a process that was killed
        nda.remove_images(copy, image_ids=[REMOVED])
        summary = nda.compact(copy, wait=PATIENCE)
        assert (summary.changed, summary.waiting, summary.readers) == (1, 0, ())
        until(lambda: not found(wanted, copy, *answers))
        assert verify(copy) == []
        until(
            lambda: (
                not [
                    line
                    for line in Path("/proc/self/maps").read_text().splitlines()
                    if f"{copy}/" in line and "(deleted)" in line
                ]
            )
        )
        for served in services:
            assert served.ask(encoded(scene(3)), top=1, timestep=50).json()["images"][0]["key"] == "03.png"


def test_who_reads_longer_is_named_and_a_service_erases_when_he_is_done(copy: Path, tmp_path: Path) -> None:
    wanted = marks(copy)
    with serving(copy, tmp_path / "results") as served:
        reader = nda.open_index(copy)
        nda.remove_images(copy, image_ids=[REMOVED])
        summary = nda.compact(copy, wait=0.3)
        assert summary.waiting > 0
        until(lambda: served.http.get("/v1/index").json()["index_hash"] == read_manifest(copy).index_hash)
        assert len(nda.compact(copy).readers) == 1
        assert found(wanted, copy) == {0, 1, 3}
        reader.close()
        until(lambda: verify(copy) == [])
        assert found(wanted, copy) == set()


def test_a_question_that_goes_on_keeps_its_files_to_its_end(copy: Path, tmp_path: Path, gate: Gate) -> None:
    wanted = marks(copy)
    with serving(copy, tmp_path / "results", deadline=0.5) as served:
        gate.opened.clear()
        begun = len(gate.begun)
        with ThreadPoolExecutor(1) as pool:
            question = pool.submit(served.ask, encoded(scene(REMOVED)), top=1)
            until(lambda: len(gate.begun) > begun)
            nda.remove_images(copy, image_ids=[REMOVED])
            nda.compact(copy)
            assert found(wanted, copy) == {0, 1, 3}
            assert question.result().status_code == 503  # it ends at its deadline, and lets go
            until(lambda: not found(wanted, copy, tmp_path / "results"))


def test_answers_of_a_service_that_does_not_run_are_deleted_too(copy: Path) -> None:
    wanted, folder = marks(copy), default_folder(copy)
    Results(folder, 1 << 20).bind_to(state(copy)[1])
    (folder / f"{'0' * 32}.arrow").write_bytes(wanted[0] + wanted[2])
    drop_stale_answers(copy)
    nda.remove_images(copy, image_ids=[REMOVED])
    nda.compact(copy)
    assert found(wanted, folder) == {0, 2}
    drop_stale_answers(copy)
    assert found(wanted, folder) == set()

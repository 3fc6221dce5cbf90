from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import nda_index as nda
from nda_index.answer.arrow import FORMAT_VERSION, MEDIA_TYPE, answer_bytes
from nda_index.answer.forms import FORMS
from nda_index.question import Query, as_question
from nda_index.serve.results import Results, result_id
from nda_index.store.files import write_atomically
from tests.answer.test_arrow import resealed
from tests.serve.conftest import Served, serving


@pytest.fixture(scope="module")
def answer(index: nda.Index, pictures: NDArray[np.uint8]) -> nda.Attribution:
    return index.attribute(pictures[4], 50, top=2)


HERE = "the collection"


def open_results(folder: Path, budget: int = 1 << 30) -> Results:
    results = Results(folder, budget)
    results.bind_to(HERE)
    return results


def name(number: int) -> str:
    return f"{number:032x}"


def test_a_folder_that_is_made_is_for_its_owner_alone(tmp_path: Path) -> None:
    Results(tmp_path / "results", 1 << 20)
    assert (tmp_path / "results").stat().st_mode & 0o777 == 0o700


def test_the_least_recently_used_answers_are_deleted_first(tmp_path: Path, answer: nda.Attribution) -> None:
    size = len(answer_bytes(answer))
    results = open_results(tmp_path, 10 * size)
    for number in range(10):
        results.put(name(number), answer, HERE)
        os.utime(tmp_path / f"{name(number)}.arrow", (1000 + number, 1000 + number))
    assert results.get(name(0)) is not None  # used just now
    results.put(name(10), answer, HERE)
    kept = {number for number in range(11) if results.get(name(number)) is not None}
    assert kept == {0, *range(3, 11)}
    assert results.bytes == sum(path.stat().st_size for path in tmp_path.glob("*.arrow")) <= 10 * size


def test_an_answer_larger_than_the_budget_is_still_kept(tmp_path: Path, answer: nda.Attribution) -> None:
    results = open_results(tmp_path, 1)
    for number in range(3):
        results.put(name(number), answer, HERE)
        assert results.get(name(number)) is not None
    assert len(list(tmp_path.glob("*.arrow"))) == 1


def test_another_process_reads_answers_and_deletes_leftovers(tmp_path: Path, answer: nda.Attribution) -> None:
    open_results(tmp_path / "r").put(name(1), answer, HERE)
    old, new = (f".{name(2)}.arrow.{part}.part" for part in ("0", "1"))
    for part in (old, new):
        (tmp_path / "r" / part).write_bytes(b"half an answer")
    os.utime(tmp_path / "r" / old, (1000, 1000))
    again = open_results(tmp_path / "r")
    found = again.get(name(1))
    assert found is not None
    np.testing.assert_array_equal(found.scores, answer.scores)
    assert again.bytes == len(answer_bytes(answer))
    assert sorted(path.name for path in (tmp_path / "r").iterdir()) == [
        new,  # another process may be writing it
        f"{name(1)}.arrow",
        "collection.json",
    ]


def test_files_of_others_in_the_folder_are_neither_counted_nor_deleted(tmp_path: Path, answer: nda.Attribution) -> None:
    others = ["mine.arrow", f"{name(1)}.arrow.txt", ".editor.part", "A" * 32 + ".arrow"]
    for other in others:
        (tmp_path / other).write_bytes(b"somebody's own")
        os.utime(tmp_path / other, (1000, 1000))
    results = open_results(tmp_path, 1)
    assert results.bytes == 0
    for number in range(2):  # above the budget: the older one goes
        results.put(name(number), answer, HERE)
    results.bind_to("another collection")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*others, "collection.json"])


def test_a_damaged_file_is_deleted_and_a_newer_one_is_refused(tmp_path: Path, answer: nda.Attribution) -> None:
    results, path = Results(tmp_path, 1 << 30), tmp_path / f"{name(1)}.arrow"
    path.write_bytes(answer_bytes(answer)[:-5])
    assert results.get(name(1)) is None
    assert not path.exists()
    path.write_bytes(resealed(answer_bytes(answer), format_version=FORMAT_VERSION + 1))
    with pytest.raises(nda.VersionError, match="upgrade nda_index"):
        results.get(name(1))
    assert path.exists()


def test_nothing_but_names_of_answers_reaches_the_disk(tmp_path: Path) -> None:
    results = Results(tmp_path / "r", 1 << 30)
    (tmp_path / "secret.arrow").write_bytes(b"secret")
    for wrong in ("../secret", "", "A" * 32, "0" * 31, "0" * 33, "0" * 31 + "/", "0" * 32 + "\n"):
        with pytest.raises(ValueError, match="is not the name of an answer"):
            results.get(wrong)


def test_answers_are_deleted_when_images_were_removed(tmp_path: Path, answer: nda.Attribution) -> None:
    first, other = open_results(tmp_path), open_results(tmp_path)
    first.put(name(1), answer, HERE)
    assert open_results(tmp_path).get(name(1)) is not None
    first.bind_to("without some")
    assert first.get(name(1)) is None
    for late in (first, other):  # computed before, stored after; by another process too
        late.put(name(2), answer, HERE)
        assert late.get(name(2)) is None
    first.put(name(3), answer, "without some")
    assert first.get(name(3)) is not None
    (tmp_path / "collection.json").write_text("[")
    assert open_results(tmp_path).get(name(3)) is None


def test_answers_are_deleted_although_an_earlier_deletion_was_interrupted(
    tmp_path: Path, answer: nda.Attribution, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = open_results(tmp_path)
    results.put(name(1), answer, HERE)

    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        with pytest.raises(PermissionError):
            results.bind_to("without some")
    again = Results(tmp_path, 1 << 30)
    again.bind_to("without some")
    assert again.get(name(1)) is None


def test_a_known_answer_is_not_computed_again(index_folder: Path, tmp_path: Path, upload: bytes) -> None:
    with serving(index_folder, tmp_path / "results") as first:
        before = first.ask(upload, top=2).json()
    with serving(index_folder, tmp_path / "results") as second:
        assert second.http.get(f"/v1/results/{before['id']}").json() == before
        assert second.ask(upload, top=2).json() == before  # the seconds too: it is the stored one
        assert second.metric('nda_index_results_total{outcome="hit"}') == 1


def test_an_answer_of_a_newer_version_is_reported_and_computed_again(
    index_folder: Path, tmp_path: Path, upload: bytes
) -> None:
    with serving(index_folder, tmp_path / "results") as served:
        place = served.ask(upload, top=2).headers["location"]
        (path,) = served.results.glob("*.arrow")
        path.write_bytes(resealed(path.read_bytes(), format_version=FORMAT_VERSION + 1, version="9.0"))
        response = served.http.get(place)
        assert response.status_code == 404
        assert "upgrade nda_index (the answer was written by version 9.0)" in response.json()["error"]["message"]
        assert served.ask(upload, top=2).status_code == 200


def test_an_answer_that_cannot_be_stored_is_given_all_the_same(
    served: Served, index_folder: Path, tmp_path: Path, upload: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(index_folder, tmp_path / "results") as full:

        def no_room(self: Results, identity: str, answer: nda.Attribution, collection: str) -> None:
            raise nda.StorageError("the disk is full")

        monkeypatch.setattr(Results, "put", no_room)
        response = full.ask(upload, top=2)
        assert response.status_code == 200
        assert full.http.get(response.headers["location"]).status_code == 404


def test_pictures_that_are_one_when_made_small_have_answers_of_their_own() -> None:
    pixels = np.zeros((3, 8, 8), np.uint8)
    pictures = [Image.new("RGB", size) for size in ((40, 40), (40, 40), (80, 20), (80, 80))]
    pictures[1].putpixel((39, 39), (1, 0, 0))
    names = [result_id(Query(pixels, as_question(), 3, picture=each), "0") for each in (None, *pictures)]
    assert len(set(names)) == 5
    assert result_id(Query(pixels, as_question(), 3, picture=pictures[0].copy()), "0") == names[1]


def test_no_answer_tells_where_the_service_has_its_files(photograph_index_folder: Path, tmp_path: Path) -> None:
    source = photograph_index_folder.with_name("source")
    file = next(path for path in sorted(source.glob("*")) if path.stat().st_size > 1000)
    with nda.open_index(photograph_index_folder) as index:
        kept = index.attribute(file.read_bytes(), top=1)
    assert str(file) in [region.path for region in kept.regions]  # Python and the command line tell
    with serving(photograph_index_folder, tmp_path / "results") as served:
        result = served.ask(file.read_bytes(), top=1).json()
        assert [region["key"] for region in result["regions"]][0] == file.name
        old = "0" * 32  # of a version that kept paths
        write_atomically(served.results / f"{old}.arrow", answer_bytes(kept))
        for place in (f"/v1/results/{result['id']}", f"/v1/results/{old}"):
            responses = [served.http.get(place, params={"format": form} if form else {}) for form in ("", *FORMS)]
            responses.append(served.http.get("/v1/index"))
            for response in responses:
                assert response.status_code == 200
                assert str(photograph_index_folder.parent).encode() not in response.content
            answer = nda.read_answer(served.http.get(place, params={"format": "arrow"}).content)
            assert answer.regions and {region.path for region in answer.regions} == {None}
        asked = served.http.post("/v1/attribute", files={"image": file.read_bytes()}, headers={"Accept": MEDIA_TYPE})
        assert {region.path for region in nda.read_answer(asked.content).regions} == {None}

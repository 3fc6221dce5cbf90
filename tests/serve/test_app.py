from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

import nda_index as nda
from nda_index.answer.arrow import MEDIA_TYPE
from nda_index.answer.heat import heat_layer
from nda_index.recipe import RECIPES
from tests.conftest import encoded
from tests.serve.conftest import Gate, Served, serving, until

OPTIONS = {"timestep": 50, "top": 3, "candidates": 40}


@pytest.fixture(scope="module")
def expected(index: nda.Index, collage: NDArray[np.uint8]) -> nda.Attribution:
    return index.attribute(collage, 50, 3, candidates=40)


def picture(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def test_an_answer_is_that_of_the_index(served: Served, upload: bytes, expected: nda.Attribution) -> None:
    response = served.ask(upload, **OPTIONS)
    assert response.status_code == 200
    result = response.json()
    assert response.headers["location"] == f"/v1/results/{result['id']}"
    for name, value in json.loads(json.dumps(expected.to_dict())).items():
        if name == "images":
            for image, row in zip(result["images"], value, strict=True):
                assert {key: image[key] for key in row} == row
        elif name != "seconds":
            assert result[name] == value, name
    first = result["images"][0]
    assert first["metadata"] == expected.metadata.to_pylist()[0]
    assert first["verdict"]["text"] == str(expected.verdict(0))
    assert first["verdict"]["strong"] is True
    assert result["scales"] == ["p5r1", "p8r2"]
    assert served.http.get(response.headers["location"]).json() == result


def test_json_and_forms_are_the_same_question(served: Served, upload: bytes, collage: NDArray[np.uint8]) -> None:
    options = {"timestep": [50, 200], "top": 2, "noise": "average", "draws": 2, "mirror": True, "where": "year >= 2001"}
    as_json = served.http.post("/v1/attribute", json={"image": base64.b64encode(upload).decode(), **options})
    as_form = served.ask(upload, **{**options, "timestep": "50,200", "candidates": ""})
    again = served.http.post(
        "/v1/attribute",
        files={"image": ("x.bmp", encoded(collage, "BMP"))},
        data={"timestep": ["50", "200"], "top": "2", "noise": "average", "draws": "2", "mirror": "true",
              "where": "year >= 2001"},
    )  # fmt: skip
    assert as_json.status_code == as_form.status_code == again.status_code == 200
    assert as_json.json() == as_form.json() == again.json()
    assert as_json.json()["settings"]["where"] == "(`year` >= 2001)"
    assert as_json.json()["collection"] == 200


def test_an_image_of_the_index_can_be_the_query(served: Served, index: nda.Index, pictures: NDArray[np.uint8]) -> None:
    for response in (
        served.http.post("/v1/attribute", json={"image_id": 17, "top": 2}),
        served.http.post("/v1/attribute", data={"top": "2"}, files={"image_id": (None, "17")}),
    ):
        assert response.status_code == 200
        assert response.json()["images"][0]["image_id"] == 17
    query = picture(served.http.get(response.json()["query"]["url"]).content)
    np.testing.assert_array_equal(np.asarray(query), pictures[17])
    assert served.http.post("/v1/attribute", json={"image_id": 300}).status_code == 404


def test_the_name_of_an_answer_depends_on_the_whole_question(served: Served, upload: bytes) -> None:
    ask = {"timestep": 50, "top": 2}
    same = [served.ask(upload, **ask).json()["id"], served.ask(upload, **ask, seed=5).json()["id"]]
    others = [
        served.ask(upload, **{**ask, **change}).json()["id"]
        for change in ({"top": 3}, {"timestep": 51}, {"mirror": "true"}, {"where": "year > 0"}, {"temper": 2})
    ]
    others.append(served.http.post("/v1/attribute", json={"image_id": 3, **ask}).json()["id"])
    assert same[0] == same[1]  # without noise the seed has no effect
    assert len({same[0], *others}) == 7


def test_an_answer_is_exported_in_every_form(
    served: Served, upload: bytes, expected: nda.Attribution, tmp_path: Path
) -> None:
    place = served.ask(upload, **OPTIONS).headers["location"]
    answer = nda.read_answer(served.http.get(place, params={"format": "arrow"}).content)
    for form in ("html", "json", "parquet", "png", "arrow"):
        response = served.http.get(place, params={"format": form})
        assert response.status_code == 200
        disposition = f'attachment; filename="nda-index-{place[-32:][:8]}.{form}"'
        assert response.headers["content-disposition"] == disposition
        answer.save(tmp_path / f"a.{form}")
        assert response.content == (tmp_path / f"a.{form}").read_bytes()
    table = pq.read_table(io.BytesIO(served.http.get(place, params={"format": "parquet"}).content))
    assert table["image_id"].to_pylist() == expected.image_ids.tolist()
    np.testing.assert_array_equal(answer.scores, expected.scores)
    np.testing.assert_array_equal(answer.images, expected.images)


def test_maps_and_links_are_those_of_the_answer(served: Served, upload: bytes, expected: nda.Attribution) -> None:
    result = served.ask(upload, **OPTIONS).json()
    for rank, image in enumerate(result["images"]):
        for name, maps in (("query_map", expected.query_map), ("train_map", expected.train_map)):
            whole = picture(served.http.get(image[name]).content)
            one = picture(served.http.get(image[name], params={"scale": "p8r2", "size": 40}).content)
            np.testing.assert_array_equal(np.asarray(whole), np.asarray(heat_layer(maps(rank), (176, 211))))
            np.testing.assert_array_equal(np.asarray(one), np.asarray(heat_layer(maps(rank, "p8r2"), (40, 48))))
        for scale in (None, "p5r1"):
            links = served.http.get(image["links"], params={} if scale is None else {"scale": scale}).json()
            assert links["grid"] == [8, 8]
            weights = [weight for _, _, weight in links["pairs"]]
            assert weights == sorted(weights, reverse=True)
            shown, full = np.zeros((64, 64)), expected.links(rank, scale)
            for a, b, weight in links["pairs"]:
                shown[a, b] = weight
            np.testing.assert_allclose(shown, np.where(full >= 1e-3 * expected.scores[rank], full, 0), rtol=1e-9)
    place = f"/v1/results/{result['id']}"
    for wrong in ("maps/4/query.png", "maps/0/query.png", "maps/1/x.png", "links/4", "maps/1/query.png?scale=p9r1"):
        assert served.http.get(f"{place}/{wrong}").status_code == 404


def test_images_are_those_of_the_index_and_cached_by_their_tag(served: Served, pictures: NDArray[np.uint8]) -> None:
    response = served.http.get("/v1/images/42")
    np.testing.assert_array_equal(np.asarray(picture(response.content)), pictures[42])
    assert response.headers["cache-control"] == "private, no-cache"
    tag = response.headers["etag"]
    known = served.http.get("/v1/images/42", headers={"If-None-Match": f'"other", {tag}'})
    assert (known.status_code, known.content, known.headers["etag"]) == (304, b"", tag)
    assert served.http.get("/v1/images/43", headers={"If-None-Match": tag}).status_code == 200
    assert served.http.get("/v1/images/42", params={"size": 100}).headers["etag"] != tag
    assert picture(served.http.get("/v1/images/42", params={"size": 100}).content).size == (100, 120)
    for wrong in ("300", "-1", "x", "9" * 30, "..%2F..%2Fmanifest.json"):
        assert served.http.get(f"/v1/images/{wrong}").status_code == 404
    assert served.http.get("/v1/images/42", params={"size": 100000}).status_code == 400


def test_the_index_is_described(served: Served, index: nda.Index) -> None:
    values = served.http.get("/v1/index").json()
    assert values["index_hash"] == index.manifest.index_hash
    assert (values["images"], values["shape"], values["null_pictures"]) == (300, [3, 24, 20], 199)
    assert values["examples"] == [0, 60, 120, 179, 239, 299]
    assert [scale["name"] for scale in values["scales"]] == ["p5r1", "p8r2"]
    assert values["columns"] == [
        {"name": "key", "type": "string"},
        {"name": "label", "type": "string"},
        {"name": "year", "type": "number"},
    ]
    assert values["filters"] is True
    assert [recipe["name"] for recipe in values["recipes"]] == list(RECIPES)
    assert all(recipe["summary"].endswith(".") and recipe["title"] for recipe in values["recipes"])
    assert (values["defaults"]["timestep"], values["defaults"]["recipe"]) == (None, None)
    assert values["job_limits"] == {"jobs": 16, "pictures": 10_000, "bytes": 1 << 30}
    assert set(values["limits"]) == {"bytes", "pixels", "top", "candidates", "formats"}


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        ({"timestep": 1000}, 400, "timestep.0 is '1000'"),
        ({"timestep": "1,x"}, 400, "timestep.1 is 'x'"),
        ({"timestep": ",".join("123456789")}, 400, "timestep"),
        ({"top": 0}, 400, "top is '0'"),
        ({"top": 101}, 400, "top is 101; it must be at most 100"),
        ({"noise": "loud"}, 400, "noise is 'loud'"),
        ({"noise": "average", "draws": 64, "timestep": "1,2"}, 400, "times draws is 128"),
        ({"recipe": "3@1(draws=64) + 5@2"}, 400, "times draws is 65"),
        ({"recipe": "3@1 +"}, 400, "write PATCH@TIMESTEP"),
        ({"recipe": "3@1(stride=99999999999999999999)"}, 400, "integer from 1 to 65535"),
        ({"recipe": "3@1(temper=1e9)"}, 400, "the temper 1e+09 in 3@1"),
        ({"recipe": "3@1*1e-9"}, 400, "the weight 1e-09 in 3@1"),
        ({"recipe": "models", "timestep": 100}, 400, "each term of a recipe has its own"),
        ({"temper": "nan"}, 400, "temper is 'nan'"),
        ({"temper": 0}, 400, "temper is '0'"),
        ({"per_image_topk": 10**9}, 400, "per_image_topk is '1000000000'"),
        ({"seed": -1}, 400, "seed is '-1'"),
        ({"mode": "fast"}, 400, "mode is 'fast'"),
        ({"path": "/etc/passwd"}, 400, "path is '/etc/passwd'"),
        ({"image_id": 3}, 400, "exactly one of image and image_id"),
        ({"where": "colour = 1"}, 400, "'colour' is not a column"),
        ({"where": "year > 3000"}, 422, "which no image fulfils"),
        ({"where": "year > 2000; year < 2002"}, 400, "at character 12, ';"),
        ({"where": "year > 2000, year < 2002"}, 400, "at character 12, ','"),
        ({"top": 10, "candidates": 9}, 422, "candidates is 9; it must be at least top"),
    ],
)
def test_wrong_questions_are_refused_in_a_sentence(
    served: Served, upload: bytes, options: dict[str, object], status: int, message: str
) -> None:
    response = served.ask(upload, **options)
    assert response.status_code == status
    assert message in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"", "application/json", 400),
        (b"{", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b"[]", "application/json", 400),
        (b"{}", "application/json", 400),
        (b'{"image": "https://example.org/a.png"}', "application/json", 400),
        (b'{"image": "/etc/passwd"}', "application/json", 400),
        (b'{"image": "/etc/hosts/a"}', "application/json", 415),
        (b'{"image": 5}', "application/json", 400),
        (b'{"image_id": "../x"}', "application/json", 400),
        (b'{"image_id": 1e400}', "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"image=1", "application/x-www-form-urlencoded", 415),
        (b"image", "text/plain", 415),
        (b"no form", "multipart/form-data", 400),
        (b"--x\r\nContent-Disposition: form-data\r\n\r\n", "multipart/form-data; boundary=x", 400),
        (b"--x\r\n" * 1000, "multipart/form-data; boundary=x", 400),
    ],
)
def test_bodies_that_are_not_a_question_are_refused(served: Served, body: bytes, kind: str, status: int) -> None:
    response = served.http.post("/v1/attribute", content=body, headers={"Content-Type": kind})
    assert response.status_code == status
    assert set(response.json()) == {"error"}


@pytest.mark.parametrize(
    "values",
    [
        {f"x{i}": 1 for i in range(10_000)},
        {"image": "QUJD", **{f"x{i}": 1 for i in range(10_000)}},
        {"image": "QUJD" * 50_000, "timestep": [1] * 40_000},
        {"image_id": 3, "timestep": [[]] * 40_000},
        {"timestep": 1, "where": "x" * 70_000, "image": "QUJD"},
        {"where": "image", "seed": [{"image": "QUJD" * 50_000}], "top": "1" * 70_000},
    ],
)
def test_long_json_besides_a_picture_is_refused_before_it_is_parsed(
    served: Served, values: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    content, parsed, loads = json.dumps(values), list[int](), json.loads

    def note(text: Any) -> Any:  # the service's other threads read their files meanwhile
        parsed.append(len(text))
        return loads(text)

    monkeypatch.setattr(json, "loads", note)
    response = served.http.post("/v1/attribute", content=content, headers={"Content-Type": "application/json"})
    monkeypatch.undo()
    assert response.status_code == 400
    assert max(parsed, default=0) <= 65_536
    assert "more than 65,536 characters besides image" in response.json()["error"]["message"]


def test_a_large_picture_is_sent_in_json_as_any_program_writes_it(served: Served) -> None:
    noise = encoded(np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8))
    assert len(noise) > 65_536
    name = served.ask(noise, top=1).json()["id"]
    for escaped in (False, True):
        text = json.dumps({"top": 1, "image": base64.b64encode(noise).decode()}, indent=2)
        content = "\ufeff" + (text.replace("/", "\\/") if escaped else text)  # some programs write "/" so
        response = served.http.post(
            "/v1/attribute", content=content.encode(), headers={"Content-Type": "application/json"}
        )
        assert (response.status_code, response.json().get("id")) == (200, name)


def test_an_option_of_many_values_is_cut_off(served: Served) -> None:
    for timestep in (["1," * 3000] * 9, "1," * 30_000, [1] * 20_000, ["x"] * 10_000):
        response = served.http.post("/v1/attribute", json={"image_id": 3, "timestep": timestep})
        assert response.status_code == 400
        assert len(response.content) < 2000


def test_the_condition_of_an_answer_can_be_sent_again(served: Served) -> None:
    def ask(where: str) -> httpx.Response:
        return served.http.post("/v1/attribute", json={"image_id": 3, "top": 1, "where": where})

    sent = " or ".join(["year>2001"] * 150)
    assert len(sent) < 2000
    first = ask(sent).json()
    where = first["settings"]["where"]
    assert len(where) > 2000
    assert ask(where).json()["id"] == first["id"]
    response = ask(" or ".join(["year>2001"] * 220))
    assert (response.status_code, response.json()["error"]["code"]) == (400, "where")
    assert "characters when written in full" in response.json()["error"]["message"]


def test_a_form_has_one_file_and_each_option_once(served: Served, upload: bytes) -> None:
    wrong = [
        {"files": [("image", ("a", upload)), ("image", ("b", upload))]},
        {"files": {"image": ("a", upload), "top": ("b", b"3")}},
        {"files": {"image": (None, "text")}},
        {"files": {"image": ("a", upload)}, "data": {"top": ["3", "4"]}},
        {"files": {"image": ("a", upload)}, "data": {f"x{i}": "1" for i in range(200)}},
        {"files": {"image": ("a", upload)}, "data": {"where": "x" * 200_000}},
    ]
    for request in wrong:
        assert served.http.post("/v1/attribute", **request).status_code == 400  # type: ignore[arg-type]


def test_unknown_addresses_are_not_found(served: Served) -> None:
    for path in (
        "/docs",
        "/redoc",
        "/v1/results/" + "0" * 32,
        "/v1/results/x",
        "/v1/results/..%2Fcollection.json",
        "/x",
    ):
        response = served.http.get(path)
        assert response.status_code == 404
        assert set(response.json()["error"]) == {"code", "message", "request_id"}
    assert served.http.get("/v1/attribute").status_code == 405
    assert served.http.get("/healthz").json() == {"status": "ok"}


def test_the_service_is_ready_only_after_its_first_query(
    index_folder: Path, tmp_path: Path, gate: Gate, upload: bytes
) -> None:
    gate.opened.clear()
    with serving(index_folder, tmp_path / "results", ready=False) as served:
        until(lambda: gate.begun)
        assert served.http.get("/healthz").status_code == 200
        for response in (served.http.get("/readyz"), served.ask(upload), served.http.get("/v1/index")):
            assert (response.status_code, response.headers["retry-after"]) == (503, "1")
        gate.opened.set()
        until(lambda: served.http.get("/readyz").status_code == 200)
        assert len(gate.begun) == 1
        assert served.ask(upload, top=1).status_code == 200


def test_metrics_count_stages_requests_and_answers(index_folder: Path, tmp_path: Path, upload: bytes) -> None:
    with serving(index_folder, tmp_path / "results") as served:
        for _ in range(2):
            served.ask(upload, top=1)
        for stage in ("decode", "embed", "probe", "fetch", "exact", "maps", "coverage", "verdict"):
            assert served.metric(f'nda_index_stage_seconds_count{{stage="{stage}"}}') == 2  # with the warm-up
        assert served.metric('nda_index_results_total{outcome="miss"}') == 1
        assert served.metric('nda_index_results_total{outcome="hit"}') == 1
        assert served.metric('nda_index_requests_total{route="/v1/attribute",status="200"}') == 2
        assert served.metric("nda_index_queue_length") == 0
        assert served.metric("nda_index_images") == 300
        assert served.metric("nda_index_results_bytes") == sum(p.stat().st_size for p in tmp_path.rglob("*.arrow"))
        assert served.metric("process_resident_memory_bytes") > 1 << 20


def test_the_making_of_every_response_is_timed(served: Served, upload: bytes) -> None:
    def rendered() -> float:
        return served.metric('nda_index_stage_seconds_count{stage="render"}')

    before = rendered()
    place = served.ask(upload, **OPTIONS).headers["location"]
    assert rendered() == before + 1
    paths = [place, *(f"{place}?format={form}" for form in ("arrow", "html", "json", "parquet", "png"))]
    paths += [f"{place}/query.png", f"{place}/maps/1/train.png", f"{place}/links/1", "/v1/images/3"]
    for number, path in enumerate(paths, start=2):
        assert served.http.get(path).status_code == 200
        assert rendered() == before + number
    assert served.http.get("/v1/images/300").status_code == 404
    headers = {"Accept": MEDIA_TYPE}
    assert served.http.post("/v1/attribute", json={"image_id": 3, "top": 1}, headers=headers).status_code == 200
    assert rendered() == before + len(paths) + 2


def test_a_browser_checks_the_pages_files_for_changes(served: Served) -> None:
    for path in ("/", "/static/app.js"):
        response = served.http.get(path)
        assert (response.status_code, response.headers["cache-control"]) == (200, "no-cache")
        again = served.http.get(path, headers={"If-None-Match": response.headers["etag"]})
        assert again.status_code in (200, 304)
    assert again.status_code == 304

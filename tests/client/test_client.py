from __future__ import annotations

import asyncio
import importlib
import inspect
import io
import json
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import nda_index as nda
from nda_index.answer.arrow import answer_bytes
from nda_index.client import AsyncClient, Client, _headers
from nda_index.client.requests import read_file
from nda_index.question import Question
from nda_index.recipe import Recipe, parse_recipe
from tests.conftest import encoded
from tests.serve.conftest import serving

OPTIONS: dict[str, Any] = {
    "timestep": [50, 200], "top": 3, "noise": "average", "draws": 2, "mirror": True, "candidates": 50,
    "where": "(`year` >= 2000)",
}  # fmt: skip


@pytest.fixture(scope="module")
def collage(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.concatenate([pictures[3][:, :10], pictures[250][:, 10:]], axis=1)


@pytest.fixture(scope="module")
def url(index_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    with serving(index_folder, tmp_path_factory.mktemp("client") / "results") as served:
        yield served.url


def content(answer: nda.Attribution) -> bytes:
    return answer_bytes(replace(answer, seconds={}))


def test_the_answer_is_the_object_that_the_index_gives(
    url: str, index: nda.Index, collage: NDArray[np.uint8], tmp_path: Path
) -> None:
    expected = index.attribute(collage, **OPTIONS)
    picture = Image.fromarray(collage)
    picture.save(tmp_path / "q.png")
    with Client(url) as client:
        for form in (collage, picture, tmp_path / "q.png", str(tmp_path / "q.png"), (tmp_path / "q.png").read_bytes()):
            answer = client.attribute(form, **OPTIONS)
            assert isinstance(answer, nda.Attribution)
            assert content(answer) == content(expected)
        assert client.attribute(collage[..., :1], top=1).image_ids.shape == (1,)
        assert client.index()["images"] == 300


@pytest.mark.parametrize("wrong", [None, "", "photos.nda", "localhost:8000", "ftp://localhost"])
def test_what_is_no_address_of_a_service_is_refused(wrong: Any) -> None:
    for kind in (Client, AsyncClient):
        with pytest.raises(nda.ConfigError, match="it must be the address of a service, as 'http://127.0.0.1:8000'"):
            kind(wrong)


def test_a_token_is_trimmed_and_never_shown() -> None:
    assert _headers(" secret\n") == {"Authorization": "Bearer secret"}
    with pytest.raises(nda.ConfigError, match="as `nda-index token` printed it") as refused:
        _headers("secret\nsecond")
    assert "secret" not in str(refused.value)


def test_coroutines_get_the_same(url: str, index: nda.Index, pictures: NDArray[np.uint8]) -> None:
    async def ask_five() -> list[nda.Attribution]:
        async with AsyncClient(url) as client:
            assert (await client.index())["images"] == 300
            return await asyncio.gather(*(client.attribute(pictures[i], 50, top=2) for i in range(5)))

    for i, answer in enumerate(asyncio.run(ask_five())):
        assert content(answer) == content(index.attribute(pictures[i], 50, top=2))


def test_a_kept_answer_is_read_again(url: str, collage: NDArray[np.uint8]) -> None:
    with Client(url) as client:
        answer = client.attribute(collage, top=2)
        identity = httpx.post(f"{url}/v1/attribute", files={"image": encoded(collage)}, data={"top": "2"}).json()["id"]
        assert answer_bytes(client.result(identity)) == answer_bytes(answer)
        with pytest.raises(nda.ServiceError, match="there is no answer") as absent:
            client.result("0" * 32)
        assert absent.value.status == 404
        with pytest.raises(nda.ConfigError, match="not the name of an answer"):
            client.result("../index")

    async def again() -> nda.Attribution:
        async with AsyncClient(url) as coroutines:
            return await coroutines.result(identity)

    assert answer_bytes(asyncio.run(again())) == answer_bytes(answer)


def test_many_pictures_are_a_job(url: str, index: nda.Index, pictures: NDArray[np.uint8], tmp_path: Path) -> None:
    path = tmp_path / ".3.png"
    Image.fromarray(pictures[3]).save(path)
    options: dict[str, Any] = {"recipe": "5@100", "where": "year >= 2000"}
    with Client(url) as client:
        job = client.submit([path, pictures[200], b"no picture"], **options)
        *_, last = client.watch(job)
        assert (last["state"], last["done"], last["strong"], last["failures"]) == ("done", 3, 2, 1)
        assert last["options"]["where"] == "(`year` >= 2000)"
        assert client.wait(job) == last == client.jobs()[0]
        table = client.results(job)
        assert table["image_id"].to_pylist() == [3, 200, None]
        assert table["question"].to_pylist() == [str(tmp_path / "3.png"), "1", "2"]
        assert table["evidence"][0].as_py() == index.attribute(pictures[3], top=1, **options).evidence[0]
        client.cancel(job)
        for use in (client.wait, client.results, client.cancel):
            with pytest.raises(nda.ServiceError, match="there is no job"):
                use(job)
        with pytest.raises(nda.ImageDecodeError, match="cannot be sent"):
            client.submit([path, tmp_path / "absent.png"])
        assert client.jobs() == []

    async def again() -> list[Any]:
        async with AsyncClient(url) as coroutines:
            job = await coroutines.submit({"a": pictures[3]}, 50)
            seen = [await coroutines.wait(job), await coroutines.results(job), await coroutines.jobs()]
            await coroutines.cancel(job)
            with pytest.raises(nda.ServiceError, match="there is no job"):
                await coroutines.wait(job)
            return seen

    last, table, jobs = asyncio.run(again())
    assert (jobs, table["question"].to_pylist()) == ([last], ["a"])


def test_a_service_that_ends_before_a_job_is_said() -> None:
    def cut(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, text='retry: 2000\n\nevent: progress\ndata: {"state": "running"}\n\n')

    with (
        Client("http://service", transport=httpx.MockTransport(cut)) as client,
        pytest.raises(nda.ServiceError, match="the service ended before job 0a did"),
    ):
        client.wait("0a")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"timestep": 1000}, nda.ConfigError, "timestep"),
        ({"timestep": "100"}, nda.ConfigError, "timestep"),
        ({"timestep": []}, nda.ConfigError, "timestep is empty"),
        ({"timestep": 1.5}, nda.ConfigError, "timestep"),
        ({"where": ""}, nda.ConfigError, "where is empty"),
        ({"top": 10, "candidates": 9}, nda.QueryError, "candidates is 9"),
        ({"where": "year > 3000"}, nda.QueryError, "which no image fulfils"),
        ({"where": "colour = 1"}, nda.ConfigError, "'colour' is not a column"),
    ],
)
def test_errors_are_those_of_the_index(
    url: str, collage: NDArray[np.uint8], options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with Client(url) as client, pytest.raises(error, match=message):
        client.attribute(collage, **options)


@pytest.mark.parametrize("mode", ["CMYK", "I;16", "L", "RGBA", "turned"])
def test_pictures_of_every_kind_are_compared_as_the_index_does(
    url: str, index: nda.Index, collage: NDArray[np.uint8], mode: str
) -> None:
    picture = Image.fromarray(collage)
    if mode == "turned":
        buffer, exif = io.BytesIO(), Image.Exif()
        exif[0x0112] = 6  # lies on its side
        picture.transpose(Image.Transpose.ROTATE_90).save(buffer, "PNG", exif=exif)
        picture = Image.open(io.BytesIO(buffer.getvalue()))
    else:
        deep = np.asarray(picture.convert("L")).astype(np.uint16) * 257
        picture = Image.fromarray(deep) if mode == "I;16" else picture.convert(mode)
    with Client(url) as client:
        np.testing.assert_array_equal(client.attribute(picture, top=1).query, index.attribute(picture, top=1).query)


def test_unreadable_pictures_and_absent_services_are_reported(url: str, tmp_path: Path) -> None:
    with Client(url) as client:
        for wrong in (b"text", tmp_path / "absent.png", 5, np.zeros((2, 2, 7), np.uint8)):
            with pytest.raises(nda.ImageDecodeError):
                client.attribute(wrong)
    with Client("http://127.0.0.1:9") as client, pytest.raises(nda.ServiceError, match="cannot be reached") as none:
        client.index()
    assert (none.value.status, none.value.retry_after) == (0, None)


def test_files_that_services_do_not_take_are_sent_as_png(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)
    for kind in ("TIFF", "PPM", "PNG", "GIF"):
        path = tmp_path / f"a.{kind.lower()}"
        Image.fromarray(pixels).save(path)
        for given in (path, path.read_bytes()):
            sent = read_file(given)
            assert (sent == path.read_bytes()) == (kind in ("PNG", "GIF"))
            if kind != "GIF":
                np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(sent))), pixels)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(read_file(pixels.transpose(2, 0, 1))))), pixels)
    assert read_file(b"text") == b"text"


def test_a_busy_service_says_when_to_try_again() -> None:
    def busy(request: httpx.Request) -> httpx.Response:
        assert request.headers["authorization"] == "Bearer token"
        body = {"error": {"code": "busy", "message": "64 questions are in flight already; try again later"}}
        return httpx.Response(429, headers={"Retry-After": "7"}, content=json.dumps(body))

    def broken(request: httpx.Request) -> httpx.Response:
        return httpx.Response(502, text="<html>")

    with Client("http://service", "token", transport=httpx.MockTransport(busy)) as client:
        with pytest.raises(nda.ServiceError, match="64 questions") as refused:
            client.attribute(b"picture")
        assert (refused.value.status, refused.value.retry_after) == (429, 7)
    with (
        Client("http://service", transport=httpx.MockTransport(broken)) as client,
        pytest.raises(nda.ServiceError, match="status 502"),
    ):
        client.index()


def test_a_missing_httpx_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)
    monkeypatch.delitem(sys.modules, "nda_index.client")
    with pytest.raises(nda.MissingDependencyError, match=r"pip install 'nda-index\[client\]'"):
        importlib.import_module("nda_index.client")


def test_every_option_of_a_question_is_sent() -> None:
    sent: list[bytes] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.read())
        return httpx.Response(503)

    with Client("http://service", transport=httpx.MockTransport(answer)) as client:
        for field in fields(Question):
            name = "timestep" if field.name == "timesteps" else field.name
            value = "7@90" if name == "recipe" else 1 if field.default in ((), None) else field.default
            value, text = ((0, 1, 20, 30), "0,1,20,30") if name == "region" else (value, str(value))
            with pytest.raises(nda.ServiceError):
                client.attribute(b"picture", **{name: value})  # type: ignore[arg-type]
            assert f'name="{name}"\r\n\r\n{text}\r\n'.encode() in sent[-1]
        with pytest.raises(nda.ServiceError):
            client.attribute(b"picture", recipe=parse_recipe("3@50(draws=2)"))
        assert b'name="recipe"\r\n\r\n3@50(draws=2)\r\n' in sent[-1]
        with pytest.raises(nda.ServiceError):
            client.attribute(b"picture", recipe=Recipe(parse_recipe("3@60").terms, name="models"))
        assert b'name="recipe"\r\n\r\n3@60\r\n' in sent[-1]
        assert b'name="timestep"' not in sent[-1]


@pytest.mark.parametrize("client", [Client, AsyncClient])
def test_defaults_are_those_of_the_index(client: type[Client] | type[AsyncClient]) -> None:
    here, there = (inspect.signature(kind.attribute).parameters for kind in (client, nda.Index))
    for name in ("timestep", "top"):
        assert here[name].default == there[name].default

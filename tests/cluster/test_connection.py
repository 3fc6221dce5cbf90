from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

import pytest

import nda_index as nda
from nda_index.cluster import connection


def test_a_host_that_is_silent_is_given_up_before_ray_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    knocked = list[Any]()

    def silent(address: tuple[str, int], timeout: float) -> None:
        knocked.append((*address, timeout))
        raise TimeoutError("timed out")

    never = SimpleNamespace(is_initialized=lambda: False)
    monkeypatch.setattr(connection, "load_ray", lambda: never)
    monkeypatch.setattr(socket, "create_connection", silent)
    for address in ("192.0.2.1:6379", "ray://192.0.2.1:6379"):
        with pytest.raises(nda.ConfigError, match="there is no Ray cluster at .*192.0.2.1:6379.*: timed out; start"):
            connection.connect(address)
    assert knocked == [("192.0.2.1", 6379, connection.PATIENCE)] * 2
    with pytest.raises(nda.ConfigError, match="there is no Ray cluster at 'host:many'"):
        connection.connect("host:many")


def test_what_names_no_host_is_left_to_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[Any]()
    ray = SimpleNamespace(is_initialized=lambda: False, init=lambda address, **options: asked.append(address))
    monkeypatch.setattr(connection, "load_ray", lambda: ray)
    for address in ("auto", None):
        connection.connect(address)
    assert asked == ["auto", None]

"""A store is opened without changing what the user set, and one that is away is known at once."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from promptlab.errors import TrackingError
from promptlab.tracking.connect import _knock, open_client, set_environment

NAMES = ("MLFLOW_DISABLE_TELEMETRY", "MLFLOW_HTTP_REQUEST_TIMEOUT")


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def test_mlflow_reports_nothing_of_what_people_draw_unless_they_want_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in NAMES:
        monkeypatch.setenv(name, "")  # put back after the test, whatever is set meanwhile
        monkeypatch.delenv(name)
    set_environment()
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    for name in NAMES:
        monkeypatch.setenv(name, "7")
    set_environment()
    assert [os.environ[name] for name in NAMES] == ["7", "7"]


def test_who_only_looks_makes_no_database(tmp_path: Path) -> None:
    with pytest.raises(TrackingError):
        open_client(f"sqlite:///{tmp_path}/mlflow.db", may_change=False)
    assert list(tmp_path.iterdir()) == []


def test_an_address_at_which_nobody_listens_is_known_at_once_and_a_wrong_one_is_named(
    no_proxy: None,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        _knock(f"http://127.0.0.1:{port}")
    with pytest.raises(ConnectionError):
        _knock(f"http://127.0.0.1:{port}")
    with pytest.raises(TrackingError, match=r"http://bob:\*\*\*@host:99999 is no address"):
        _knock("http://bob:SECRET@host:99999")


@pytest.mark.parametrize(("scheme", "port"), [("http", 80), ("https", 443)])
def test_an_address_without_a_port_has_that_of_its_scheme(
    scheme: str, port: int, no_proxy: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def refuse(address: tuple[str, int], timeout: float) -> None:
        asked.append(address)
        raise OSError

    monkeypatch.setattr("socket.create_connection", refuse)
    with pytest.raises(ConnectionError):
        _knock(f"{scheme}://mlflow.example")
    assert asked == [("mlflow.example", port)]


def test_a_server_behind_a_proxy_is_left_to_mlflow_and_one_beside_it_is_not(
    no_proxy: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    _knock("http://mlflow.invalid:5000")
    with pytest.raises(ConnectionError):
        _knock("http://127.0.0.1:9")


def test_a_database_server_that_cannot_be_used_is_named_without_its_password() -> None:
    with pytest.raises(TrackingError, match=r"postgresql://bob:\*\*\*@host/x cannot be used"):
        open_client("postgresql://bob:SECRET@host/x")

"""Doctor opens a tracking server that asks for a password as a sweep would open it."""

from __future__ import annotations

import base64
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from promptlab.commands.doctor import find_disk, find_tracking

PASSWORD = "correct-horse"
WANTED = "Basic " + base64.b64encode(f"bob:{PASSWORD}".encode()).decode()


class Guarded(BaseHTTPRequestHandler):
    """An MLflow server without experiments that only bob may ask."""

    def do_POST(self) -> None:
        """Answer a search of experiments."""
        is_bob = self.headers.get("Authorization") == WANTED
        body = b"{}" if is_bob else b"You are not authenticated."
        self.send_response(200 if is_bob else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Guarded) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("USERNAME", "PASSWORD", "TOKEN"):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}", raising=False)
    return monkeypatch


@pytest.mark.parametrize("credentials", ["", "bob:wrong-password@"])
def test_a_server_that_refuses_is_a_finding_that_names_the_variables(
    address, environment, credentials
):
    environment.setenv("MLFLOW_TRACKING_URI", f"http://{credentials}{address}")
    (finding,) = find_tracking()
    assert not finding.is_good
    assert "refuses these credentials" in finding.text
    assert "MLFLOW_TRACKING_PASSWORD" in finding.text
    assert "wrong-password" not in finding.text


@pytest.mark.parametrize("place", ["address", "variables"])
def test_a_server_that_accepts_answers_and_the_password_is_not_shown(address, environment, place):
    if place == "variables":
        environment.setenv("MLFLOW_TRACKING_USERNAME", "bob")
        environment.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    credentials = f"bob:{PASSWORD}@" if place == "address" else ""
    environment.setenv("MLFLOW_TRACKING_URI", f"http://{credentials}{address}")
    (finding,) = find_tracking()
    assert finding.is_good, finding.text
    assert finding.text.endswith("answers")
    assert PASSWORD not in finding.text


@pytest.mark.parametrize(("free_gb", "is_good"), [(0.5, False), (500, True)])
def test_a_disk_with_no_room_for_images_is_a_finding(monkeypatch, tmp_path, free_gb, is_good):
    usage = shutil.disk_usage(tmp_path)._replace(free=int(free_gb * 1e9))
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage if folder.exists() else None)
    (finding,) = find_disk(str(tmp_path / "not" / "made" / "yet"))
    assert finding.is_good == is_good
    assert finding.text.startswith(f"{tmp_path}/not/made/yet, ")
    (elsewhere,) = find_disk("s3://bucket/runs")
    assert elsewhere.is_good

"""One call: what the key may not do, and what a hostile server cannot do."""

from __future__ import annotations

import base64
import io
import logging
import struct
import traceback
import zlib

import numpy as np
import pytest
from PIL import Image

from promptlab.errors import ConfigError, ModelError, ModelLostError
from promptlab.models.http.client import Client, Server
from promptlab.models.http.images import decode
from promptlab.models.http.service import Answer, CallError, RefusedError
from promptlab.redaction import redact_text
from tests.models.http.conftest import QUICK, FastClock
from tests.models.http.fakes import Fake, picture

KEY = "hunter-two-three"


class ScriptedFake(Fake):
    """Answers every path from a table."""

    pages: dict = {}  # noqa: RUF012

    def is_drawing(self, method, path):
        return method == "POST"

    def answer(self, method, path, headers, body):
        return self.pages[path]


@pytest.fixture
def fake():
    with ScriptedFake() as found:
        yield found


def open_client(url, monkeypatch=None, **further):
    if monkeypatch is not None:
        monkeypatch.setenv("MY_HOSTED_MODEL", KEY)
        further["key_variable"] = "MY_HOSTED_MODEL"
    return Client(Server(url, **{**QUICK, **further}), FastClock())


def test_the_key_goes_to_the_server_and_into_no_message(fake, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    fake.key = "another"
    client = open_client(fake.url, monkeypatch)
    with pytest.raises(ModelLostError) as caught:
        client.post("/draw", {})
    client.close()
    assert fake.seen[0][1]["authorization"] == f"Bearer {KEY}"
    assert "does not accept the key in MY_HOSTED_MODEL" in str(caught.value)
    told = "".join(traceback.format_exception(caught.value)) + caplog.text + repr(client.server)
    assert KEY not in told
    assert redact_text(f"the key {KEY}") == "the key ***"


def test_a_name_and_a_password_are_sent_as_such(fake, monkeypatch):
    monkeypatch.setenv("MY_LOGIN", "ann:secret-of-ann")
    fake.pages = {"/draw": (200, {})}
    client = open_client(fake.url, key_variable="MY_LOGIN")
    client.post("/draw", {})
    client.close()
    login = base64.b64encode(b"ann:secret-of-ann").decode()
    assert fake.seen[0][1]["authorization"] == f"Basic {login}"


def test_a_missing_key_names_its_variable(monkeypatch):
    monkeypatch.delenv("MY_HOSTED_MODEL", raising=False)
    with pytest.raises(ModelError, match="variable MY_HOSTED_MODEL"):
        open_client("http://127.0.0.1:9", key_variable="MY_HOSTED_MODEL")


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, {"error": {"message": "no such size"}}, RefusedError),
        (422, {"detail": "input: prompt is required"}, RefusedError),
        (401, {"error": "who are you"}, ModelLostError),
        (402, {"detail": "no credit"}, ModelLostError),
        (404, {"detail": "no such model"}, ModelLostError),
        (429, {"error": {"code": "insufficient_quota", "message": "pay first"}}, ModelLostError),
        (400, {"error": {"code": "billing_hard_limit_reached"}}, ModelLostError),
        (429, {"error": {"message": "slow down"}}, "busy"),
        (500, b"<html>", "broken"),
        (502, b"", "down"),
        (503, b"", "down"),
        (504, b"", "lost"),
        (408, b"", "lost"),
        (200, b"<html>", "lost"),
        (302, {"location": "https://elsewhere.example/v1"}, ModelLostError),
    ],
)
def test_every_status_has_one_meaning(fake, status, body, kind):
    fake.pages = {"/draw": (status, body)}
    client = open_client(fake.url)
    expected = CallError if isinstance(kind, str) else kind
    with pytest.raises(expected) as caught:
        client.post("/draw", {})
    client.close()
    if isinstance(kind, str):
        assert caught.value.kind == kind
    assert len(fake.seen) == 1, "what may be billed is repeated by nobody here"


def test_a_host_that_is_not_there_has_taken_nothing():
    with ScriptedFake() as gone:
        url = gone.url
    client = open_client(url)
    with pytest.raises(CallError) as caught:
        client.post("/draw", {})
    client.close()
    assert (caught.value.kind, caught.value.is_unreachable) == ("down", True)


def test_an_answer_that_takes_too_long_or_is_too_large_is_cut(fake):
    fake.pages = {"/draw": (200, {"data": "x" * 500_000})}
    client = open_client(fake.url, max_mb=0.1)
    with pytest.raises(RefusedError, match=r"larger than 0\.1 MB"):
        client.post("/draw", {})
    client.close()
    fake.faults = {1: "slow"}
    client = open_client(fake.url, total_s=0.02)
    with pytest.raises(CallError, match=r"took longer than 0\.02 s"):
        client.post("/draw", {})
    client.close()
    fake.delay_s = 1.0
    client = open_client(fake.url, read_s=0.05)
    with pytest.raises(CallError, match="ReadTimeout") as caught:
        client.post("/draw", {})
    client.close()
    assert caught.value.kind == "lost"


def test_a_question_is_repeated_and_an_unknown_thing_is_none(fake):
    fake.pages = {"/job": (503, b"")}
    client = open_client(fake.url)
    with pytest.raises(CallError) as caught:
        client.get("/job")
    assert (caught.value.kind, caught.value.is_unreachable) == ("lost", True)
    fake.pages = {"/job": (500, b"")}
    seen = len(fake.seen)
    with pytest.raises(CallError):
        client.get("/job")
    assert len(fake.seen) - seen == 6
    fake.pages = {"/job": (404, b"")}
    assert client.get("/job") is None
    client.close()


def test_a_file_elsewhere_is_fetched_without_the_key_and_never_by_plain_http(fake, monkeypatch):
    fake.pages = {"/file.png": (200, picture(1, size=(4, 4)))}
    client = open_client(fake.url, monkeypatch)
    assert client.fetch(f"{fake.url}/file.png") == picture(1, size=(4, 4))
    assert "authorization" in fake.seen[-1][1]
    with ScriptedFake() as other:
        other.pages = fake.pages
        with pytest.raises(RefusedError, match="expected an https address"):
            client.fetch(f"{other.url}/file.png")
        assert not other.seen
    fake.pages["/moved.png"] = (302, {"location": "/file.png"})
    assert client.fetch(f"{fake.url}/moved.png") == picture(1, size=(4, 4))
    fake.pages["/away.png"] = (302, {"location": "http://elsewhere.example/file.png"})
    with pytest.raises(RefusedError, match=r"elsewhere.example/file.png: expected an https"):
        client.fetch(f"{fake.url}/away.png")
    fake.pages["/round.png"] = (302, {"location": "/round.png"})
    with pytest.raises(RefusedError, match="more than 3 redirects"):
        client.fetch(f"{fake.url}/round.png")
    assert client.fetch("data:image/png;base64,aGVsbG8=") == b"hello"
    client.close()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://example.org", "expected http"),
        ("example.org", "expected http"),
        ("https://ann:secret@example.org/v1", "key_variable"),
        ("https://example.org/v1?key=secret", "key_variable"),
    ],
)
def test_an_address_holds_no_credential(url, message):
    with pytest.raises(ConfigError, match=message) as caught:
        Server(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("value", [0, -1, "fast", True])
def test_a_limit_is_a_number_above_zero(value):
    with pytest.raises(ConfigError, match="concurrency"):
        Server("http://example.org", concurrency=value)


def png_header(width, height):
    """Return a PNG that claims a size and holds nothing."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return b"\x89PNG\r\n\x1a\n" + data + b"\0\0\0\0IEND\xaeB`\x82"


def written(kind, mode="RGB", color=(1, 2, 3), size=(8, 4)):
    file = io.BytesIO()
    Image.new(mode, size, color).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize(
    ("body", "size", "kind", "message"),
    [
        (b"", None, None, "no image that can be read"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", None, None, "no image that can be read"),
        (written("PNG", size=(64, 64))[:60], None, None, "no image that can be read"),
        (written("BMP"), None, None, "no image that can be read"),
        (png_header(50_000, 50_000), None, None, "."),
        (png_header(8_100, 8_000), None, None, "more than 64,000,000"),
        (written("PNG"), (8, 5), None, "drew 8 × 4 px, asked for 8 × 5 px"),
        (written("JPEG"), (8, 4), "png", "sent JPEG, asked for png"),
    ],
)
def test_bytes_that_are_not_the_image_asked_for_are_refused(body, size, kind, message):
    with pytest.raises(RefusedError, match=message):
        decode(Answer(body, format=kind), size)


def test_an_image_is_decoded_and_what_is_transparent_is_white():
    pixels = decode(Answer(written("PNG"), format="png"), (8, 4))
    assert (pixels == np.array([1, 2, 3], np.uint8)).all()
    assert pixels.shape == (4, 8, 3)
    clear = decode(Answer(written("PNG", "RGBA", (9, 9, 9, 0))), None)
    assert (clear == 255).all()
    assert decode(Answer(written("JPEG"), format="jpg"), None).shape == (4, 8, 3)
    assert decode(Answer(written("WEBP"), format="webp"), None).shape == (4, 8, 3)

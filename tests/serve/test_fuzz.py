"""Thousands of hostile requests to a running server: no 500, no file that is not its own."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.serve.running import Running, prepare_folder, running
from tests.serve.test_app import ROUTES
from tests.serve.test_wishes import ACCEPTED, REFUSED

SECRET = "the-secret-of-the-owner"
TIMEOUT_S = 60
# Notes each file that any process of the server opens.
HOOK = """
import os, sys
name = "server" if "serve" in sys.orig_argv[1:5] and "--port" in sys.orig_argv else "child"
log = os.open({log!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
def note(event, values):
    if event == "open" and isinstance(values[0], (str, bytes)):
        os.write(log, f"{{name}} {{os.fsdecode(values[0])}}\\n".encode("utf-8", "replace"))
sys.addaudithook(note)
"""

# Where Python finds modules, and what the kernel offers.
OWN_FOLDERS = (
    *(str(Path(path).resolve()) for path in (*sys.path, sys.base_prefix) if path),
    *("/proc/", "/dev/", "/sys/"),
)

SEGMENTS = [
    *("1", "0", "-1", "99999999999999999999", "x", "", " ", ".", "..", "...", "%2e%2e", "..%2f.."),
    *("%2e%2e%2f%2e%2e%2fsecret.txt", "..%5c..%5csecret.txt", "%00", "a%00.png", "%ff", "%", "%zz"),
    *("/etc/passwd", "//etc/passwd", "..;/", "secret.txt", ".serve", "queue.sqlite", "access.json"),
    *("file:%2f%2f%2fetc%2fpasswd", "app.py", "sheet.css", "queue.html", "é", "%F0%9F%A6%8A", "$&"),
    *(
        "0123456789abcdef",
        "0123456789abcdef.png",
        "a" * 3000,
        "{name}",
        "<script>",
        "'\"",
        "~",
        "*",
    ),
]
TEXTS = [
    *("a fox", "", " ", "\0", "../../secret.txt", "@secret.txt", "@/etc/passwd", "__animal__"),
    *(
        "{a|b}",
        "{" * 50,
        "${oc.env:HOME}",
        "$\\{x\\}",
        "\ud83e\udd8a",
        "a" * 5000,
        "1" * 5000,
        "-m",
        "--cfg=job",
    ),
    *("<img src=x onerror=alert(1)>", "'; DROP TABLE entries; --", "\u202e", "null", "1e999", "\\"),
]
HOSTS = [
    "evil.example",
    "",
    "localhost:1",
    "[::1]",
    "127.0.0.1",
    "localhost@evil.example",
    "a" * 300,
]
ORIGINS = ["null", "", "http://evil.example", "http://localhost", "file://", "\\", "http://["]


class Fuzz:
    """A stream of requests from a seed."""

    def __init__(self, seed: int, netloc: str) -> None:
        self.random = random.Random(seed)
        self.netloc = netloc

    def value(self, depth: int = 0) -> Any:
        """Return any JSON value."""
        choose = self.random
        kind = choose.randrange(8 if depth < 3 else 5)
        if kind < 3:
            return choose.choice(TEXTS)
        if kind == 3:
            return choose.choice([0, -1, 1, 4, 2**63, -(2**70), 0.5, 1e308, True, False, None])
        if kind == 4:
            return choose.choice([*ACCEPTED, *REFUSED]).encode("utf-8", "replace").decode()
        if kind < 6:
            return [self.value(depth + 1) for _ in range(choose.randrange(4))]
        keys = ["a", "_target_", "seeds", "subject", "params", "rating", "image_id", ""]
        return {choose.choice(keys): self.value(depth + 1) for _ in range(choose.randrange(4))}

    def document(self) -> Any:
        """Return a body that is nearly what some route expects."""
        choose = self.random
        fields = ["line", "prompt", "subject", "subjects", "styles", "template", "model", "seeds"]
        fields += ["params", "name", "images", "parents", "client_id", "x"]
        wish = {choose.choice(fields): self.value() for _ in range(choose.randrange(1, 4))}
        pick = {key: self.value() for key in ("image_id", "rating", "note", "picked_at", "who")}
        names = ["model", "prompt", "n", "size", "seed", "stream", "response_format", "style"]
        return choose.choice(
            [
                {"wish": wish},
                {"wish": self.value()},
                {"before": self.value()},
                {"seeds": self.value()},
                {"picks": [pick], "version": self.value(), "sent_at": self.value()},
                {"picks": self.value()},
                {"kind": choose.choice(["vary", "seeds", "x"]), "image_ids": self.value()},
                {name: self.value() for name in choose.sample(names, 4)},
                self.value(),
            ]
        )

    def body(self) -> bytes:
        """Return a body: JSON, torn JSON, or anything."""
        choose = self.random
        text = json.dumps(self.document())
        kind = choose.randrange(12)
        if kind == 0:
            return text[: choose.randrange(len(text) + 1)].encode()
        if kind == 1:
            return choose.randbytes(choose.randrange(200))
        if kind == 2:
            return b"[" * choose.choice([10, 100_000])
        if kind == 3:
            return b"x" * choose.choice([0, 1, 300_000])
        return text.encode()

    def path(self) -> tuple[str, str]:
        """Return a method and a path that is nearly a route's."""
        choose = self.random
        method, pattern, _ = choose.choice(ROUTES)
        parts = [
            choose.choice(SEGMENTS) if part.startswith("{") or choose.random() < 0.05 else part
            for part in pattern.replace(":path", "").split("/")
        ]
        path = "/".join(parts) or "/"
        if choose.random() < 0.3:
            keys = ["token", "ids", "from", "sheet", "v", "x"]
            path += f"?{choose.choice(keys)}={choose.choice(SEGMENTS)}"
        path = path if path.startswith("/") else f"/{path}"
        others = ["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "FOO"]
        return (choose.choice(others) if choose.random() < 0.1 else method), path

    def headers(self) -> list[tuple[str, str]]:
        """Return headers, most often those that let the request in."""
        choose = self.random
        host = self.netloc if choose.random() < 0.93 else choose.choice(HOSTS)
        headers = [("Host", host)]
        if choose.random() < 0.9:
            headers.append(("Authorization", "Bearer any"))
        else:
            headers.append(("Origin", choose.choice([*ORIGINS, f"http://{self.netloc}"])))
        if choose.random() < 0.9:
            headers.append(("Content-Type", "application/json"))
        extra = [
            *[("Cookie", f"promptlab_80={text}") for text in ("x", '"', "\\", "a=b; ;", "é")],
            *[("Sec-Fetch-Site", site) for site in ("cross-site", "same-origin", "none", "x")],
            *[("Last-Event-ID", text) for text in ("9" * 30, "-1", "x")],
            *[("Host", "evil.example"), ("X-Forwarded-For", "127.0.0.1"), ("Range", "bytes=0-9")],
            *[("X-A", "a" * 20_000), ("Accept", "text/html"), ("X-Forwarded-Proto", "javascript")],
            *[("Authorization", "Basic x"), ("If-None-Match", "*"), ("Expect", "100-continue")],
        ]
        if choose.random() < 0.3:
            headers.append(choose.choice(extra))
        return headers


def send(fuzz: Fuzz) -> int:
    """Send one request and return the answer's status; the body is read unless it is endless."""
    host, port = fuzz.netloc.split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=TIMEOUT_S)
    method, path = fuzz.path()
    body = fuzz.body() if method in ("POST", "PUT", "PATCH") else b""
    connection._validate_path = lambda path: None  # type: ignore[attr-defined]
    connection._encode_request = lambda request: request.encode("utf-8")  # type: ignore[attr-defined]
    connection.connect()
    pieces: list[bytes] = []
    connection.send = pieces.append  # type: ignore[method-assign, assignment]
    with contextlib.closing(connection):
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in fuzz.headers():
            connection.putheader(name, value.encode("utf-8"))
        if body and fuzz.random.random() < 0.2:
            connection.putheader("Transfer-Encoding", "chunked")
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        elif body:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body or None)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused before its end
            # In one piece: a broken head is answered at once, and more of it would cut that off.
            connection.sock.sendall(b"".join(pieces))
        try:
            answer = connection.getresponse()
            is_endless = answer.headers["content-type"].startswith("text/event-stream")
            content = b"" if is_endless else answer.read()
        except (ConnectionResetError, http.client.RemoteDisconnected):
            assert len(body) > 50_000, (method, path)  # refused before it was sent
            return 413
        assert SECRET.encode() not in content
        assert answer.headers["x-content-type-options"] == "nosniff" or answer.status == 400
        return answer.status


def send_garbage(fuzz: Fuzz) -> None:
    """Send bytes that are no HTTP, or a request that is cut off."""
    host, port = fuzz.netloc.split(":")
    choose = fuzz.random
    start = choose.choice([b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"GET ", b"\x16\x03\x01", b""])
    with (
        socket.create_connection((host, int(port)), timeout=TIMEOUT_S) as connection,
        contextlib.suppress(OSError),
    ):
        connection.sendall(start + choose.randbytes(choose.randrange(300)))
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass


def check_server(server: Running, log: Path, number: int) -> None:
    outside = {p: p.read_bytes() for p in server.folder.parent.rglob("*") if is_outside(p, server)}
    netloc = urlsplit(server.address).netloc
    server.ask("api/choices")  # what is read once is read by now
    started = log.read_text(encoding="utf-8").splitlines()
    log.write_text("")
    statuses: Counter[int] = Counter()
    for seed in range(number):
        fuzz = Fuzz(seed, netloc)
        if seed % 25 == 0:
            send_garbage(fuzz)
        status = send(fuzz)
        assert status < 500, (seed, Fuzz(seed, netloc).path(), server.log.read_text()[-3000:])
        statuses[status] += 1
    assert statuses.keys() >= {200, 400, 403, 404, 405, 413, 415, 431}, statuses
    assert server.ask("api/queue")[0] == 200
    assert server.process.poll() is None
    printed = server.log.read_text(encoding="utf-8")
    assert "Traceback" not in printed, printed
    now = {p: p.read_bytes() for p in server.folder.parent.rglob("*") if is_outside(p, server)}
    assert now == outside, "a file outside the runs folder was written"
    opened = {line.partition(" ")[::2] for line in log.read_text(encoding="utf-8").splitlines()}
    foreign = {path for _, path in opened if "secret" in path or "passwd" in path}
    assert not foreign
    assert "server" in {who for who, _ in opened}, "its files are seen"
    own = (*OWN_FOLDERS, *(str(server.folder / name) for name in ("runs", "conf", "sweeps")))
    read = {str(Path(server.folder, path).resolve()) for who, path in opened if who == "server"}
    assert sorted(path for path in read if not path.startswith(own)) == []
    imported = {line for line in started if line.startswith("server ")} | read
    heavy = ("torch", "mlflow", "pandas", "transformers", "diffusers")
    assert not [p for p in imported for name in heavy if f"/site-packages/{name}/" in p]


def is_outside(path: Path, server: Running) -> bool:
    return (
        path.is_file()
        and not path.is_relative_to(server.folder / "runs")
        and path.name not in ("server.log", "opened.log")
    )


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Path]]:
    """A server whose processes note each file that they open, among files that they must not."""
    outer = tmp_path_factory.mktemp("fuzzed")
    folder, log = outer / "project", outer / "opened.log"
    prepare_folder(folder)
    for place in (outer, folder):
        (place / "secret.txt").write_text(SECRET)
    hook = outer / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(HOOK.format(log=str(log)))
    path = f"{hook}:{Path(__file__).parents[2]}"
    with running(folder, PYTHONPATH=path, PYTHONDONTWRITEBYTECODE="1") as server:
        yield server, log


def test_no_request_of_500_breaks_the_server(watched: tuple[Running, Path]) -> None:
    check_server(*watched, 500)


@pytest.mark.slow
def test_no_request_of_10000_breaks_the_server(watched: tuple[Running, Path]) -> None:
    check_server(*watched, 10_000)

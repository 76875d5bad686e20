"""The app: every route behind the door, answers that a browser can be given, sizes and errors."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient

from promptlab.errors import PromptlabError
from promptlab.serve.access import ROLES, Access, TokenFile
from promptlab.serve.app import make_app, routes_of
from promptlab.serve.door import MAX_BODY_BYTES, Guarded
from promptlab.serve.queue import Queue
from promptlab.serve.server import Server

JSON = {"content-type": "application/json", "origin": "http://localhost"}


@dataclass
class Plan:
    num_images: int = 4
    num_cells: int = 2
    num_pending: int = 3
    prompts: tuple[str, ...] = ("a fox",)
    summary: str = "2 cells × 2 seeds"


class Planner:
    """Plans all lines alike but those with the word `unplannable`."""

    def plan(self, argv: tuple[str, ...], timeout_s: float = 30.0) -> Plan:
        if any("unplannable" in argument for argument in argv):
            raise PromptlabError("Unknown key: expected another.")
        return Plan()


def make_server(folder: Path, host: str = "127.0.0.1") -> Server:
    queue = Queue(folder / ".serve" / "queue.sqlite")
    access = Access(TokenFile(folder / ".serve" / "access.json"), host)
    return Server(str(folder), queue, Planner(), access)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = make_server(tmp_path)
    yield server
    server.queue.close()


@pytest.fixture
def client(server: Server) -> TestClient:
    return TestClient(
        make_app(server), "http://localhost", headers=JSON, raise_server_exceptions=False
    )


def wish(client: TestClient, fields: Mapping[str, Any], path: str = "/api/queue") -> Any:
    return client.post(path, json={"wish": fields})


ROUTES = [
    ("GET", "/", "view"),
    ("GET", "/static/{name}", "view"),
    ("GET", "/api/queue", "view"),
    ("GET", "/api/queue/events", "view"),
    ("GET", "/api/choices", "view"),
    ("POST", "/api/plan", "run"),
    ("POST", "/api/queue", "run"),
    ("POST", "/api/queue/{entry_id}/cancel", "run"),
    ("POST", "/api/queue/{entry_id}/move", "run"),
    ("POST", "/api/queue/{entry_id}/again", "run"),
    ("GET", "/runs/", "view"),
    ("GET", "/runs/{name}/", "view"),
    ("GET", "/runs/{name}/sheet.js", "view"),
    ("GET", "/runs/{name}/pack/{number}.js", "view"),
    ("GET", "/runs/{name}/images/{image_id}.png", "view"),
    ("GET", "/runs/{name}/thumbnails/{image_id}.webp", "view"),
    ("GET", "/runs/{name}/newest", "view"),
    ("GET", "/runs/{name}/events", "view"),
    ("POST", "/runs/{name}/picks", "rate"),
    ("POST", "/runs/{name}/act", "run"),
    ("GET", "/v1/models", "view"),
    ("GET", "/v1/models/{name:path}", "view"),
    ("POST", "/v1/images/generations", "run"),
]


def test_every_route_is_in_the_table(server: Server) -> None:
    routes = make_app(server, routes_of(server)).routes
    listed = [
        (method, route.path, route.role)
        for route in routes
        if isinstance(route, Guarded)
        for method in (route.methods or set()) - {"HEAD"}
    ]
    assert sorted(listed) == sorted(ROUTES)
    assert len(listed) == len(routes)


def test_no_route_lets_in_who_may_not(tmp_path: Path) -> None:
    """No token, a wrong one, a foreign Host, a foreign page, and every role that is too low."""
    server = make_server(tmp_path, "192.168.1.5")
    server.access.clock = lambda: 0.0
    secrets = {holds: server.access.tokens.add(holds) for holds in ROLES}
    app = make_app(server, routes_of(server))
    client = TestClient(app, "http://192.168.1.5", headers=JSON)

    for method, pattern, role in ROUTES:
        path = re.sub(r"\{\w+(:path)?\}", "1", pattern)

        def ask(secret: str = "", **headers: str) -> int:
            sent = {"origin": "http://192.168.1.5", **headers}
            if secret:
                sent["cookie"] = f"promptlab_80={secret}"
            return client.request(method, path, headers=sent, json={}).status_code  # noqa: B023

        assert ask() == 401
        server.access._failures.clear()
        assert ask("wrong") == 401
        assert ask(secrets["run"], host="evil.example") == 403
        image = {"sec-fetch-site": "cross-site", "sec-fetch-dest": "image"}
        assert ask(secrets["run"], **image) == 403
        if method == "POST":
            assert ask(secrets["run"], origin="http://evil.example") == 403
        for holds in ROLES[: ROLES.index(role)]:
            assert ask(secrets[holds]) == 403
        if not pattern.endswith("queue/events"):  # it does not end
            assert ask(secrets[role]) not in (401, 403)
    server.queue.close()


def test_a_route_without_a_role_fails_at_start(server: Server) -> None:
    with pytest.raises(TypeError, match="no role"):
        make_app(server, [Route("/open", lambda request: Response())])


@pytest.mark.parametrize("path", ["/api/queue", "/nothing", "/api/queue/1/cancel"])
def test_every_answer_tells_the_browser_to_be_strict(client: TestClient, path: str) -> None:
    for headers in ({}, {"host": "evil.example"}, {"cookie": "x" * 20_000}):
        answer = client.get(path, headers=headers)
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in answer.headers


def test_a_wish_is_planned_then_queued_as_a_command_line(client: TestClient) -> None:
    fields = {"subject": "a fox", "style": ["noto", "openmoji"], "seeds": 2}
    line = "promptlab sweep -m subject='a fox' style=noto,openmoji seeds=2"
    planned = wish(client, fields, "/api/plan").json()
    assert planned == {
        "line": line,
        "num_images": 4,
        "num_cells": 2,
        "num_pending": 3,
        "prompts": ["a fox"],
        "summary": "2 cells × 2 seeds",
    }
    assert client.get("/api/queue").json()["entries"] == []
    added = wish(client, fields)
    assert added.status_code == 201
    entries = client.get("/api/queue").json()["entries"]
    assert entries == [added.json()]
    assert (entries[0]["line"], entries[0]["status"]) == (line, "waiting")
    assert (entries[0]["num_images"], entries[0]["source"]) == (4, "page")
    again = wish(client, {"line": entries[0]["line"]}).json()
    assert again["line"] == line, "what the page queues can be pasted"


def test_what_cannot_be_planned_is_refused_in_the_plans_words(client: TestClient) -> None:
    for path in ("/api/plan", "/api/queue"):
        answer = wish(client, {"subject": "unplannable"}, path)
        assert (answer.status_code, answer.json()) == (
            400,
            {"error": "Unknown key: expected another."},
        )
    assert client.get("/api/queue").json()["entries"] == []


def test_entries_are_moved_cancelled_and_drawn_again_with_other_seeds(client: TestClient) -> None:
    ids = [wish(client, {"subject": "a fox", "seeds": 4}).json()["entry_id"] for _ in range(3)]
    assert client.post(f"/api/queue/{ids[2]}/move", json={"before": ids[0]}).status_code == 200
    listed = client.get("/api/queue").json()["entries"]
    assert [entry["entry_id"] for entry in listed] == [ids[2], ids[0], ids[1]]
    assert client.post(f"/api/queue/{ids[0]}/cancel").json()["status"] == "cancelled"
    assert client.post(f"/api/queue/{ids[0]}/cancel").status_code == 409
    assert client.post(f"/api/queue/{ids[0]}/move", json={"before": None}).status_code == 409
    again = client.post(f"/api/queue/{ids[0]}/again", json={}).json()
    assert again["line"] == "promptlab sweep subject='a fox' seeds=4-7"
    chosen = client.post(f"/api/queue/{ids[0]}/again", json={"seeds": [7, 9]}).json()
    assert chosen["line"] == "promptlab sweep subject='a fox' seeds='[7,9]'"


def test_the_owners_lines_are_not_repeated_for_a_client(client: TestClient, server: Server) -> None:
    entry = server.queue.add(["subject=x", "then=[upscale]"])
    answer = client.post(f"/api/queue/{entry.entry_id}/again", json={})
    assert answer.status_code == 400
    assert "then" in answer.json()["error"]


@pytest.mark.parametrize("entry", ["0", "99", "x", "-1", "9" * 30, "1.5", "²", "%2e%2e"])
def test_no_such_entry_is_404(client: TestClient, entry: str) -> None:
    assert client.post(f"/api/queue/{entry}/cancel").status_code == 404


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b"null", 400),
        (b'{"wish": 1}', 400),
        (b'{"wish": {"subject": NaN}}', 400),
        (b'{"wish": {"subject": "\\ud800"}}', 400),
        (b"\xff\xfe", 400),
        (b"[" * 100_000, 400),
        (b'{"a": ' * 50_000, 413),
        (b'{"x":' + b"9" * 10_000 + b"}", 400),
        (b'{"wish": {"subject": "a\\u0000b"}}', 400),
        (b'{"wish": {"unknown": 1}}', 400),
        (b'{"wish": {}}', 400),
        (b" " * (MAX_BODY_BYTES + 1), 413),
    ],
)
def test_a_body_that_is_no_wish_is_refused(client: TestClient, body: bytes, status: int) -> None:
    answer = client.post("/api/queue", content=body)
    assert answer.status_code == status
    assert answer.json()["error"]

    def pieces() -> Iterator[bytes]:  # without Content-Length
        for start in range(0, len(body), 50_000):
            yield body[start : start + 50_000]

    assert client.post("/api/queue", content=pieces()).status_code == status


def test_a_form_of_another_page_is_no_wish(client: TestClient) -> None:
    headers = {"content-type": "text/plain"}
    answer = client.post("/api/queue", content=b'{"wish": {"subject": "x"}}', headers=headers)
    assert answer.status_code == 415


def test_a_full_queue_and_too_many_plans_say_try_later(
    client: TestClient, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("promptlab.serve.queue.MAX_WAITING", 1)
    assert wish(client, {"subject": "x"}).status_code == 201
    full = wish(client, {"subject": "x"})
    assert full.status_code == 429
    assert full.headers["retry-after"]
    assert "cancel some" in full.json()["error"]
    server._num_plans = 1000
    assert wish(client, {"subject": "x"}, "/api/plan").status_code == 429


def test_a_defect_shows_nothing_of_itself(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(limit: int = 0) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(server.queue, "entries", fail)
    client = TestClient(make_app(server), "http://localhost", raise_server_exceptions=False)
    answer = client.get("/api/queue")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_no_path_of_the_server_is_shown(client: TestClient, server: Server) -> None:
    queue = server.queue
    queue.add(["x=1"])
    claimed = queue.claim("owner", 15)
    assert claimed is not None
    queue.note(claimed[0], run_folder="/home/ann/runs/2026_fox", rows="/tmp/rows.jsonl")
    text = client.get("/api/queue").text
    assert '"run": "2026_fox"' in text
    assert "/home" not in text
    assert "/tmp" not in text
    assert "owner" not in text


def test_the_stream_has_the_queue_at_once_and_at_every_change(
    server: Server, client: TestClient
) -> None:
    app = make_app(server)
    adder = threading.Timer(0.5, lambda: server.queue.add(["x=1"]))
    seen: list[str] = []
    with TestClient(app, "http://localhost") as streaming:
        adder.start()
        with streaming.stream("GET", "/api/queue/events") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            for line in answer.iter_lines():
                if line.startswith("data:"):
                    seen.append(line)
                if len(seen) == 2:
                    server.is_closing = True
                    break
    adder.join()
    assert '"entries": []' in seen[0]
    assert '"entry_id": 1' in seen[1]


def test_a_token_that_nobody_made_is_not_kept(server: Server) -> None:
    """On loopback it is not needed either."""
    client = TestClient(make_app(server, routes_of(server)), "http://localhost")
    for token in ("wrong", "%ff", "a;b", "%0d%0aset-cookie:x=1"):
        answer = client.get(f"/?token={token}")
        assert answer.status_code == 200
        assert "set-cookie" not in answer.headers


class TestLinks:
    """The link with a token: a cookie, and the same address without it."""

    @pytest.fixture
    def client(self, tmp_path: Path) -> Iterator[TestClient]:
        server = make_server(tmp_path, "192.168.1.5")

        async def page(request: Any) -> Response:
            return Response(f"hello {request.state.visitor.name}", media_type="text/html")

        routes = [
            Guarded("/", page, role="view", is_page=True),
            Guarded("/runs/{name}/", page, role="view", is_page=True),
        ]
        yield TestClient(
            make_app(server, routes), "http://192.168.1.5", headers={"accept": "text/html"}
        )
        server.queue.close()

    def token(self, client: TestClient) -> str:
        secret: str = client.app.state.server.access.tokens.add("view", "Ann")  # type: ignore
        return secret

    def test_a_link_leaves_a_strict_cookie_and_leads_on(self, client: TestClient) -> None:
        secret = self.token(client)
        answer = client.get(f"/?token={secret}")
        assert answer.headers["refresh"] == "0; url=/"
        cookie = answer.headers["set-cookie"]
        for part in ("promptlab_80=", "HttpOnly", "SameSite=strict", "Path=/"):
            assert part in cookie
        assert secret not in answer.text
        assert client.get("/").text == "hello Ann"
        assert client.get("/runs/fox/").text == "hello Ann"

    def test_a_wrong_link_leaves_nothing(self, client: TestClient) -> None:
        answer = client.get("/?token=wrong")
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers
        assert "refresh" not in answer.headers

    @pytest.mark.parametrize(
        "path",
        [
            *("//evil.example/", "/\\evil.example/", "/%2f/evil.example/"),
            *("/runs/..%2f..%2fevil/", "/runs/%0d%0aset-cookie:x=1/", "/runs/a%22b<script>/"),
            "/runs///evil.example/",
        ],
    )
    def test_no_link_leads_elsewhere(self, client: TestClient, path: str) -> None:
        secret = self.token(client)
        answer = client.get(f"http://192.168.1.5{path}?token={secret}&next=//evil.example")
        target = answer.headers.get("refresh", "0; url=/").removeprefix("0; url=")
        assert target.startswith("/")
        assert not target.startswith(("//", "/\\"))
        assert "\n" not in target
        assert "<script>" not in answer.text
        assert answer.headers.get("set-cookie", "promptlab_80=").startswith("promptlab_80=")

    def test_who_is_not_let_in_is_told_how(self, client: TestClient) -> None:
        answer = client.get("/")
        assert answer.status_code == 401
        assert "--new-token" in answer.text
        assert '<a href="/">' in answer.text

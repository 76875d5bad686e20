"""Who is let in: tokens, roles, Host, Origin, and addresses that fail."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from promptlab.errors import ConfigError
from promptlab.serve.access import (
    MAX_ADDRESSES,
    MAX_WAIT_S,
    NUM_FREE_FAILURES,
    ROLES,
    Access,
    Asked,
    Refusal,
    TokenFile,
    Visitor,
    hash_token,
)

LAN = "192.168.1.5"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def tokens(folder: Path) -> TokenFile:
    return TokenFile(folder / ".serve" / "access.json")


def outcome(result: Visitor | Refusal) -> str | int:
    return result.role if isinstance(result, Visitor) else result.status


# host, allowed, method, headers, is_page → role or status; the token is None, "view", "rate", "run"
CASES = [
    # on loopback, without a token
    ("127.0.0.1", (), "GET", {"host": "127.0.0.1:8765"}, None, "run"),
    ("127.0.0.1", (), "GET", {"host": "localhost:8765"}, None, "run"),
    ("127.0.0.1", (), "GET", {"host": "[::1]:8765"}, None, "run"),
    ("localhost", (), "GET", {"host": "LOCALHOST:8765"}, None, "run"),
    ("127.0.0.1", (), "GET", {}, None, 403),
    ("127.0.0.1", (), "GET", {"host": ""}, None, 403),
    ("127.0.0.1", (), "GET", {"host": "evil.example:8765"}, None, 403),
    ("127.0.0.1", (), "GET", {"host": "localhost.evil.example"}, None, 403),
    ("127.0.0.1", (), "GET", {"host": "evil.example#localhost"}, None, 403),
    ("127.0.0.1", (), "GET", {"host": "localhost@evil.example"}, None, 403),
    ("127.0.0.1", (), "GET", {"host": LAN}, None, 403),
    # a page of another origin
    ("127.0.0.1", (), "GET", {"host": "localhost", "sec-fetch-site": "cross-site"}, None, 403),
    ("127.0.0.1", (), "GET", {"host": "localhost", "sec-fetch-site": "same-site"}, None, 403),
    ("127.0.0.1", (), "GET", {"host": "localhost", "sec-fetch-site": "none"}, None, "run"),
    ("127.0.0.1", (), "POST", {"host": "localhost", "sec-fetch-site": "cross-site"}, None, 403),
    ("127.0.0.1", (), "POST", {"host": "localhost", "sec-fetch-site": "same-site"}, None, 403),
    ("127.0.0.1", (), "POST", {"host": "localhost", "sec-fetch-site": "none"}, None, 403),
    ("127.0.0.1", (), "POST", {"host": "localhost", "sec-fetch-site": "same-origin"}, None, "run"),
    ("127.0.0.1", (), "POST", {"host": "h", "origin": "http://h"}, None, 403),
    ("127.0.0.1", (), "POST", {"host": "localhost", "origin": "http://evil.example"}, None, 403),
    ("127.0.0.1", (), "POST", {"host": "localhost:1", "origin": "http://localhost:2"}, None, 403),
    ("127.0.0.1", (), "POST", {"host": "localhost:1", "origin": "http://localhost:1"}, None, "run"),
    ("127.0.0.1", (), "POST", {"host": "localhost", "origin": "null"}, None, 403),
    ("127.0.0.1", (), "POST", {"host": "localhost", "origin": "http://["}, None, 403),
    ("127.0.0.1", (), "POST", {"host": "localhost", "origin": ""}, None, 403),
    ("127.0.0.1", (), "POST", {"host": "localhost"}, None, 403),
    ("127.0.0.1", (), "POST", {"host": "localhost", "authorization": "Bearer x"}, None, "run"),
    ("127.0.0.1", (), "POST", {"host": "localhost", "authorization": "Basic x"}, None, 403),
    (
        *("127.0.0.1", (), "POST"),
        {"host": "localhost", "authorization": "Bearer x", "origin": "http://evil.example"},
        *(None, 403),
    ),
    ("127.0.0.1", (), "DELETE", {"host": "localhost"}, None, 403),
    # a token on loopback limits who holds it
    ("127.0.0.1", (), "GET", {"host": "localhost"}, "rate", "rate"),
    # behind a proxy on this machine nobody is at home
    ("127.0.0.1", ("lab.example",), "GET", {"host": "lab.example"}, None, 401),
    ("127.0.0.1", ("lab.example",), "GET", {"host": "127.0.0.1"}, None, 401),
    ("127.0.0.1", ("lab.example",), "GET", {"host": "lab.example"}, "view", "view"),
    ("127.0.0.1", ("lab.example",), "GET", {"host": "other.example"}, "view", 403),
    (
        *("127.0.0.1", ("lab.example",), "POST"),
        {"host": "lab.example", "origin": "https://lab.example"},
        *("run", "run"),
    ),
    # on the network
    (LAN, (), "GET", {"host": f"{LAN}:8765"}, None, 401),
    (LAN, (), "GET", {"host": f"{LAN}:8765"}, "view", "view"),
    (LAN, (), "GET", {"host": "evil.example:8765"}, "view", 403),
    ("0.0.0.0", (), "GET", {"host": f"{LAN}:8765"}, None, 401),
    ("0.0.0.0", (), "GET", {"host": f"{LAN}:8765"}, "rate", "rate"),
    ("0.0.0.0", (), "GET", {"host": "evil.example"}, "run", 403),
    ("0.0.0.0", (), "POST", {"host": LAN, "origin": f"http://{LAN}"}, "run", "run"),
    ("0.0.0.0", (), "POST", {"host": LAN, "origin": "http://evil.example"}, "run", 403),
    ("0.0.0.0", (), "POST", {"host": LAN}, "run", 403),  # a cookie alone may be a foreign form's
    ("::", (), "GET", {"host": "[fe80::1]:8765"}, "view", "view"),
]


@pytest.mark.parametrize(("host", "allowed", "method", "headers", "token", "expected"), CASES)
def test_a_request_is_judged_by_where_it_comes_from_and_its_token(
    tmp_path: Path,
    host: str,
    allowed: tuple[str, ...],
    method: str,
    headers: dict[str, str],
    token: str | None,
    expected: str | int,
) -> None:
    file = tokens(tmp_path)
    cookie = file.add(token) if token else ""
    access = Access(file, host, allowed)
    asked = Asked(method, headers, "10.0.0.1", cookie=cookie)
    assert outcome(access.admit(asked, "view")) == expected


@pytest.mark.parametrize("holds", ROLES)
@pytest.mark.parametrize("wants", ROLES)
def test_a_role_may_what_those_below_it_may(tmp_path: Path, holds: str, wants: str) -> None:
    file = tokens(tmp_path)
    secret = file.add(holds, "Ann")
    access = Access(file, LAN)
    headers = {"host": LAN, "authorization": f"Bearer {secret}"}
    result = access.admit(Asked("POST", headers, "10.0.0.1"), wants)
    is_enough = ROLES.index(holds) >= ROLES.index(wants)
    assert result == Visitor(holds, "Ann") if is_enough else outcome(result) == 403


@pytest.mark.parametrize(
    ("headers", "is_page", "is_let_in"),
    [
        ({"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}, True, True),
        ({"sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"}, True, False),
        ({"sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}, True, False),
        ({"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}, False, False),
    ],
)
def test_a_link_elsewhere_leads_to_pages_alone(
    tmp_path: Path, headers: dict[str, str], is_page: bool, is_let_in: bool
) -> None:
    access = Access(tokens(tmp_path))
    headers = {"host": "localhost", "sec-fetch-site": "cross-site", **headers}
    result = access.admit(Asked("GET", headers, "a", is_page=is_page), "view")
    assert isinstance(result, Visitor) == is_let_in


def test_a_token_is_kept_by_nobody(tmp_path: Path) -> None:
    file = tokens(tmp_path)
    secret = file.add("run", "Ann")
    assert len(secret) >= 43, "32 random bytes"
    written = file.path.read_text()
    assert secret not in written
    assert hash_token(secret) in written
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert file.path.parent.stat().st_mode & 0o777 == 0o700


def test_a_running_server_sees_new_and_revoked_tokens(tmp_path: Path) -> None:
    access = Access(tokens(tmp_path), LAN)

    def ask(secret: str) -> str | int:
        headers = {"host": LAN}
        return outcome(access.admit(Asked("GET", headers, "a", cookie=secret), "view"))

    other_process = tokens(tmp_path)
    secret = other_process.add("view", "Ann")
    assert ask(secret) == "view"
    other_process.add("view", "Bob")
    assert other_process.revoke("Ann")
    assert ask(secret) == 401
    assert not other_process.revoke("Ann")
    assert [token.name for token in access.tokens.tokens().values()] == ["Bob"]


def test_an_address_that_fails_waits_longer_each_time(tmp_path: Path) -> None:
    clock = Clock()
    file = tokens(tmp_path)
    access = Access(file, LAN, clock=clock)

    def ask(secret: str, address: str = "bad") -> Visitor | Refusal:
        return access.admit(Asked("GET", {"host": LAN}, address, query_token=secret), "view")

    for _ in range(NUM_FREE_FAILURES):
        assert outcome(ask("wrong")) == 401
    waits = []
    for _ in range(12):
        assert outcome(ask("wrong")) == 401
        refusal = ask("wrong")
        assert isinstance(refusal, Refusal)
        assert refusal.status == 429
        waits.append(refusal.wait_s)
        clock.now += refusal.wait_s
    assert waits[:4] == [1, 2, 4, 8]
    assert waits[-1] == MAX_WAIT_S


def test_failures_lock_out_neither_other_addresses_nor_who_is_in(tmp_path: Path) -> None:
    file = tokens(tmp_path)
    secret, other = file.add("view"), file.add("view")
    access = Access(file, LAN, clock=Clock())

    def ask(secret: str, address: str = "shared") -> str | int:
        asked = Asked("GET", {"host": LAN}, address, cookie=secret)
        return outcome(access.admit(asked, "view"))

    assert ask(secret) == "view"
    for _ in range(NUM_FREE_FAILURES + 1):
        ask("wrong")
    assert ask(secret) == "view", "behind one proxy all have one address"
    assert ask(other) == 429, "guessing right does not end the wait"
    assert ask(other, "elsewhere") == "view"


def test_failures_of_many_addresses_do_not_fill_memory(tmp_path: Path) -> None:
    access = Access(tokens(tmp_path), LAN)
    for number in range(MAX_ADDRESSES + 50):
        access.admit(Asked("GET", {"host": LAN}, f"a{number}", cookie="x"), "view")
    assert len(access._failures) == MAX_ADDRESSES


@pytest.mark.parametrize(("role", "name"), [("admin", ""), ("run", "a\nb"), ("run", "x" * 99)])
def test_tokens_have_known_roles_and_plain_names(tmp_path: Path, role: str, name: str) -> None:
    with pytest.raises(ConfigError):
        tokens(tmp_path).add(role, name)


def test_one_name_is_one_person(tmp_path: Path) -> None:
    file = tokens(tmp_path)
    file.add("rate", "Ann")
    with pytest.raises(ConfigError, match="revoke"):
        file.add("run", "Ann")


@pytest.mark.parametrize("content", ["", "[]", '{"tokens": [1]}', '{"tokens": [{"role": "run"}]}'])
def test_a_damaged_file_lets_nobody_in_and_says_so(tmp_path: Path, content: str) -> None:
    file = tokens(tmp_path)
    file.add("run")
    file.path.write_text(content)
    with pytest.raises(ConfigError, match=r"access\.json"):
        Access(file, LAN).admit(Asked("GET", {"host": LAN}, "a", cookie="x"), "view")


def test_the_file_says_who_may_what_and_nothing_else(tmp_path: Path) -> None:
    file = tokens(tmp_path)
    secret = file.add("rate", "Ann", now=5.0)
    assert json.loads(file.path.read_text()) == {
        "tokens": [{"sha256": hash_token(secret), "role": "rate", "name": "Ann", "created_at": 5.0}]
    }

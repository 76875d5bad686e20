"""`promptlab serve` and `promptlab queue`: addresses, links, and the queue from a shell."""

from __future__ import annotations

import socket
import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from promptlab.cli import main
from promptlab.commands.queue import describe
from promptlab.commands.serve import ADDRESS_PATH, _announce
from promptlab.serve.access import ACCESS_PATH, NUM_FREE_FAILURES, Access, TokenFile, hash_token
from promptlab.serve.queue import QUEUE_PATH, Queue
from tests.serve.running import end, prepare_folder, running, wait_for


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_line_is_queued_listed_moved_and_cancelled(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["queue"]) == 0
    assert "empty" in capsys.readouterr().out
    assert main(["queue", "add", "-m", "subject='a, b'", "style=noto", "then=[upscale]"]) == 0
    assert main(["queue", "add", "subject=second"]) == 0
    assert main(["queue", "move", "2", "--before", "1"]) == 0
    assert main(["queue", "cancel", "1"]) == 0
    capsys.readouterr()
    main(["queue", "list"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [["2", "waiting"], ["1", "cancelled"]]
    queue = Queue(Path("runs") / QUEUE_PATH)
    entry = queue.get(1)
    assert entry is not None
    assert entry.argv == ("-m", "subject='a, b'", "style=noto", "then=[upscale]")
    assert entry.source == "shell"


def test_a_line_with_several_or_quoted_runs_folders_names_the_last_one() -> None:
    assert main(["queue", "add", "subject=x", "runs_dir=first", "runs_dir='my runs'"]) == 0
    assert len(Queue(Path("my runs") / QUEUE_PATH).entries()) == 1
    assert not Path("first").exists()


@pytest.mark.parametrize(
    ("numbers", "shown"),
    [
        ({}, "0/?"),
        ({"num_images": 9, "num_drawn": 2}, "2/9"),
        ({"num_images": 9, "num_pending": 4, "num_drawn": 4}, "4/4"),
        ({"num_images": 9, "num_pending": 0}, "0/0"),
    ],
)
def test_an_entry_is_counted_by_what_it_has_left_to_draw(numbers: dict, shown: str) -> None:
    assert main(["queue", "add", "subject=x"]) == 0
    (entry,) = Queue(Path("runs") / QUEUE_PATH).entries()
    (line,) = describe([replace(entry, **numbers, error="too dark\nTraceback")])
    assert line.split()[:3] == ["1", "waiting", shown]
    assert line.endswith("(too dark)")


@pytest.mark.parametrize(
    ("arguments", "address"),
    [
        ([], "http://127.0.0.1:8765/"),
        (["--host", "192.0.2.7", "--port", "80"], "http://192.0.2.7:80/"),
        (["--host", "[2001:db8::1]"], "http://[2001:db8::1]:8765/"),
        (["--host", "192.0.2.7", "--allow-host", "lab"], "http://lab:8765/"),
        (["--allow-host", "lab.example"], "https://lab.example/"),  # a proxy on this machine
        (["--host", "localhost", "--allow-host", "lab.example"], "https://lab.example/"),
    ],
)
def test_a_link_leads_to_the_address_that_others_reach(
    arguments: list[str], address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a running server said of itself holds unless the command names another address."""
    assert link_of(capsys, *arguments) == address
    (Path("runs") / ADDRESS_PATH).write_text("http://running:1/")
    assert link_of(capsys, *arguments) == (address if arguments else "http://running:1/")


def link_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the address of a new link."""
    assert main(["serve", "--new-token", "view", *arguments]) == 0
    link = next(word for word in capsys.readouterr().out.split() if "?token=" in word)
    return link.partition("?")[0]


@pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.7"])
def test_a_server_makes_a_link_only_for_its_first_guest(
    host: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokens = TokenFile(folder / "runs" / ACCESS_PATH)
    (folder / "runs" / ADDRESS_PATH).parent.mkdir(parents=True)
    args = Namespace(runs_dir="runs", host=host, port=80, allow_host=[], open=False)
    for _ in range(2):
        _announce(args, Access(tokens, host))
        assert f"http://{host}:80/ (Ctrl-C ends it)" in capsys.readouterr().out
        assert [each.role for each in tokens.tokens().values()] == ["run"] * (host != "127.0.0.1")
    assert (folder / "runs" / ADDRESS_PATH).read_text() == f"http://{host}:80/"


def test_the_runs_folder_of_a_line_names_its_queue() -> None:
    assert main(["queue", "add", "subject=x", "runs_dir=other"]) == 0
    assert len(Queue(Path("other") / QUEUE_PATH).entries()) == 1
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["queue", "cancel"],
        ["queue", "cancel", "7"],
        ["queue", "move", "7"],
        ["queue", "add", "subject=x", "--plan"],
        ["queue", "add", "subject=x", "runs_dir=s3://bucket/runs"],
        ["queue", "--runs-dir", "s3://bucket/runs"],
        ["serve", "s3://bucket/runs"],
        ["serve", "--port", "99999"],
        ["serve", "--new-token", "admin"],
        ["serve", "--revoke", "nobody"],
        ["serve", "--host", "203.0.113.77"],
    ],
)
def test_mistakes_are_explained(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 1
    assert capsys.readouterr().err.startswith("promptlab: ")


def test_a_port_that_is_taken_names_another(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "--port", str(port)]) == 1
    assert f"--port {port + 1}" in capsys.readouterr().err


def test_a_link_is_shown_once_as_text_and_as_a_picture(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--new-token", "rate:Ann", "--host", "100.64.0.7"]) == 0
    out = capsys.readouterr().out
    (link,) = [line.strip() for line in out.splitlines() if "?token=" in line]
    assert link.startswith("http://100.64.0.7:8765/?token=")
    assert "█" in out or "▀" in out
    tokens = TokenFile(Path("runs") / ACCESS_PATH).tokens()
    (token,) = tokens.values()
    assert token.sha256 == hash_token(link.partition("=")[2])
    assert (token.role, token.name) == ("rate", "Ann")
    assert main(["serve", "--revoke", "Ann"]) == 0
    assert not TokenFile(Path("runs") / ACCESS_PATH).tokens()


@pytest.mark.slow
def test_sigterm_ends_a_server_like_ctrl_c(folder: Path) -> None:
    prepare_folder(folder)
    with running(folder) as server:
        entry = server.queue.add(["subject=a fox", "seeds=500", "model.delay_s=0.05"])
        wait_until(lambda: server.queue.get(entry.entry_id).num_drawn)  # type: ignore[union-attr]
        server.process.terminate()
        assert server.process.wait(timeout=60) == 0
    ended = server.queue.get(entry.entry_id)
    assert ended is not None
    assert (ended.status, ended.owner) == ("waiting", "")


def wait_until(holds: Callable[[], object]) -> None:
    give_up_at = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < give_up_at
        time.sleep(0.1)


def test_a_server_on_the_network_wants_a_token_and_ends_by_ctrl_c(folder: Path) -> None:
    prepare_folder(folder)
    with running(folder, "--host", "0.0.0.0", "--allow-host", "localhost") as server:
        token = wait_for(server.log, r"token=(\S+)", server.process)
        server.address = server.address.replace("0.0.0.0", "localhost")
        assert server.ask("api/queue")[0] == 401
        assert server.ask("api/queue", authorization=f"Bearer {token}")[0] == 200
        assert server.ask("api/queue", host="evil.example")[0] == 403
        guesses = [
            server.ask(
                "api/queue", authorization="Bearer guess", **{"x-forwarded-for": f"10.0.0.{n}"}
            )
            for n in range(NUM_FREE_FAILURES + 2)
        ]
        assert guesses[-1][0] == 429, "whoever guesses names no other address as his own"
        end(server.process)
        assert server.process.returncode == 0
        out = server.log.read_text(encoding="utf-8")
        assert out.count(token) == 1, "shown once"
        assert out.rstrip().endswith("waits in the queue.")
        server.log.unlink()
    written = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    assert not any(token.encode() in content for content in written), "a token is kept by nobody"

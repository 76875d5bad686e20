"""What a sweep spends: within its budget, on disk before a request leaves, known after a kill."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from promptlab.errors import BudgetSpentError
from promptlab.models.http.ledger import Ledger
from promptlab.models.http.service import Answer

NEVER = threading.Event()


def reopened(folder: Path, budget_usd: float | None = None) -> Ledger:
    ledger = Ledger(folder, budget_usd)
    ledger.read()
    return ledger


def events(folder: Path) -> list[str]:
    lines = (folder / "requests.jsonl").read_text().split()
    text = (folder / "requests.jsonl").read_text().splitlines()
    assert lines
    return [json.loads(line)["event"] for line in text if line]


def test_a_line_is_on_disk_before_a_request_leaves(tmp_path):
    ledger = Ledger(tmp_path / "requests")
    ledger.reserve("a", 0.1, NEVER)
    assert not (tmp_path / "requests").exists()
    sent = ledger.send("a", 0.1)
    assert events(tmp_path / "requests") == ["sent"]
    sent.is_known_as("remote-1")
    sent.is_known_as("remote-1")
    assert events(tmp_path / "requests") == ["sent", "known as"]


def test_a_kill_at_any_moment_leaves_what_was_sent_and_what_it_may_have_cost(tmp_path):
    ledger = Ledger(tmp_path)
    for name in ("answered", "under way", "known", "refused", "lost", "not taken"):
        ledger.reserve(name, 0.1, NEVER)
        sent = ledger.send(name, 0.1)
    ledger.keep("answered", Answer(b"pixels"), 0.07)
    ledger.find_sent("known").is_known_as("remote-1")  # type: ignore[union-attr]
    ledger.end("refused", None)
    ledger.lose("lost")
    ledger.take_back("not taken")
    ledger.end("not taken", None)
    with (tmp_path / "requests.jsonl").open("a") as file:
        file.write('\n{"id": "cut", "event": "se')
    again = reopened(tmp_path)
    assert again.spent_usd == pytest.approx(0.17)
    assert again.find_sent("under way").price_usd == 0.1  # type: ignore[union-attr]
    assert again.find_sent("known").remote_id == "remote-1"  # type: ignore[union-attr]
    assert again.find_kept("answered") == Answer(b"pixels", 0.07)
    for name in ("answered", "refused", "lost", "not taken", "cut"):
        assert again.find_sent(name) is None
    assert sent.key == json.loads((tmp_path / "requests.jsonl").read_text().splitlines()[6])["key"]
    again.send("new", 0.1)
    assert reopened(tmp_path).find_sent("new") is not None, "a line after the one that was cut"


def test_what_is_in_flight_counts_and_frees_what_it_did_not_cost():
    ledger = Ledger(budget_usd=0.25)
    ledger.reserve("a", 0.1, NEVER)
    ledger.reserve("b", 0.1, NEVER)
    waiting = threading.Thread(target=ledger.reserve, args=("c", 0.1, NEVER), daemon=True)
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive(), "0.3 would pass 0.25"
    ledger.keep("a", Answer(b""), 0.05)
    waiting.join(5)
    assert not waiting.is_alive()


def test_a_budget_is_spent_when_nothing_in_flight_can_leave_room():
    ledger = Ledger(budget_usd=0.25)
    for name in ("a", "b"):
        ledger.reserve(name, 0.1, NEVER)
        ledger.keep(name, Answer(b""), 0.1)
    with pytest.raises(BudgetSpentError, match=r"\$0.25 would be passed: \$0.2000 are spent"):
        ledger.reserve("c", 0.1, NEVER)
    ledger.reserve("c", 0.05, NEVER)


def test_a_budget_counts_what_earlier_sessions_spent_and_may_have_spent(tmp_path):
    ledger = Ledger(tmp_path, budget_usd=1.0)
    for name in ("a", "b", "c"):
        ledger.reserve(name, 0.1, NEVER)
        ledger.send(name, 0.1)
    ledger.keep("a", Answer(b""), 0.1)
    ledger.lose("b")
    again = reopened(tmp_path, 0.3)
    with pytest.raises(BudgetSpentError):
        again.reserve("d", 0.1, NEVER)
    again.reserve("c", 0.1, NEVER)  # its own money is held already


def test_an_answer_is_kept_until_the_store_has_it(tmp_path):
    class Stored:
        class row:  # noqa: N801
            image_id = "a"

    ledger = Ledger(tmp_path)
    for name in ("a", "b"):
        ledger.reserve(name, 0.1, NEVER)
        ledger.keep(name, Answer(b"pixels"), 0.1)
    ledger.forget_stored([Stored])
    assert ledger.find_kept("a") is None
    assert ledger.find_kept("b") is not None
    ledger.clear()
    assert reopened(tmp_path).find_kept("b") is None

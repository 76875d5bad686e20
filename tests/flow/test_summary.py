"""A session counts its images; the summary's lines say only what there is to say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from promptlab.configs.settings import Settings
from promptlab.flow.summary import Session, SweepSummary, describe_end
from promptlab.records import Drawn, ImageFacts, Request, WorkerShare


def make_drawn(prompt: str, seed: int, sha256: str | None = "aa", **facts: Any) -> Drawn:
    """Return a finished image without its bytes."""
    request = Request(f"{prompt} {seed}", prompt, seed, {"top_k": 8})
    known: Mapping[str, Any] = {
        "status": "ok" if sha256 else "failed",
        "seconds": 0.1,
        "batch_size": 1,
        "device": "cpu",
        "dtype": "float32",
        "created_at": datetime.now(UTC),
        **facts,
    }
    return Drawn(request, ImageFacts(sha256=sha256, **known), None)


def make_summary(**changes: Any) -> SweepSummary:
    """Return the summary of a sweep of two images."""
    paths = {"run": ["runs/a b"], "sheet": ["s"], "images": ["i"], "table": ["t"]}
    numbers = dict.fromkeys(("done", "reused", "failed", "flagged", "unseen", "equal"), 0)
    known: dict[str, Any] = {"sweep": "x", "drawn": 2, **numbers, "cost_usd": None}
    return SweepSummary(
        **{
            **known,
            "by_worker": {"gpu 0": WorkerShare(2, 1.5)},
            "unknown_words": (),
            "paths": paths,
            **changes,
        }
    )


def test_only_pictures_of_other_requests_count_as_equal():
    session = Session()
    for drawn in (make_drawn("a fox", 0), make_drawn("a fox", 1), make_drawn("a blue fox", 0)):
        session.note(drawn, "here")
    session.note(make_drawn("a robot", 0, "bb"), "here")
    assert (session.num_drawn, session.num_equal) == (4, 1)


def test_failures_money_unread_prompts_and_workers_are_counted():
    session = Session()
    session.note(make_drawn("a fox", 0, cost_usd=0.25), "gpu 0")
    session.note(make_drawn("a fox", 1, unseen="the end"), "gpu 1")
    session.note(make_drawn("a fox", 2, None, error="too dark", cost_usd=0.5), "gpu 1")
    assert session.errors == {"a fox 2": "too dark"}
    assert (session.cost_usd, session.num_unseen) == (0.75, 1)
    session.note_restarts({"gpu 1": 1})
    assert session.by_worker == {
        "gpu 0": WorkerShare(images=1, seconds=0.1),
        "gpu 1": WorkerShare(images=2, seconds=0.2, restarts=1),
    }
    assert Session().cost_usd is None


def test_the_end_says_only_what_there_is_to_say():
    plain = describe_end(make_summary(), Settings("x"))
    assert plain.splitlines()[0] == "x: 2 drawn, 0 failed."
    assert "--retry-failed" not in plain
    changed = make_summary(failed=1, flagged=2, cost_usd=0.5, equal=1, unknown_words=("words",))
    text = describe_end(changed, Settings("x"))
    assert text.splitlines()[0] == "x: 2 drawn, 2 flagged as odd, 1 failed, $0.5000 spent."
    assert "promptlab sweep --retry-failed 'runs/a b'" in text
    assert "\nwords\n1 image came out equal" in text
    assert "Workers:" not in plain + text


def test_several_workers_and_restarts_are_told_at_the_end():
    shares = {"gpu 1": WorkerShare(3, 240.0, 2), "gpu 0": WorkerShare(1, 2.0)}
    text = describe_end(make_summary(by_worker=shares), Settings("x"))
    expected = "Workers: gpu 0 1 image in 2 s; gpu 1 3 images in 4 min, 2 restarts."
    assert expected in text.splitlines()
    alone = describe_end(make_summary(by_worker={"gpu 0": WorkerShare(1, 2.0, 1)}), Settings("x"))
    assert "Workers: gpu 0 1 image in 2 s, 1 restart." in alone


def test_a_summary_is_plain_values():
    summary = make_summary()
    assert json.loads(json.dumps(summary.to_dict()))["by_worker"] == {
        "gpu 0": {"images": 2, "seconds": 1.5, "restarts": 0}
    }

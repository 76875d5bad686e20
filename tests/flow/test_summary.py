"""A session counts its images; the summary's lines say only what there is to say."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from promptlab.configs.settings import Settings
from promptlab.flow import summary
from promptlab.flow.summary import Session, SweepSummary, describe_end
from promptlab.paths import RunPaths
from promptlab.records import Drawn, ImageFacts, Request, WorkerShare
from promptlab.store import Counts
from tests.store.painting import Painter, make_plan


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


@pytest.mark.parametrize(
    ("early", "is_complete"),
    [
        ({}, True),
        ({"is_interrupted": True}, False),
        ({"is_plan_outdated": True}, False),
        ({"model_lost": "gone"}, False),
        ({"model_lost": ""}, False),
        ({"budget_spent": {"paid": "its next image costs $1"}}, False),
        ({"errors": {"0" * 16: "too dark"}}, True),
    ],
)
def test_a_session_is_complete_unless_something_ended_it_early(early, is_complete):
    assert Session(**early).is_complete is is_complete


def test_equal_pictures_of_other_parameters_count():
    session = Session()
    for top_k in (8, 16):
        drawn = make_drawn("a fox", 0)
        session.note(Drawn(Request("x", "a fox", 0, {"top_k": top_k}), drawn.facts, None), "here")
    assert session.num_equal == 1
    session.note(make_drawn("a fox", 2, None, error="no"), "here")
    session.note(make_drawn("an owl", 2, None, error="no"), "here")
    assert session.num_equal == 1, "failures have no pixels to be equal"


ROOT = "runs/it's a run"
PLAN = make_plan(seeds=(0, 1, 2))  # 4 cells, 12 images


@pytest.mark.parametrize(
    "text",
    [
        summary.describe_interruption(PLAN, Counts(5, 1, 1), RunPaths(ROOT)),
        summary.describe_lost_model("CUDA error", PLAN, Counts(5, 1, 1), RunPaths(ROOT)),
        summary.describe_spent_budget({"paid": "$1"}, PLAN, Counts(5, 1, 1), RunPaths(ROOT)),
    ],
)
def test_a_sweep_that_ended_early_says_what_is_kept_and_a_command_that_resumes_it(text):
    assert "7 of 12 images are kept" in text
    command = shlex.split(text[text.index("promptlab sweep") :])
    assert command[:4] == ["promptlab", "sweep", "--resume", ROOT]


def test_the_failures_of_a_job_are_told_by_their_number_and_the_first():
    fox, _, robot, _ = PLAN.cells
    describe = summary.describe_job_failure
    assert describe([(fox, "dark")]) == "1 image of 'a fox, noto' could not be drawn: dark"
    assert describe([(fox, "dark"), (fox, "odd")]).startswith("2 images of 'a fox, noto' could")
    both = describe([(robot, "dark"), (fox, "odd"), (fox, "odd")])
    assert both.startswith("3 images of 2 prompts, the first of them 'a robot, noto', could not")
    assert both.endswith(": dark")


class Knowing(Painter):
    """A model that knows few words."""

    def unknown_words(self, prompt: str) -> list[str]:
        return [word for word in prompt.replace(",", "").split() if word not in ("a", "fox")]


def test_unknown_words_are_told_by_how_many_images_have_them():
    plan = make_plan(("a fox", "a robot robot"), ("fox",), (0, 1, 2), model=Knowing())
    assert summary.describe_unknown_words(plan) == ["painter does not know: robot; in 3 images."]
    subjects = tuple(f"a word{n} robot" for n in range(9))
    (line,) = summary.describe_unknown_words(make_plan(subjects, ("fox",), (0,), model=Knowing()))
    assert line.startswith("painter does not know: robot, word0, ")
    assert line.endswith("word6, … 2 more; in 9 images.")
    assert summary.describe_unknown_words(make_plan()) == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a\n fox ", "a fox"), ("x" * 100, "x" * 100), ("x" * 101, "x" * 99 + "…")],
)
def test_a_long_text_is_cut_and_stands_on_one_line(text, shown):
    assert summary.shorten(text) == shown


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0.02, "$0.0200"), (0.99999, "$1.0000"), (1, "$1.00"), (12.3, "$12.30"), (1e4, "$10,000.00")],
)
def test_small_amounts_of_money_have_more_digits(amount, text):
    assert summary.format_usd(amount) == text


def test_images_on_several_kinds_of_devices_are_worth_a_warning():
    assert summary.describe_kinds(["cpu"]) == summary.describe_kinds([]) == []
    (line,) = summary.describe_kinds(["cpu", "NVIDIA H100"])
    assert "(cpu, NVIDIA H100)" in line

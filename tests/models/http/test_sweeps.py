"""Whole sweeps over hosted models: their price, their budget, kills, and no key anywhere."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from collections import Counter

import pytest

from promptlab.cli import main
from promptlab.flow.spending import ledger_of
from promptlab.models.http.service import Answer
from promptlab.paths import RunPaths
from promptlab.tracking.options import TrackingOptions
from promptlab.tracking.syncing import sync
from tests.models.http.fakes import (
    WORKFLOW,
    A1111Fake,
    ComfyFake,
    OpenAiFake,
    ReplicateFake,
    random_faults,
)
from tests.store.sweeping import essence
from tests.tracking.holding import make_database

KEY = "sk-Tr0ub4dor-of-the-environment"
HOSTED = """\
# @package _global_
# A hosted model.
model:
  _target_: promptlab.models.http.{opener}
  name: {name}
  model: {model}
  base_url: {url}/v1
  key_variable: HOSTED_LOGIN
  extra: {{{extra}}}
  first_wait_s: 0.01
  price: null
  concurrency: 4
"""


@pytest.fixture
def hosted(project, monkeypatch):
    """Give functions that make fakes known as models of the project, with a key."""
    monkeypatch.setenv("HOSTED_LOGIN", KEY)
    fakes = []

    def add(fake, name, model="gpt-image-2", extra="size: size, quality: quality"):
        fakes.append(fake)
        fake.key = KEY
        opener = "open_openai" if isinstance(fake, OpenAiFake) else "open_replicate"
        text = HOSTED.format(opener=opener, name=name, model=model, url=fake.url, extra=extra)
        if opener == "open_openai":
            text += "size: 32x32\nquality: low\n"
        project.write(f"conf/model/{name}.yaml", text)
        return fake

    yield add
    for fake in fakes:
        fake.stop()


def sweep(*arguments):
    return main(["sweep", "tracking=null", *arguments])


def test_a_plan_says_what_a_sweep_costs_by_model_and_as_of_when(project, hosted):
    hosted(OpenAiFake(), "gpt")
    flux = "black-forest-labs/flux-schnell"
    hosted(ReplicateFake(), "flux", flux, "seed: seed")
    done = project.run("sweep", "-m", "model=gpt,flux,paint", "subject=a fox", "seeds=10", "--plan")
    (price,) = [line for line in done.out.splitlines() if line.startswith("Price:")]
    assert re.fullmatch(
        r"Price:  at most \$0.2303 \(gpt \$0.2003, flux \$0.0300; prices as of 2026-11-28\)", price
    )
    done = project.run("sweep", "model=gpt", "subject=a fox", "budget=5", "--plan")
    assert "Budget: $5.00, all sessions of the sweep together" in done.out


def test_an_unknown_price_is_said_by_the_plan_and_refused_by_the_sweep(project, hosted):
    fake = hosted(OpenAiFake(), "new", model="gpt-image-9")
    begun = ("model=new", "subject=a fox")
    assert "Price:  unknown (new unknown" in project.run("sweep", *begun, "--plan").out
    done = project.run("sweep", *begun)
    assert done.code == 1
    assert "The price of new with these parameters is unknown" in done.err
    assert "allow_unknown_price=true" in done.err
    done = project.run("sweep", *begun, "allow_unknown_price=true", "budget=5")
    assert "so no budget can hold" in done.err
    assert not fake.seen
    assert not project.runs
    assert project.run("sweep", *begun, "allow_unknown_price=true").code == 0
    assert [row["cost_usd"] for row in project.rows()] == [None]
    priced = project.run("sweep", *begun, "model.price=0.5", "budget=5", "reuse=false")
    assert priced.code == 0
    assert [row["cost_usd"] for row in project.rows()] == [0.5]
    assert "$0.5000 spent" in priced.out + priced.err


@pytest.mark.parametrize("budget", ["0", "-1", "much", "true"])
def test_a_budget_is_a_number_above_zero(project, budget):
    done = project.run("sweep", "subject=a fox", f"budget={budget}")
    assert done.code == 1
    assert "expected US dollars above 0" in done.err


def test_a_spent_budget_stops_its_model_alone_and_more_money_resumes(project, hosted):
    fake = hosted(OpenAiFake(), "gpt")
    begun = ("-m", "model=gpt", "subject=a fox", "seeds=10", "model.price=0.1", "budget=0.45")
    assert sweep(*begun) == 1
    error = project.capsys.readouterr().err
    assert "gpt: the budget of $0.45 would be passed: $0.4000 are spent" in error
    assert "4 of 10 images are kept" in error
    assert len(fake.billed) == 4
    (run,) = project.runs
    assert sweep(*begun) == 1
    assert len(fake.billed) == 4, "the same command spends no second budget"
    assert sweep("--resume", str(run), "budget=0.75") == 1
    assert len(fake.billed) == 7
    assert sweep(*begun[:-1]) == 0
    assert len(fake.billed) == 10
    assert len({row["image_id"] for row in project.rows(run)}) == 10


def test_an_answer_that_was_paid_for_waits_for_the_session_that_stores_it(project, hosted):
    fake = hosted(OpenAiFake(), "gpt")
    begun = (
        "-m",
        "model=gpt",
        "subject=a fox",
        "seeds=6",
        "model.price=0.1",
        "model.concurrency=1",
    )
    assert sweep(*begun) == 0
    paid = next(row for row in project.rows() if row["seed"] == 5)
    answer = Answer((project.runs[0] / paid["path"]).read_bytes())
    shutil.rmtree(project.runs[0])
    assert sweep(*begun, "budget=0.25") == 1
    (run,) = project.runs
    ledger_of(RunPaths(str(run)), None).keep(paid["image_id"], answer, 0.1)
    assert sweep(*begun, "budget=0.35") == 1
    assert len(fake.billed) == 6 + 2
    assert sweep(*begun) == 0
    assert len(fake.billed) == 6 + 5
    assert sorted(row["seed"] for row in project.rows(run)) == [*range(6)]


def test_a_budget_that_is_spent_leaves_the_models_that_are_free(project, hosted):
    hosted(OpenAiFake(), "gpt")
    begun = ("-m", "model=gpt,paint", "subject=a fox", "seeds=10", "budget=0.03")
    assert sweep(*begun) == 1
    drawn = Counter(row["model"] for row in project.rows())
    assert drawn["paint"] == 10
    assert 0 < drawn["gpt"] < 10


def test_a_budget_for_a_paid_model_that_knows_no_ledger_is_refused(project):
    text = (project.path / "conf/model/paint.yaml").read_text()
    text = text.replace("PaintModel", "WordModel").replace("  size: 32", "  price_usd: 0.5")
    project.write("conf/model/paint.yaml", text)
    done = project.run("sweep", "subject=a fox", "budget=5")
    assert "no budget could stop it" in done.err
    assert project.run("sweep", "subject=a fox").code == 0


def wait_for(is_so, seconds=60):
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("kind", [OpenAiFake, ReplicateFake])
def test_a_killed_sweep_pays_for_no_image_twice_that_it_can_know_of(project, hosted, kind):
    fake = kind(delay_s=0.05)
    fake.num_questions = 2
    flux = "black-forest-labs/flux-schnell"
    known = (
        ("gpt-image-2", "size: size, quality: quality")
        if kind is OpenAiFake
        else (flux, "seed: seed")
    )
    hosted(fake, "paid", *known)
    begun = ("model=paid", "subject=a fox", "seeds=30", "tracking=null", "store.flush_s=60")
    process = project.start("sweep", *begun)
    wait_for(lambda: len(fake.billed) >= 9)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    (run,) = project.runs
    num_kept = len(list((run / "requests/answers").glob("[!.]*")))
    assert num_kept >= 4
    assert not project.rows(run), "no row was on disk yet"
    assert sweep(*begun[:3]) == 0
    said = project.capsys.readouterr()
    num_twice = len(fake.billed) - 30
    rows = project.rows(run)
    assert len({row["image_id"] for row in rows}) == len(rows) == 30
    assert {row["status"] for row in rows} == {"ok"}
    if kind is ReplicateFake:
        assert num_twice == 0, "what was under way was asked for"
    else:
        assert 0 <= num_twice <= 4
        assert ("may be paid twice" in said.out + said.err) == (num_twice > 0)
    assert not (run / "requests/answers").exists()


@pytest.mark.parametrize("kind", [ComfyFake, pytest.param(A1111Fake, marks=pytest.mark.slow)])
@pytest.mark.slow
def test_a_killed_sweep_over_an_own_server_ends_as_an_undisturbed_one(project, kind):
    project.write("workflow_api.json", json.dumps(WORKFLOW))
    with kind(delay_s=0.02) as fake:
        model = (
            ("model=comfyui", "model.workflow=workflow_api.json")
            if kind is ComfyFake
            else ("model=a1111", "width=64", "height=64")
        )
        begun = (*model, f"model.base_url={fake.url}", "subject=a fox", "seeds=30", "tracking=null")
        process = project.start("sweep", *begun, "store.flush_s=0.05")
        wait_for(lambda: any(project.path.glob("runs/*/images.parquet/part-*")))
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        (run,) = project.runs
        num_kept = len(project.rows(run))
        assert 0 < num_kept < 30, "killed in the middle"
        assert sweep(*begun) == 0
        assert f"{num_kept} already here" in project.capsys.readouterr().out
        assert sweep(*begun, "runs_dir=alone") == 0
    (alone,) = (project.path / "alone").glob("*")
    assert len(project.rows(run)) == 30
    assert essence(project.rows(run)) == essence(project.rows(alone))


def test_twenty_random_faults_in_a_sweep_of_three_hundred_within_its_budget(project, hosted):
    fake = hosted(OpenAiFake(random_faults(300, 20, 7)), "gpt")
    begun = ("model=gpt", "subject=a fox", "seeds=300", "model.price=0.01", "budget=2.5")
    assert sweep(*begun) == 1
    rows = project.rows()
    assert len({row["image_id"] for row in rows}) == len(rows)
    assert len(fake.billed) * 0.01 <= 2.5 + 1e-9
    (run,) = project.runs
    for _ in range(3):
        sweep("--retry-failed", str(run), "budget=4")
    rows = project.rows(run)
    assert len({row["image_id"] for row in rows}) == len(rows) == 300
    assert [row["error"] for row in rows if row["error"]] == []
    assert sum(row["cost_usd"] for row in rows) == pytest.approx(3.0)
    assert 300 <= len(fake.billed) <= 320


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")  # MLflow's own
def test_the_key_is_in_nothing_that_a_sweep_writes_or_says(project, hosted, monkeypatch):
    fake = hosted(OpenAiFake({2: "500", 3: "json"}), "gpt")
    begun = ("-m", "model=gpt", "subject=a fox,forbidden", "seeds=4", "budget=1")
    assert main(["sweep", *begun, "tracking.uri=http://127.0.0.1:9"]) == 1
    fake.key = "another"
    assert main(["sweep", "model=gpt", "subject=a wolf", "tracking=null"]) == 1
    run = project.runs[0]
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    sync(str(run), TrackingOptions(uri=make_database(project.path)))
    project.run("report", str(run), "--standalone", str(project.path / "one.html"))
    said = project.capsys.readouterr()
    assert KEY not in said.out + said.err
    assert fake.seen[0][1]["authorization"] == f"Bearer {KEY}"
    written = [path for path in project.path.rglob("*") if path.is_file()]
    assert {"sweep.yaml", "sweep.log", "index.html", "mlflow.db", "requests.jsonl"} <= {
        path.name for path in written
    }
    assert [path for path in written if KEY.encode() in path.read_bytes()] == []


def test_cost_is_in_the_summary_the_row_mlflow_and_verify_promises_nothing(project, hosted):
    hosted(OpenAiFake(), "gpt")
    done = project.run("sweep", "model=gpt", "subject=a fox", "seeds=2")
    assert "$0.0061 spent" in done.out + done.err
    assert [row["cost_usd"] for row in project.rows()] == [0.00305, 0.00305]
    assert {row["device"] for row in project.rows()} == {"remote"}
    done = project.run("verify")
    assert done.out.strip() == (
        "gpt promises no equal pixels: only the files of its images were checked."
    )
    (first, _) = project.rows()
    shown = project.run("show", first["image_id"]).out
    assert re.search(r"cost +0.00305 USD", shown)
    assert "Draw another one, whose pixels may differ:" in shown


def test_draws_without_a_seed_are_reused_by_their_number(project, hosted):
    fake = hosted(OpenAiFake(), "gpt")
    assert sweep("model=gpt", "subject=a fox", "seeds=2") == 0
    assert sweep("model=gpt", "subject=a fox", "seeds=5", "name=more") == 0
    assert len(fake.billed) == 5
    assert {row["seed"] for row in project.rows()} == {0, 1, 2, 3, 4}


def test_any_input_of_a_workflow_is_an_axis_on_the_command_line(project):
    project.write("workflow_api.json", json.dumps(WORKFLOW))
    with ComfyFake() as fake:
        begun = ("model=comfyui", "model.workflow=workflow_api.json", f"model.base_url={fake.url}")
        code = sweep("-m", *begun, "subject=a fox", "3.cfg=4,7.5", "4.ckpt_name=a,b", "seeds=2")
        assert code == 0
    rows = project.rows()
    assert len(rows) == 8
    assert {(row["3.cfg"], row["4.ckpt_name"]) for row in rows} == {
        (cfg, name) for cfg in (4, 7.5) for name in "ab"
    }

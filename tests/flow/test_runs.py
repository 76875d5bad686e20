"""Which run folder a sweep takes: its own, the newest of the same sweep, or a new one."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from promptlab.configs.settings import Settings
from promptlab.errors import ConfigError
from promptlab.flow import runs
from promptlab.flow.runs import choose_run_folder, keep_log, read_samples, read_sweep_id
from promptlab.paths import RunPaths
from promptlab.planning.plan import sweep_id_of
from promptlab.run_record import RunRecord
from tests.store.painting import make_plan

PLAN = make_plan()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(name="a test", runs_dir=str(tmp_path / "runs"))


def write_run(settings: Settings, name: str, sweep_id: str, age_s: float = 0.0, **known) -> str:
    """Write the record of a run that is some seconds old; return its folder."""
    folder = Path(settings.runs_dir, name)
    folder.mkdir(parents=True)
    file = folder / "sweep.yaml"
    file.write_text(RunRecord(sweep_id=sweep_id, **known).to_yaml(), encoding="utf-8")
    moment = time.time() - age_s
    os.utime(file, (moment, moment))
    return str(folder)


@pytest.mark.parametrize(
    "sweep_id", ["0123456789abcdef", "1234567890123456", "12345678901234e5", "0" * 16]
)
def test_the_id_of_a_runs_sweep_is_read_whatever_yaml_takes_it_for(settings, sweep_id):
    config = {"subject": "a fox\nsweep_id: ffffffffffffffff"}
    run = write_run(settings, "one", sweep_id, command=("sweep_id: f",), config=config)
    assert read_sweep_id(run) == sweep_id


def test_a_folder_without_a_record_holds_no_sweep(settings, tmp_path):
    assert read_sweep_id(str(tmp_path / "nothing")) is None
    (tmp_path / "sweep.yaml").write_text("sweep: x\n")
    assert read_sweep_id(str(tmp_path)) is None


def test_the_newest_run_of_the_same_sweep_is_resumed(settings):
    write_run(settings, "z", PLAN.sweep_id, age_s=100)
    newest = write_run(settings, "a", PLAN.sweep_id, age_s=50)
    write_run(settings, "other", "f" * 16)
    chosen = choose_run_folder(PLAN, settings)
    assert (chosen.paths.root, chosen.exists, chosen.plan) == (newest, True, PLAN)


def test_a_sweep_that_is_new_or_not_to_be_reused_gets_a_folder_of_its_own(settings):
    first = choose_run_folder(PLAN, settings)
    assert not first.exists
    assert first.paths.root.startswith(f"{settings.runs_dir}/")
    assert first.paths.name.endswith("_a-test")
    datetime.strptime(first.paths.name.removesuffix("_a-test"), "%Y-%m-%d_%H-%M-%S")
    old = write_run(settings, "one", PLAN.sweep_id)
    again = choose_run_folder(PLAN, replace(settings, reuse=False))
    assert again.paths.root != old
    assert not again.exists


def test_two_new_runs_of_one_second_have_two_folders(settings, monkeypatch):
    moment = datetime(2026, 11, 22, 22, 0, 0)
    monkeypatch.setattr(runs, "datetime", type("Clock", (), {"now": staticmethod(lambda: moment)}))
    names = []
    for _ in range(3):
        paths = choose_run_folder(PLAN, settings).paths
        os.makedirs(paths.root)
        names.append(paths.name)
    assert names == [f"2026-11-22_22-00-00_a-test{ending}" for ending in ("", "-2", "-3")]


def test_a_folder_that_is_named_is_taken_unless_it_holds_another_sweep(settings, tmp_path):
    other = write_run(settings, "other", "f" * 16)
    with pytest.raises(ConfigError, match=f"holds the sweep {'f' * 16}, this is {PLAN.sweep_id}"):
        choose_run_folder(PLAN, settings, other)
    new = choose_run_folder(PLAN, settings, str(tmp_path / "new"))
    assert (new.paths.root, new.exists, new.plan) == (str(tmp_path / "new"), False, PLAN)
    own = write_run(settings, "own", PLAN.sweep_id)
    assert choose_run_folder(PLAN, replace(settings, reuse=False), own).exists


def test_a_run_under_the_former_name_keeps_that_name(settings):
    former_id = sweep_id_of("sweep", PLAN.cells)
    run = write_run(settings, "old", former_id)
    for given in (None, run):
        chosen = choose_run_folder(PLAN, replace(settings, former_name="sweep"), given)
        assert (chosen.paths.root, chosen.exists) == (run, True)
        assert (chosen.plan.sweep, chosen.plan.sweep_id) == ("sweep", former_id)


def test_a_resumed_run_keeps_the_values_that_its_samples_chose_for_the_same_question(settings):
    asked, chosen = {"animal": 2}, {"animal": ("a fox", "an owl")}
    run = write_run(settings, "one", PLAN.sweep_id, config={"sample": asked}, samples=chosen)
    assert read_samples(run, asked) == chosen
    assert read_samples(run, {"animal": 3}) == {}
    for nothing in ((None, asked), (run, None), (f"{run}-not", asked)):
        assert read_samples(*nothing) == {}


def test_the_log_of_a_run_is_its_own_and_holds_no_credential(tmp_path):
    log = logging.getLogger("promptlab.test")
    with keep_log(RunPaths(str(tmp_path))):
        log.warning("went to http://bob:SECRET@host and back, ä")
    log.warning("after the run")
    text = (tmp_path / "sweep.log").read_text(encoding="utf-8")
    assert text.endswith("WARNING promptlab.test: went to http://bob:***@host and back, ä\n")
    with keep_log(RunPaths(str(tmp_path))):
        log.warning("a second session")
    assert (tmp_path / "sweep.log").read_text(encoding="utf-8").startswith(text)

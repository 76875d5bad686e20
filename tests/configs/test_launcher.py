"""The launcher's side of Hydra: callbacks, job returns, settings that come from outside."""

from __future__ import annotations

import pytest
from hydra.core.utils import JobStatus

from promptlab.configs.launcher import DrawnJob
from promptlab.configs.settings import Job
from promptlab.errors import PromptlabError
from tests.conftest import Project
from tests.painters import CALLS

CALLBACK = "+hydra.callbacks.mine._target_=tests.painters.RecordingCallback"


def test_callbacks_hear_of_every_job_although_all_are_drawn_at_once(project: Project):
    done = project.run("sweep", "-m", "subject=a,b", "model.fails_on=b", CALLBACK)
    assert done.code == 1
    events = [call for call in CALLS if "paint" not in call]
    assert events == [
        *("on_multirun_start", "start 0 a", "start 1 b"),
        *("end 0 COMPLETED", "end 1 FAILED"),
    ]
    assert CALLS.index("start 1 b") < CALLS.index("load paint")


def test_a_multirun_without_failures_ends_with_its_callback(project: Project):
    assert project.run("sweep", "-m", "subject=a,b", CALLBACK).code == 0
    assert CALLS[-1] == "on_multirun_end"


def test_a_single_run_has_its_callbacks_too(project: Project):
    assert project.run("sweep", "subject=a", CALLBACK).code == 0
    events = [call.split()[0] for call in CALLS if "paint" not in call]
    assert events == ["on_run_start", "start", "end", "on_run_end"]


def test_a_drawn_job_returns_its_config_and_a_failed_one_raises():
    job = Job(3, ("subject=a",), {}, {"subject": "a"}, {})
    drawn = DrawnJob(job, None, "here")
    assert drawn.status is JobStatus.COMPLETED
    assert drawn.cfg == {"subject": "a"}
    assert drawn.overrides == ["subject=a"]
    assert drawn.return_value is None
    failed = DrawnJob(job, "too dark", "here")
    assert failed.status is JobStatus.FAILED
    with pytest.raises(PromptlabError, match="too dark"):
        _ = failed.return_value


def test_the_jobs_of_a_small_max_batch_size_are_plans_of_their_own(project: Project):
    project.run("sweep", "-m", "subject=a,b,c", "hydra.sweeper.max_batch_size=2")
    assert [len(project.rows(run)) for run in project.runs] == [2, 1]


def test_another_projects_config_in_the_same_folder_does_no_harm(project: Project):
    project.write("conf/config.yaml", "defaults:\n  - dataset: imagenet\nlearning_rate: 1\n")
    assert project.run("sweep", "subject=a").code == 0

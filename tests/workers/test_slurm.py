"""A sweep as a job: submitit's local executor stands for the cluster."""

from __future__ import annotations

import signal
import time

import pytest

from tests.conftest import Project
from tests.store.sweeping import essence
from tests.workers.test_sweeps import GRID, undisturbed

pytest.importorskip("submitit", reason="submitit is missing: pip install 'promptlab[slurm]'")
JOB = ("workers=slurm", "workers.cluster=local")


@pytest.mark.slow
def test_a_job_draws_the_sweep_and_its_log_is_shown_here(project: Project):
    done = project.run("sweep", *GRID, *JOB, "workers.num=2")
    assert done.code == 0, done.err
    assert "32 drawn, 0 failed." in done.out
    assert "Workers: cpu 0, cpu 1." in done.out
    assert essence(project.rows()) == undisturbed(project, *GRID)
    assert len([run for run in project.runs if run.name != ".jobs"]) == 1


def test_a_failed_image_of_a_job_is_told_as_if_it_were_drawn_here(project: Project):
    done = project.run("sweep", "subject=a robot", "style=noto", "model.fails_on=robot", *JOB)
    assert done.code == 1
    assert "ValueError: robot cannot be painted" in done.err
    assert [row["status"] for row in project.rows()] == ["failed"]


@pytest.mark.slow
def test_a_mistake_is_told_as_if_it_were_made_here(project: Project):
    done = project.run("sweep", "subject=a robot", "+model.weights_missing=true", *JOB)
    assert done.code == 1
    assert "The weights of paint are not here." in done.err
    assert "Traceback" not in done.err


@pytest.mark.slow
def test_a_job_goes_on_without_its_console(project: Project):
    slow = ("model=paint", "model.delay_s=0.1", "tracking=null")
    console = project.start("sweep", *slow, *GRID, *JOB)
    for _ in range(600):
        if any(project.path.glob("runs/*/sweep.yaml")):
            break
        assert console.poll() is None, console.communicate()
        time.sleep(0.05)
    console.send_signal(signal.SIGINT)
    out, _ = console.communicate(timeout=60)
    assert "The job goes on without this console" in out
    for _ in range(600):
        if any(project.path.glob("runs/*/index.html")):
            break
        time.sleep(0.1)
    assert len(project.rows()) == 32


def test_a_machine_without_slurm_says_what_to_use(project: Project):
    done = project.run("sweep", *GRID, "workers=slurm")
    assert done.code == 1
    assert "this machine has no sbatch" in done.err


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_nodes_draw_with_ray_between_them(project: Project):
    pytest.importorskip("ray", reason="Ray is missing: pip install 'promptlab[ray]'")
    done = project.run("sweep", *GRID, *JOB, "workers.nodes=2", "workers.num=2")
    assert done.code == 0, done.out + done.err
    assert "Workers: ray 0, ray 1." in done.out
    assert essence(project.rows()) == undisturbed(project, *GRID)

"""Whole sweeps with workers: the same table, nothing lost, nobody left behind."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.conftest import Project
from tests.store.sweeping import essence

GRID = ("-m", "subject=a fox,a robot", "style=noto,openmoji", "seeds=8")
LOCAL = ("workers=local", "workers.num=2")
ORPHANS_END_S = 10.0  # after their parent


@pytest.fixture(autouse=True)
def _few_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def table(project: Project) -> list[tuple[object, ...]]:
    """Return what the newest run holds, whoever drew it."""
    return essence(project.rows())


def undisturbed(project: Project, *arguments: str) -> list[tuple[object, ...]]:
    """Return what this process draws, in a run of its own that is gone again."""
    done = project.run("sweep", *arguments, "runs_dir=alone", "workers=this")
    assert done.code == 0, done.err
    (folder,) = (project.path / "alone").glob("*")
    return essence(project.rows(folder))


def start_slow(project: Project, *arguments: str, delay_s: float = 0.05) -> subprocess.Popen[str]:
    """Start a sweep that takes a while."""
    slow = ("model=paint", f"model.delay_s={delay_s}", "tracking=null", "store.flush_s=0.2")
    return project.start("sweep", *slow, *GRID, *LOCAL, *arguments)


def children_of(pid: int) -> set[int]:
    """Return the processes of the workers that a process has started."""
    found = set()
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError, IndexError):
            command = Path(entry, "cmdline").read_bytes()
            parent = int(Path(entry, "stat").read_text().rpartition(")")[2].split()[1])
            if parent == pid and b"promptlab.workers.child" in command:
                found.add(int(entry.name))
    return found


def wait_for_workers(process: subprocess.Popen[str]) -> set[int]:
    """Return the workers of a sweep once they draw."""
    for _ in range(400):
        found = children_of(process.pid)
        if len(found) == 2:
            return found
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError("no workers")


def wait_for_images(project: Project, process: subprocess.Popen[str]) -> None:
    """Return once something is on disk; Ray alone starts in ten seconds and more."""
    for _ in range(2400):
        if any(project.path.glob("runs/*/images.parquet/part-*")):
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError("no images")


def seconds_to_end(pids: set[int]) -> float:
    """Return how long processes live on."""
    start = time.monotonic()
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        time.sleep(0.02)
        assert time.monotonic() - start < 30
    return time.monotonic() - start


@contextlib.contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[None]:
    """Leave no process behind."""
    try:
        yield
    finally:
        process.kill()  # unless it has ended; its workers end with it
        process.communicate()


def test_a_sweep_says_what_each_worker_did_and_keeps_it(project: Project):
    done = project.run("sweep", *GRID, *LOCAL)
    assert done.code == 0, done.err
    assert "Workers: cpu 0, cpu 1." in done.out
    assert "\nWorkers: cpu 0 " in done.out
    record = yaml.safe_load((project.runs[-1] / "sweep.yaml").read_text())
    assert record["workers"].keys() == {"cpu 0", "cpu 1"}
    assert sum(share["images"] for share in record["workers"].values()) == 32
    assert table(project) == undisturbed(project, *GRID)


def test_a_plan_warns_of_workers_on_different_devices(project: Project, monkeypatch):
    cards = ["NVIDIA H100", "NVIDIA A10"]
    monkeypatch.setattr("promptlab.workers.opening.local_kinds", lambda: cards)
    told = project.run("sweep", *GRID, *LOCAL, "--plan")
    assert "workers on different devices (NVIDIA H100, NVIDIA A10)" in told.out
    monkeypatch.setattr("promptlab.workers.opening.local_kinds", lambda: cards[:1])
    assert "different devices" not in project.run("sweep", *GRID, *LOCAL, "--plan").out


def test_the_run_of_one_kind_of_workers_is_resumed_by_another(project: Project):
    project.run("sweep", *GRID, "workers=this")
    again = project.run("sweep", *GRID, *LOCAL)
    assert "32 already here, nothing to do" in again.out
    assert len(project.runs) == 1


def test_a_run_that_several_workers_began_is_resumed_by_this_process_alone(project: Project):
    project.run("sweep", *GRID, *LOCAL, "model.fails_on=robot")
    again = project.run("sweep", "--retry-failed", str(project.runs[-1]), "workers=this")
    assert "workers.num" not in again.err
    assert "16 already here, 16 images to draw" in again.out
    assert "Workers:" not in again.out


@pytest.mark.parametrize(
    "how",
    ["SIGKILL", *(pytest.param(how, marks=pytest.mark.slow) for how in ("SIGINT", "SIGTERM"))],
)
def test_workers_end_with_their_sweep_and_the_same_command_goes_on(project: Project, how: str):
    process = start_slow(project)
    with ended(process):
        workers = wait_for_workers(process)
        wait_for_images(project, process)
        process.send_signal(signal.Signals[how])
        _, err = process.communicate(timeout=60)
        assert seconds_to_end(workers) < ORPHANS_END_S
    if how == "SIGINT":
        assert "Interrupted" in err
    assert 0 < len(project.rows()) < 32
    again = project.run("sweep", *GRID, "workers=this")
    assert again.code == 0, again.err
    assert len(project.runs) == 1
    assert table(project) == undisturbed(project, *GRID)


@pytest.mark.slow
def test_workers_that_hang_end_with_their_sweep_too(project: Project):
    process = start_slow(project, delay_s=0.2)
    with ended(process):
        workers = wait_for_workers(process)
        wait_for_images(project, process)
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        process.kill()
        process.wait()
        assert seconds_to_end(workers) < ORPHANS_END_S


def test_without_workers_the_sweep_ends_and_keeps_what_is_drawn(project: Project):
    losing = ("model._target_=tests.workers.models.LosingModel", "workers.max_restarts=1")
    drawn = project.run("sweep", "subject=a fox", "style=noto", "seeds=2", "workers=this")
    assert drawn.code == 0, drawn.err
    done = project.run("sweep", *GRID, *LOCAL, *losing)
    assert done.code == 1
    assert "The model cannot draw any more: no worker is left" in done.err
    assert "2 of 32 images are kept. Run the same command again to resume" in done.err
    assert project.run("sweep", *GRID).code == 0


def test_two_workers_of_this_process_are_refused_with_the_words_to_use(project: Project):
    done = project.run("sweep", *GRID, "workers=this", "+workers.num=2")
    assert done.code == 1
    assert "Expected workers=local workers.num=2" in done.err


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_random_kills_of_workers_and_sweeps_leave_the_table_of_an_undisturbed_run(
    project: Project,
):
    """An image whose worker is killed twice is a failed row until it is retried."""
    grid = (*GRID, "seeds=24")
    expected = undisturbed(project, *grid)
    chance = random.Random(22)
    killed_workers = killed_sweeps = num_sweeps = 0
    while killed_workers < 20 or killed_sweeps < 10:
        name = f"kill{num_sweeps % 3}"
        num_sweeps += 1
        process = start_slow(
            project, "seeds=24", f"name={name}", "reuse=false", "workers.max_restarts=9"
        )
        with ended(process):
            workers = wait_for_workers(process)
            for _ in range(chance.randint(1, 4)):
                time.sleep(chance.uniform(0.0, 1.0))
                alive = children_of(process.pid)
                if process.poll() is None and alive:
                    os.kill(chance.choice(sorted(alive)), signal.SIGKILL)
                    killed_workers += 1
            if chance.random() < 0.7 and process.poll() is None:
                workers |= children_of(process.pid)
                process.kill()
                killed_sweeps += 1
                process.wait()
                assert seconds_to_end(workers) < ORPHANS_END_S
            else:
                process.communicate(timeout=120)
    num_failed = 0
    for run in project.runs:
        num_failed += sum(row["status"] == "failed" for row in project.rows(run))
        done = project.run("sweep", "--retry-failed", str(run))  # and what it lacks
        assert done.code == 0, done.err
        assert essence(project.rows(run)) == expected
    print(
        f"{killed_workers} workers and {killed_sweeps} of {num_sweeps} sweeps killed; "
        f"{num_failed} images had lost two workers"
    )

"""Workers of a Ray cluster; what holds for all workers is in test_team.py."""

from __future__ import annotations

import socket
import subprocess
import time

import pytest

from promptlab.errors import ConfigError
from promptlab.machine import cpu_name
from promptlab.workers.cluster import Cluster, RayHost, find_cluster
from promptlab.workers.options import WorkerOptions
from tests.conftest import Project
from tests.workers.conftest import draw_with, make_work, pixels_alone
from tests.workers.test_sweeps import GRID, table, undisturbed, wait_for_images


def test_two_actors_draw_the_same_pixels_though_one_is_killed(ray_cluster, tmp_path):
    prompts = [*(f"prompt {n}" for n in range(10)), "poison", "last"]
    work = make_work(prompts, "tests.workers.models.DeadlyModel", once=str(tmp_path / "done"))
    drawing = draw_with([RayHost("ray 0", 0.5, 0.0), RayHost("ray 1", 0.5, 0.0)], work)
    assert drawing.pixels == pixels_alone(work)  # which has its file now
    assert drawing.restarts.total() == 1


def test_a_cluster_says_what_it_is_and_how_many_workers_it_has_room_for(ray_cluster):
    cluster = Cluster(WorkerOptions(kind="ray"))
    assert [host.name for host in cluster.hosts()] == ["ray 0", "ray 1"]
    assert cluster.kinds() == [cpu_name()]
    planned = make_work(1).planned
    assert cluster.describe(planned.node, may_download=False) == planned.numerics
    with pytest.raises(ConfigError, match="one worker wants 3 and 0"):
        Cluster(WorkerOptions(kind="ray", num_cpus=3.0)).hosts()


def test_a_cluster_that_has_died_and_left_its_address_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert find_cluster("auto") is None
    (tmp_path / "ray").mkdir()
    file = tmp_path / "ray/ray_current_cluster"
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        file.write_text(address)
        assert find_cluster("auto") == find_cluster(address) == address
    assert find_cluster("auto") is None
    with pytest.raises(ConfigError, match=f"No Ray cluster answers at {address}"):
        find_cluster(address)


@pytest.mark.slow
def test_a_sweep_draws_on_a_cluster_as_in_this_process(project: Project, ray_cluster):
    done = project.run("sweep", *GRID, "workers=ray")
    assert done.code == 0, done.err
    assert "Workers: ray 0, ray 1." in done.out
    assert table(project) == undisturbed(project, *GRID)


@pytest.mark.slow
def test_nothing_of_ray_outlives_the_killed_sweep_that_started_it(project: Project):
    def ray_processes() -> set[str]:
        listed = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True).stdout
        return {line for line in listed.splitlines() if "/ray/" in line or "ray::" in line}

    before = ray_processes()
    slow = ("model=paint", "model.delay_s=0.2", "tracking=null", "store.flush_s=0.2")
    process = project.start("sweep", *slow, *GRID, "workers=ray", "workers.num=2")
    try:
        wait_for_images(project, process)
        assert ray_processes() - before
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()
    began = time.monotonic()
    while ray_processes() - before:
        assert time.monotonic() - began < 10.0, ray_processes() - before
        time.sleep(0.1)

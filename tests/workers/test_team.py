"""Workers, wherever they run: each image once, with the same bits, whoever is lost meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from promptlab.errors import ModelError, ModelLostError, PlanOutdatedError
from promptlab.workers.cluster import RayHost
from promptlab.workers.host import Host
from promptlab.workers.local import local_hosts
from tests.workers.conftest import draw_with, make_work, pixels_alone

DEADLY = "tests.workers.models.DeadlyModel"

Hosts = Callable[[int], Sequence[Host]]


@pytest.fixture(params=["local", pytest.param("ray", marks=pytest.mark.slow)])
def hosts(request: pytest.FixtureRequest) -> Hosts:
    """Return what makes the hosts of each kind."""
    if request.param == "local":
        return local_hosts
    request.getfixturevalue("ray_cluster")
    return lambda num: [RayHost(f"ray {n}", 0.5, 0.0) for n in range(num)]


SUBJECTS = [f"{color} {thing}" for color in ("red", "blue") for thing in ("fox", "rose", "robot")]


@pytest.mark.parametrize("num", [1, 2, 3])
def test_an_image_is_the_same_whoever_draws_it(hosts: Hosts, num: int):
    work = make_work(30)
    assert draw_with(hosts(num), work).pixels == pixels_alone(work)


@pytest.mark.slow
@pytest.mark.parametrize("num", [1, 2, 3])
def test_the_embedded_model_draws_the_same_pixels_on_any_number_of_workers(hosts: Hosts, num: int):
    work = make_work(SUBJECTS, "tests.workers.models.open_small_tiny")
    assert draw_with(hosts(num), work).pixels == pixels_alone(work)


def test_all_workers_draw_and_each_image_comes_once(hosts: Hosts):
    work, other = make_work(60, delay_s=0.02), make_work(20, name="other")
    drawing = draw_with(hosts(2), work, other)
    assert drawing.pixels == pixels_alone(work) | pixels_alone(other)
    assert len(drawing.by_worker) == 2
    assert min(drawing.by_worker.values()) > 15
    assert not drawing.restarts


def test_what_a_killed_worker_had_is_drawn_by_others(hosts: Hosts, tmp_path):
    prompts = [*(f"prompt {n}" for n in range(30)), "poison", "last"]
    work = make_work(prompts, DEADLY, once=str(tmp_path / "done"))
    drawing = draw_with(hosts(2), work)
    assert drawing.pixels == pixels_alone(work)  # which has its file now
    assert drawing.restarts.total() == 1


def test_a_request_that_kills_its_worker_again_is_a_failed_row_and_all_others_are_drawn(
    hosts: Hosts,
):
    prompts = [*(f"prompt {n}" for n in range(12)), "poison", *(f"more {n}" for n in range(12))]
    drawing = draw_with(hosts(2), make_work(prompts, DEADLY))
    assert list(drawing.errors) == ["poison"]
    assert "worker was lost" in drawing.errors["poison"]
    assert "alone" in drawing.errors["poison"]
    assert len(drawing.pixels) == 25
    assert drawing.restarts.total() in (2, 3)


def test_a_worker_that_hangs_is_noticed_and_replaced(hosts: Hosts, tmp_path):
    prompts = ["a", "b", "poison", "c"]
    work = make_work(prompts, DEADLY, once=str(tmp_path / "done"), signal_name="SIGSTOP")
    drawing = draw_with(hosts(2), work, silent_s=3.0)
    assert len(drawing.pixels) == 4
    assert not drawing.errors
    assert drawing.restarts.total() == 1


def test_a_worker_without_an_image_for_too_long_is_replaced(hosts: Hosts, tmp_path):
    work = make_work(["a", "poison"], DEADLY, once=str(tmp_path / "done"), signal_name="SIGCONT")
    drawing = draw_with(hosts(1), work, stuck_s=2.0)
    assert len(drawing.pixels) == 2
    assert drawing.restarts.total() == 1


def test_when_no_worker_is_left_the_reason_is_told(hosts: Hosts):
    work = make_work(5, "tests.workers.models.LosingModel")
    with pytest.raises(ModelLostError, match=r"no worker is left.*illegal memory access"):
        draw_with(hosts(2), work, max_restarts=0)


def test_a_model_that_no_worker_can_load_is_an_error_and_is_tried_once_each(hosts: Hosts):
    work = make_work(5, "tests.workers.models.RefusingModel")
    with pytest.raises(ModelError, match="No weights of paint") as raised:
        draw_with(hosts(2), work)
    assert not isinstance(raised.value, ModelLostError)


def test_a_worker_that_would_draw_other_bits_draws_none(hosts: Hosts, tmp_path):
    file = tmp_path / "batch"
    file.write_text("8")
    work = make_work(5, "tests.workers.models.OtherBitsModel", file=str(file))
    file.write_text("4")
    with pytest.raises(ModelError, match=r"the plan has float32 in batches of 8.*batches of 4"):
        draw_with(hosts(1), work)


def test_a_model_that_must_be_planned_anew_says_so_and_loses_no_worker(hosts: Hosts):
    with pytest.raises(PlanOutdatedError, match="smaller batches"):
        draw_with(hosts(1), make_work(5, "tests.workers.models.OutdatedModel"), max_restarts=0)


def test_a_failing_request_fails_alone_and_its_error_is_kept(hosts: Hosts):
    work = make_work(["a fox", "a bad one"], fails_on="bad")
    drawing = draw_with(hosts(1), work)
    assert drawing.errors == {"a bad one": "ValueError: bad cannot be painted"}


def told(drawing: Any) -> set[str]:
    return set(drawing.errors.values())


def test_the_embedded_model_draws_the_same_pixels_on_two_workers():
    work = make_work(SUBJECTS, "tests.workers.models.open_small_tiny")
    drawing = draw_with(local_hosts(2), work)
    assert drawing.pixels == pixels_alone(work)
    assert len(drawing.by_worker) == 2


def test_cores_are_shared_out_and_a_model_may_print(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("promptlab.workers.local.usable_cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setenv("MKL_NUM_THREADS", "3")
    drawing = draw_with(local_hosts(2), make_work(4, "tests.workers.models.TellingModel"))
    assert told(drawing) == {"- 4 3"}


def test_each_gpu_has_a_worker_that_sees_it_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("promptlab.workers.local.visible_gpus", lambda: ["GPU-a", "GPU-b"])
    hosts = local_hosts(None)
    assert [host.name for host in hosts] == ["gpu 0", "gpu 1"]
    assert [host.name for host in local_hosts(3)] == ["gpu 0", "gpu 1", "gpu 0 (2)"]
    work = make_work(16, "tests.workers.models.TellingModel", delay_s=0.25)  # time for both
    drawing = draw_with(hosts, work)
    assert {text.split()[0] for text in told(drawing)} == {"GPU-a", "GPU-b"}


def test_a_device_that_cannot_draw_is_left_to_the_others(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("promptlab.workers.local.visible_gpus", lambda: ["GPU-a"])
    hosts = local_hosts(1)
    monkeypatch.setattr("promptlab.workers.local.visible_gpus", lambda: [])
    hosts += local_hosts(1)
    refusing = {"target": "tests.workers.models.RefusingModel", "is_refused_everywhere": False}
    drawing = draw_with(hosts, make_work(12, **refusing))
    assert drawing.by_worker == {"cpu 0": 12}

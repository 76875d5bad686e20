"""The stand-in refuses what a CUDA device refuses, so that the tests on it mean something."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.models.dalle.device import DeviceRuleError, StandIn


@pytest.fixture
def device() -> Iterator[StandIn]:
    with torch.inference_mode(), StandIn() as device:
        yield device


def test_host_and_device_do_not_mix(device: StandIn) -> None:
    x = torch.ones(3, device="cuda")
    assert x.is_cuda
    assert (x + 1).cpu().tolist() == [2, 2, 2]
    with pytest.raises(DeviceRuleError, match="mixes host and device"):
        x + torch.ones(3)


def test_a_replay_reads_what_lies_in_place_and_a_capture_changes_nothing(device: StandIn) -> None:
    x, y = torch.ones(3, device="cuda"), torch.zeros(3, device="cuda")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y.add_((x * 2).view(3))
    assert y.cpu().tolist() == [0, 0, 0]
    x.fill_(5)
    graph.replay()
    graph.replay()
    assert y.cpu().tolist() == [20, 20, 20]


def test_a_capture_holds_no_wait_and_no_copy(device: StandIn) -> None:
    x = torch.ones(3, device="cuda")
    for forbidden in (lambda: x.sum().item(), x.cpu, lambda: torch.ones(3).to("cuda")):
        with (
            pytest.raises(DeviceRuleError, match="in a capture"),
            torch.cuda.graph(torch.cuda.CUDAGraph()),
        ):
            forbidden()


def test_a_stream_that_reads_before_the_write_is_noticed(device: StandIn) -> None:
    side = torch.cuda.Stream()
    x = torch.ones(3, device="cuda")
    with torch.cuda.stream(side), pytest.raises(DeviceRuleError, match="runs ahead"):
        x + 1
    event = torch.cuda.Event()
    event.record()
    side.wait_event(event)
    with torch.cuda.stream(side):
        x + 1
    with pytest.raises(DeviceRuleError, match="runs ahead"):
        x.fill_(2)  # the side stream may still read it


def test_only_a_pinned_copy_is_queued_and_its_numbers_arrive_with_a_wait(device: StandIn) -> None:
    torch.ones(3).to("cuda", non_blocking=True)
    assert device.log == ["wait for a copy to the cuda"]
    x = torch.ones(3).pin_memory().to("cuda", non_blocking=True)
    target = torch.empty(3, pin_memory=True)
    target.copy_(x, non_blocking=True)
    assert target.tolist() != [1, 1, 1]
    torch.cuda.current_stream().synchronize()
    assert target.tolist() == [1, 1, 1]
    assert len(device.log) == 1


def test_memory_is_counted_and_fails_where_it_is_told_to(device: StandIn) -> None:
    before = device.allocated
    x = torch.ones(1000, device="cuda")
    view = x[10:]
    assert device.allocated - before == 4000
    del x
    assert device.allocated - before == 4000
    del view
    assert device.allocated == before
    device.fails_at = device.num_allocations + 1
    torch.ones(1, device="cuda")
    with pytest.raises(torch.OutOfMemoryError):
        torch.ones(1, device="cuda")

"""Blocks drawn side by side: every request once, in order, with the same bits on any machine."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from promptlab.models.dalle.cpu import lanes as lanes_module
from promptlab.models.dalle.cpu import strips
from promptlab.models.dalle.cpu.lanes import (
    CheckWanted,
    block_lengths,
    draw_side_by_side,
    map_side_by_side,
)
from promptlab.models.dalle.detokenizer import Detokenizer
from promptlab.records import Request, Result
from tests.models.dalle.tiny_models import make_runner, random_requests


@pytest.fixture(autouse=True)
def num_threads() -> Iterator[int]:
    before = torch.get_num_threads()
    yield before
    torch.set_num_threads(before)


@given(st.integers(0, 500), st.integers(1, 64), st.integers(1, 16))
def test_blocks_hold_every_request_and_leave_no_lane_idle_at_the_end(
    num_requests: int, most: int, num_lanes: int
) -> None:
    lengths = block_lengths(num_requests, most, num_lanes)
    assert sum(lengths) == num_requests
    assert all(1 <= length <= most for length in lengths)
    in_turn = [sum(lengths[lane::num_lanes]) for lane in range(num_lanes)]
    assert max(in_turn) - min(in_turn) <= 1
    fewest = -(-num_requests // most)
    assert len(lengths) < fewest + num_lanes, "blocks are no smaller than that takes"


def test_results_come_in_order_whichever_lane_is_faster() -> None:
    def slow(block: Sequence[Request], check_wanted: CheckWanted) -> list[Result]:
        time.sleep(0.05)
        return [Result(request, seconds=1.0) for request in block]

    def fast(block: Sequence[Request], check_wanted: CheckWanted) -> list[Result]:
        return [Result(request, seconds=1.0) for request in block]

    requests = random_requests(23, seed=1)
    results = list(draw_side_by_side(requests, 3, [slow, fast]))
    assert [result.request for result in results] == requests
    assert {result.seconds for result in results} == {0.5}  # two lanes share a second


def test_who_stops_asking_waits_for_no_block() -> None:
    has_begun = threading.Event()

    def endless(block: Sequence[Request], check_wanted: CheckWanted) -> list[Result]:
        has_begun.set()
        while block[0].image_id != requests[0].image_id:
            check_wanted()
            time.sleep(0.001)
        return [Result(request) for request in block]

    requests = random_requests(40, seed=2)
    results = draw_side_by_side(requests, 2, [endless, endless])
    assert next(results).request == requests[0]
    assert has_begun.wait(5)
    results.close()  # type: ignore[attr-defined]
    assert not any(thread.name.startswith("lane") for thread in threading.enumerate())


def test_a_lane_draws_a_failing_request_alone_and_goes_on() -> None:
    runner = make_runner(batch_size=4)
    good, bad = random_requests(10, seed=3), random_requests(1, seed=4)[0]
    broken = Request("bad", bad.prompt, 1, {**bad.params, "top_k": 10_000})
    results = list(runner.draw([*good[:5], broken, *good[5:]]))
    assert [result.request.image_id for result in results if result.error] == ["bad"]
    assert len(results) == 11


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_images_are_the_same_on_any_number_of_cores(dtype: str) -> None:
    requests = random_requests(21, seed=5)
    images = []
    for count in (1, 2, 5):
        torch.set_num_threads(count)
        runner = make_runner(dtype=dtype, batch_size=8)
        images.append([result.pixels for result in runner.draw(requests)])
        assert torch.get_num_threads() == count  # as it was before
    for others in images[1:]:
        for ours, theirs in zip(images[0], others, strict=True):
            assert np.array_equal(ours, theirs)


@given(st.lists(st.integers(), max_size=20), st.integers(1, 5))
def test_items_are_answered_in_order_each_in_one_thread(items: list[int], num_lanes: int) -> None:
    before = torch.get_num_threads()
    answers = map_side_by_side([lambda item: (item, torch.get_num_threads())] * num_lanes, items)
    assert answers == [(item, 1) for item in items]
    assert torch.get_num_threads() == before


def test_a_lane_answers_one_item_at_a_time() -> None:
    busy = [threading.Lock(), threading.Lock()]

    def answer(lock: threading.Lock, item: int) -> int:
        assert lock.acquire(blocking=False)
        time.sleep(0.001)
        lock.release()
        return -item

    lanes = [lambda item, lock=lock: answer(lock, item) for lock in busy]
    assert map_side_by_side(lanes, range(40)) == [-item for item in range(40)]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("least_numbers", [1, 10**9])
def test_a_large_model_detokenizes_with_one_thread_a_piece_on_any_number_of_cores(
    dtype: str, least_numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes_module, "WIDEST", 0)  # as if it were one
    monkeypatch.setattr(strips, "LARGE_NUMBERS", least_numbers)  # 1: all in strips
    monkeypatch.setattr(strips, "STRIP_NUMBERS", 4 * 20 * 8)  # of four rows at the last level
    real, threads = Detokenizer.embed, []

    def embed(self: Detokenizer, tokens: torch.Tensor) -> torch.Tensor:
        threads.append(torch.get_num_threads())  # pixels this small are the same in several, too
        return real(self, tokens)

    monkeypatch.setattr(Detokenizer, "embed", embed)
    pixels = []
    for count in (1, 2, 5):
        torch.set_num_threads(count)
        runner = make_runner(dtype=dtype)
        assert not runner.threads.is_side_by_side
        steps = runner.config.num_image_tokens
        generator = torch.Generator().manual_seed(7)
        pixels.append(runner.detokenize(torch.randint(96, (7, steps), generator=generator)))
    assert threads == [1] * 21
    assert pixels[0].std() > 5
    for others in pixels[1:]:
        assert np.array_equal(others, pixels[0])


def test_a_single_image_of_a_large_model_is_shared_by_all_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lanes_module, "WIDEST", 0)
    monkeypatch.setattr(strips, "LARGE_NUMBERS", 1)
    monkeypatch.setattr(strips, "STRIP_NUMBERS", 4 * 20 * 8)
    torch.set_num_threads(3)
    runner = make_runner()
    real, threads = strips.Statistics.of, []
    arrivals, together = itertools.count(), threading.Barrier(2)

    def measure(pixels: torch.Tensor) -> strips.Statistics:
        if threading.current_thread() is not threading.main_thread():
            if next(arrivals) < 2:
                together.wait(timeout=60)  # passes only when two threads are here
            threads.append(torch.get_num_threads())
        return real(pixels)

    monkeypatch.setattr(strips.Statistics, "of", staticmethod(measure))
    runner.detokenize(torch.zeros((1, runner.config.num_image_tokens), dtype=torch.int64))
    assert len(threads) > 10
    assert set(threads) == {1}


def test_a_drawing_that_is_given_up_puts_the_number_of_threads_back(num_threads: int) -> None:
    drawing = make_runner().draw(random_requests(30, seed=6))
    next(drawing)
    drawing.close()  # type: ignore[attr-defined]
    assert torch.get_num_threads() == num_threads

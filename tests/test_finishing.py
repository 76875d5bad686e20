"""Every result that is taken is delivered, finished, whatever happens while the next is drawn."""

import dataclasses
import threading
import time
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from promptlab.finishing import MIN_QUEUED, finish, finishing
from promptlab.png import hash_pixels
from promptlab.records import Numerics, Request, Result, Source

NUMERICS = Numerics("cpu", "float32")


def result(seed):
    pixels = np.full((4, 6, 3), 1 + seed, np.uint8)
    return Result(Request(f"{seed:016x}", "a fox", seed, {}), pixels)


def test_images_are_delivered_in_order_on_another_thread():
    seen = []
    with finishing(lambda drawn: seen.append((drawn, threading.current_thread()))) as take:
        for seed in range(200):
            take(result(seed), NUMERICS)
    assert [drawn.request.seed for drawn, _ in seen] == list(range(200))
    assert {thread for _, thread in seen}.isdisjoint({threading.main_thread()})
    assert [drawn.facts.sha256 for drawn, _ in seen] == [
        hash_pixels(result(seed).pixels) for seed in range(200)
    ]


def test_a_model_may_draw_every_image_into_the_same_array():
    seen = []
    pixels = np.empty((4, 6, 3), np.uint8)
    with finishing(seen.append) as take:
        for seed in range(50):
            pixels[:] = 1 + seed
            take(dataclasses.replace(result(seed), pixels=pixels), NUMERICS)
    assert [drawn.facts.sha256 for drawn in seen] == [
        hash_pixels(result(seed).pixels) for seed in range(50)
    ]


def test_an_image_is_delivered_before_the_next_is_drawn():
    delivered = threading.Event()
    with finishing(lambda drawn: delivered.set()) as take:
        take(result(0), NUMERICS)
        assert delivered.wait(10)


def test_ctrl_c_loses_no_image_that_was_drawn():
    seen = []

    def deliver(drawn):
        time.sleep(0.01)
        seen.append(drawn)

    def draw_and_stop():
        with finishing(deliver) as take:
            for seed in range(20):
                take(result(seed), NUMERICS)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw_and_stop()
    assert len(seen) == 20


def test_what_delivering_raises_ends_the_drawing():
    def refuse(drawn):
        raise OSError("the disk is full")

    def draw(number):
        with finishing(refuse) as take:
            for seed in range(number):
                take(result(seed), NUMERICS)

    with pytest.raises(OSError, match="disk is full"):
        draw(1)
    with pytest.raises(OSError, match="disk is full"):
        draw(10_000)


def test_the_facts_are_those_of_the_result_its_source_and_whoever_drew_it():
    source = Source("f" * 16, "0" * 64, b"")
    request = Request("0" * 16, "a fox", 0, {}, source)
    pixels = np.ones((4, 6, 3), np.uint8)
    drawn = finish(Result(request, pixels, cost_usd=0.04), Numerics("cpu", "bfloat16"))
    facts = drawn.facts
    assert (facts.width, facts.height, facts.dtype) == (6, 4, "bfloat16")
    assert (facts.source_id, facts.cost_usd) == ("f" * 16, 0.04)
    failed = finish(Result(request, error="no"), NUMERICS)
    assert (failed.body, failed.facts.status, failed.facts.sha256) == (None, "failed", None)


def test_what_delivering_raises_is_logged_when_ctrl_c_comes_first(caplog):
    def refuse(drawn):
        time.sleep(0.05)
        raise OSError("the disk is full")

    def draw_and_stop():
        with finishing(refuse) as take:
            take(result(0), NUMERICS)
            take(result(1), NUMERICS)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw_and_stop()
    assert [record.message for record in caplog.records] == ["the disk is full"]


def test_a_burst_is_encoded_by_several_threads_and_delivered_in_order(monkeypatch):
    together, seen = threading.Barrier(3), []

    def finish_with_others(taken, numerics):
        if taken.request.seed < 3:
            together.wait(timeout=30)  # passes only while three images are encoded at once
        time.sleep(0.001 * (10 - taken.request.seed))
        return finish(taken, numerics)

    monkeypatch.setattr("promptlab.finishing.usable_cores", lambda: 8)
    monkeypatch.setattr("promptlab.finishing.finish", finish_with_others)
    with finishing(seen.append) as take:
        for seed in range(10):
            take(result(seed), NUMERICS)
    assert [drawn.request.seed for drawn in seen] == list(range(10))


def test_a_block_of_128_images_is_taken_without_waiting_for_the_encoder(monkeypatch):
    may_encode = threading.Event()

    def finish_later(taken, numerics):
        assert may_encode.wait(30)
        return finish(taken, numerics)

    monkeypatch.setattr("promptlab.finishing.finish", finish_later)
    seen = []
    pixels = np.full((256, 256, 3), 7, np.uint8)
    with finishing(seen.append) as take:
        for seed in range(300):
            take(Result(Request(f"{seed:016x}", "a fox", seed, {}), pixels), NUMERICS)
        may_encode.set()
    assert len(seen) == 300


def test_every_fact_of_a_result_and_its_source_is_kept():
    source = Source("f" * 16, "1" * 64, is_repeatable=False)
    request = Request("0" * 16, "a fox", 0, {}, source)
    given = Result(
        request,
        np.ones((4, 6, 3), np.uint8),
        flag="odd \udce9",
        seconds=1.5,
        batch_size=7,
        is_prompt_truncated=True,
        unseen="the end \udce9",
        cost_usd=0.5,
    )
    facts = finish(given, Numerics("http", "bfloat16")).facts
    assert (facts.status, facts.error) == ("flagged", "odd \\udce9")
    assert (facts.prompt_truncated, facts.unseen) == (True, "the end \\udce9")
    assert (facts.seconds, facts.batch_size, facts.cost_usd) == (1.5, 7, 0.5)
    assert (facts.device, facts.dtype, facts.numerics) == ("http", "bfloat16", "")
    assert (facts.source_id, facts.source_sha256) == (source.image_id, source.sha256)
    assert facts.is_source_repeatable is False
    age = datetime.now(UTC) - facts.created_at
    assert timedelta(0) <= age < timedelta(minutes=1)


def test_no_more_images_wait_than_their_memory_allows(monkeypatch):
    """Of large images a few wait for the encoder; of any, sixteen may."""
    monkeypatch.setattr("promptlab.finishing.MAX_QUEUED_BYTES", 1)
    may_encode, num_taken = threading.Event(), 0

    def finish_later(taken, numerics):
        assert may_encode.wait(30)
        return finish(taken, numerics)

    monkeypatch.setattr("promptlab.finishing.finish", finish_later)

    def take_all():
        nonlocal num_taken
        with finishing(lambda drawn: None) as take:
            for seed in range(40):
                take(result(seed), NUMERICS)
                num_taken += 1

    thread = threading.Thread(target=take_all)
    thread.start()
    thread.join(0.3)
    assert num_taken == MIN_QUEUED
    may_encode.set()
    thread.join()
    assert num_taken == 40

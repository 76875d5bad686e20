"""Drawing on the stand-in for a CUDA device: which images, in which order, at what cost."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch

from promptlab.models.dalle.cuda import graphs, sizes
from promptlab.models.dalle.cuda.graphs import GraphDecoder
from promptlab.models.dalle.cuda.runner import CudaRunner
from promptlab.models.dalle.tokenizer import WordTokenizer
from promptlab.records import Request, Result
from tests.models.dalle.device import StandIn
from tests.models.dalle.tiny_models import (
    TINY,
    VOCAB,
    make_runner,
    random_requests,
    random_tensors,
    vary,
)

DTYPES = ("float32", "bfloat16", "float16")


@pytest.fixture
def device() -> Iterator[StandIn]:
    with StandIn() as device:
        yield device


@pytest.fixture(autouse=True)
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small shapes, so that a CPU is quick; three buckets, so that graphs follow one another."""
    monkeypatch.setattr(sizes, "MOST_IMAGES", 4)
    monkeypatch.setattr(graphs, "BUCKET", 10)


def cuda_runner(dtype: str = "float32", batch_size: int | None = None) -> CudaRunner:
    tokenizer = WordTokenizer(VOCAB, TINY.text_length)
    return CudaRunner(TINY, random_tensors(TINY), tokenizer, dtype, batch_size)


def tokens_of(runner: CudaRunner, requests: Sequence[Request]) -> torch.Tensor:
    prompts = [runner.tokenizer.tokenize(request.prompt).ids for request in requests]
    return runner.decode(requests, prompts).cpu()


def pixels_of(results: Sequence[Result]) -> dict[str, bytes]:
    assert all(result.error is None for result in results)
    return {r.request.image_id: r.pixels.tobytes() for r in results if r.pixels is not None}


@pytest.mark.parametrize(
    "dtype", ["float32", *(pytest.param(d, marks=pytest.mark.slow) for d in DTYPES[1:])]
)
def test_captured_steps_sample_the_tokens_of_uncaptured_ones(
    dtype: str, device: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = random_requests(7, seed=6)
    batches = [requests[:4], requests[4:5], requests[5:]]
    runner = cuda_runner(dtype)
    captured = torch.cat([tokens_of(runner, batch) for batch in batches])
    assert device.count["capture"] == len(runner._graphs._graphs) >= 3 * 3
    assert device.count["replay"] == 3 * TINY.num_image_tokens
    monkeypatch.setattr(GraphDecoder, "_capture", lambda *_: None)
    runner = cuda_runner(dtype)
    plain = torch.cat([tokens_of(runner, batch) for batch in batches])
    assert torch.equal(captured, plain)
    assert len(plain.unique()) > 20


def test_the_tokens_are_those_of_the_cpu(device: StandIn) -> None:
    requests = random_requests(4, seed=6)
    ours = tokens_of(cuda_runner(), requests)
    cpu = make_runner()
    prompts = [cpu.tokenizer.tokenize(request.prompt).ids for request in requests]
    is_same = ours == cpu.decode(requests, prompts)
    assert is_same.float().mean() > 0.99  # a draw at a boundary may fall either way


@pytest.mark.parametrize("dtype", DTYPES[:2])
def test_an_image_is_the_same_in_any_block(dtype: str, device: StandIn) -> None:
    requests = random_requests(6, seed=1)
    runner = cuda_runner(dtype)
    alone = pixels_of([next(runner.draw([request])) for request in requests])
    assert len(set(alone.values())) > 4
    choose = random.Random(2)
    for _ in range(4):
        batch = choose.sample(requests, choose.randint(2, 6))
        for image_id, pixels in pixels_of(list(runner.draw(batch))).items():
            assert pixels == alone[image_id]


def test_a_variation_keeps_its_parents_rows_in_any_block(device: StandIn) -> None:
    requests = random_requests(6, seed=5)
    runner = cuda_runner()
    (parent,) = runner.draw(requests[:1])
    mixed = [
        vary(request, parent, [0.4, 1.0][index % 2]) if index % 3 else request
        for index, request in enumerate(requests)
    ]
    (kept,) = tokens_of(runner, [parent.request])
    for request, tokens in zip(mixed[:4], tokens_of(runner, mixed[:4]), strict=True):
        has_kept = request.params.get("strength") == 0.4
        assert torch.equal(tokens[:15], kept[:15]) == (has_kept or request is requests[0])
    alone = pixels_of([next(runner.draw([request])) for request in mixed])
    assert pixels_of(list(runner.draw(mixed[::-1]))) == alone
    fresh = pixels_of(list(runner.draw([r for i, r in enumerate(requests) if i in (1, 5)])))
    assert all(alone[image_id] == pixels for image_id, pixels in fresh.items())


def test_where_attention_is_not_exact_every_block_has_one_shape(
    device: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = random_requests(3, seed=1)
    expected = pixels_of(list(cuda_runner().draw(requests)))
    monkeypatch.setattr("promptlab.models.dalle.cuda.runner.attention_is_exact", lambda _: False)
    runner = cuda_runner()
    for batch in (requests[:1], requests[1:]):
        drawn = pixels_of(list(runner.draw(batch)))
        assert all(expected[image_id] == pixels for image_id, pixels in drawn.items())
    shapes = set(runner._graphs._graphs)
    assert {shape.num_images for shape in shapes} == {4}
    assert {shape.text_length for shape in shapes} == {TINY.text_length}


def test_attention_that_depends_on_its_neighbours_is_noticed(
    device: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.models.dalle import device as stand_in

    exact = stand_in.attention
    assert cuda_runner().shapes_vary
    monkeypatch.setattr(
        stand_in, "attention", lambda q, *rest, **more: exact(q, *rest, **more) + len(q) * 1e-6
    )
    assert not cuda_runner().shapes_vary


def test_a_block_is_finished_while_the_next_one_is_computed(device: StandIn) -> None:
    requests = random_requests(12, seed=3)
    runner = cuda_runner()
    list(runner.draw(requests[:1]))
    device.log.clear()
    moments, before = [], device.count["replay"]
    for result in runner.draw(requests):
        moments.append(device.count["replay"])
        assert result.error is None
    steps = TINY.num_image_tokens
    # Each block but the last is finished after the next one was queued.
    assert [moments[first] - before for first in (0, 4, 8)] == [2 * steps, 3 * steps, 3 * steps]
    waits = [entry for entry in device.log if entry.startswith("wait")]
    assert waits == [], "the host waits for pixels alone"


def test_nothing_but_pixels_and_tokens_is_waited_for(device: StandIn) -> None:
    runner = cuda_runner()
    device.log.clear()
    num_copies = device.count["to host"]
    list(runner.draw(random_requests(4, seed=3)))
    assert not [entry for entry in device.log if entry.startswith("wait")]
    assert device.count["to host"] - num_copies == 2
    assert [entry for entry in device.log if entry.startswith("record_stream")]


def test_warming_up_takes_one_stream(device: StandIn) -> None:
    runner = cuda_runner()
    for batch in (1, 3):
        list(runner.draw(random_requests(batch, seed=batch)))
    assert device.count["capture"] >= 6
    assert len(device.streams) == 3  # the device's own, the detokenizer's, and that of captures


def test_captured_steps_are_dropped_before_they_fill_the_memory(
    device: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "MOST_GRAPHS", 6)
    requests = random_requests(4, seed=3)
    runner = cuda_runner()
    expected = pixels_of(list(runner.draw(requests)))
    for batch in (requests[:2], requests[:1], requests):
        drawn = pixels_of(list(runner.draw(batch)))
        assert drawn == {image_id: expected[image_id] for image_id in drawn}
        assert len(runner._graphs._graphs) <= 6
    assert device.count["capture"] > 6


def test_an_image_whose_numbers_overflow_fails_alone(device: StandIn) -> None:
    requests = random_requests(4, seed=3)
    runner = cuda_runner("float16")
    expected = pixels_of(list(runner.draw(requests)))
    tokens = [set(row.tolist()) for row in tokens_of(runner, requests)]
    own = min(tokens[1] - tokens[0] - tokens[2] - tokens[3])
    with torch.inference_mode():
        runner.detokenizer.embedding[own].fill_(6e4)
    results = list(runner.draw(requests))
    assert [result.error is not None for result in results] == [False, True, False, False]
    assert "not finite" in results[1].error
    assert results[1].pixels is None
    for result in (results[0], *results[2:]):
        assert result.pixels.tobytes() == expected[result.request.image_id]


def test_loading_computes_next_to_nothing_and_small_jobs_use_few_rows(device: StandIn) -> None:
    runner = cuda_runner()
    kernels = device.count["kernel"]
    runner.detokenize(torch.zeros((4, 25), dtype=torch.int64, device="cuda"))
    a_batch_of_pixels = device.count["kernel"] - kernels
    assert kernels - a_batch_of_pixels < 2 * len(random_tensors(TINY))  # and one attention
    list(runner.draw(random_requests(1, seed=3)))
    assert {shape.num_images for shape in runner._graphs._graphs} == {1}
    held = sum(tensor.inner.numel() for tensor in runner._graphs._image_cache)
    assert held == 2 * 2 * TINY.num_decoder_layers * TINY.num_image_tokens * TINY.width


def test_previews_show_the_images_so_far_and_change_nothing(device: StandIn) -> None:
    requests = random_requests(3, seed=4)
    runner = cuda_runner()
    seen: list[int] = []

    def on_preview(num_tokens: int, batch: Sequence[Request], pixels: np.ndarray) -> None:
        seen.append(num_tokens)
        assert list(batch) == requests
        assert pixels.shape == (3, 20, 20, 3)
        assert pixels.std() > 1

    results = list(runner.draw_with_previews(requests, on_preview, every=10))
    assert seen == [10, 20]
    assert pixels_of(results) == pixels_of(list(runner.draw(requests)))


def test_a_seamless_picture_of_one_image_is_that_image(device: StandIn) -> None:
    runner = cuda_runner()
    requests = random_requests(6, seed=5)
    picture = runner.draw_seamless(requests, num_columns=3)
    assert picture.shape == (40, 60, 3)
    one = runner.draw_seamless(requests[:1], num_columns=1)
    (alone,) = runner.draw(requests[:1])
    assert abs(one.astype(int) - alone.pixels).max() <= 1  # a batch of one is another shape


def test_seconds_add_up_to_the_time_of_the_drawing(device: StandIn) -> None:
    import time

    runner = cuda_runner()
    list(runner.draw(random_requests(1, seed=3)))
    since = time.perf_counter()
    results = list(runner.draw(random_requests(9, seed=3)))
    elapsed = time.perf_counter() - since
    assert 0.8 * elapsed < sum(result.seconds for result in results) <= elapsed


def test_unloading_frees_the_device_for_the_next_model(device: StandIn) -> None:
    for dtype in ("float32", "float16"):
        runner = cuda_runner(dtype)
        list(runner.draw(random_requests(5, seed=3)))
        assert device.allocated > 0
        runner.close()
        del runner
        assert device.allocated == device.reserved == 0


def test_memory_counted_beforehand_covers_what_is_allocated(device: StandIn) -> None:
    runner = cuda_runner()
    weights = device.allocated
    assert weights >= sizes.weight_bytes(TINY, torch.float32)
    list(runner.draw(random_requests(4, seed=3)))
    caches = [runner._graphs._image_cache, runner._graphs._text_cache, runner._graphs._empty_cache]
    cached = sum(tensor.inner.nbytes for cache in caches for tensor in cache)
    assert cached == 4 * sizes.cache_bytes(TINY, torch.float32)
    counted = sizes.needed_bytes(TINY, torch.float32, 4) - sizes.FIXED_BYTES
    assert device.reserved - weights <= counted - sizes.weight_bytes(TINY, torch.float32)


def test_global_switches_are_set_for_the_engine_alone(device: StandIn) -> None:
    from promptlab.models.dalle.precision import get_tf32

    matmul = torch.backends.cuda.matmul
    before = get_tf32(), matmul.allow_fp16_reduced_precision_reduction
    results = cuda_runner("float16").draw(random_requests(5, seed=3))
    next(results)  # what is set during a call is put back while the caller works
    assert (get_tf32(), matmul.allow_fp16_reduced_precision_reduction) == before
    list(results)
    assert (get_tf32(), matmul.allow_fp16_reduced_precision_reduction) == before


def test_texts_are_read_at_the_padded_length_of_the_block(device: StandIn) -> None:
    config = dataclasses.replace(TINY, text_length=64)
    tokenizer = WordTokenizer(VOCAB, 64)
    runner = CudaRunner(config, random_tensors(config), tokenizer, "float32")
    short = dataclasses.replace(random_requests(1, seed=1)[0], image_id="short", prompt="w5 w6")
    long = dataclasses.replace(short, image_id="long", prompt=" ".join(["w7"] * 20))
    beside = pixels_of(list(runner.draw([short, long])))
    assert {shape.text_length for shape in runner._graphs._graphs} == {32}
    alone = pixels_of(list(runner.draw([short])))
    assert {shape.text_length for shape in runner._graphs._graphs} == {16, 32}
    assert beside["short"] == alone["short"]

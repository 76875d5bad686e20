"""A CUDA device that runs out of memory, computes NaN, or stops: nothing drawn is lost or wrong."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from promptlab.errors import ModelError, ModelLostError
from promptlab.models.batching import is_out_of_memory
from promptlab.models.dalle.config import MIN_DALLE_MEGA, DetokenizerConfig
from promptlab.models.dalle.cuda import sizes
from promptlab.models.dalle.cuda.overlap import draw_overlapped
from promptlab.models.dalle.cuda.runner import CudaRunner
from promptlab.models.dalle.model import DalleModel
from promptlab.models.dalle.tokenizer import WordTokenizer
from promptlab.records import Request, Result
from tests.models.dalle.device import GIB, StandIn
from tests.models.dalle.tiny_models import TINY, VOCAB, random_requests, random_tensors

SMALLEST = dataclasses.replace(
    TINY,
    num_decoder_layers=1,
    image_grid=2,
    detokenizer=DetokenizerConfig(
        vocab_size=96,
        embed_width=8,
        channels=(8,),
        blocks_per_level=1,
        attention_levels=(),
        mid_attention=False,
        norm_groups=2,
    ),
)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    monkeypatch.setattr(sizes, "MOST_IMAGES", 4)
    with StandIn() as device:
        yield device


def smallest_runner(batch_size: int | None = None) -> CudaRunner:
    tokenizer = WordTokenizer(VOCAB, SMALLEST.text_length)
    return CudaRunner(SMALLEST, random_tensors(SMALLEST), tokenizer, "float32", batch_size)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("stride", [13, pytest.param(1, marks=pytest.mark.slow)])
def test_memory_may_run_out_at_any_one_allocation(stride: int, device: StandIn) -> None:
    requests = [dataclasses.replace(r, prompt="w5") for r in random_requests(3, seed=1)]
    runner = smallest_runner(batch_size=2)
    before = device.num_allocations
    expected = [result.pixels.tobytes() for result in runner.draw(requests)]
    num_allocations = device.num_allocations - before
    assert num_allocations > 100
    sizes_seen = set()
    for number in range(0, num_allocations, stride):
        runner.shrink(4)  # nothing is captured, two images fit again
        runner._most = 2
        device.fails_at = device.num_allocations + number
        results = list(runner.draw(requests))
        assert [result.request for result in results] == requests, number
        assert [result.error for result in results] == [None] * 3, number
        assert [result.pixels.tobytes() for result in results] == expected, number
        sizes_seen.add(runner.most())
    assert sizes_seen == {
        1,
        2,
    }  # a fault in a block of two halves it, one in the last image does not


def test_a_decoder_that_does_not_fit_makes_room_before_a_smaller_one_is_built(
    device: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    from promptlab.models.dalle.cuda import runner as module

    alive: list[int] = []

    class Counted(module.GraphDecoder):
        def __init__(self, decoder, padded, num_images, *rest):
            alive.append(num_images)
            if num_images > 1:
                self.ballast = torch.zeros(GIB // 8, device="cuda")
                raise torch.OutOfMemoryError("CUDA out of memory.")
            assert device.allocated < GIB // 8, "the larger decoder is still held"
            super().__init__(decoder, padded, num_images, *rest)

    monkeypatch.setattr(module, "GraphDecoder", Counted)
    results = list(smallest_runner().draw(random_requests(4, seed=1)))
    assert [result.error for result in results] == [None] * 4
    assert alive == [4, 2, 1]


def test_pixels_make_room_by_dropping_captured_steps(device: StandIn) -> None:
    requests = random_requests(4, seed=1)
    runner = smallest_runner()
    expected = [result.pixels.tobytes() for result in runner.draw(requests)]
    detokenizer = runner.detokenizer

    def only_without_graphs(tokens: torch.Tensor) -> torch.Tensor:
        assert len(tokens) == sizes.DETOKENIZED_IMAGES, "another shape has other bits"
        if runner._graphs is not None:
            raise RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")
        return detokenizer(tokens)

    only_without_graphs.embedding = detokenizer.embedding  # type: ignore[attr-defined]
    runner.detokenizer = only_without_graphs  # type: ignore[assignment]
    device.count.clear()
    results = list(runner.draw(requests))
    assert [result.pixels.tobytes() for result in results] == expected
    assert device.count["replay"] == SMALLEST.num_image_tokens, "no token is sampled twice"


@pytest.mark.parametrize(
    "message",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "GET was unable to find an engine to execute this computation",
        "CUDA error: operation failed due to a previous error during capture",
    ],
)
def test_libraries_that_run_out_of_memory_are_understood(message: str) -> None:
    assert is_out_of_memory(RuntimeError(message))
    assert not is_out_of_memory(ValueError(message))


@pytest.mark.parametrize("name", ["decoder.lm_head.weight", "decoder.layers.0.glu.fc2.weight"])
def test_numbers_that_are_not_finite_fail_their_image_alone(name: str, device: StandIn) -> None:
    requests = random_requests(6, seed=1)
    runner = smallest_runner()
    expected = [result.pixels.tobytes() for result in runner.draw(requests)]
    poisoned = dataclasses.replace(
        requests[1],
        image_id="poisoned",
        params={**requests[1].params, "supercondition_factor": float("nan")},
    )
    results = list(runner.draw([requests[0], poisoned, *requests[1:]]))
    assert [result.request.image_id for result in results if result.error] == ["poisoned"]
    assert "not finite" in results[1].error
    assert results[1].pixels is None
    assert [result.pixels.tobytes() for result in results if result.pixels is not None] == expected


def test_a_block_begins_without_the_numbers_of_the_last_one(device: StandIn) -> None:
    requests = random_requests(4, seed=1)
    runner = smallest_runner()
    expected = [result.pixels.tobytes() for result in runner.draw(requests)]
    with torch.inference_mode():
        for cache in runner._graphs._image_cache:
            cache.fill_(torch.nan)
    assert [result.pixels.tobytes() for result in runner.draw(requests)] == expected


class Recorder:
    """Stands for a device: notes what is queued and finished, and fails where it is told to."""

    def __init__(self, size: int, most: int = 100, bad: str = "", reason: str = "bad request"):
        self.size, self.limit, self.bad, self.reason = size, most, bad, reason
        self.events: list[str] = []

    def most(self) -> int:
        return self.size

    def queue(self, batch: Sequence[Request]) -> Sequence[Request]:
        self.events.append(f"queue {len(batch)}")
        if len(batch) > self.limit:
            raise torch.OutOfMemoryError("out of memory")
        return batch

    def finish(self, batch: Sequence[Request]) -> list[Result]:
        self.events.append(f"finish {len(batch)}")
        if any(request.image_id == self.bad for request in batch):
            raise RuntimeError(self.reason)
        return [Result(request, pixels=np.zeros((1, 1, 3), np.uint8)) for request in batch]

    def shrink(self, num_images: int) -> None:
        self.events.append(f"shrink {num_images}")
        self.size = max(1, num_images // 2)


def test_a_block_is_finished_after_the_next_one_is_queued() -> None:
    recorder = Recorder(2)
    requests = random_requests(5, seed=1)
    assert [r.request for r in draw_overlapped(requests, recorder)] == requests
    assert recorder.events == [
        "queue 2", "queue 2", "finish 2", "queue 1", "finish 2", "finish 1"
    ]  # fmt: skip


@pytest.mark.parametrize("most", [0, 1, 2, 3])
def test_results_stay_in_order_whatever_fails(most: int) -> None:
    requests = random_requests(13, seed=1)
    results = list(draw_overlapped(requests, Recorder(8, most=most)))
    assert [result.request for result in results] == requests
    assert all((result.error is None) == (most > 0) for result in results)


def test_a_bad_request_fails_alone() -> None:
    requests = random_requests(9, seed=1)
    results = list(draw_overlapped(requests, Recorder(4, bad=requests[4].image_id)))
    assert [result.request for result in results] == requests
    errors = [r.request.image_id for r in results if r.error is not None]
    assert errors == [requests[4].image_id]


def test_a_device_that_stops_keeps_what_was_drawn_and_tries_no_more() -> None:
    requests = random_requests(9, seed=1)
    reason = "CUDA error: device-side assert triggered"
    recorder = Recorder(2, bad=requests[4].image_id, reason=reason)
    drawing = draw_overlapped(requests, recorder)
    assert [next(drawing).request for _ in range(4)] == requests[:4]
    with pytest.raises(ModelLostError, match="device-side assert"):
        next(drawing)
    assert recorder.events.count("queue 2") == 4


def test_nothing_to_draw_draws_nothing() -> None:
    assert list(draw_overlapped([], Recorder(4))) == []


@pytest.mark.parametrize(
    ("gib", "dtype", "expected"),
    [
        (80, "bfloat16", 128),
        (24, "float16", 64),
        (16, "float16", 64),
        (12, "float16", 32),
        (8, "float16", 4),
    ],
)
def test_the_padded_block_of_mega_fits_the_card(gib: int, dtype: str, expected: int) -> None:
    kind = getattr(torch, dtype)
    assert sizes.padded_images(MIN_DALLE_MEGA, kind, gib * GIB) == expected
    assert sizes.needed_bytes(MIN_DALLE_MEGA, kind, expected) < gib * GIB
    # Memory that other programs hold makes blocks smaller, never impossible.
    assert sizes.images_that_fit(MIN_DALLE_MEGA, kind, expected, 0, most=128) == 1


@pytest.mark.parametrize(("fitting", "most", "expected"), [(100, 12, 12), (15, 12, 8), (3, 128, 2)])
def test_a_block_rounded_up_to_a_power_of_two_fits_the_free_memory(
    fitting: int, most: int, expected: int
) -> None:
    config, kind = MIN_DALLE_MEGA, torch.float16
    free = 64 * sizes.row_bytes(config, kind) + fitting * sizes.cache_bytes(config, kind)
    free += sizes.detokenizer_bytes(config, kind) + sizes.encoder_bytes(config, kind)
    free = int(free / sizes.USABLE_SHARE) + 1000
    assert sizes.images_that_fit(config, kind, 64, free, most) == expected


def test_previews_survive_memory_that_runs_out(device: StandIn) -> None:
    requests = random_requests(4, seed=1)
    runner = smallest_runner()
    expected = [result.pixels.tobytes() for result in runner.draw(requests)]
    runner.shrink(8)
    runner._most = 4
    device.fails_at = device.num_allocations + 60
    results = list(runner.draw_with_previews(requests, lambda *_: None, every=1))
    assert [result.pixels.tobytes() for result in results] == expected
    assert device.num_allocations > device.fails_at
    assert runner._graphs.num_images == 2


def test_a_card_that_is_too_small_says_so_before_weights_are_asked_for() -> None:
    def locate() -> Path:
        raise AssertionError("this may download gigabytes")

    model = DalleModel(MIN_DALLE_MEGA, locate, device="cuda", dtype="float16")
    with StandIn(total_bytes=6 * GIB), pytest.raises(ModelError) as caught:
        model.load()
    message = str(caught.value)
    assert "needs 7.6 GiB" in message
    assert "has 6.0 GiB" in message
    assert "min_dalle_mini in float16" in message

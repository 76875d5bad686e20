"""A CUDA device that runs out of memory, computes NaN, or stops: nothing drawn is lost or wrong."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

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
from tests.models.dalle.device import GIB, Graph, StandIn
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
@pytest.mark.parametrize("stride", [29, pytest.param(1, marks=pytest.mark.slow)])
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
        assert len(tokens) == sizes.detokenized_images(4), "another shape has other bits"
        if runner._graphs is not None:
            raise RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")
        return detokenizer.paint(tokens)

    replace_painting(runner, only_without_graphs)
    device.count.clear()
    results = list(runner.draw(requests))
    assert [result.pixels.tobytes() for result in results] == expected
    assert device.count["replay"] == SMALLEST.num_image_tokens, "no token is sampled twice"


def replace_painting(runner: CudaRunner, paint: Callable[[torch.Tensor], torch.Tensor]) -> None:
    embedding = runner.detokenizer.embedding
    runner.detokenizer = SimpleNamespace(embedding=embedding, paint=paint)  # type: ignore[assignment]


def test_pixels_without_any_memory_stop_the_model_before_more_is_decoded(device: StandIn) -> None:
    requests = random_requests(20, seed=1)
    runner = smallest_runner(batch_size=2)
    drawing = runner.draw(requests)
    assert [next(drawing).error, next(drawing).error] == [None, None]

    def never(tokens: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")

    replace_painting(runner, never)
    device.count.clear()
    with pytest.raises(ModelLostError, match=r"for pixels: RuntimeError: cuDNN error.*close other"):
        list(drawing)
    assert device.count["replay"] == SMALLEST.num_image_tokens, "one block was queued meanwhile"


def test_pixels_are_begun_only_with_memory_for_all_of_them(device: StandIn) -> None:
    runner = smallest_runner()
    tokens = torch.zeros((4, SMALLEST.num_image_tokens), dtype=torch.int64, device="cuda")
    runner.detokenize(tokens)
    needed = sizes.detokenizer_bytes(SMALLEST, torch.float32, runner.padded)
    device.total_bytes = device.allocated + needed - 1
    before = device.count["convolution"]
    with pytest.raises(torch.OutOfMemoryError):
        runner.detokenize(tokens)
    assert device.count["convolution"] == before > 0


def test_a_full_card_is_named_while_the_model_is_loaded(device: StandIn) -> None:
    smallest_runner().close()
    num_allocations = device.num_allocations
    for number in range(0, num_allocations, 7):
        device.fails_at = device.num_allocations + number
        with pytest.raises(
            ModelError, match=r"in float32 needs .* of the card's 80.0 GiB are free"
        ):
            smallest_runner()
        assert device.allocated == device.reserved == 0, number


def test_after_a_capture_that_fails_work_goes_to_the_stream_of_before(device: StandIn) -> None:
    requests = random_requests(2, seed=1)
    expected = [result.pixels.tobytes() for result in smallest_runner().draw(requests)]
    runner, before = smallest_runner(), device.stream
    device.breaks_capture = True
    results = list(runner.draw(requests))
    assert [result.pixels.tobytes() for result in results] == expected
    assert runner.most() == 1, "as after a lack of memory, which this often is"
    assert device.stream is before


def test_graphs_are_kept_until_nothing_runs_in_them(device: StandIn) -> None:
    runner = smallest_runner()
    queued = runner.queue(random_requests(2, seed=1))
    later = runner.queue(random_requests(4, seed=2))  # needs a larger decoder
    assert [result.error for block in (queued, later) for result in runner.finish(block)] == (
        [None] * 6
    )
    runner.queue(random_requests(2, seed=3))
    runner.shrink(4)
    assert not device.violations


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


def test_a_model_on_a_device_that_stopped_can_be_unloaded(
    device: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = smallest_runner()

    def stopped(*_: object) -> None:
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(Graph, "replay", stopped)
    monkeypatch.setattr(torch.cuda, "synchronize", stopped)
    with pytest.raises(ModelLostError, match="device-side assert"):
        list(runner.draw(random_requests(1, seed=1)))
    runner.close()  # its error would take the place of the one before


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
    free += sizes.detokenizer_bytes(config, kind, 64) + sizes.encoder_bytes(config, kind)
    free = int((free + sizes.GRAPH_BYTES) / sizes.USABLE_SHARE) + 1000
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
    assert "needs 6.9 GiB" in message
    assert "has 6.0 GiB" in message
    assert "min_dalle_mini in float16" in message

"""A request's image is the same bit for bit: alone, anywhere in a batch, beside anything."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from promptlab.models.dalle.config import MIN_DALLE_MINI
from promptlab.models.dalle.cpu.linear import Linear, exact_gelu_
from promptlab.models.dalle.cpu_runner import CpuRunner
from promptlab.models.dalle.tokenizer import WordTokenizer
from tests.models.dalle.tiny_models import TINY, VOCAB, make_runner, random_requests, random_tensors

NUM_COMPOSITIONS = 200
FEW = 30  # each of the 24 requests at six places, beside nearly all others


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def runner(request: pytest.FixtureRequest) -> CpuRunner:
    return make_runner(dtype=request.param, batch_size=12)


@pytest.mark.parametrize(
    "num_compositions", [FEW, pytest.param(NUM_COMPOSITIONS, marks=pytest.mark.slow)]
)
def test_random_compositions_give_the_images_drawn_alone(
    num_compositions: int, runner: CpuRunner
) -> None:
    requests = random_requests(24, seed=1)
    alone = {request.image_id: runner.draw_block([request])[0].pixels for request in requests}
    assert len({pixels.tobytes() for pixels in alone.values() if pixels is not None}) > 20
    choose = random.Random(2)
    for _ in range(num_compositions):
        batch = choose.sample(requests, choose.randint(1, 12))
        for result in runner.draw_block(batch):
            assert np.array_equal(result.pixels, alone[result.request.image_id])


def test_another_batch_size_gives_the_same_images() -> None:
    requests = random_requests(40, seed=3)
    images = [
        {r.request.image_id: r.pixels for r in make_runner(batch_size=size).draw(requests)}
        for size in (1, 7, 40)
    ]
    for other in images[1:]:
        for image_id, pixels in images[0].items():
            assert np.array_equal(other[image_id], pixels)


def test_a_fresh_runner_gives_the_same_images_after_any_history(runner: CpuRunner) -> None:
    requests = random_requests(5, seed=4)
    fresh = make_runner(dtype=str(runner.dtype).removeprefix("torch."), batch_size=12)
    for ours, theirs in zip(runner.draw(requests), fresh.draw(requests), strict=True):
        assert np.array_equal(ours.pixels, theirs.pixels)


@pytest.mark.parametrize("shape", [(2730, 1024), (1024, 2730), (192, 64), (1000, 256)])
@pytest.mark.parametrize("epilogue", ["none", "gelu"])
def test_a_product_s_row_ignores_the_other_rows(shape: tuple[int, int], epilogue: str) -> None:
    generator = torch.Generator().manual_seed(0)
    linear = Linear(torch.randn(shape, generator=generator), epilogue)  # type: ignore[arg-type]
    rows = torch.randn(128, shape[1], generator=generator)
    with torch.inference_mode():
        whole = linear(rows)
        for first, last in [(0, 64), (64, 128), (5, 69), (0, 8), (100, 128)]:
            assert torch.equal(linear(rows[first:last]), whole[first:last])


@pytest.mark.parametrize("num_threads", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("shape", [(64, 2730), (7, 10_001), (8, 104)])
def test_gelu_gives_a_number_the_same_bits_wherever_it_lies(
    num_threads: int, shape: tuple[int, int]
) -> None:
    before = torch.get_num_threads()
    row = torch.randn(shape[1])
    try:
        torch.set_num_threads(num_threads)
        activated = exact_gelu_(row.expand(shape).contiguous())
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(other, activated[0]) for other in activated)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_mini_gives_the_tokens_drawn_alone(dtype: str) -> None:
    import dataclasses

    # True widths and depths; fewer steps, and no pixels, which are drawn one image at a time.
    config = dataclasses.replace(MIN_DALLE_MINI, image_grid=6, tokenizer="word")
    assert max(VOCAB.values()) < config.text_vocab_size
    runner = make_runner(config, dtype, 8, random_tensors(config))
    requests = random_requests(6, seed=5)
    prompts = [runner.tokenizer.tokenize(request.prompt).ids for request in requests]
    alone = [runner.decode([r], [p])[0] for r, p in zip(requests[:3], prompts[:3], strict=True)]
    choose = random.Random(6)
    for _ in range(4):
        order = choose.sample(range(6), choose.randint(2, 6))
        tokens = runner.decode([requests[n] for n in order], [prompts[n] for n in order])
        for place, number in enumerate(order):
            if number < 3:
                assert torch.equal(tokens[place], alone[number])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_200_random_compositions_on_a_gpu(dtype: str) -> None:
    from promptlab.models.dalle.cuda.runner import CudaRunner

    tokenizer = WordTokenizer(VOCAB, TINY.text_length)
    runner = CudaRunner(TINY, random_tensors(TINY), tokenizer, dtype, 12)
    requests = random_requests(24, seed=1)
    alone = {request.image_id: next(runner.draw([request])).pixels for request in requests}
    choose = random.Random(2)
    for _ in range(NUM_COMPOSITIONS):
        for result in runner.draw(choose.sample(requests, choose.randint(1, 12))):
            assert np.array_equal(result.pixels, alone[result.request.image_id])

"""Stages `smoke`, `exactness`, `invariance`: whether images are right, and always the same."""

from __future__ import annotations

import random
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from benchmarks.gpu_check.common import (
    Findings,
    Options,
    SeededTensors,
    ids_of,
    make_requests,
    make_runner,
)
from promptlab.models.dalle import upstream
from promptlab.models.dalle.config import DalleConfig
from promptlab.models.dalle.cuda.graphs import GraphDecoder
from promptlab.models.dalle.cuda.runner import CudaRunner
from promptlab.models.dalle.detokenizer import load_detokenizer
from promptlab.records import Request

GRAPHS = "src/promptlab/models/dalle/cuda/graphs.py"
DETOKENIZER = "src/promptlab/models/dalle/detokenizer.py"
# How far below the likeliest logit a greedy token may lie, as a share of the logits' range.
MARGINS = {"float32": 1e-4, "float16": 0.02, "bfloat16": 0.1}


def tokens_of(runner: CudaRunner, requests: list[Request]) -> Tensor:
    """Return the tokens of requests in one block, on the host."""
    return runner.decode(requests, ids_of(requests)).cpu()


def check_smoke(options: Options) -> Findings:
    """Compare captured steps with uncaptured ones."""
    found = Findings()
    for name, config in options.configs().items():
        requests = make_requests(3)
        runner = make_runner(config, options)
        captured = tokens_of(runner, requests)
        runner.close()
        with mock.patch.object(GraphDecoder, "_capture", return_value=None):
            runner = make_runner(config, options)
            plain = tokens_of(runner, requests)
            runner.close()
        wrong = int((captured != plain).sum())
        found.judge(
            f"{name}: captured steps sample the tokens of uncaptured ones",
            wrong, "0 tokens", wrong == 0, f"{GRAPHS}:_capture",
        )  # fmt: skip
        found.judge(
            f"{name}: images differ", len(captured.unique()), "over 10 different tokens",
            len(captured.unique()) > 10, f"{GRAPHS}:decode_step",
        )  # fmt: skip
    return found


def check_exactness(options: Options) -> Findings:
    """Compare greedy tokens with min-dalle's logits, and pixels with float32 on the host."""
    found = Findings()
    for name, config in options.configs(is_whole=True).items():
        dtypes = ("float32", options.dtype) if name != "mega" else (options.dtype,)
        for dtype in dict.fromkeys(dtypes):
            requests = make_requests(2, top_k=1)
            runner = make_runner(config, options, dtype)
            tokens = tokens_of(runner, requests)
            pixels = runner.detokenize(tokens.to("cuda"))
            runner.close()
            num_steps = 24 if options.is_test else 96
            margin = largest_margin(config, options, requests, tokens, num_steps)
            found.judge(
                f"{name}, {dtype}: greedy tokens are min-dalle's", f"{margin:.1e}",
                f"{MARGINS[dtype]} of the logits' range below the likeliest",
                margin <= MARGINS[dtype], f"{GRAPHS}:decode_step",
            )  # fmt: skip
            expected = pixels_on_host(config, options, tokens[:1])
            error = abs(pixels[:1].astype(int) - expected.numpy()).mean()
            limit = 0.1 if dtype == "float32" else 4.0
            found.judge(
                f"{name}, {dtype}: pixels are float32's of the host", f"{error:.3f}",
                f"{limit} levels of 255 in the mean", error <= limit, DETOKENIZER,
            )  # fmt: skip
    return found


@torch.no_grad()
def largest_margin(
    config: DalleConfig, options: Options, requests: list[Request], tokens: Tensor, num_steps: int
) -> float:
    """Return how far our tokens lie below min-dalle's likeliest, as a share of its logits' range.

    min-dalle is given our tokens, so that each step is judged by itself.
    """
    device = "cpu" if options.device == "cpu" else "cuda"
    encoder, decoder, _ = upstream.load_modules(config, SeededTensors(config, options), device)
    prompts = ids_of(requests)
    rows = [*((ids[0], ids[-1]) for ids in prompts), *prompts]
    text = torch.ones((len(rows), config.text_length), dtype=torch.int64)
    for row, ids in enumerate(rows):
        text[row, : len(ids)] = torch.tensor(ids)
    text = text.to(device)
    states = torch.cat([encoder(pair) for pair in text.split(2)])  # as min-dalle runs it
    mask = text.not_equal(1)[:, None, None, :]
    num = len(requests)
    shape = (config.num_decoder_layers, num * 4, config.num_image_tokens, config.width)
    cache = torch.zeros(shape, device=device)
    ours = tokens.to(device)
    previous = torch.full((num,), config.start_token, device=device)
    factor, worst = float(requests[0].params["supercondition_factor"] or 0), 0.0
    for step in range(num_steps):
        index = torch.arange(step, step + 1, device=device)
        logits, cache = decoder(mask, states, cache, previous[:, None], index)
        logits = logits[:, -1, : config.image_vocab_size]
        mixed = logits[:num] * (1 - factor) + logits[num:] * factor
        largest, smallest = mixed.amax(-1), mixed.amin(-1)
        chosen = mixed.gather(1, ours[:, step : step + 1])[:, 0]
        worst = max(worst, float(((largest - chosen) / (largest - smallest)).max()))
        previous = ours[:, step]
    return worst


def pixels_on_host(config: DalleConfig, options: Options, tokens: Tensor) -> Tensor:
    """Return uint8 [image, height, width, 3], computed in float32 by the host."""
    seeded = SeededTensors(config, options)
    on_host = {name: seeded[name].cpu() for name in seeded if name.startswith("detokenizer.")}
    network = load_detokenizer(on_host, config, torch.float32, "cpu")
    return network(tokens.view(len(tokens), config.image_grid, config.image_grid))


def check_invariance(options: Options) -> Findings:
    """See whether an image has the same bits in blocks of any size, order, company and history."""
    found = Findings()
    for name, config in options.configs().items():
        runner = make_runner(config, options)
        most = 4 if options.is_test else runner.most()
        requests: list[Any] = [*make_requests(most - 1), *make_requests(1, num_words=20)]
        requests = [
            Request(f"{n}", request.prompt, request.seed, request.params)
            for n, request in enumerate(requests)
        ]
        expected = {r.request.image_id: r.pixels for r in runner.draw(requests)}
        choose, wrong, num = random.Random(1), 0, 0
        blocks = [[requests[0]], [requests[-1]], requests[:3], requests[::-1]]
        if not options.is_test:
            blocks += [choose.sample(requests, size) for size in (5, 8, 33) if size <= most]
            blocks.append(requests[most // 2 :] + requests)  # two blocks, pixels beside decoding
        for block in blocks:
            for result in runner.draw(block):
                pixels, num = result.pixels, num + 1
                is_same = pixels is not None and (pixels == expected[result.request.image_id]).all()
                wrong += not is_same
        found.judge(
            f"{name}: an image is the same in any block", wrong, f"0 of {num} images",
            wrong == 0, f"{GRAPHS}:decode_step",
        )  # fmt: skip
        found.judge(
            f"{name}: attention's bits do not depend on the rows beside", runner.shapes_vary,
            "True", runner.shapes_vary, "src/promptlab/models/dalle/cuda/exact.py", "SLOW",
        )  # fmt: skip
        runner.close()
    return found

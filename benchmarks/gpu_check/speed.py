"""Stages `speed`, `profile` and `whatifs`: how fast it is, where the time goes, what would help."""

from __future__ import annotations

import dataclasses
import io
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.engine_kernels import count_detokenizer, count_step
from benchmarks.engine_min_dalle import MinDalleTimer
from benchmarks.gpu_check.common import (
    Findings,
    Options,
    SeededTensors,
    ids_of,
    make_requests,
    make_runner,
    seconds_of,
)
from benchmarks.gpu_check.facts import check_facts
from benchmarks.made_up import MadeUpTokenizer, make_prompt
from promptlab.models.dalle import upstream
from promptlab.models.dalle.cuda import memory, sizes
from promptlab.models.dalle.cuda.graphs import BUCKET, GraphDecoder, Shape
from promptlab.models.dalle.cuda.runner import CudaRunner
from promptlab.models.dalle.detokenizer import channels_last_group_norm
from promptlab.models.dalle.encode import encode
from promptlab.models.dalle.precision import exact_arithmetic

GOALS = {"mini": 300.0, "mega": 100.0}  # images/s on an H100 or H200
RATIO_GOAL = 40.0  # against min-dalle at its best grid
LAUNCH_S = 2e-6
GRAPHS = "src/promptlab/models/dalle/cuda/graphs.py"


def check_speed(options: Options) -> Findings:
    """Time whole drawings, from the first load on, beside min-dalle and the roofline."""
    found = Findings()
    facts = check_facts(options).numbers
    for name, config in options.configs().items():
        started = time.perf_counter()
        runner = make_runner(config, options)
        torch.cuda.synchronize()
        load_s = time.perf_counter() - started
        started = time.perf_counter()
        outside = memory.bytes_outside_torch()
        list(runner.draw(make_requests(1)))
        first_s = time.perf_counter() - started
        graph_mib = (memory.bytes_outside_torch() - outside) / 2**20
        jobs = (2,) if options.is_test else (32, 128, 512) if name == "mini" else (32, 128)
        rates = {}
        for num in jobs:
            list(runner.draw(make_requests(num)[: runner.most()]))  # captures
            started = time.perf_counter()
            list(runner.draw(make_requests(num)))
            rates[num] = num / (time.perf_counter() - started)
        padded = runner.padded
        runner.close()
        del runner
        best = max(rates.values())
        step = count_step(config, getattr(torch, options.dtype), padded, padded, 16)
        together = sizes.detokenized_images(padded)
        pixels = count_detokenizer(config, getattr(torch, options.dtype), together)
        device = facts["bytes_per_s"], facts["flops_per_s"]
        step_s = step.seconds(*device, LAUNCH_S)
        image_s = config.num_image_tokens * step_s / padded
        image_s += pixels.seconds(*device, LAUNCH_S) / together
        their_s = min_dalle_seconds(config, options)
        found.numbers[name] = {
            "load_s": load_s, "first_image_s": first_s, "graph_mib": graph_mib,
            "images_per_s": rates,
            "min_dalle_s_per_image": their_s, "roofline_images_per_s": 1 / image_s,
        }  # fmt: skip
        place = f"{GRAPHS}:decode_block"
        goal = GOALS.get(name, 0.0)
        found.judge(f"{name}: images/s", f"{best:.1f}", f"{goal:g}", best >= goal, place, "SLOW")
        share = best * image_s
        found.judge(
            f"{name}: share of the roofline", f"{share:.0%}", "50 %",
            share >= 0.5 or options.is_test, place, "SLOW",
        )  # fmt: skip
        ratio = best * min(their_s.values())
        found.judge(
            f"{name}: times min-dalle's rate", f"{ratio:.1f}", f"{RATIO_GOAL:g}",
            ratio >= RATIO_GOAL or options.is_test, place, "SLOW",
        )  # fmt: skip
        limit = load_s + 4.0
        found.judge(
            f"{name}: seconds to the first image", f"{load_s + first_s:.1f}", f"{limit:.1f}",
            load_s + first_s <= limit or options.is_test, f"{GRAPHS}:_capture", "SLOW",
        )  # fmt: skip
    return found


def min_dalle_seconds(config: Any, options: Options) -> dict[str, float]:
    """Return min-dalle's seconds an image by dtype, at its 3x3 grid, all kernels finished."""
    device = "cpu" if options.device == "cpu" else "cuda"
    if options.is_test:  # min-dalle's loop begins with the last of its own 16,384 tokens
        config = dataclasses.replace(config, image_embeddings=2**14 + 1, image_grid=16)
    seconds = {}
    for dtype in ("float32",) if options.is_test else ("float32", "float16"):
        modules = upstream.load_modules(config, SeededTensors(config, options), device)
        encoder, decoder, detokenizer = (module.to(getattr(torch, dtype)) for module in modules)
        timer = MinDalleTimer((encoder, decoder, detokenizer), _Words(), device, dtype)
        grid = 1 if options.is_test else 3
        steps = timer.step_seconds(make_prompt(0), grid, 6)[1:]
        whole = sorted(steps)[len(steps) // 2] * config.num_image_tokens
        if not options.is_test:
            timer.detokenize_seconds(grid**2)
            whole += timer.detokenize_seconds(grid**2)
        seconds[dtype] = whole / grid**2
    return seconds


class _Words:
    """The made-up vocabulary with min-dalle's signature."""

    def tokenize(self, text: str, is_verbose: bool = False) -> list[int]:
        return list(MadeUpTokenizer().tokenize(text).ids)


def check_profile(options: Options) -> Findings:
    """List the kernels of a step and of a batch of the detokenizer, by their share of the time."""
    found = Findings()
    if options.is_test:
        return found  # the stand-in has no kernels to profile
    for name, config in options.configs().items():
        runner = make_runner(config, options)
        step = eager_step(runner, runner.most(), 16, config.num_image_tokens // 2)
        together = sizes.detokenized_images(runner.padded)
        tokens = torch.zeros((together, config.num_image_tokens), dtype=torch.int64)
        on_device = tokens.to("cuda")
        found.numbers[f"{name}, step"] = top_kernels(step)
        found.numbers[f"{name}, pixels"] = top_kernels(partial(runner.detokenize, on_device))
        del step
        runner.close()
    return found


def top_kernels(function: Callable[[], object]) -> list[dict[str, Any]]:
    """Return the fifteen kernels that take the most of a call's time."""
    function()
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        function()
        torch.cuda.synchronize()
    events: list[Any] = [e for e in profile.key_averages() if e.self_device_time_total > 0]
    events.sort(key=lambda event: -event.self_device_time_total)
    total = sum(event.self_device_time_total for event in events)
    return [
        {"kernel": event.key[:60], "us": round(event.self_device_time_total, 1),
         "calls": event.count, "share": round(event.self_device_time_total / total, 3)}
        for event in events[:15]
    ]  # fmt: skip


def eager_step(
    runner: CudaRunner, num_images: int, text_length: int, length: int
) -> Callable[[], None]:
    """Return a call that computes one uncaptured step."""
    with torch.inference_mode(), exact_arithmetic():
        graphs = GraphDecoder(runner.decoder, runner.padded, num_images, runner.config.text_length)
        graphs._start()
    shape = Shape(num_images, text_length, min(length, runner.config.num_image_tokens), 256)

    def step() -> None:
        with torch.inference_mode(), exact_arithmetic():
            graphs._step.fill_(shape.length - 1)
            graphs.decode_step(shape)

    return step


def captured(step: Callable[[], None]) -> Callable[[], None]:
    """Return a replay of a call."""
    step()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


@torch.inference_mode()
def check_whatifs(options: Options) -> Findings:
    """Time the alternatives that a tuner would try first."""
    found = Findings()
    name, config = next(reversed(options.configs().items()))
    runner = make_runner(config, options)
    num_images = 2 if options.is_test else runner.most()
    middle = max(BUCKET, config.num_image_tokens // 2)

    step_s = {
        length: seconds_of(captured(eager_step(runner, num_images, length, middle)))
        for length in (16, 64)
    }
    found.numbers["step_s_by_text_length"] = step_s
    found.advise(f"{name}: texts of 16 instead of 64 positions (done)", step_s[64] / step_s[16])

    kind, heads = runner.dtype, config.num_heads
    shape = (2 * num_images, heads, middle, config.width // heads)
    keys = torch.ones(shape, device="cuda", dtype=kind)
    queries = torch.ones((*shape[:2], 1, shape[3]), device="cuda", dtype=kind)
    bias = torch.zeros((shape[0], 1, 1, middle), device="cuda", dtype=kind)
    backends = {}
    for backend in (
        SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.MATH
    ):  # fmt: skip
        if options.is_test and backend is not SDPBackend.EFFICIENT_ATTENTION:
            continue  # the stand-in has the pinned kernel alone
        with sdpa_kernel(backend):
            try:
                backends[backend.name] = seconds_of(
                    lambda: functional.scaled_dot_product_attention(
                        queries, keys, keys, attn_mask=bias, scale=1.0
                    )
                )
            except RuntimeError as error:
                backends[backend.name] = str(error)[:80]  # type: ignore[assignment]
    num_bytes = 2 * keys.numel() * keys.element_size()
    attention_s = backends["EFFICIENT_ATTENTION"]
    found.numbers["attention_s"] = backends
    found.numbers["attention_bytes_per_s"] = num_bytes / attention_s
    for other, other_s in backends.items():
        if isinstance(other_s, float) and other_s < attention_s:
            found.advise(f"{name}: {other} for attention", attention_s / other_s)

    side, channels = (8, 8) if options.is_test else (256, 128)
    together = sizes.detokenized_images(runner.padded)
    images = torch.ones((together, channels, side, side), device="cuda", dtype=kind)
    images = images.contiguous(memory_format=torch.channels_last)
    weight = torch.ones(channels, device="cuda")
    half = weight.to(kind)
    groups = config.detokenizer.norm_groups
    norm_s = {
        "channels-last": seconds_of(
            lambda: channels_last_group_norm(images, groups, weight, weight)
        ),
        "torch's": seconds_of(
            lambda: functional.group_norm(images, groups, half, half).contiguous(
                memory_format=torch.channels_last
            )
        ),
    }
    found.numbers["norm_s"] = norm_s
    rows = images.permute(0, 2, 3, 1).flatten(1, 2)  # [image, position, channel]
    by_group = rows.unflatten(-1, (groups, -1))
    statistics_s = {
        "group by group": seconds_of(lambda: by_group.mean((1, 3), dtype=torch.float32)),
        "channels first": seconds_of(
            lambda: rows.mean(1, dtype=torch.float32).unflatten(-1, (groups, -1)).mean(-1)
        ),
    }
    found.numbers["statistics_s"] = statistics_s
    found.advise(
        "statistics of norms by channels first",
        statistics_s["group by group"] / statistics_s["channels first"],
    )
    found.advise("norms without layout copies (done)", norm_s["torch's"] / norm_s["channels-last"])

    prompts = ids_of(make_requests(4 if options.is_test else 64))
    encoder = runner._states._encoder
    with exact_arithmetic():
        encode_s = {
            rows: seconds_of(partial(encode, encoder, prompts, 64, rows), 2)
            for rows in (64, sizes.ENCODED_ROWS)
        }
    found.numbers["encode_s_by_rows"] = encode_s
    found.advise("1,024 rows a call of the encoder (done)", encode_s[64] / encode_s[1024])

    found.numbers["png_images_per_s_by_threads"] = png_rates(8 if options.is_test else 64)
    runner.close()
    return found


def png_rates(num_images: int) -> dict[int, float]:
    """Return how many 256-px PNGs a second so many threads encode."""
    import numpy as np
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).resize((256, 256), Image.Resampling.BICUBIC)

    def encode_png(_: int) -> None:
        image.save(io.BytesIO(), "PNG", compress_level=6)

    rates = {}
    for num_threads in (1, 2, 4, 8):
        started = time.perf_counter()
        with ThreadPoolExecutor(num_threads) as pool:
            list(pool.map(encode_png, range(num_images)))
        rates[num_threads] = num_images / (time.perf_counter() - started)
    return rates

"""What drawing costs, counted: floating-point operations and bytes moved, per image.

Takes a model's sizes and a batch; returns counts. Measures the machine's own peaks to set them
against. A multiply and an add are two operations; norms and activations are left out. Convolutions
are counted as they are written down: on a CPU the engine does some with fewer operations.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from promptlab.models.dalle.config import DalleConfig
from promptlab.models.dalle.cpu.linear import Linear


@dataclass(frozen=True, slots=True)
class Cost:
    """Operations and bytes of one image."""

    decode_flops: float
    decode_bytes: float  # weights once a step and batch, cache of the prefix read, once an image
    detokenize_flops: float
    detokenize_bytes: float  # activations written and read once a convolution


def count(config: DalleConfig, num_images: int, bytes_per_number: int) -> Cost:
    """Return the cost of one image of a batch of `num_images`, with superconditioning."""
    width, layers, steps = config.width, config.num_decoder_layers, config.num_image_tokens
    per_layer = 6 * width**2 + 3 * width * config.glu_width  # qkv, out; q, out; fc0-fc2
    logits = width * config.image_vocab_size  # once an image: the two states are mixed first
    prefix = steps * (steps + 1) // 2  # positions attended to, over all steps
    text = steps * (16 + 2)  # a short prompt's padded length, and the empty prompt
    attention = layers * width * 2 * (2 * prefix + text)  # scores and weighted values
    flops = 2 * (steps * (2 * layers * per_layer + logits) + attention)
    weights = layers * per_layer + logits
    numbers = steps * weights / num_images + attention
    detokenize_flops, detokenize_numbers = _detokenizer(config)
    return Cost(
        float(flops),
        float(numbers * bytes_per_number),
        float(detokenize_flops),
        float(detokenize_numbers * bytes_per_number),
    )


def _detokenizer(config: DalleConfig) -> tuple[int, int]:
    sizes = config.detokenizer
    flops = numbers = 0

    def conv(side: int, source: int, target: int, kernel: int) -> None:
        nonlocal flops, numbers
        flops += 2 * side**2 * source * target * kernel**2
        numbers += side**2 * (source + target)

    def attention(side: int, channels: int) -> None:
        nonlocal flops
        for _ in range(4):
            conv(side, channels, channels, 1)
        flops += 4 * side**4 * channels

    side, source = config.image_grid, sizes.channels[0]
    conv(side, sizes.embed_width, sizes.embed_width, 1)
    conv(side, sizes.embed_width, source, 3)
    for _ in range(4):
        conv(side, source, source, 3)
    if sizes.mid_attention:
        attention(side, source)
    for level, channels in enumerate(sizes.channels):
        for _ in range(sizes.blocks_per_level):
            conv(side, source, channels, 3)
            conv(side, channels, channels, 3)
            if source != channels:
                conv(side, source, channels, 1)
            source = channels
            if level in sizes.attention_levels:
                attention(side, channels)
        if level < len(sizes.channels) - 1:
            side *= 2
            conv(side, channels, channels, 3)
    conv(side, source, 3, 3)
    return flops, numbers


@dataclass(frozen=True, slots=True)
class Peak:
    """The machine's measured peaks."""

    flops_per_s: float
    bytes_per_s: float


def measure_peak(dtype: torch.dtype, device: str) -> Peak:
    """Return the rates of a large matrix product, the faster of two ways, and of reading."""
    side = 8192 if device == "cuda" else 3072
    a = torch.randn(side, side, device=device).to(dtype)
    packed = Linear(a, num_rows=side)
    numbers = torch.randn((1 << 28) if device == "cuda" else (1 << 26), device=device)
    matmul_s = min(_best_seconds(lambda: a @ a, device), _best_seconds(lambda: packed(a), device))
    read_s = _best_seconds(lambda: numbers.sum(), device)
    return Peak(2 * side**3 / matmul_s, numbers.numel() * 4 / read_s)


def _best_seconds(function: object, device: str, num_runs: int = 5) -> float:
    best = float("inf")
    for _ in range(num_runs):
        started = time.perf_counter()
        function()  # type: ignore[operator]
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return best

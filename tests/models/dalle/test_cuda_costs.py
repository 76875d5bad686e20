"""What a step costs at true sizes, counted on the meta device: kernels, bytes, FLOPs."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from torch.nn import functional

from benchmarks.engine_kernels import count_detokenizer, count_step, empty_tensors
from promptlab.models.dalle.config import CONFIG_FROM_SIZE, MIN_DALLE_MEGA, MIN_DALLE_MINI
from promptlab.models.dalle.detokenizer import channels_last_group_norm
from promptlab.models.dalle.network import FusedGlu, load_decoder

LAUNCH_S = 2e-6  # between the kernels of a captured graph
H100 = (3.35e12, 600e12)  # bytes/s, FLOP/s
A10G = (0.6e12, 70e12)
T4 = (0.3e12, 40e12)

counted = functools.cache(count_step)


@pytest.mark.parametrize(
    ("size", "most_kernels", "most_gb"), [("mini", 397, 3.1), ("mega", 721, 12.4)]
)
def test_a_step_takes_no_more_than_it_did(size: str, most_kernels: int, most_gb: float) -> None:
    work = counted(CONFIG_FROM_SIZE[size], torch.bfloat16, 128, 128, 16)
    assert work.kernels <= most_kernels
    assert work.num_bytes <= most_gb * 1e9


def test_a_longer_text_costs_its_own_positions() -> None:
    short, long = (
        counted(MIN_DALLE_MEGA, torch.bfloat16, 128, 128, length).num_bytes for length in (16, 64)
    )
    per_position = 2 * 2 * MIN_DALLE_MEGA.num_decoder_layers * MIN_DALLE_MEGA.width  # K, V: bytes
    assert long - short == pytest.approx(128 * (64 - 16) * per_position, rel=0.01)


@pytest.mark.parametrize(("rates", "padded"), [(H100, 128), (A10G, 64), (T4, 64)])
@pytest.mark.parametrize("size", ["mini", "mega"])
def test_a_small_job_costs_less_than_twice_a_block_of_its_own_size(
    size: str, rates: tuple[float, float], padded: int
) -> None:
    config = CONFIG_FROM_SIZE[size]
    padded_s, own_s = (
        counted(config, torch.bfloat16, rows, 4, 16).seconds(*rates, LAUNCH_S)
        for rows in (padded, 4)
    )
    assert padded_s < 2 * own_s, f"{padded_s / own_s:.2f}"


def test_the_detokenizer_moves_no_activation_to_another_layout() -> None:
    work = count_detokenizer(MIN_DALLE_MINI, torch.bfloat16)
    assert work.by_operator["contiguous"] == 1  # its pixels, at the end
    assert not work.by_operator["group_norm"], "torch's kernel copies to another layout and back"
    assert work.num_bytes < 13.5e9
    assert work.kernels <= 375


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 2e-2)])
def test_group_norm_without_layout_copies_is_group_norm(
    dtype: torch.dtype, tolerance: float
) -> None:
    generator = torch.Generator().manual_seed(1)
    x = (3 * torch.randn(2, 64, 7, 5, generator=generator) + 4).to(dtype)
    x = x.contiguous(memory_format=torch.channels_last)
    weight, bias = torch.randn(2, 64, generator=generator)
    ours = channels_last_group_norm(x, 8, weight, bias)
    expected = functional.group_norm(x.double(), 8, weight.double(), bias.double())
    assert ours.dtype == dtype
    assert ours.is_contiguous(memory_format=torch.channels_last)
    assert (ours.double() - expected).abs().max() < tolerance * expected.abs().max()
    flat = torch.full((1, 8, 3, 3), 1000.0, dtype=dtype)  # rounding must not make it negative
    ones = torch.ones(8)
    assert channels_last_group_norm(flat, 2, ones, ones).isfinite().all()


def test_rows_of_every_product_are_aligned() -> None:
    with torch.inference_mode():
        tensors = empty_tensors(MIN_DALLE_MINI, torch.float16, "decoder.")
        decoder = load_decoder(tensors, MIN_DALLE_MINI, torch.float16, "meta")
    for layer in decoder.layers:
        assert isinstance(layer.glu, FusedGlu)
        products = (layer.glu.gate_value, layer.glu.out, layer.attention.qkv, layer.attention.out)
        for product in products:
            assert math.gcd(product.num_inputs, 16) == math.gcd(product.num_outputs, 16) == 16

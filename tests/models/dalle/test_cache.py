"""The cache gives back what was written, and sums of weighted rows are products of matrices."""

from __future__ import annotations

import pytest
import torch

from promptlab.models.dalle.cache import PREFIX_STEP, Cache
from promptlab.models.dalle.cpu.bags import weighted_sums
from promptlab.models.dalle.network import load_decoder
from tests.models.dalle.tiny_models import TINY, random_tensors


@pytest.fixture(scope="module")
def decoder():
    return load_decoder(random_tensors(TINY), TINY, torch.float32, "cpu")


def fill(cache: Cache, steps: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Write random keys and values of every layer; return them [layer, row * head, step, width]."""
    generator = torch.Generator().manual_seed(seed)
    width = cache.layers[0].values.shape[2]
    shape = (2, len(cache.layers), cache.num_rows, cache.num_heads, steps, width)
    keys, values = torch.randn(shape, generator=generator)
    for step in range(steps):
        cache.hold(step + 1)
        for layer in range(len(cache.layers)):
            cache.write(layer, step, keys[layer, :, :, step], values[layer, :, :, step])
    return keys.flatten(1, 2), values.flatten(1, 2)


def read(cache: Cache, layer: int, steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    held = cache.layers[layer]
    keys = torch.cat([held.settled_keys, held.recent_keys], 2).transpose(1, 2)
    return keys[:, :steps], held.values[:, :steps]


@pytest.mark.parametrize("steps", [1, PREFIX_STEP, PREFIX_STEP + 1, 2 * PREFIX_STEP])
def test_what_was_written_is_there_in_order(decoder, steps):
    cache = Cache(decoder, 3)
    keys, values = fill(cache, steps, seed=steps)
    for layer in range(len(decoder.layers)):
        held_keys, held_values = read(cache, layer, steps)
        assert torch.equal(held_keys, keys[layer])
        assert torch.equal(held_values, values[layer])


def test_a_smaller_block_in_the_same_memory_sees_only_its_own(decoder):
    cache = Cache(decoder, 4)
    fill(cache, 2 * PREFIX_STEP, seed=1)
    smaller = cache.narrowed(2)
    keys, values = fill(smaller, PREFIX_STEP + 3, seed=2)
    held_keys, held_values = read(smaller, 0, PREFIX_STEP + 3)
    assert torch.equal(held_keys, keys[0])
    assert torch.equal(held_values, values[0])
    assert all(torch.isfinite(layer.values).all() for layer in smaller.layers)


def test_blocks_one_after_the_other_have_memory_that_no_two_layers_share(decoder):
    cache = Cache(decoder, 4)
    for seed, num_images in enumerate([4, 2, 3]):
        block = cache.narrowed(num_images)
        steps = 2 * PREFIX_STEP - seed
        keys, values = fill(block, steps, seed)
        for layer in range(len(decoder.layers)):
            held_keys, held_values = read(block, layer, steps)
            assert torch.equal(held_keys, keys[layer])
            assert torch.equal(held_values, values[layer])


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize("shape", [(5, 16, 64), (7, 64, 48), (3, 100, 8)])
def test_sums_of_weighted_rows_are_products(shape, dtype, tolerance):
    generator = torch.Generator().manual_seed(3)
    matrices = torch.randn(shape, generator=generator).to(dtype)
    weights = torch.randn(shape[:2], generator=generator).to(dtype)
    expected = torch.einsum("brn,br->bn", matrices.double(), weights.double())
    error = (weighted_sums(matrices, weights).double() - expected).abs().max()
    assert error <= tolerance * expected.abs().max()


def test_a_sum_depends_on_its_own_rows_alone():
    generator = torch.Generator().manual_seed(4)
    matrices = torch.randn(9, 32, 64, generator=generator)
    weights = torch.randn(9, 32, generator=generator)
    order = torch.randperm(9, generator=generator)
    together = weighted_sums(matrices, weights)
    assert torch.equal(weighted_sums(matrices[order], weights[order]), together[order])
    assert torch.equal(weighted_sums(matrices[4:5], weights[4:5]), together[4:5])


def test_indices_of_sums_are_freed_with_the_model(decoder):
    from promptlab.models.dalle.cpu import bags

    weighted_sums(torch.ones(2, 3, 4), torch.ones(2, 3))
    assert bags._places.cache_info().currsize > 0
    bags.forget_places()
    assert bags._places.cache_info().currsize == 0

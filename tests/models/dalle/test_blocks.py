"""The number of images in a block, chosen by the free memory."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from promptlab.models.dalle import blocks
from promptlab.models.dalle.blocks import LARGEST, cache_bytes, default_batch_size
from promptlab.models.dalle.cache import Cache
from promptlab.models.dalle.network import load_decoder
from tests.models.dalle.tiny_models import TINY, random_tensors

DEEP = dataclasses.replace(TINY, num_decoder_layers=10, image_grid=16)


def test_a_cache_takes_the_bytes_that_its_block_was_chosen_for() -> None:
    with torch.inference_mode():
        decoder = load_decoder(random_tensors(DEEP), DEEP, torch.float32, "cpu")
        cache = Cache(decoder, 3)
    held = sum(tensor.nbytes for tensor in (*cache._memory, *cache._recent))
    counted = 3 * cache_bytes(DEEP, torch.float32)
    # One matrix more than there are keys and values, and the keys that have not moved yet.
    assert counted <= held < 1.15 * counted


@pytest.mark.parametrize("num_caches", [1, 4])
def test_caches_of_the_default_block_share_less_than_half_of_the_free_memory(
    num_caches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = 400 * cache_bytes(DEEP, torch.float32)
    monkeypatch.setattr(blocks, "free_memory_bytes", lambda: free)
    size = default_batch_size(DEEP, torch.float32, num_caches)
    assert size == min(LARGEST, 160 // num_caches)
    monkeypatch.setattr(blocks, "free_memory_bytes", lambda: 1)
    assert default_batch_size(DEEP, torch.float32, num_caches) == 1

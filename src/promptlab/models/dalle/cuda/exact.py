"""Proof that attention's bits do not depend on how many rows or masked positions lie beside them.

Takes the sizes of a decoder's attention, runs its kernel on seeded numbers, returns yes or no. It
takes milliseconds. Knows nothing of weights or blocks.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from promptlab.models.dalle.cuda.graphs import attend
from promptlab.models.dalle.network import Decoder

NUM_ROWS = 64
LENGTHS = (16, 64)  # of a text by itself, and padded


@torch.inference_mode()
def attention_is_exact(decoder: Decoder) -> bool:
    """Tell whether two rows alone, over a short text, get the bits of many over a padded one."""
    short, long = LENGTHS
    head_width = decoder.width // decoder.num_heads
    generator = torch.Generator().manual_seed(0)

    def noise(length: int) -> Tensor:
        shape = (NUM_ROWS, decoder.num_heads, length, head_width)
        return torch.randn(shape, generator=generator).to(decoder.device, decoder.dtype)

    queries, keys, values = noise(1), noise(long), noise(long)
    bias = torch.zeros(NUM_ROWS, 1, 1, long, dtype=decoder.dtype, device=decoder.device)
    bias[..., short:].fill_(-torch.inf)
    rows = slice(NUM_ROWS // 2, NUM_ROWS // 2 + 2)
    with sdpa_kernel(SDPBackend.EFFICIENT_ATTENTION):
        together = attend(queries, keys, values, bias)[rows]
        alone = attend(
            queries[rows], keys[rows, :, :short], values[rows, :, :short], bias[rows, ..., :short]
        )
    return torch.equal(together, alone)

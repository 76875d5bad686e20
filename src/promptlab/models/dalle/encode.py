"""The text's way through the encoder, in blocks of one fixed shape.

Takes token ids of prompts; returns their states, padded to a length that depends on the prompt
alone. Every product runs over the same number of rows, so that a prompt's states do not depend on
the prompts encoded beside it. Knows nothing of images.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from promptlab.models.dalle.network import Encoder, SelfAttention
from promptlab.models.dalle.tokenizer import PAD_ID

NUM_ROWS = 64  # text positions in one block
SHORTEST = 16  # text positions that the shortest prompts are padded to
Ids = tuple[int, ...]


def padded_length(num_ids: int, text_length: int) -> int:
    """Return the length that a prompt of so many ids is padded to: 16, 32, … text_length."""
    length = SHORTEST
    while length < num_ids:
        length *= 2
    return min(length, text_length)


@torch.inference_mode()
def encode(
    encoder: Encoder, prompts: Iterable[Ids], text_length: int, device: str
) -> dict[Ids, Tensor]:
    """Return each prompt's states: [padded_length, width], in the encoder's dtype."""
    prompts_by_length: dict[int, list[Ids]] = {}
    for ids in dict.fromkeys(prompts):
        prompts_by_length.setdefault(padded_length(len(ids), text_length), []).append(ids)
    states: dict[Ids, Tensor] = {}
    for length, group in prompts_by_length.items():
        per_block = max(1, NUM_ROWS // length)
        for start in range(0, len(group), per_block):
            block = group[start : start + per_block]
            rows = [ids + (PAD_ID,) * (length - len(ids)) for ids in block]
            rows += [rows[-1]] * (per_block - len(block))
            encoded = encode_block(encoder, torch.tensor(rows, device=device))
            states.update(zip(block, encoded, strict=False))
    return states


def encode_block(encoder: Encoder, ids: Tensor) -> Tensor:
    """Return [prompt, position, width] of ids [prompt, position]."""
    num_prompts, length = ids.shape
    # As min-dalle: padding is hidden from every position, and its own states are never read.
    bias = torch.zeros(ids.shape, device=ids.device).masked_fill_(ids == PAD_ID, -1e12)
    positions = torch.arange(length, device=ids.device).repeat(num_prompts)
    x = encoder.embedding(ids.flatten(), positions)
    for layer in encoder.layers:
        x = x + attend(layer.attention, x, bias, encoder)
        x = x + layer.glu(x, encoder.dtype)
    return encoder.final_norm(x).to(encoder.dtype).view(num_prompts, length, -1)


def attend(attention: SelfAttention, x: Tensor, bias: Tensor, encoder: Encoder) -> Tensor:
    """Return self-attention's update of the residual stream x [prompt * position, width]."""
    num_prompts, length = bias.shape
    qkv = attention.qkv(attention.pre_norm(x).to(encoder.dtype))
    qkv = qkv.view(num_prompts, length, 3, encoder.num_heads, -1).permute(2, 0, 3, 1, 4)
    queries, keys, values = qkv.contiguous()  # each [prompt, head, position, head width]
    scores = (queries @ keys.transpose(-1, -2)).to(torch.float32)
    weights = (scores + bias[:, None, None, :]).softmax(-1).to(encoder.dtype)
    attended = (weights @ values).transpose(1, 2).reshape(x.shape)
    return attention.post_norm(attention.out(attended))


def stack_states(states: Sequence[Tensor]) -> Tensor:
    """Return [row, width]: whole prompts after one another, padded to a multiple of NUM_ROWS."""
    rows = torch.cat(list(states))
    missing = -len(rows) % NUM_ROWS
    return torch.cat([rows, rows[-1:].expand(missing, -1)]) if missing else rows

"""Encoding prompts, in calls of one fixed shape.

Takes token ids of prompts; returns their states, padded to a length that depends on the prompt
alone. Every product runs over the same number of rows, so a prompt's states do not depend on the
prompts encoded beside it. Knows nothing of images.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from promptlab.models.dalle.network import Encoder, SelfAttention
from promptlab.models.dalle.tokenizer import PAD_ID
from promptlab.models.dalle.transfer import to_device

NUM_ROWS = 64  # text positions in one call
SHORTEST = 16  # text positions that the shortest prompts are padded to
MAX_REMEMBERED_PROMPTS = 512
Ids = tuple[int, ...]


def padded_length(num_ids: int, text_length: int) -> int:
    """Return the length that a prompt of `num_ids` ids is padded to: 16, 32, … text_length."""
    length = SHORTEST
    while length < num_ids:
        length *= 2
    return min(length, text_length)


def empty_prompt(ids: Ids) -> Ids:
    """Return what the unconditional row reads: first and last token, as in min-dalle."""
    return ids[0], ids[-1]


class PromptStates:
    """The encoder's states of recent prompts."""

    def __init__(self, encoder: Encoder, text_length: int, num_rows: int = NUM_ROWS):
        self._encoder, self._text_length, self._num_rows = encoder, text_length, num_rows
        self._states: OrderedDict[Ids, Tensor] = OrderedDict()  # least recently used first

    def of(self, prompts: Sequence[Ids]) -> Mapping[Ids, Tensor]:
        """Return the states of prompts and of their empty prompts, encoding the new ones."""
        wanted = dict.fromkeys([*map(empty_prompt, prompts), *prompts])
        new = [ids for ids in wanted if ids not in self._states]
        self._states.update(encode(self._encoder, new, self._text_length, self._num_rows))
        for ids in wanted:
            self._states.move_to_end(ids)
        states = {ids: self._states[ids] for ids in wanted}
        while len(self._states) > MAX_REMEMBERED_PROMPTS:
            self._states.popitem(last=False)
        return states


@torch.inference_mode()
def encode(
    encoder: Encoder, prompts: Iterable[Ids], text_length: int, num_rows: int = NUM_ROWS
) -> dict[Ids, Tensor]:
    """Return each prompt's states: [padded_length, width], in the encoder's dtype and device."""
    prompts_by_length: dict[int, list[Ids]] = {}
    for ids in dict.fromkeys(prompts):
        prompts_by_length.setdefault(padded_length(len(ids), text_length), []).append(ids)
    states: dict[Ids, Tensor] = {}
    for length, group in prompts_by_length.items():
        per_call = max(1, num_rows // length)
        for start in range(0, len(group), per_call):
            block = group[start : start + per_call]
            rows = [ids + (PAD_ID,) * (length - len(ids)) for ids in block]
            rows += [rows[-1]] * (per_call - len(block))
            encoded = encode_block(encoder, to_device(torch.tensor(rows), encoder.device))
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


def stack_states(states: Sequence[Tensor], num_rows: int = NUM_ROWS) -> Tensor:
    """Return [row, width]: whole prompts one after another, padded to a multiple of `num_rows`."""
    rows = torch.cat(list(states))
    missing = -len(rows) % num_rows
    return torch.cat([rows, rows[-1:].expand(missing, -1)]) if missing else rows

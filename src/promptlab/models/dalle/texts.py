"""The texts of a block on a CPU, laid out for every layer's cross-attention.

Takes the prompts of a block and the encoder's states; returns their keys and values, in the layout
of bags.py. It is computed once a block. Knows nothing of steps or of image tokens.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from promptlab.models.dalle.cpu.linear import Linear
from promptlab.models.dalle.encode import (
    NUM_ROWS,
    Ids,
    empty_prompt,
    padded_length,
    stack_states,
)
from promptlab.models.dalle.network import CrossAttention, Decoder
from promptlab.models.dalle.tokenizer import PAD_ID


@dataclass(frozen=True)
class TextSegment:
    """Consecutive rows of a block whose texts are padded to the same length, in one layer."""

    rows: slice  # of the conditional ones
    keys: Tensor  # [row * head, head width, position]
    values: Tensor  # [row * head, position, head width]
    bias: Tensor | None  # float32 [row, 1, position]: -1e12 hides padding; None: no padding


@dataclass(frozen=True)
class EmptyText:
    """One empty prompt in one layer: its two positions, multiplied into the projections.

    Scores are linear in the states, and updates are linear in the attention weights. So two small
    products replace the projections of the queries and of the attended values.
    """

    images: Tensor | None  # indices of the images that read it; None: all
    scores: Linear  # [image, width] -> [image, head * 2]
    update: Linear  # [image, head * 2] -> [image, width]


@dataclass(frozen=True)
class LayerText:
    """One layer's text: the first half of the rows read the empty prompt, the rest a segment."""

    empties: Sequence[EmptyText]
    segments: Sequence[TextSegment]


Text = Sequence[LayerText]


def prepare_text(
    decoder: Decoder, prompts: Sequence[Ids], states: Mapping[Ids, Tensor], text_length: int
) -> Text:
    """Return the text's keys and values for every layer and row."""
    empty_prompts = [empty_prompt(ids) for ids in prompts]
    distinct = list(dict.fromkeys([*empty_prompts, *prompts]))
    lengths = [len(states[ids]) for ids in distinct]
    starts = dict(zip(distinct, itertools.accumulate([0, *lengths]), strict=False))
    text_rows = stack_states([states[ids] for ids in distinct])

    def places(prompts: Sequence[Ids], length: int) -> Tensor:
        """Return the index of every position of the prompts in `text_rows`: [row, position]."""
        first = torch.tensor([starts[ids] for ids in prompts], device=decoder.device)
        return first[:, None] + torch.arange(length, device=decoder.device)

    empty_images = images_from_empty(empty_prompts, decoder.device)
    layouts, first = [], 0
    for length, group in itertools.groupby(
        prompts, lambda ids: padded_length(len(ids), text_length)
    ):
        same_length = list(group)
        rows = slice(first, first + len(same_length))
        bias = _text_bias(same_length, length, decoder.device)
        layouts.append((rows, places(same_length, length), bias))
        first += len(same_length)

    text = []
    for layer in decoder.layers:
        attention = layer.cross_attention
        projected = torch.cat([attention.keys_values(part) for part in text_rows.split(NUM_ROWS)])
        projected = projected.view(len(text_rows), 2, decoder.num_heads, -1)

        # [row, position, 2, head, head width] -> keys and values [row, head, position, head width]
        def gather(places: Tensor, projected: Tensor = projected) -> tuple[Tensor, Tensor]:
            keys, values = projected[places].permute(2, 0, 3, 1, 4).contiguous()
            return keys, values

        segments = []
        for rows, positions, bias in layouts:
            keys, values = gather(positions)
            turned = keys.transpose(2, 3).flatten(0, 1).contiguous()
            segments.append(TextSegment(rows, turned, values.flatten(0, 1), bias))
        empties = [
            multiply_in(attention, images, *gather(places([ids], 2)))
            for ids, images in empty_images.items()
        ]
        text.append(LayerText(empties, segments))
    return text


def images_from_empty(
    empty_prompts: Sequence[Ids], device: torch.device
) -> Mapping[Ids, Tensor | None]:
    """Return the images that read each empty prompt; None: all.

    Almost always all images share one; only a truncated prompt has another last token.
    """
    distinct = list(dict.fromkeys(empty_prompts))
    if len(distinct) == 1:
        return {distinct[0]: None}
    return {
        ids: torch.tensor([i for i, own in enumerate(empty_prompts) if own == ids], device=device)
        for ids in distinct
    }


def multiply_in(
    attention: CrossAttention, images: Tensor | None, keys: Tensor, values: Tensor
) -> EmptyText:
    """Return an empty prompt's EmptyText, from its keys and values [1, head, 2, head width]."""
    _, num_heads, num_positions, head_width = keys.shape

    def by_head(tensor: Tensor) -> Tensor:
        """Return [head * 2, width]: each row is zero outside its own head."""
        spread = tensor.new_zeros(num_heads, num_positions, num_heads, head_width)
        spread.diagonal(dim1=0, dim2=2).copy_(tensor[0].permute(1, 2, 0))
        return spread.view(num_heads * num_positions, num_heads * head_width)

    # The packed weight is recovered by multiplying a unit matrix: a copy would double its memory.
    units = torch.eye(num_heads * head_width, dtype=keys.dtype, device=keys.device)
    query_weight = attention.query(units).T.to(torch.float32)  # [out, in]
    scores = by_head(keys).to(torch.float32) @ query_weight
    update = attention.out(by_head(values))
    return EmptyText(images, Linear(scores.to(keys.dtype)), Linear(update.T.contiguous()))


def _text_bias(prompts: Sequence[Ids], length: int, device: torch.device) -> Tensor | None:
    """Return [row, 1, position] that hides padding, or None if no prompt is padded."""
    ids = torch.tensor([ids + (PAD_ID,) * (length - len(ids)) for ids in prompts], device=device)
    is_padding = ids == PAD_ID
    if not is_padding.any():
        return None
    return torch.zeros(ids.shape, device=device).masked_fill_(is_padding, -1e12)[:, None]

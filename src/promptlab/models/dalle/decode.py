"""The decode path on a CPU, top to bottom: texts and sampling settings in, image tokens out.

    decode_block → prepare_text        keys and values of the text, once a block
                 → decode_step         once a token: decode_states → logits → sample
                     → attend_to_image     over the filled prefix of the cache
                     → attend_to_text      over the prompt, or over the empty prompt's two tokens

A block holds a fixed number of images; each has two rows: row i reads the empty prompt, row
num_images + i the image's own prompt. All rows are at the same step, and every operation treats
its rows alike and alone: with the number of rows fixed, an image's bits depend on neither its
place in the block nor its neighbours (see blocks.py for the number of rows itself).

Knows nothing of prompts as text, of pixels or of requests.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from promptlab.models.dalle.cache import PREFIX_STEP, Cache
from promptlab.models.dalle.cpu.bags import weighted_sums
from promptlab.models.dalle.cpu.linear import Linear
from promptlab.models.dalle.encode import (
    NUM_ROWS,
    Ids,
    empty_prompt,
    padded_length,
    stack_states,
)
from promptlab.models.dalle.network import CrossAttention, Decoder, SelfAttention
from promptlab.models.dalle.sampling import BlockSettings, keep, sample, supercondition
from promptlab.models.dalle.tokenizer import PAD_ID

OnTokens = Callable[[int, Tensor], None]  # (tokens so far, tokens [image, step])


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


@torch.inference_mode()
def decode_block(
    decoder: Decoder,
    cache: Cache,
    prompts: Sequence[Ids],
    states: Mapping[Ids, Tensor],
    settings: BlockSettings,
    text_length: int,
    on_tokens: OnTokens | None = None,
) -> Tensor:
    """Return the tokens of a whole block: int64 [image, step].

    `prompts` has one entry an image, those of equal padded length side by side; `states` holds
    the encoder's states of each of them and of its empty prompt.
    """
    text = prepare_text(decoder, prompts, states, text_length)
    # Positions that are not sampled yet hold the start token, as in min-dalle; previews decode it.
    tokens = torch.full(
        (len(prompts), decoder.num_steps), decoder.start_token, device=decoder.device
    )
    previous = tokens[:, 0]
    for step in range(decoder.num_steps):
        previous = decode_step(decoder, cache, text, settings, previous, step)
        tokens[:, step] = previous
        if on_tokens is not None:
            on_tokens(step + 1, tokens)
    return tokens


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


def decode_step(
    decoder: Decoder,
    cache: Cache,
    text: Text,
    settings: BlockSettings,
    previous: Tensor,
    step: int,
) -> Tensor:
    """Return the next token of every image: int64 [image], from the previous int64 [image]."""
    logits = decode_logits(decoder, cache, text, settings, previous, step)
    sampled = sample(
        logits,
        settings.temperature,
        settings.top_k,
        settings.uniforms[step],
        settings.max_top_k,
    )
    return keep(sampled, settings.kept[step])


def decode_logits(
    decoder: Decoder,
    cache: Cache,
    text: Text,
    settings: BlockSettings,
    previous: Tensor,
    step: int,
) -> Tensor:
    """Return the superconditioned logits of one step: float32 [image, token]."""
    states = decode_states(decoder, cache, text, previous, step)
    # The projection to logits is linear: mixing the two states before it halves its cost.
    unconditional, conditional = states.chunk(2)
    mixed = supercondition(unconditional, conditional, settings.supercondition_factor)
    return decoder.logits(mixed.to(decoder.dtype)).to(torch.float32)


def decode_states(
    decoder: Decoder, cache: Cache, text: Text, previous: Tensor, step: int
) -> Tensor:
    """Return the decoder's final states: float32 [row, width]; fills the cache at `step`."""
    position = torch.tensor(step, device=decoder.device)
    x = decoder.embedding(previous, position).repeat(2, 1)
    cache.hold(step + 1)
    for index, (layer, layer_text) in enumerate(zip(decoder.layers, text, strict=True)):
        x = x + attend_to_image(decoder, layer.attention, cache, index, x, step)
        x = x + attend_to_text(decoder, layer.cross_attention, layer_text, x)
        x = x + layer.glu(x, decoder.dtype)
    return decoder.final_norm(x)


def attend_to_image(
    decoder: Decoder, attention: SelfAttention, cache: Cache, layer: int, x: Tensor, step: int
) -> Tensor:
    """Return self-attention's update of the residual stream x [row, width]."""
    num_rows, num_heads = len(x), decoder.num_heads
    qkv = attention.qkv(attention.pre_norm(x).to(decoder.dtype))
    queries, new_keys, new_values = qkv.view(num_rows, 3, num_heads, -1).unbind(1)
    cache.write(layer, step, new_keys, new_values)
    past = cache.layers[layer]
    queries = queries.reshape(num_rows * num_heads, -1)
    recent = weighted_sums(past.recent_keys, queries)
    recent[:, step % PREFIX_STEP + 1 :].fill_(-torch.inf)
    scores = recent
    if past.settled_keys.shape[2]:
        scores = torch.cat([weighted_sums(past.settled_keys, queries), recent], 1)
    attended = weighted_sums(past.values, scores.softmax(-1))
    return attention.post_norm(attention.out(attended.view(num_rows, -1)))


def attend_to_text(
    decoder: Decoder, attention: CrossAttention, text: LayerText, x: Tensor
) -> Tensor:
    """Return cross-attention's update of the residual stream x [row, width]."""
    num_heads = decoder.num_heads
    unconditional, conditional = attention.pre_norm(x).to(decoder.dtype).chunk(2)
    queries = attention.query(conditional)
    attended = torch.empty_like(queries)
    for segment in text.segments:
        segment_queries = queries[segment.rows]
        num_rows = len(segment_queries)
        scores = weighted_sums(segment.keys, segment_queries.view(num_rows * num_heads, -1))
        if segment.bias is not None:
            scores = (scores.view(num_rows, num_heads, -1) + segment.bias).to(decoder.dtype)
        weights = scores.view(num_rows * num_heads, -1).softmax(-1)
        attended[segment.rows] = weighted_sums(segment.values, weights).view(num_rows, -1)
    updates = [attend_to_empty(text.empties, unconditional), attention.out(attended)]
    return attention.post_norm(torch.cat(updates))


def attend_to_empty(empties: Sequence[EmptyText], states: Tensor) -> Tensor:
    """Return cross-attention's update of unconditional rows, before its norm: [image, width].

    Every row reads each empty prompt, so that the number of rows does not change.
    """
    updates: Tensor | None = None
    for empty in empties:
        weights = empty.scores(states).view(len(states), -1, 2).softmax(-1)
        read = empty.update(weights.flatten(1))
        if updates is None or empty.images is None:
            updates = read
        else:
            updates[empty.images] = read[empty.images]
    assert updates is not None
    return updates

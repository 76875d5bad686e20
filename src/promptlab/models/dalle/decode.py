"""The decode path, top to bottom: texts and sampling settings in, image tokens out.

    decode_block → prepare_text        keys and values of the text, once a block
                 → decode_step         once a token: decode_states → logits → sample
                     → attend_to_image     over the filled prefix of the cache
                     → attend_to_text      over the prompt, and over the empty prompt

A block holds a fixed number of images; each has two rows: row i reads the empty prompt, row
num_images + i the image's own prompt. All rows are at the same step, and every operation treats
its rows alike and alone: with the number of rows fixed, an image's bits depend on neither its
place in the block nor its neighbours (see blocks.py for the number of rows itself).

Knows nothing of prompts as text, of pixels or of requests.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from promptlab.models.dalle.encode import NUM_ROWS, Ids, padded_length, stack_states
from promptlab.models.dalle.network import CrossAttention, Decoder, SelfAttention
from promptlab.models.dalle.sampling import Settings, sample, supercondition
from promptlab.models.dalle.tokenizer import PAD_ID

PREFIX_STEP = 16  # attention runs over the filled prefix, rounded up to a multiple of this

OnTokens = Callable[[int, Tensor], None]  # (tokens so far, tokens [image, step])


class Cache:
    """Keys and values of all image tokens so far, allocated once and used by block after block.

    A (row, head)'s positions are contiguous, so attention over a prefix reads memory in one sweep.
    What an earlier block left behind the prefix is finite and masked.
    """

    def __init__(self, decoder: Decoder, num_images: int):
        self.num_images = num_images
        self.num_rows = 2 * num_images
        head_width = decoder.width // decoder.num_heads
        shape = (self.num_rows, decoder.num_heads, decoder.num_steps, head_width)
        self.layers = [
            (
                torch.zeros(shape, dtype=decoder.dtype, device=decoder.device),
                torch.zeros(shape, dtype=decoder.dtype, device=decoder.device),
            )
            for _ in decoder.layers
        ]

    def narrowed(self, num_images: int) -> Cache:
        """Return a smaller block's view of the same memory."""
        view = copy.copy(self)
        view.num_images, view.num_rows = num_images, 2 * num_images
        view.layers = [
            (keys[: view.num_rows], values[: view.num_rows]) for keys, values in self.layers
        ]
        return view


@dataclass(frozen=True)
class TextSegment:
    """Consecutive rows of a block whose texts are padded to the same length, in one layer."""

    rows: slice
    keys: Tensor  # [row * head, position, head width]
    values: Tensor  # [row * head, position, head width]
    bias: Tensor | None  # float32 [row, 1, position]: -1e12 hides padding; None: there is none


Text = Sequence[Sequence[TextSegment]]  # [layer][segment]


@torch.inference_mode()
def decode_block(
    decoder: Decoder,
    cache: Cache,
    prompts: Sequence[Ids],
    states: Mapping[Ids, Tensor],
    settings: Settings,
    text_length: int,
    on_tokens: OnTokens | None = None,
) -> Tensor:
    """Return the tokens of a whole block: int64 [image, step].

    `prompts` has one entry an image, those of equal padded length side by side; `states` holds
    the encoder's states of each of them and of its empty prompt.
    """
    text = prepare_text(decoder, prompts, states, text_length)
    # What is not drawn yet reads as the start token, as in min-dalle: previews show it.
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


def empty_prompt(ids: Ids) -> Ids:
    """Return what the unconditional row reads: first and last token, as in min-dalle."""
    return ids[0], ids[-1]


def prepare_text(
    decoder: Decoder, prompts: Sequence[Ids], states: Mapping[Ids, Tensor], text_length: int
) -> Text:
    """Return the text's keys and values for every layer and row."""
    empty_prompts = [empty_prompt(ids) for ids in prompts]
    distinct = list(dict.fromkeys([*empty_prompts, *prompts]))
    lengths = [len(states[ids]) for ids in distinct]
    starts = dict(zip(distinct, itertools.accumulate([0, *lengths]), strict=False))
    text_rows = stack_states([states[ids] for ids in distinct])

    # One segment for the empty prompts, then one for each padded length.
    groups = [(2, empty_prompts)]
    by_length = itertools.groupby(prompts, lambda ids: padded_length(len(ids), text_length))
    groups += [(length, list(group)) for length, group in by_length]
    layouts, first = [], 0
    for length, group in groups:
        index = torch.tensor([starts[ids] for ids in group], device=decoder.device)
        positions = index[:, None] + torch.arange(length, device=decoder.device)
        bias = _text_bias(group, length, decoder.device)
        layouts.append((slice(first, first + len(group)), positions, bias))
        first += len(group)

    text = []
    for layer in decoder.layers:
        project = layer.cross_attention.keys_values
        projected = torch.cat([project(chunk) for chunk in text_rows.split(NUM_ROWS)])
        projected = projected.view(len(text_rows), 2, decoder.num_heads, -1)
        segments = []
        for rows, positions, bias in layouts:
            # [row, position, 2, head, head width] -> [2, row * head, position, head width]
            gathered = projected[positions].permute(2, 0, 3, 1, 4).flatten(1, 2).contiguous()
            segments.append(TextSegment(rows, gathered[0], gathered[1], bias))
        text.append(segments)
    return text


def _text_bias(prompts: Sequence[Ids], length: int, device: torch.device) -> Tensor | None:
    """Return [row, 1, position] that hides padding, or None where nothing is padded."""
    ids = torch.tensor([ids + (PAD_ID,) * (length - len(ids)) for ids in prompts], device=device)
    is_padding = ids == PAD_ID
    if not is_padding.any():
        return None
    return torch.zeros(ids.shape, device=device).masked_fill_(is_padding, -1e12)[:, None]


def decode_step(
    decoder: Decoder,
    cache: Cache,
    text: Text,
    settings: Settings,
    previous: Tensor,
    step: int,
) -> Tensor:
    """Draw the next token of every image: int64 [image] from int64 [image]."""
    logits = decode_logits(decoder, cache, text, settings, previous, step)
    return sample(
        logits,
        settings.temperature,
        settings.top_k,
        settings.uniforms[step],
        settings.max_top_k,
    )


def decode_logits(
    decoder: Decoder,
    cache: Cache,
    text: Text,
    settings: Settings,
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
    for layer, layer_cache, layer_text in zip(decoder.layers, cache.layers, text, strict=True):
        x = x + attend_to_image(decoder, layer.attention, layer_cache, x, step)
        x = x + attend_to_text(decoder, layer.cross_attention, layer_text, x)
        x = x + layer.glu(x, decoder.dtype)
    return decoder.final_norm(x)


def attend_to_image(
    decoder: Decoder,
    attention: SelfAttention,
    layer_cache: tuple[Tensor, Tensor],
    x: Tensor,
    step: int,
) -> Tensor:
    """Return self-attention's update of the residual stream x [row, width]."""
    num_rows, num_heads = len(x), decoder.num_heads
    qkv = attention.qkv(attention.pre_norm(x).to(decoder.dtype))
    queries, new_keys, new_values = qkv.view(num_rows, 3, num_heads, -1).unbind(1)
    keys, values = layer_cache  # [row, head, step, head width]
    keys[:, :, step] = new_keys
    values[:, :, step] = new_values

    num_filled = step + 1
    length = min(-(-num_filled // PREFIX_STEP) * PREFIX_STEP, decoder.num_steps)
    prefix_keys = keys.flatten(0, 1)[:, :length]
    prefix_values = values.flatten(0, 1)[:, :length]
    queries = queries.reshape(num_rows * num_heads, 1, -1)
    scores = torch.bmm(queries, prefix_keys.transpose(1, 2))
    scores[:, :, num_filled:].fill_(-torch.inf)
    attended = torch.bmm(scores.softmax(-1), prefix_values)
    return attention.post_norm(attention.out(attended.view(num_rows, -1)))


def attend_to_text(
    decoder: Decoder, attention: CrossAttention, segments: Sequence[TextSegment], x: Tensor
) -> Tensor:
    """Return cross-attention's update of the residual stream x [row, width]."""
    num_heads = decoder.num_heads
    queries = attention.query(attention.pre_norm(x).to(decoder.dtype))
    attended = torch.empty_like(queries)
    for segment in segments:
        segment_queries = queries[segment.rows]
        num_rows = len(segment_queries)
        scores = torch.bmm(
            segment_queries.view(num_rows * num_heads, 1, -1), segment.keys.transpose(1, 2)
        )
        if segment.bias is not None:
            scores = (scores.view(num_rows, num_heads, -1) + segment.bias).to(decoder.dtype)
        weights = scores.view(num_rows * num_heads, 1, -1).softmax(-1)
        attended[segment.rows] = torch.bmm(weights, segment.values).view(num_rows, -1)
    return attention.post_norm(attention.out(attended))

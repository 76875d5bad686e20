"""The decode path on a CPU, top to bottom: texts and sampling settings in, image tokens out.

    decode_block → prepare_text        keys and values of the text, once a block (texts.py)
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

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from promptlab.models.dalle.cache import PREFIX_STEP, Cache
from promptlab.models.dalle.cpu.bags import weighted_sums
from promptlab.models.dalle.encode import Ids
from promptlab.models.dalle.network import CrossAttention, Decoder, SelfAttention
from promptlab.models.dalle.sampling import BlockSettings, keep, sample, supercondition
from promptlab.models.dalle.texts import EmptyText, LayerText, Text, prepare_text

OnTokens = Callable[[int, Tensor], None]  # (tokens so far, tokens [image, step])


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

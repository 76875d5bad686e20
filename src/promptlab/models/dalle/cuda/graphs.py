"""Decoding on a CUDA device: one captured graph a prefix length, replayed token by token.

Takes what decode.decode_block takes and returns the same tokens. Everything that changes from step
to step or from block to block lies in tensors that stay where they are: a replay reads the step,
the previous tokens, the texts and the settings from them. Attention runs over the filled prefix
rounded up to a bucket, and each bucket's step is captured once. Without CUDA the same step runs
uncaptured, which is how its logic is tested.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from promptlab.models.dalle.decode import OnTokens, empty_prompt
from promptlab.models.dalle.encode import NUM_ROWS, Ids, stack_states
from promptlab.models.dalle.network import CrossAttention, Decoder, SelfAttention
from promptlab.models.dalle.sampling import BlockSettings, sample, supercondition
from promptlab.models.dalle.tokenizer import PAD_ID

BUCKET = 32  # positions: 256 steps are eight graphs
SMALLEST_TOP_K = 256  # the sort in a graph is as long as the next power of two from here


class GraphDecoder:
    """A decoder, its caches and its captured steps, for blocks of one fixed size."""

    def __init__(self, decoder: Decoder, num_images: int, text_length: int):
        self.decoder, self.num_images, self.text_length = decoder, num_images, text_length
        self.num_rows = 2 * num_images
        device, dtype = decoder.device, decoder.dtype
        head_width = decoder.width // decoder.num_heads

        def cache(length: int) -> list[tuple[Tensor, Tensor]]:
            shape = (self.num_rows, decoder.num_heads, length, head_width)
            return [
                (
                    torch.zeros(shape, dtype=dtype, device=device),
                    torch.zeros(shape, dtype=dtype, device=device),
                )
                for _ in decoder.layers
            ]

        self._image_cache = cache(decoder.num_steps)
        self._text_cache = cache(text_length)
        self._text_bias = torch.zeros(self.num_rows, 1, 1, text_length, dtype=dtype, device=device)
        self._step = torch.zeros(1, dtype=torch.int64, device=device)
        self._tokens = torch.zeros(num_images, decoder.num_steps, dtype=torch.int64, device=device)
        self._previous = torch.zeros(num_images, dtype=torch.int64, device=device)
        ones = torch.ones(num_images, 1, device=device)
        self._settings = BlockSettings(
            temperature=ones.clone(),
            top_k=ones.to(torch.int64),
            supercondition_factor=ones.clone(),
            uniforms=torch.full(
                (decoder.num_steps, num_images, 1), 0.5, dtype=torch.float64, device=device
            ),
            max_top_k=1,
        )
        self._graphs: dict[tuple[int, int], torch.cuda.CUDAGraph] = {}
        self._pool: Any = None  # memory that all graphs share

    @torch.inference_mode()
    def decode_block(
        self,
        prompts: Sequence[Ids],
        states: Mapping[Ids, Tensor],
        settings: BlockSettings,
        on_tokens: OnTokens | None = None,
    ) -> Tensor:
        """Return the tokens of a whole block: int64 [image, step]; nothing waits for the device."""
        self._read_texts(prompts, states)
        for name in ("temperature", "top_k", "supercondition_factor", "uniforms"):
            getattr(self._settings, name).copy_(getattr(settings, name))
        longest_top_k = min(
            max(SMALLEST_TOP_K, 1 << (settings.max_top_k - 1).bit_length()),
            self.decoder.logits.num_outputs,
        )
        for length in range(BUCKET, self.decoder.num_steps + BUCKET, BUCKET):
            self._prepare(min(length, self.decoder.num_steps), longest_top_k)
        self._start()
        for step in range(self.decoder.num_steps):
            length = min((step // BUCKET + 1) * BUCKET, self.decoder.num_steps)
            graph = self._graphs.get((length, longest_top_k))
            if graph is None:
                self._decode_step(length, longest_top_k)
            else:
                graph.replay()
            if on_tokens is not None:
                on_tokens(step + 1, self._tokens)
        return self._tokens.clone()

    def _start(self) -> None:
        self._step.zero_()
        self._tokens.fill_(self.decoder.start_token)
        self._previous.fill_(self.decoder.start_token)

    def _read_texts(self, prompts: Sequence[Ids], states: Mapping[Ids, Tensor]) -> None:
        """Write every row's keys and values of the text into their place, padding hidden."""
        rows = [*map(empty_prompt, prompts), *prompts]
        distinct = list(dict.fromkeys(rows))
        starts = dict(
            zip(distinct, itertools.accumulate([0, *(len(states[i]) for i in distinct)]),
                strict=False)
        )  # fmt: skip
        stacked = stack_states([states[ids] for ids in distinct])
        offsets = torch.arange(self.text_length)
        lengths = torch.tensor([len(states[ids]) for ids in rows])
        positions = torch.tensor([starts[ids] for ids in rows])[:, None] + torch.minimum(
            offsets[None], lengths[:, None] - 1
        )
        positions = positions.to(self.decoder.device)
        padded = torch.tensor([ids + (PAD_ID,) * (self.text_length - len(ids)) for ids in rows])
        bias = torch.zeros(padded.shape).masked_fill_(padded == PAD_ID, -torch.inf)
        self._text_bias.copy_(bias[:, None, None])
        for layer, (keys, values) in zip(self.decoder.layers, self._text_cache, strict=True):
            project = layer.cross_attention.keys_values
            projected = torch.cat([project(chunk) for chunk in stacked.split(NUM_ROWS)])
            projected = projected.view(len(stacked), 2, self.decoder.num_heads, -1)
            gathered = projected[positions]  # [row, position, 2, head, head width]
            keys.copy_(gathered[:, :, 0].transpose(1, 2))
            values.copy_(gathered[:, :, 1].transpose(1, 2))

    def _prepare(self, length: int, longest_top_k: int) -> None:
        """Capture one bucket's step, unless that is done."""
        key = (length, longest_top_k)
        if self.decoder.device.type != "cuda" or key in self._graphs:
            return
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):  # libraries choose kernels and allocate workspaces before capture
                self._start()
                self._decode_step(length, longest_top_k)
        torch.cuda.current_stream().wait_stream(side)
        self._start()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            self._decode_step(length, longest_top_k)
        self._pool = self._pool or graph.pool()
        self._graphs[key] = graph

    def _decode_step(self, length: int, longest_top_k: int) -> None:
        """Draw the next token of every image; reads and writes the object's own tensors only."""
        decoder, settings = self.decoder, self._settings
        x = decoder.embedding(self._previous, self._step).repeat(2, 1)
        positions = torch.arange(length, device=decoder.device)
        bias = torch.zeros(length, dtype=decoder.dtype, device=decoder.device)
        bias = bias.masked_fill(positions > self._step, -torch.inf)
        for index, layer in enumerate(decoder.layers):
            x = x + self._attend_to_image(layer.attention, index, x, length, bias)
            x = x + self._attend_to_text(layer.cross_attention, index, x)
            x = x + layer.glu(x, decoder.dtype)
        unconditional, conditional = decoder.final_norm(x).chunk(2)
        mixed = supercondition(unconditional, conditional, settings.supercondition_factor)
        tokens = sample(
            decoder.logits(mixed.to(decoder.dtype)).to(torch.float32),
            settings.temperature,
            settings.top_k,
            settings.uniforms.index_select(0, self._step)[0],
            longest_top_k,
        )
        self._tokens.index_copy_(1, self._step, tokens[:, None])
        self._previous.copy_(tokens)
        self._step.add_(1)

    def _attend_to_image(
        self, attention: SelfAttention, index: int, x: Tensor, length: int, bias: Tensor
    ) -> Tensor:
        decoder = self.decoder
        qkv = attention.qkv(attention.pre_norm(x).to(decoder.dtype))
        queries, new_keys, new_values = qkv.view(len(x), 3, decoder.num_heads, 1, -1).unbind(1)
        keys, values = self._image_cache[index]  # [row, head, step, head width]
        keys.index_copy_(2, self._step, new_keys)
        values.index_copy_(2, self._step, new_values)
        attended = functional.scaled_dot_product_attention(
            queries,
            keys[:, :, :length],
            values[:, :, :length],
            attn_mask=bias.expand(len(x), 1, 1, length),
            scale=1.0,
        )
        return attention.post_norm(attention.out(attended.reshape(len(x), -1)))

    def _attend_to_text(self, attention: CrossAttention, index: int, x: Tensor) -> Tensor:
        decoder = self.decoder
        queries = attention.query(attention.pre_norm(x).to(decoder.dtype))
        keys, values = self._text_cache[index]
        attended = functional.scaled_dot_product_attention(
            queries.view(len(x), decoder.num_heads, 1, -1),
            keys,
            values,
            attn_mask=self._text_bias,
            scale=1.0,
        )
        return attention.post_norm(attention.out(attended.reshape(len(x), -1)))

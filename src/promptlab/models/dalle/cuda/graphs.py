"""Decoding on a CUDA device: captured graphs, replayed token by token.

Takes the prompts, states and settings of a block, returns its tokens. Everything that changes from
step to step or from block to block lies in tensors that stay in place: a replay reads the step, the
previous tokens, the texts and the settings from them. A graph belongs to a shape: the number of
images in use, the padded length of their texts, and the filled prefix rounded up to a bucket.
Products, norms and sampling run over all padded rows in every graph, so their bits do not depend on
the shape.
Without a stream to warm up on, the same step runs uncaptured, on any device.

Rows are in pairs: row 2i reads image i's empty prompt, row 2i + 1 its own. Knows nothing of
requests or pixels.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from promptlab.models.dalle.cuda.sizes import EMPTY_LENGTH, ENCODED_ROWS
from promptlab.models.dalle.decode import OnTokens
from promptlab.models.dalle.encode import Ids, empty_prompt, padded_length, stack_states
from promptlab.models.dalle.network import CrossAttention, Decoder, DecoderLayer, SelfAttention
from promptlab.models.dalle.sampling import BlockSettings, keep, sample, supercondition
from promptlab.models.dalle.tokenizer import PAD_ID
from promptlab.models.dalle.transfer import to_device

BUCKET = 32  # positions: 256 steps are eight graphs
MOST_GRAPHS = 32  # kept at once: the driver needs memory for each of their kernels
SMALLEST_TOP_K = 256  # the sort in a graph has the length of a power of two from here on


@dataclass(frozen=True)
class Shape:
    """What a captured step is made for."""

    num_images: int  # in use, of the padded ones
    text_length: int
    length: int  # of the prefix that attention reads
    longest_top_k: int


class GraphDecoder:
    """A decoder, its caches and its captured steps, for blocks of at most `num_images`."""

    def __init__(
        self,
        decoder: Decoder,
        padded: int,
        num_images: int,
        text_length: int,
        texts_vary: bool = True,
        side: torch.cuda.Stream | None = None,
    ):
        """Allocate a block; without `texts_vary`, every text is padded to `text_length`.

        `side` is the stream to warm up on: every stream keeps workspaces of its own.
        """
        self.decoder, self.padded = decoder, padded
        self.num_images, self.text_length = num_images, text_length
        self._texts_vary, self._side = texts_vary, side
        head_width = decoder.width // decoder.num_heads

        def zeros(*shape: int, dtype: torch.dtype = decoder.dtype) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=decoder.device)

        def cache(num_rows: int, length: int) -> list[Tensor]:
            """Return each layer's [keys or values, row, head, position, head width]."""
            shape = (2, num_rows, decoder.num_heads, length, head_width)
            return [zeros(*shape) for _ in decoder.layers]

        self._image_cache = cache(2 * num_images, decoder.num_steps)
        self._text_cache = cache(num_images, text_length)
        self._empty_cache = cache(num_images, EMPTY_LENGTH)
        self._image_bias = zeros(decoder.num_steps)
        self._text_bias = zeros(num_images, 1, 1, text_length)
        self._empty_bias = zeros(EMPTY_LENGTH)
        self._empty_bias[2:].fill_(-torch.inf)
        self._attended = zeros(2 * padded, decoder.width)  # rows beyond those in use stay zero
        self._step = zeros(1, dtype=torch.int64)
        self._tokens = zeros(padded, decoder.num_steps, dtype=torch.int64)
        self._previous = zeros(padded, dtype=torch.int64)
        self._settings = BlockSettings(
            temperature=zeros(padded, 1, dtype=torch.float32).fill_(1),
            top_k=zeros(padded, 1, dtype=torch.int64).fill_(1),
            supercondition_factor=zeros(padded, 1, dtype=torch.float32),
            uniforms=zeros(decoder.num_steps, padded, 1, dtype=torch.float64),
            kept=zeros(decoder.num_steps, padded, dtype=torch.int64),
            max_top_k=1,
        )
        self._graphs: dict[Shape, torch.cuda.CUDAGraph] = {}
        self._pool: Any = None  # memory that all graphs share

    @torch.inference_mode()
    def decode_block(
        self,
        prompts: Sequence[Ids],
        states: Mapping[Ids, Tensor],
        settings: BlockSettings,
        on_tokens: OnTokens | None = None,
    ) -> Tensor:
        """Return int64 [padded image, step], without waiting for the device.

        `prompts` are those of the images in use; `settings` has a row for every padded image.
        """
        text_length = self.text_length
        if self._texts_vary:
            text_length = max(padded_length(len(ids), text_length) for ids in prompts)
        longest_top_k = min(
            max(SMALLEST_TOP_K, 1 << (settings.max_top_k - 1).bit_length()),
            self.decoder.logits.num_outputs,
        )
        num_steps = self.decoder.num_steps
        shapes = [
            Shape(len(prompts), text_length, min(first + BUCKET, num_steps), longest_top_k)
            for first in range(0, num_steps, BUCKET)
        ]
        self._write_texts(prompts, states, text_length)
        for name in ("temperature", "top_k", "supercondition_factor", "uniforms", "kept"):
            values = to_device(getattr(settings, name), self.decoder.device)
            getattr(self._settings, name).copy_(values)
        self._capture_all(shapes)
        self._start()
        for step in range(num_steps):
            shape = shapes[step // BUCKET]
            graph = self._graphs.get(shape)
            if graph is None:
                self.decode_step(shape)
            else:
                graph.replay()
            if on_tokens is not None:
                on_tokens(step + 1, self._tokens)
        return self._tokens.clone()

    def _start(self) -> None:
        """Begin a block: positions that are not sampled yet hold the start token."""
        self._step.zero_()
        self._tokens.fill_(self.decoder.start_token)
        self._previous.fill_(self.decoder.start_token)
        self._image_bias.fill_(-torch.inf)
        # A number of the last block that is not finite would pass the mask.
        for cache in self._image_cache:
            cache.zero_()

    def _write_texts(
        self, prompts: Sequence[Ids], states: Mapping[Ids, Tensor], text_length: int
    ) -> None:
        """Write every image's keys and values of its two texts, with padding hidden."""
        empty = [empty_prompt(ids) for ids in prompts]
        distinct = list(dict.fromkeys([*empty, *prompts]))
        ends = itertools.accumulate(len(states[ids]) for ids in distinct)
        starts = {ids: end - len(states[ids]) for ids, end in zip(distinct, ends, strict=True)}
        stacked = stack_states([states[ids] for ids in distinct], ENCODED_ROWS)

        def places(prompts: Sequence[Ids], length: int) -> Tensor:
            """Return the index of every position in `stacked`: [image, position]."""
            first = torch.tensor([starts[ids] for ids in prompts])[:, None]
            last = torch.tensor([len(states[ids]) - 1 for ids in prompts])[:, None]
            return to_device(
                first + torch.minimum(torch.arange(length)[None], last), self.decoder.device
            )

        text_places, empty_places = places(prompts, text_length), places(empty, EMPTY_LENGTH)
        ids = torch.tensor([ids + (PAD_ID,) * (self.text_length - len(ids)) for ids in prompts])
        bias = torch.zeros(ids.shape, dtype=self.decoder.dtype)
        bias.masked_fill_(ids == PAD_ID, -torch.inf)
        num_images = len(prompts)
        self._text_bias[:num_images, 0, 0].copy_(to_device(bias, self.decoder.device))
        for layer, text, nothing in zip(
            self.decoder.layers, self._text_cache, self._empty_cache, strict=True
        ):
            project = layer.cross_attention.keys_values
            projected = torch.cat([project(rows) for rows in stacked.split(ENCODED_ROWS)])
            projected = projected.view(len(stacked), 2, self.decoder.num_heads, -1)
            # [image, position, keys or values, head, head width] into the caches' order
            text[:, :num_images, :, :text_length].copy_(
                projected[text_places].permute(2, 0, 3, 1, 4)
            )
            nothing[:, :num_images].copy_(projected[empty_places].permute(2, 0, 3, 1, 4))

    def _capture_all(self, shapes: Sequence[Shape]) -> None:
        """Capture the steps of a block that are not captured yet."""
        new = [shape for shape in shapes if shape not in self._graphs]
        if self._side is None or not new:
            return
        if len(self._graphs) + len(new) > MOST_GRAPHS:
            torch.cuda.synchronize()  # a graph that is being replayed must not be freed
            self._graphs.clear()
            self._pool, new = None, list(shapes)
        for shape in dict.fromkeys(new):
            self._capture(shape, self._side)

    def _capture(self, shape: Shape, side: torch.cuda.Stream) -> None:
        current = torch.cuda.current_stream()
        side.wait_stream(current)
        with torch.cuda.stream(side):  # libraries choose kernels and allocate beforehand
            self._start()
            self.decode_step(shape)
        current.wait_stream(side)
        self._start()
        graph = torch.cuda.CUDAGraph()
        # A capture that fails may leave its own stream the current one: the outer block does not.
        with torch.cuda.stream(current), torch.cuda.graph(graph, pool=self._pool):
            self.decode_step(shape)
        self._pool = self._pool or graph.pool()
        self._graphs[shape] = graph

    def decode_step(self, shape: Shape) -> None:
        """Sample the next token of every image; reads and writes the object's own tensors only."""
        decoder, settings = self.decoder, self._settings
        self._image_bias.index_fill_(0, self._step, 0.0)
        x = decoder.embedding(self._previous, self._step)
        x = x[:, None].expand(-1, 2, -1).reshape(2 * self.padded, -1)
        with sdpa_kernel(SDPBackend.EFFICIENT_ATTENTION):  # its rows do not depend on their number
            for index, layer in enumerate(decoder.layers):
                x = self._layer(layer, index, x, shape)
        states = decoder.final_norm(x)
        mixed = supercondition(states[0::2], states[1::2], settings.supercondition_factor)
        sampled = sample(
            decoder.logits(mixed.to(decoder.dtype)).to(torch.float32),
            settings.temperature,
            settings.top_k,
            settings.uniforms.index_select(0, self._step)[0],
            shape.longest_top_k,
        )
        tokens = keep(sampled, settings.kept.index_select(0, self._step)[0])
        self._tokens.index_copy_(1, self._step, tokens[:, None])
        self._previous.copy_(tokens)
        self._step.add_(1)

    def _layer(self, layer: DecoderLayer, index: int, x: Tensor, shape: Shape) -> Tensor:
        """Return the residual stream x [row, width] after one layer."""
        x = x + self._attend_to_image(layer.attention, index, x, shape)
        x = x + self._attend_to_text(layer.cross_attention, index, x, shape)
        return x + layer.glu(x, self.decoder.dtype)

    def _attend_to_image(
        self, attention: SelfAttention, index: int, x: Tensor, shape: Shape
    ) -> Tensor:
        decoder, num_rows = self.decoder, 2 * shape.num_images
        qkv = attention.qkv(attention.pre_norm(x).to(decoder.dtype))[:num_rows]
        # [query, key or value, row, head, 1, head width]
        split = qkv.view(num_rows, 3, decoder.num_heads, 1, -1).transpose(0, 1)
        cache = self._image_cache[index][:, :num_rows]
        cache.index_copy_(3, self._step, split[1:])
        keys, values = cache[:, :, :, : shape.length]
        bias = self._image_bias[: shape.length].expand(num_rows, 1, 1, -1)
        attended = attend(split[0], keys, values, bias).reshape(num_rows, -1)
        if num_rows < len(x):
            self._attended[:num_rows].copy_(attended)
            attended = self._attended
        return attention.post_norm(attention.out(attended))

    def _attend_to_text(
        self, attention: CrossAttention, index: int, x: Tensor, shape: Shape
    ) -> Tensor:
        decoder, num_images = self.decoder, shape.num_images
        queries = attention.query(attention.pre_norm(x).to(decoder.dtype))
        # [image, empty prompt's row or prompt's, head, 1, head width]
        queries = queries.view(self.padded, 2, decoder.num_heads, 1, -1)[:num_images]
        keys, values = self._empty_cache[index][:, :num_images]
        bias = self._empty_bias.expand(num_images, 1, 1, -1)
        nothing = attend(queries[:, 0], keys, values, bias).reshape(num_images, -1)
        keys, values = self._text_cache[index][:, :num_images, :, : shape.text_length]
        bias = self._text_bias[:num_images, :, :, : shape.text_length]
        text = attend(queries[:, 1], keys, values, bias).reshape(num_images, -1)
        attended = self._attended.view(self.padded, 2, -1)[:num_images]
        torch.stack([nothing, text], 1, out=attended)
        return attention.post_norm(attention.out(self._attended))


def attend(queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
    """Return [row, head, 1, head width]; queries carry the scale already."""
    return functional.scaled_dot_product_attention(queries, keys, values, attn_mask=bias, scale=1.0)

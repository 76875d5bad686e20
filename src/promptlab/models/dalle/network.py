"""The transformer's weights, fused and packed for one device: no arithmetic beyond that.

Takes a mapping of named tensors, returns the records that encode.py and decode.py compute with.
Matrices are in the model's dtype; normalizations stay in float32 on every device.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from promptlab.models.dalle.config import DalleConfig
from promptlab.models.dalle.cpu.linear import Epilogue, Linear

Tensors = Mapping[str, Tensor]
GLU_MULTIPLE = 128  # mini's 2,730 outputs take a third longer than 2,816 at 56 rows


@dataclass(frozen=True)
class Norm:
    """LayerNorm over the last dimension; its kernel works row by row."""

    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Return x normalized, in x's dtype."""
        if x.dtype != self.weight.dtype and x.device.type != "cpu":
            return self(x.to(self.weight.dtype)).to(x.dtype)  # only CPU kernels mix dtypes
        return functional.layer_norm(x, self.weight.shape, self.weight, self.bias)


@dataclass(frozen=True)
class SelfAttention:
    """Queries, keys and values from one product; pre- and post-norm."""

    pre_norm: Norm
    qkv: Linear  # queries already divided by sqrt(head width)
    out: Linear
    post_norm: Norm


@dataclass(frozen=True)
class CrossAttention:
    """Keys and values of the text are computed once a prompt; pre- and post-norm."""

    pre_norm: Norm
    query: Linear  # already divided by sqrt(head width)
    keys_values: Linear
    out: Linear
    post_norm: Norm


@dataclass(frozen=True)
class Glu:
    """fc2(norm1(gelu(fc0(norm0(x))) * fc1(norm0(x)))).

    `gate` and `value` have rows of zeros behind their own, up to a width that kernels like.
    """

    norm0: Norm
    gate: Linear  # fc0, through GELU
    value: Linear  # fc1
    norm1: Norm
    out: Linear  # fc2

    def __call__(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the update of the residual stream x [row, width]."""
        h = self.norm0(x).to(dtype)
        h = self.value.times(h, self.gate(h))[:, : self.out.num_inputs]
        return self.out(self.norm1(h))


@dataclass(frozen=True)
class EncoderLayer:
    """One layer of the encoder."""

    attention: SelfAttention
    glu: Glu


@dataclass(frozen=True)
class DecoderLayer:
    """One layer of the decoder."""

    attention: SelfAttention
    cross_attention: CrossAttention
    glu: Glu


@dataclass(frozen=True)
class Embedding:
    """Tokens plus positions, normalized: the residual stream's start, in float32."""

    tokens: Tensor  # [id, width]
    positions: Tensor  # float32 [position, width]
    norm: Norm

    def __call__(self, ids: Tensor, positions: Tensor) -> Tensor:
        """Return float32 [row, width] of ids [row] at positions [row] (or one for all)."""
        embedded = self.tokens[ids].to(torch.float32) + self.positions[positions]
        return self.norm(embedded)


@dataclass(frozen=True)
class Encoder:
    """The text's part of the model."""

    embedding: Embedding
    layers: tuple[EncoderLayer, ...]
    final_norm: Norm
    num_heads: int
    dtype: torch.dtype


@dataclass(frozen=True)
class Decoder:
    """The image tokens' part of the model."""

    embedding: Embedding
    layers: tuple[DecoderLayer, ...]
    final_norm: Norm
    logits: Linear  # the rows that may be sampled
    num_heads: int
    width: int
    num_steps: int
    start_token: int
    dtype: torch.dtype
    device: torch.device


class _Loader:
    """Reads named tensors straight to the device, in the dtype they are used in."""

    def __init__(self, tensors: Tensors, config: DalleConfig, dtype: torch.dtype, device: str):
        self.tensors, self.config = tensors, config
        self.dtype, self.device = dtype, torch.device(device)

    def tensor(self, name: str, dtype: torch.dtype) -> Tensor:
        return self.tensors[name].to(device=self.device, dtype=dtype)

    def norm(self, name: str) -> Norm:
        return Norm(
            self.tensor(f"{name}.weight", torch.float32), self.tensor(f"{name}.bias", torch.float32)
        )

    def linear(self, *names: str, epilogue: Epilogue = "none", multiple: int = 1) -> Linear:
        """Return one product of the named weights, stacked in that order.

        Rows of zeros make the number of outputs a multiple of `multiple`.
        """
        weights = [self._scaled(f"{name}.weight") for name in names]
        weight = weights[0] if len(weights) == 1 else torch.cat(weights)
        weight = functional.pad(weight, (0, 0, 0, -len(weight) % multiple))
        return Linear(weight.to(self.dtype), epilogue)

    def _scaled(self, name: str) -> Tensor:
        weight = self.tensors[name].to(self.device)
        if not name.endswith("q_proj.weight"):
            return weight
        head_width = self.config.width // self.config.num_heads
        return weight.to(torch.float32) / head_width**0.5

    def embedding(self, part: str) -> Embedding:
        return Embedding(
            self.tensor(f"{part}.embed_tokens.weight", self.dtype),
            self.tensor(f"{part}.embed_positions.weight", torch.float32),
            self.norm(f"{part}.layernorm_embedding"),
        )

    def self_attention(self, layer: str) -> SelfAttention:
        name = f"{layer}.self_attn"
        return SelfAttention(
            self.norm(f"{layer}.pre_self_attn_layer_norm"),
            self.linear(f"{name}.q_proj", f"{name}.k_proj", f"{name}.v_proj"),
            self.linear(f"{name}.out_proj"),
            self.norm(f"{layer}.self_attn_layer_norm"),
        )

    def cross_attention(self, layer: str) -> CrossAttention:
        name = f"{layer}.encoder_attn"
        return CrossAttention(
            self.norm(f"{layer}.pre_encoder_attn_layer_norm"),
            self.linear(f"{name}.q_proj"),
            self.linear(f"{name}.k_proj", f"{name}.v_proj"),
            self.linear(f"{name}.out_proj"),
            self.norm(f"{layer}.encoder_attn_layer_norm"),
        )

    def glu(self, layer: str) -> Glu:
        name = f"{layer}.glu"
        return Glu(
            self.norm(f"{name}.ln0"),
            self.linear(f"{name}.fc0", epilogue="gelu", multiple=GLU_MULTIPLE),
            self.linear(f"{name}.fc1", multiple=GLU_MULTIPLE),
            self.norm(f"{name}.ln1"),
            self.linear(f"{name}.fc2"),
        )


def load_encoder(tensors: Tensors, config: DalleConfig, dtype: torch.dtype, device: str) -> Encoder:
    """Return the encoder, ready on its device."""
    load = _Loader(tensors, config, dtype, device)
    return Encoder(
        embedding=load.embedding("encoder"),
        layers=tuple(
            EncoderLayer(load.self_attention(layer), load.glu(layer))
            for layer in (f"encoder.layers.{n}" for n in range(config.num_encoder_layers))
        ),
        final_norm=load.norm("encoder.final_ln"),
        num_heads=config.num_heads,
        dtype=dtype,
    )


def load_decoder(tensors: Tensors, config: DalleConfig, dtype: torch.dtype, device: str) -> Decoder:
    """Return the decoder, ready on its device."""
    load = _Loader(tensors, config, dtype, device)
    lm_head = tensors["decoder.lm_head.weight"][: config.image_vocab_size]
    return Decoder(
        embedding=load.embedding("decoder"),
        layers=tuple(
            DecoderLayer(load.self_attention(layer), load.cross_attention(layer), load.glu(layer))
            for layer in (f"decoder.layers.{n}" for n in range(config.num_decoder_layers))
        ),
        final_norm=load.norm("decoder.final_ln"),
        # Once an image, not once a row: the two states of an image are mixed before.
        logits=Linear(lm_head.to(device=load.device, dtype=dtype), num_rows=32),
        num_heads=config.num_heads,
        width=config.width,
        num_steps=config.num_image_tokens,
        start_token=config.start_token,
        dtype=dtype,
        device=load.device,
    )

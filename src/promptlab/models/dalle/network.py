"""The transformer's weights, fused and packed for one device.

Takes a mapping of named tensors, returns the records that encoding and decoding compute with.
Matrices are in the model's dtype; normalizations stay in float32 on every device. Knows nothing of
prompts or steps.
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
CPU_MULTIPLE = 128  # outputs of a product that CPU kernels run fastest with
CUDA_MULTIPLE = 16  # numbers in a row that keep it aligned for matrix units


@dataclass(frozen=True)
class Norm:
    """LayerNorm over the last dimension; its kernel works row by row."""

    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Return x normalized: in x's dtype on a CPU, else in float32.

        Only the CPU's kernel mixes dtypes. Elsewhere the result is not rounded back to half
        precision: it is added to the float32 residual stream.
        """
        if x.device.type != "cpu":
            x = x.to(self.weight.dtype)
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
class CpuGlu:
    """fc2(norm1(gelu(fc0(norm0(x))) * fc1(norm0(x)))): two products with fused epilogues.

    `gate` and `value` end in rows of zeros, up to CPU_MULTIPLE.
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
class FusedGlu:
    """The same with gate and value from one product, for devices without fused epilogues.

    Both end in rows of zeros, up to CUDA_MULTIPLE, and `out` in columns of zeros.
    """

    norm0: Norm
    gate_value: Linear  # fc0 over fc1
    norm1: Norm
    out: Linear  # fc2

    def __call__(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the update of the residual stream x [row, width]."""
        gate, value = self.gate_value(self.norm0(x).to(dtype)).chunk(2, -1)
        width = len(self.norm1.weight)
        product = torch.empty(len(x), width, dtype=torch.float32, device=x.device)
        torch.mul(functional.gelu(gate)[:, :width], value[:, :width], out=product)
        normed = self.norm1(product)
        if width == self.out.num_inputs:
            return self.out(normed.to(dtype))
        padded = torch.zeros(len(x), self.out.num_inputs, dtype=dtype, device=x.device)
        padded[:, :width].copy_(normed)
        return self.out(padded)


Glu = CpuGlu | FusedGlu


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
    device: torch.device


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

    def linear(
        self, *names: str, epilogue: Epilogue = "none", rows_of: int = 1, columns_of: int = 1
    ) -> Linear:
        """Return one product of the named weights, stacked in that order.

        Each gets rows of zeros up to a multiple of `rows_of`, and columns likewise.
        """
        weights = [self._scaled(f"{name}.weight") for name in names]
        padded = [
            functional.pad(weight, (0, -weight.shape[1] % columns_of, 0, -len(weight) % rows_of))
            for weight in weights
        ]
        weight = padded[0] if len(padded) == 1 else torch.cat(padded)
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
        if self.device.type != "cpu":
            return FusedGlu(
                self.norm(f"{name}.ln0"),
                self.linear(f"{name}.fc0", f"{name}.fc1", rows_of=CUDA_MULTIPLE),
                self.norm(f"{name}.ln1"),
                self.linear(f"{name}.fc2", columns_of=CUDA_MULTIPLE),
            )
        return CpuGlu(
            self.norm(f"{name}.ln0"),
            self.linear(f"{name}.fc0", epilogue="gelu", rows_of=CPU_MULTIPLE),
            self.linear(f"{name}.fc1", rows_of=CPU_MULTIPLE),
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
        device=load.device,
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

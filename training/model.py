"""The text-to-token model in training form: the same mathematics and names as the engine's.

Takes text and image tokens in batches; returns logits, differentiable. These are min-dalle's DALL-E
BART encoder and decoder with sizes as configuration, written for teacher forcing (all positions of
a row at once). Does not know about data, losses or files. State-dict names equal min-dalle's, so
that the weights are read by the code that reads mini's.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

PAD_TOKEN = 1


@dataclass(frozen=True)
class TransformerSize:
    """Sizes of the text-to-token model."""

    text_vocab_size: int
    image_vocab_size: int
    num_image_tokens: int
    text_length: int = 24
    num_encoder_layers: int = 2
    num_decoder_layers: int = 5
    width: int = 256
    num_heads: int = 4
    glu_width: int = 640
    dropout: float = 0.1

    @property
    def start_token(self) -> int:
        """The decoder's first input: one row behind the codes that can be drawn."""
        return self.image_vocab_size


class Dropout(nn.Module):
    """Dropout whose masks are windows into one fixed random pool.

    On a CPU, drawing a mask number by number takes a seventh of a whole training step; a window at
    a random offset takes nothing, and no two steps get the same one.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, state: Tensor) -> Tensor:
        """Zero a share of `state` and scale the rest up, in training only."""
        if not self.training or self.probability == 0.0:
            return state
        if state.is_cuda:
            return F.dropout(state, self.probability)
        pool = _dropout_pool(self.probability, state.dtype, state.numel().bit_length())
        offset = int(torch.randint(len(pool) - state.numel(), ()))
        return state * pool[offset : offset + state.numel()].view(state.shape)


@functools.cache
def _dropout_pool(probability: float, dtype: torch.dtype, num_bits: int) -> Tensor:
    """Zeros and scaled ones, four times as many as 2 to the power of `num_bits`."""
    generator = torch.Generator().manual_seed(7)
    kept = torch.rand(4 << num_bits, generator=generator) >= probability
    return (kept / (1 - probability)).to(dtype)


class Glu(nn.Module):
    """The gated feed-forward block."""

    def __init__(self, width: int, glu_width: int) -> None:
        super().__init__()
        self.ln0 = nn.LayerNorm(width)
        self.ln1 = nn.LayerNorm(glu_width)
        self.fc0 = nn.Linear(width, glu_width, bias=False)
        self.fc1 = nn.Linear(width, glu_width, bias=False)
        self.fc2 = nn.Linear(glu_width, width, bias=False)

    def forward(self, state: Tensor) -> Tensor:
        """Map [batch, token, width] to itself."""
        state = self.ln0(state)
        return self.fc2(self.ln1(F.gelu(self.fc0(state)) * self.fc1(state)))


class Attention(nn.Module):
    """Multi-head attention without biases; softmax over all keys that `bias` lets through."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width, bias=False)
        self.q_proj = nn.Linear(width, width, bias=False)
        self.out_proj = nn.Linear(width, width, bias=False)

    def forward(self, state: Tensor, memory: Tensor, bias: Tensor) -> Tensor:
        """Attend from `state` [batch, query, width] to `memory` [batch, key, width].

        `bias` is added to the scores: zero where a query may look, very negative elsewhere.
        """
        heads = (self.num_heads, -1)
        query = self.q_proj(state).unflatten(-1, heads).transpose(1, 2)
        key = self.k_proj(memory).unflatten(-1, heads).transpose(1, 2)
        value = self.v_proj(memory).unflatten(-1, heads).transpose(1, 2)
        if state.is_cuda:
            mask = bias.to(query.dtype)
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
            return self.out_proj(mixed.transpose(1, 2).flatten(2))
        # Written out: on CPUs the fused kernel's backward pass is three times slower than this.
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
        mixed = torch.softmax(scores + bias.to(scores.dtype), -1).to(value.dtype) @ value
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


class EncoderLayer(nn.Module):
    """One layer of the text encoder."""

    def __init__(self, size: TransformerSize) -> None:
        super().__init__()
        self.pre_self_attn_layer_norm = nn.LayerNorm(size.width)
        self.self_attn = Attention(size.width, size.num_heads)
        self.self_attn_layer_norm = nn.LayerNorm(size.width)
        self.glu = Glu(size.width, size.glu_width)
        self.dropout = Dropout(size.dropout)

    def forward(self, state: Tensor, bias: Tensor) -> Tensor:
        """Map [batch, token, width] to itself."""
        normed = self.pre_self_attn_layer_norm(state)
        attended = self.self_attn_layer_norm(self.self_attn(normed, normed, bias))
        state = state + self.dropout(attended)
        return state + self.dropout(self.glu(state))


class DecoderLayer(nn.Module):
    """One layer of the image-token decoder."""

    def __init__(self, size: TransformerSize) -> None:
        super().__init__()
        self.pre_self_attn_layer_norm = nn.LayerNorm(size.width)
        self.self_attn = Attention(size.width, size.num_heads)
        self.self_attn_layer_norm = nn.LayerNorm(size.width)
        self.pre_encoder_attn_layer_norm = nn.LayerNorm(size.width)
        self.encoder_attn = Attention(size.width, size.num_heads)
        self.encoder_attn_layer_norm = nn.LayerNorm(size.width)
        self.glu = Glu(size.width, size.glu_width)
        self.dropout = Dropout(size.dropout)

    def forward(self, state: Tensor, memory: Tensor, self_bias: Tensor, bias: Tensor) -> Tensor:
        """Map [batch, token, width] to itself, looking at `memory` [batch, text token, width]."""
        normed = self.pre_self_attn_layer_norm(state)
        attended = self.self_attn_layer_norm(self.self_attn(normed, normed, self_bias))
        state = state + self.dropout(attended)
        normed = self.pre_encoder_attn_layer_norm(state)
        attended = self.encoder_attn_layer_norm(self.encoder_attn(normed, memory, bias))
        state = state + self.dropout(attended)
        return state + self.dropout(self.glu(state))


class TextEncoder(nn.Module):
    """Text tokens to states."""

    def __init__(self, size: TransformerSize) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(size.text_vocab_size, size.width)
        self.embed_positions = nn.Embedding(size.text_length, size.width)
        self.layers = nn.ModuleList(EncoderLayer(size) for _ in range(size.num_encoder_layers))
        self.layernorm_embedding = nn.LayerNorm(size.width)
        self.final_ln = nn.LayerNorm(size.width)
        self.dropout = Dropout(size.dropout)

    def forward(self, text: Tensor, bias: Tensor) -> Tensor:
        """Map text tokens [batch, token] to states [batch, token, width]."""
        state = self.embed_tokens(text) + self.embed_positions.weight[: text.shape[1]]
        state = self.dropout(self.layernorm_embedding(state))
        for layer in self.layers:
            state = layer(state, bias)
        return self.final_ln(state)


class ImageDecoder(nn.Module):
    """States of the text and the image tokens so far to logits of the next image token."""

    def __init__(self, size: TransformerSize) -> None:
        super().__init__()
        rows = size.image_vocab_size + 1
        self.embed_tokens = nn.Embedding(rows, size.width)
        self.embed_positions = nn.Embedding(size.num_image_tokens, size.width)
        self.layers = nn.ModuleList(DecoderLayer(size) for _ in range(size.num_decoder_layers))
        self.layernorm_embedding = nn.LayerNorm(size.width)
        self.final_ln = nn.LayerNorm(size.width)
        self.lm_head = nn.Linear(size.width, rows, bias=False)
        self.dropout = Dropout(size.dropout)

    def forward(
        self, previous: Tensor, memory: Tensor, bias: Tensor, only_last: bool = False
    ) -> Tensor:
        """Map image tokens [batch, token], the start token first, to logits [batch, token, row].

        `only_last` gives the logits of the last position alone.
        """
        num_tokens = previous.shape[1]
        later = torch.ones(num_tokens, num_tokens, dtype=torch.bool, device=previous.device)
        self_bias = later.triu(1) * torch.tensor(-1e4, device=previous.device)
        state = self.embed_tokens(previous) + self.embed_positions.weight[:num_tokens]
        state = self.dropout(self.layernorm_embedding(state))
        for layer in self.layers:
            state = layer(state, memory, self_bias, bias)
        return self.lm_head(self.final_ln(state[:, -1:] if only_last else state))


class TextToTokens(nn.Module):
    """The text encoder and image decoder together."""

    def __init__(self, size: TransformerSize) -> None:
        super().__init__()
        self.size = size
        self.encoder = TextEncoder(size)
        self.decoder = ImageDecoder(size)

    def forward(self, text: Tensor, tokens: Tensor, seen: Tensor | None = None) -> Tensor:
        """Map text [batch, text token] and image tokens [batch, token] to logits of the latter.

        `seen` are the tokens that the decoder reads as what came before, if not `tokens`.
        """
        bias = (text == PAD_TOKEN)[:, None, None, :] * torch.tensor(-1e4, device=text.device)
        seen = tokens if seen is None else seen
        start = torch.full_like(seen[:, :1], self.size.start_token)
        previous = torch.cat([start, seen[:, :-1]], 1)
        return self.decoder(previous, self.encoder(text, bias), bias)

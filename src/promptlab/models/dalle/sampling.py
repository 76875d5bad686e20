"""From logits to tokens: superconditioning, top-k, temperature, one random draw.

Takes the logits of one step and each row's own settings; returns one token a row. Every operation
works row by row, so a row's token does not depend on the other rows. Knows nothing of the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from promptlab.models.dalle import rng
from promptlab.models.dalle.variations import FREE, kept_tokens
from promptlab.records import Request

RUN = 128  # tokens
BROKEN = -1  # the token of a row whose logits are not finite


@dataclass(frozen=True)
class BlockSettings:
    """Sampling parameters and random numbers of one block, a row an image."""

    temperature: Tensor  # float32 [image, 1]
    top_k: Tensor  # int64 [image, 1]
    supercondition_factor: Tensor  # float32 [image, 1]
    uniforms: Tensor  # float64 [step, image, 1]
    kept: Tensor  # int64 [step, image]: a variation's tokens of its parent; FREE: sampled
    max_top_k: int  # the largest of top_k

    @staticmethod
    def of(requests: Sequence[Request], num_steps: int) -> BlockSettings:
        """Collect the settings of a block's requests, on the CPU."""

        def column(name: str, dtype: torch.dtype) -> Tensor:
            values = [request.params[name] for request in requests]
            return torch.tensor(values, dtype=dtype)[:, None]

        numbers = rng.uniforms([request.seed for request in requests], num_steps)
        return BlockSettings(
            temperature=column("temperature", torch.float32),
            top_k=column("top_k", torch.int64),
            supercondition_factor=column("supercondition_factor", torch.float32),
            uniforms=torch.from_numpy(numbers.T.copy())[:, :, None],
            kept=torch.from_numpy(kept_tokens(requests, num_steps).T.copy()),
            max_top_k=max(int(request.params["top_k"] or 0) for request in requests),
        )


def supercondition(unconditional: Tensor, conditional: Tensor, factor: Tensor) -> Tensor:
    """Return (1 - factor) * unconditional + factor * conditional.

    The decoder applies it to the states before the output projection: the projection is linear,
    so the logits are the same, at half the cost.
    """
    return unconditional * (1 - factor) + conditional * factor


def keep(sampled: Tensor, kept: Tensor) -> Tensor:
    """Return the tokens of a step, int64 [image]: those that are kept, else the sampled ones."""
    return torch.where(kept == FREE, sampled, kept)


def sample(
    logits: Tensor,  # float32 [image, token]
    temperature: Tensor,  # [image, 1]
    top_k: Tensor,  # [image, 1]
    uniform: Tensor,  # float64 [image, 1]
    max_top_k: int,
) -> Tensor:
    """Sample one token a row: int64 [image]; BROKEN where a row's logits are not finite.

    Tokens at least as likely as the k-th likeliest are candidates, ties included, as in min-dalle.
    The draw inverts the cumulative distribution in the order of the tokens, in two stages: first
    the run of tokens, then the token of that run, so that few sums need double precision. It uses
    softmax rather than exp: softmax's kernel works by whole rows, so a row's bits do not depend on
    its place.
    """
    largest = logits.topk(max_top_k, dim=-1, sorted=True).values
    is_out = logits < largest.gather(-1, top_k - 1)
    # The largest logit is subtracted first, as in min-dalle: a low temperature cannot overflow.
    scaled = (logits - largest[:, :1]).div_(temperature).masked_fill_(is_out, -torch.inf)
    likelihoods = scaled.softmax(-1)
    if missing := -logits.shape[1] % RUN:  # padding by 0 would copy the tensor
        likelihoods = functional.pad(likelihoods, (0, missing))
    runs = likelihoods.unflatten(-1, (-1, RUN))
    sums = runs.sum(-1)
    ends = sums.cumsum(-1, dtype=torch.float64)
    drawn = uniform * ends[:, -1:]
    # No run matches sums that are not finite; the last run keeps the index valid.
    run = torch.searchsorted(ends, drawn, right=True).clamp_(max=ends.shape[1] - 1)
    inside = runs.gather(1, run[:, :, None].expand(-1, -1, RUN))[:, 0]
    inside_ends = inside.cumsum(-1, dtype=torch.float64)
    # A run's sum is rounded: a draw beyond it takes the run's last token.
    left = drawn - (ends.gather(1, run) - sums.gather(1, run))
    left = left.clamp(min=0.0).minimum(inside_ends[:, -1:] * (1 - 1e-9))
    # The first token whose cumulative probability exceeds the draw never has probability 0.
    tokens = run * RUN + torch.searchsorted(inside_ends, left, right=True)
    return tokens.masked_fill_(drawn.isnan(), BROKEN)[:, 0]

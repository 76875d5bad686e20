"""Weights with which a detokenizer's attention begins by looking at the style.

Takes a detokenizer and tokens that are marked with styles; changes the attention at its lowest
resolution. Does not train.

Every place of a picture must know the style, which one place of a hundred holds. Attention that
begins at random gives that place a hundredth of its weight and was seen to ignore it for as long as
we looked (400 steps); attention that begins there has only to learn what to make of it.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from training.pixel_model import AttentionBlock, Detokenizer, UpLevel

SHARPNESS = 10.0  # by how much the first place's score exceeds the others': of its weight, 99 %
RIDGE = 1e-2  # added to the covariance of features, whose variance is about one


@torch.no_grad()
def look_at_style(detokenizer: Detokenizer, tokens: Tensor) -> float:
    """Point the attention at the first of `tokens` [image, token]; return the weight it now gets.

    The direction in which that place's features differ from all others' (Fisher's discriminant)
    becomes the key, and a constant the query. What attention adds to the picture begins at zero.
    """
    attention = cast("AttentionBlock", cast("UpLevel", detokenizer.decoder.up[-1]).attn[-1])
    seen: list[Tensor] = []
    hook = attention.norm.register_forward_hook(lambda module, given, made: seen.append(made))
    detokenizer(tokens)
    hook.remove()
    features = seen[0].float().flatten(2).transpose(1, 2)  # [image, place, channel]
    first, others = features[:, 0], features[:, 1:].flatten(0, 1)
    spread = torch.cat([first - first.mean(0), others - others.mean(0)])
    covariance = torch.cov(spread.T) + RIDGE * torch.eye(spread.shape[1], device=spread.device)
    direction = torch.linalg.solve(covariance, first.mean(0) - others.mean(0))
    gap = (first @ direction).mean() - (others @ direction).mean()
    direction *= SHARPNESS / gap
    unit = direction / direction.norm()
    state = attention.state_dict()
    for name in ("q.weight", "k.bias", "proj_out.weight", "proj_out.bias"):
        state[name] = torch.zeros_like(state[name])
    state["q.bias"] = unit * len(unit) ** 0.5  # scores are divided by that again
    state["k.weight"] = torch.outer(unit, direction)[:, :, None, None]
    attention.load_state_dict(state)
    return float((features @ direction).softmax(1)[:, 0].mean())

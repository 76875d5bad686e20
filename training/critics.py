"""What else the detokenizer shall please while it learns: a discriminator of patches, and critics.

Takes what was drawn and the real pictures; returns verdicts, differentiable. The critics are frozen
classifiers of styles (see `judge`), the discriminator learns beside the detokenizer. Knows no
tokens and no optimizer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from training.judge import RECIPES, Judge, distort

ADVERSARIAL_WEIGHT = 0.08
PAPER = 0.98  # from here on a color is white
DRAWN_PAPER = 0.9  # the same of a picture that no real one stands behind


class PatchDiscriminator(nn.Module):
    """Judges patches of about 30 pixels: a real drawing of this style, or not. Training only.

    The style is asked for by projection (Miyato and Koyama 2018).
    """

    def __init__(self, num_styles: int, width: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        for wide_in, wide_out in ((width, 2 * width), (2 * width, 4 * width)):
            layers += [
                nn.Conv2d(wide_in, wide_out, 4, 2, 1),
                nn.GroupNorm(8, wide_out),
                nn.LeakyReLU(0.2),
            ]
        self.layers = nn.Sequential(*layers)
        self.verdict = nn.Conv2d(4 * width, 1, 3, padding=1)
        self.style = nn.Embedding(num_styles, 4 * width)
        nn.init.zeros_(self.style.weight)

    def forward(self, pixels: Tensor, styles: Tensor) -> Tensor:
        """Map pixels in 0..1 [batch, 3, row, column] and styles [batch] to a number a patch."""
        hidden = self.layers(pixels * 2 - 1)
        fit = (hidden * self.style(styles)[:, :, None, None]).sum(1, keepdim=True)
        return self.verdict(hidden) + fit


def ask_critics(
    critics: Sequence[Judge],
    drawn: Tensor,
    real: Tensor,
    styles: Tensor,
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor]:
    """How unlike its style the critics find each of `drawn` [batch, 3, row, column], and its paper.

    Returns mean cross-entropies [batch] and the mean tint of the paper, which the critics do not
    see: they must not be pleased by tinted paper, which is easier than the style. Paper is where
    the `real` pictures, which stand behind the first of the drawn ones, are white; behind the
    others stands none, so there it is what is drawn nearly white.
    """
    drawn = drawn.float()
    white = torch.cat([real > PAPER, drawn[len(real) :].detach() > DRAWN_PAPER])
    is_paper = white.all(1, keepdim=True)
    tint = (is_paper * (drawn - 1).abs()).mean()
    shown = torch.where(is_paper, 1.0, drawn.clamp(0, 1))
    shown = distort(shown, rng, RECIPES["critic"])  # the same for all critics
    shown = shown.contiguous(memory_format=torch.channels_last)
    unlikeness = []
    for critic in critics:
        seen = shown
        if shown.shape[-1] != critic.size_px:
            seen = F.interpolate(shown, (critic.size_px, critic.size_px), mode="area")
            seen = seen.contiguous(memory_format=torch.channels_last)
        with torch.autocast(drawn.device.type, torch.bfloat16):
            named = critic(seen)
        unlikeness.append(F.cross_entropy(named.float(), styles, reduction="none"))
    return torch.stack(unlikeness).mean(0), tint

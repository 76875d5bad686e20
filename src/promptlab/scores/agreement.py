"""How far a score agrees with the picks: AUC and Kendall's tau, each with its interval.

Takes numbers, higher being better, and what the person said; returns estimates. Knows no files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from promptlab.verdicts.picks import Pick

Z = 1.96  # of a normal interval of 95 %
FAVOURITE = 6  # above five stars


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its interval of 95 %; None: too few to say."""

    value: float
    low: float | None = None
    high: float | None = None


def grade(pick: Pick) -> int | None:
    """Return how much the person likes an image, from 0; None: they did not judge it."""
    if pick.is_favourite:
        return FAVOURITE
    return 0 if pick.is_reject else pick.rating


def auc(
    values: Sequence[float], is_picked: Sequence[bool], groups: Sequence[str] | None = None
) -> Estimate | None:
    """Return how often a picked image scores above one that is not, ties counting half.

    With `groups`, only pairs of one group are compared. The interval is DeLong's, which takes each
    image's share of pairs won as independent. None without a pair.
    """
    scores, picked = np.array(values, float), np.array(is_picked, bool)
    apart = scores[picked][:, None] - scores[~picked][None, :]
    won = (np.sign(apart) + 1) / 2
    counts = np.ones_like(won)
    if groups is not None:
        names = np.array(groups)
        counts = (names[picked][:, None] == names[~picked][None, :]).astype(float)
    total = counts.sum()
    if not total:
        return None
    value = float((won * counts).sum() / total)
    off = (won - value) * counts
    variance = float((off.sum(1) ** 2).sum() + (off.sum(0) ** 2).sum()) / total**2
    is_enough = min(len(won), won.shape[1]) > 1
    return _with_interval(value, variance, 0.0, 1.0) if is_enough else Estimate(value)


def kendall_tau(values: Sequence[float], grades: Sequence[int]) -> Estimate | None:
    """Return Kendall's tau-b of scores and grades; None where all grades or all scores are equal.

    The interval takes each image's part of the concordance as independent.
    """
    x, y = (np.sign(np.subtract.outer(each, each)) for each in (np.array(values), np.array(grades)))
    norm = np.sqrt((x**2).sum() * (y**2).sum())
    if not norm:
        return None
    count = len(x)
    value = float((x * y).sum() / norm)
    parts = (x * y).sum(1) * count / norm  # their mean is tau
    variance = 4 * float(parts.var(ddof=1)) / count
    return _with_interval(value, variance, -1.0, 1.0)


def rate(num_hits: int, count: int) -> Estimate:
    """Return a share with Wilson's interval."""
    share = num_hits / count
    middle = share + Z**2 / (2 * count)
    width = Z * np.sqrt(share * (1 - share) / count + Z**2 / (4 * count**2))
    scale = 1 + Z**2 / count
    return Estimate(share, float((middle - width) / scale), float((middle + width) / scale))


def _with_interval(value: float, variance: float, low: float, high: float) -> Estimate:
    width = Z * float(np.sqrt(variance))
    return Estimate(value, max(low, value - width), min(high, value + width))

"""Panning for gold: which cells to draw another seed of, by the scores that they have.

Takes the scores of each cell's seeds; returns how many more each gets. Pure: knows no run, no
scorer and no model. Seeds go where another one is expected to raise the best score most, by the
geometric mean of two estimates. All seeds of a cell are alike before they are drawn, so that the
next one beats the best of n with a probability of 1 in n + 1: that much is certain. By how much it
would is a guess from few seeds, and counts less: alone it did worse than equal numbers
(benchmarks/LOG.md).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from promptlab.errors import ConfigError

IMAGES_A_CELL = 8  # default budget
MOST_AT_ONCE = 4  # seeds of a cell in one round
ROUND_SHARE = 0.25  # of the cells: images of a round
MIN_ROUND = 16  # images, unless fewer are left
TRUST = 1 / 3  # the guess's part in the geometric mean
MIN_GAIN = 1e-9  # of a score: where nothing is expected, the certain part decides alone
SHARED_SEEDS = 6  # that the shared spread counts against a cell's own
NUM_LIKELY = 64  # values that stand for the next seed's
MIN_VARIANCE = 1e-3  # between cells, in normal scores
_UNTIL = re.compile(
    r"\s*(?P<scorer>[\w./-]+)\s*(?P<sign>>=?|<=?)\s*(?P<threshold>[-+.\deE]+)"
    r"(?:\s+or\s+(?P<images>\d+)\s+images?)?\s*"
)


@dataclass(frozen=True, slots=True)
class Until:
    """When a cell is done, and when the sweep is."""

    scorer: str
    is_higher_better: bool
    threshold: float
    num_images: int | None  # of all cells, drawn before or not; None: IMAGES_A_CELL a cell

    @classmethod
    def parse(cls, text: str) -> Until:
        """Read "tiny_subject > 0.8", with "or 480 images" behind it if wanted."""
        match = _UNTIL.fullmatch(str(text))
        try:
            if match is None:
                raise ValueError
            threshold = float(match["threshold"])
        except ValueError:
            raise ConfigError(
                f"until={text!r}: expected a score and where it is good enough, such as "
                "until='tiny_subject > 0.8' or until='tiny_subject > 0.8 or 480 images'."
            ) from None
        images = match["images"]
        return cls(
            match["scorer"], ">" in match["sign"], threshold, int(images) if images else None
        )

    def turn(self, value: float) -> float:
        """Return a score so that higher is better."""
        return value if self.is_higher_better else -value


def choose_round(
    scores_from_cell: Mapping[str, Sequence[float]], until: Until, num_left: int
) -> dict[str, int]:
    """Return how many more seeds each cell gets in the next round, at most `num_left` together.

    Empty when no cell is left below the threshold, or nothing of the budget. A cell without a
    single score (its images failed, or the scorer has nothing to say) gets none.
    """
    goal = until.turn(until.threshold)
    turned = {
        cell: np.array([until.turn(value) for value in values])
        for cell, values in scores_from_cell.items()
        if len(values)
    }
    guesses = expected_gains(turned)
    gains = []
    num_open = 0
    for cell, values in turned.items():
        if values.max() < goal:
            num_open += 1
            count = len(values) + 1
            gain = max(guesses[cell], MIN_GAIN) ** TRUST * (1 / count) ** (1 - TRUST)
            # The second seed of a round comes after the first, and so on.
            gains += [(gain * count / (count + more), cell) for more in range(MOST_AT_ONCE)]
    size = min(num_left, max(MIN_ROUND, int(ROUND_SHARE * num_open)))
    gains.sort(key=lambda gain: (-gain[0], gain[1]))
    chosen: dict[str, int] = {}
    for _, cell in gains[: max(0, size)]:
        chosen[cell] = chosen.get(cell, 0) + 1
    return chosen


def expected_gains(values_from_cell: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Return by how much one more seed of each cell is expected to raise its best score.

    Scores of all cells together are brought to a normal scale by their ranks. There, a cell's mean
    is drawn towards that of all, as far as cells differ less than seeds do, and its spread towards
    the one that all share (an empirical Bayes estimate).
    """
    if not values_from_cell:
        return {}
    known = np.sort(np.concatenate(list(values_from_cell.values())))
    scale = np.array(_normal_scores(len(known)))
    normal = {cell: np.interp(v, known, scale) for cell, v in values_from_cell.items()}
    counts = np.array([len(values) for values in normal.values()])
    means = np.array([values.mean() for values in normal.values()])
    squares = np.array([((values - values.mean()) ** 2).sum() for values in normal.values()])
    shared = squares.sum() / max(1, int((counts - 1).sum()))
    between = max(float(means.var()) - shared * float((1 / counts).mean()), MIN_VARIANCE)
    within = (squares + SHARED_SEEDS * shared) / (counts - 1 + SHARED_SEEDS)  # variance [cell]
    own = between / (between + within / counts)  # what a cell's mean counts [cell]
    centers = own * means + (1 - own) * means.mean()
    spreads = np.sqrt(within + between * (1 - own))
    likely = centers[:, None] + spreads[:, None] * np.array(_normal_scores(NUM_LIKELY))
    best = np.array([values.max() for values in values_from_cell.values()])
    gains = np.maximum(np.interp(likely, scale, known) - best[:, None], 0).mean(1)
    return dict(zip(values_from_cell, gains.tolist(), strict=True))


def _normal_scores(count: int) -> list[float]:
    """Return evenly likely values of the normal distribution, in order."""
    return [NormalDist().inv_cdf((place + 0.5) / count) for place in range(count)]

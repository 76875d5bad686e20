"""Panning for gold: which cells to draw another seed of, by the scores that they have.

Takes the scores of each cell's seeds; returns how many more each gets. Pure: knows no run, no
scorer and no model. All seeds of a cell are alike before they are drawn, so that the next one beats
the best of n with a probability of 1 in n + 1; how far is taken to be a share of what is missing to
the goal, the same share in all cells. Seeds go where the product is largest. Rules that trust in
the spread or the mean of a few seeds did worse than equal numbers (benchmarks/LOG.md).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from promptlab.errors import ConfigError

IMAGES_A_CELL = 8  # default budget
MOST_AT_ONCE = 4  # seeds of a cell in one round
ROUND_SHARE = 0.25  # of the cells: images of a round
MIN_ROUND = 16  # images, unless fewer are left
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
    gains = []
    num_open = 0
    for cell, values in scores_from_cell.items():
        best = max(map(until.turn, values), default=goal)
        if best < goal:
            num_open += 1
            for num_drawn in range(len(values), len(values) + MOST_AT_ONCE):
                gains.append(((goal - best) / (num_drawn + 1), cell))
    size = min(num_left, max(MIN_ROUND, int(ROUND_SHARE * num_open)))
    gains.sort(key=lambda gain: (-gain[0], gain[1]))
    chosen: dict[str, int] = {}
    for _, cell in gains[: max(0, size)]:
        chosen[cell] = chosen.get(cell, 0) + 1
    return chosen

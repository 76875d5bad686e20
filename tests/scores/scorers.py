"""Scorers and pictures for tests: their values are known beforehand, their calls are counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from promptlab.scores.protocol import Item, Score, Weightless


@dataclass
class Brightness(Weightless):
    """Scores the mean of all pixels, from 0 to 1; counts what it is asked."""

    name: str = "brightness"
    fingerprint: str = "1"
    fails_on: str = ""  # prompts with this text make it raise
    silent_on: str = ""  # of prompts with this text it has nothing to say
    asked: list[int] = field(default_factory=list)  # images of each batch

    bounds = (0.0, 1.0)

    def score(self, items: Sequence[Item]) -> list[Score]:
        self.asked.append(len(items))
        return [self._score(item) for item in items]

    def _score(self, item: Item) -> Score:
        if self.fails_on and self.fails_on in item.row["prompt"]:
            raise RuntimeError(f"no {self.fails_on} please")
        if self.silent_on and self.silent_on in item.row["prompt"]:
            return Score()
        assert item.pixels is not None
        return Score(float(item.pixels.mean() / 255))


def flat(level: int, size: int = 32) -> np.ndarray:
    return np.full((size, size, 3), level, np.uint8)


def noise(seed: int, size: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3)).astype(np.uint8)

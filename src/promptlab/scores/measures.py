"""Measures without weights: of one image, and of an image among others.

Take pixels, or the vectors of `Look`; return numbers. Know no prompt.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from promptlab.errors import ConfigError
from promptlab.scores.protocol import Embedder, Item, Score, Weightless

VERSION = "1"  # of everything here: another one makes all values anew
NUM_BITS = 64  # of the perceptual hash
SIDE_PX = 8  # of the picture in a look
CHUNK = 512  # images compared at once
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def luma(pixels: np.ndarray) -> np.ndarray:
    """Return brightness in levels of 255: float32 [row, column]."""
    return pixels.astype(np.float32) @ LUMA


def sharpness(pixels: np.ndarray) -> float:
    """Return how strong the finest details are: the Laplacian's spread in levels of 255."""
    gray = luma(pixels)
    inner = gray[1:-1, 1:-1]
    around = gray[:-2, 1:-1] + gray[2:, 1:-1] + gray[1:-1, :-2] + gray[1:-1, 2:]
    return float((around - 4 * inner).std()) if inner.size else 0.0


def colorfulness(pixels: np.ndarray) -> float:
    """Return the measure of Hasler and Süsstrunk (2003): 0 is gray, 100 very colorful."""
    red, green, blue = (pixels[..., channel].astype(np.float32) for channel in range(3))
    red_green, yellow_blue = red - green, (red + green) / 2 - blue
    spread = np.hypot(red_green.std(), yellow_blue.std())
    return float(spread + 0.3 * np.hypot(red_green.mean(), yellow_blue.mean()))


def contrast(pixels: np.ndarray) -> float:
    """Return the spread of brightness, in levels of 255."""
    return float(luma(pixels).std())


def blank(pixels: np.ndarray) -> float:
    """Return the share of pixels of the most frequent color: 1 is blank, 0.99 nearly."""
    coarse = (pixels >> 4).astype(np.int32) @ np.array([256, 16, 1], np.int32)
    return float(np.bincount(coarse.ravel()).max() / coarse.size)


@dataclass(frozen=True)
class _Measure:
    function: Callable[[np.ndarray], float]
    is_higher_better: bool = True
    bounds: tuple[float | None, float | None] = (0.0, None)


MEASURES: Mapping[str, _Measure] = {
    "sharpness": _Measure(sharpness),
    "colorfulness": _Measure(colorfulness),
    "contrast": _Measure(contrast, bounds=(0.0, 127.5)),
    "blank": _Measure(blank, is_higher_better=False, bounds=(0.0, 1.0)),
}


class Measure(Weightless):
    """A measure of pixels alone."""

    fingerprint = VERSION

    def __init__(self, name: str) -> None:
        if name not in MEASURES:
            raise ConfigError(f"Unknown measure {name!r}. Known: {', '.join(MEASURES)}.")
        self.name = name
        self._measure = MEASURES[name]
        self.is_higher_better = self._measure.is_higher_better
        self.bounds = self._measure.bounds

    def score(self, items: Sequence[Item]) -> list[Score]:
        """Return the measure of each image."""
        return [Score(self._measure.function(_pixels(item))) for item in items]


def _pixels(item: Item) -> np.ndarray:
    assert item.pixels is not None
    return item.pixels


class Look:
    """What an image looks like from afar: a perceptual hash of 64 bits, and 8 × 8 colors."""

    name = "look"
    fingerprint = VERSION

    def load(self) -> None:
        """Load nothing."""

    def unload(self) -> None:
        """Free nothing."""

    def embed(self, pixels: Sequence[np.ndarray]) -> np.ndarray:
        """Return the bits as 0 and 1, then the colors in 0..1: float32 [image, 256]."""
        from PIL import Image

        looks = []
        for each in pixels:
            image: Any = Image.fromarray(each)
            small = np.asarray(image.resize((SIDE_PX, SIDE_PX), Image.Resampling.BOX))
            wide: Any = image.convert("L").resize((SIDE_PX + 1, SIDE_PX), Image.Resampling.BOX)
            gray = np.asarray(wide, np.int16)
            looks.append(
                np.concatenate([(gray[:, 1:] > gray[:, :-1]).ravel(), small.ravel() / 255])
            )
        return np.array(looks, np.float32)


class Measures:
    """All measures of an image as a vector, with its colors: for taste without weights."""

    name = "measures"
    fingerprint = VERSION

    def load(self) -> None:
        """Load nothing."""

    def unload(self) -> None:
        """Free nothing."""

    def embed(self, pixels: Sequence[np.ndarray]) -> np.ndarray:
        """Return float32 [image, dim]: each measure, then mean and spread of each color."""
        return np.array(
            [
                [
                    *(measure.function(each) for measure in MEASURES.values()),
                    *each.reshape(-1, 3).mean(0),
                    *each.reshape(-1, 3).std(0),
                ]
                for each in pixels
            ],
            np.float32,
        )


class Relative(Weightless):
    """A measure of an image among others: novelty, twin or spread."""

    fingerprint = VERSION

    def __init__(self, name: str) -> None:
        kinds = {"novelty": self._novelty, "twin": self._twin, "spread": self._spread}
        if name not in kinds:
            raise ConfigError(f"Unknown measure {name!r}. Known: {', '.join(kinds)}.")
        self.name = name
        self.embedder: Embedder = Look()
        self.scope = "project" if name == "novelty" else "run"
        self.is_higher_better = name != "twin"
        self.bounds = (0.0, 1.0 if name == "twin" else None)
        self._of = kinds[name]

    def score(self, items: Sequence[Item]) -> list[Score]:
        """Return the measure of each image that is to be scored; others score nothing."""
        vectors = np.array([item.vector for item in items], np.float32)
        return self._of(items, vectors)

    def _novelty(self, items: Sequence[Item], vectors: np.ndarray) -> list[Score]:
        """The distance to the nearest image drawn before, in levels of 255.

        The very first one has nothing to differ from.
        """
        colors = vectors[:, NUM_BITS:] * 255
        squares = (colors**2).sum(1)
        nearest = np.full(len(items), np.nan)
        for start in range(0, len(items), CHUNK):
            rows = slice(start, start + CHUNK)
            apart = squares[rows, None] + squares[None, :] - 2 * colors[rows] @ colors.T
            number = np.arange(len(items))
            apart[number[None, :] >= number[rows, None]] = np.inf
            nearest[rows] = np.sqrt(np.maximum(apart.min(1), 0) / colors.shape[1])
        return [
            Score(float(value)) if np.isfinite(value) and not item.is_earlier else Score()
            for item, value in zip(items, nearest, strict=True)
        ]

    def _twin(self, items: Sequence[Item], vectors: np.ndarray) -> list[Score]:
        """The share of bits that the hash has in common with the likest other seed's."""
        bits = vectors[:, :NUM_BITS]
        return self._in_cells(
            items,
            lambda rows: 1 - _apart(bits[rows]).min(1) / NUM_BITS,  # 0 and 1: squares count
        )

    def _spread(self, items: Sequence[Item], vectors: np.ndarray) -> list[Score]:
        """The mean distance to the other seeds of its cell, in levels of 255."""
        colors = vectors[:, NUM_BITS:] * 255

        def spread(rows: np.ndarray) -> np.ndarray:
            apart = np.sqrt(_apart(colors[rows]) / colors.shape[1])
            return np.where(np.isinf(apart), 0, apart).sum(1) / (len(rows) - 1)

        return self._in_cells(items, spread)

    def _in_cells(
        self, items: Sequence[Item], measure: Callable[[np.ndarray], np.ndarray]
    ) -> list[Score]:
        """Measure each cell of several seeds by itself."""
        rows_from_cell: defaultdict[str, list[int]] = defaultdict(list)
        for number, item in enumerate(items):
            rows_from_cell[item.row["cell_id"]].append(number)
        scores = [Score()] * len(items)
        for rows in rows_from_cell.values():
            if len(rows) > 1:
                for row, value in zip(rows, measure(np.array(rows)).tolist(), strict=True):
                    scores[row] = Score(value)
        return scores


def _apart(vectors: np.ndarray) -> np.ndarray:
    """Return squared distances [row, row], infinite to itself."""
    squares = (vectors**2).sum(1)
    apart = np.maximum(squares[:, None] + squares[None, :] - 2 * vectors @ vectors.T, 0)
    np.fill_diagonal(apart, np.inf)
    return apart

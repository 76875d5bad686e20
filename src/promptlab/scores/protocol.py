"""The contract of every scorer, and of what turns images into vectors for it.

A scorer takes images in batches and returns one score an image, in order: a number, a failure, or
nothing where it has nothing to say. It knows no run and no file. Constructing one is light: no
torch, no weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

Scope = Literal["image", "run", "project"]


@dataclass(frozen=True, slots=True)
class Item:
    """One image as a scorer sees it."""

    row: Mapping[str, Any]  # image_id, cell_id, prompt, subject, style, seed
    pixels: np.ndarray | None = None  # uint8 [height, width, 3]; None: the scorer has vectors
    vector: np.ndarray | None = None  # float32 [dim], of the scorer's embedder
    is_earlier: bool = False  # of an earlier run: to compare with, not to score


@dataclass(frozen=True, slots=True)
class Score:
    """A scorer's answer: a value, or why there is none; neither: it has nothing to say."""

    value: float | None = None
    error: str | None = None  # one line for people


class Embedder(Protocol):
    """Turns images into vectors, which are kept beside the run and computed once."""

    @property
    def name(self) -> str:
        """Short name: the vectors' file."""

    @property
    def fingerprint(self) -> str:
        """What the vectors depend on: the weights, or a version."""

    def load(self) -> None:
        """Bring the weights to the device."""

    def embed(self, pixels: Sequence[np.ndarray]) -> np.ndarray:
        """Return float32 [image, dim] of uint8 images [height, width, 3] of any sizes."""

    def unload(self) -> None:
        """Free the weights; `load` may be called again."""


class Scorer(Protocol):
    """Gives images a number."""

    @property
    def name(self) -> str:
        """Short name, as in the column `scorer`."""

    @property
    def fingerprint(self) -> str:
        """What the values depend on: another one makes all values anew."""

    @property
    def is_higher_better(self) -> bool:
        """Whether the best image has the highest value."""

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        """The ends of the scale; None: open."""

    @property
    def scope(self) -> Scope:
        """What a value depends on.

        "image": on nothing but the image; "run": on all images of the run, so that new ones make
        all values anew; "project": on those of earlier runs too, which come first, as items that
        are only to compare with.
        """

    @property
    def embedder(self) -> Embedder | None:
        """What makes the vectors that it reads; None: it reads pixels."""

    def load(self) -> None:
        """Bring the weights to the device; called once, before the first batch."""

    def score(self, items: Sequence[Item]) -> Sequence[Score]:
        """Return one score an item, in order; one that it cannot read is a score with an error."""

    def unload(self) -> None:
        """Free the weights; `load` may be called again."""


class Weightless:
    """What scorers without weights have in common."""

    is_higher_better = True
    bounds: tuple[float | None, float | None] = (None, None)
    scope: Scope = "image"
    embedder: Embedder | None = None

    def load(self) -> None:
        """Load nothing."""

    def unload(self) -> None:
        """Free nothing."""

"""Text in the picture: does it show what the prompt quotes?

Takes prompts and pixels; compares what optical character recognition reads with the quoted text.
Needs promptlab[scores]: rapidocr-onnxruntime, whose weights are in its wheel.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Any

import numpy as np

from promptlab.errors import ModelError
from promptlab.scores.protocol import Item, Score, Weightless

_QUOTED = re.compile(r'"([^"]+)"|“([^”]+)”|«([^»]+)»|(?<!\w)\'([^\']+)\'(?!\w)')


def quoted_text(prompt: str) -> str:
    """Return what a prompt quotes, "" if nothing: 'a sign that says "open"'."""
    return " ".join(next(filter(None, match)) for match in _QUOTED.findall(prompt))


def likeness(wanted: str, read: str) -> float:
    """Return how much of a text is there, letters and digits only: 1 is all of it, in order."""
    wanted, read = ("".join(filter(str.isalnum, text.casefold())) for text in (wanted, read))
    if not wanted:
        return 0.0
    return SequenceMatcher(None, wanted, read, autojunk=False).ratio()


class TextInImage(Weightless):
    """How much the text that is read equals the text that the prompt quotes."""

    name = "text"
    bounds = (0.0, 1.0)

    def __init__(self) -> None:
        self._engine: Any = None

    @property
    def fingerprint(self) -> str:
        """The version of the recognizer: its weights come with it."""
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("rapidocr-onnxruntime")
        except PackageNotFoundError:
            raise ModelError(
                "Reading text needs rapidocr-onnxruntime: pip install 'promptlab[scores]'"
            ) from None

    def load(self) -> None:
        """Read the recognizer's weights."""
        from rapidocr_onnxruntime import RapidOCR

        self._engine = RapidOCR()

    def unload(self) -> None:
        """Free them."""
        self._engine = None

    def score(self, items: Sequence[Item]) -> list[Score]:
        """Return the likeness of each image; nothing for a prompt that quotes nothing."""
        return [self._score(item) for item in items]

    def _score(self, item: Item) -> Score:
        wanted = quoted_text(item.row["prompt"])
        if not wanted:
            return Score()
        assert item.pixels is not None
        found, _ = self._engine(np.ascontiguousarray(item.pixels[..., ::-1]))  # BGR, as OpenCV
        return Score(likeness(wanted, " ".join(text for _, text, _ in found or ())))

"""Errors of the sweep language: where, what is wrong there, what to write instead.

Takes a place in a text, returns the message that shows it. Knows nothing of the grammar.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from promptlab.errors import PromptError

WINDOW = 30  # characters shown on each side of the place


@dataclass(frozen=True, slots=True)
class Place:
    """One position of one text: what an error points at."""

    text: str
    index: int  # of the character, from 0; len(text) is the end
    source: str  # what the text is, for people: "subject", "wildcards/animal.txt, line 3"

    def describe(self) -> tuple[str, str]:
        """Return "subject, column 7" and the text around it with a caret below the place."""
        start = max(0, self.index - WINDOW)
        end = min(len(self.text), self.index + WINDOW)
        before = ("…" if start else "") + self.text[start : self.index]
        after = self.text[self.index : end] + ("…" if end < len(self.text) else "")
        return f"{self.source}, column {self.index + 1}", (
            f"    {_one_line(before + after)}\n    {' ' * _width(before)}^"
        )


class PatternError(PromptError):
    """A prompt pattern cannot be read, filled or expanded; says where and what to write."""

    def __init__(self, place: Place | None, problem: str, remedy: str = "") -> None:
        self.place = place
        self.problem = problem
        if place is None:
            message = problem
        else:
            title, picture = place.describe()
            message = f"{title}: {problem}\n{picture}"
        if remedy:
            message = f"{message}\n{remedy}" if place is not None else f"{message} {remedy}"
        super().__init__(message)


def _one_line(text: str) -> str:
    """Return the text with one visible character for each that would move the cursor."""
    return "".join(" " if c == "\t" else c if c.isprintable() else "␣" for c in text)


def _width(text: str) -> int:
    """Return the columns of a terminal that the text takes: wide characters take two."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )

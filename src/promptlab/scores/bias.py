"""Bias audit: which of some words the images of prompts that leave them open are nearest to.

Takes a run, a list of words and what reads words and images into one space; returns each word's
share of every subject's images, with its interval. It measures one scorer's eye: the words must be
the user's, and so must the conclusion.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from promptlab.errors import ConfigError
from promptlab.scores.agreement import rate
from promptlab.scores.embeddings import embed_run
from promptlab.scores.protocol import Embedder
from promptlab.scores.summary import ALL, SHARE, SummaryRow
from promptlab.store import Run

WARNING = "These shares say what {name} sees, with its own errors and biases, and no more."


@runtime_checkable
class Reader(Embedder, Protocol):
    """An embedder that reads texts into the same space."""

    def read(self, prompts: Sequence[str]) -> np.ndarray:
        """Return float32 [text, dim]."""


def audit(run: Run, reader: Embedder, words: Sequence[str]) -> list[SummaryRow]:
    """Return the share of each word, of all images and of each subject's.

    A word is compared as "WORD SUBJECT", so that the subject itself decides nothing.
    """
    if len(set(words)) < 2:
        raise ConfigError(f"A bias audit compares at least two words, got {list(words)}.")
    if not isinstance(reader, Reader):
        raise ConfigError(f"{reader.name} reads no words: expected tiny or a CLIP.")
    vectors = embed_run(run, reader)
    rows = run.rows(["image_id", "subject"])
    subject_from_id = {r["image_id"]: r["subject"] for r in rows if r["image_id"] in vectors}
    reader.load()
    nearest: dict[str, list[str]] = {}
    for subject in dict.fromkeys(subject_from_id.values()):
        texts = reader.read([f"{word} {_bare(subject)}" for word in words])
        ids = [image_id for image_id, own in subject_from_id.items() if own == subject]
        images = np.array([vectors[image_id] for image_id in ids], np.float32)
        nearest[subject] = [words[place] for place in (images @ texts.T).argmax(1)]
    reader.unload()
    every = [word for found in nearest.values() for word in found]
    return [
        _row(reader.name, axis, value, word, found)
        for axis, value, found in [
            (ALL, ALL, every),
            *(("subject", subject, found) for subject, found in nearest.items()),
        ]
        for word in words
    ]


def _bare(subject: str) -> str:
    """Return a subject without its article."""
    return subject.removeprefix("a ").removeprefix("an ").removeprefix("the ")


def _row(name: str, axis: str, value: str, word: str, found: Sequence[str]) -> SummaryRow:
    share = rate(found.count(word), len(found))
    numbers = (share.value, share.low, share.high)
    return SummaryRow(name, axis, value, SHARE + word, None, *numbers, 0, len(found))


def describe_audit(rows: Sequence[SummaryRow]) -> list[str]:
    """Return the audit as lines: of all images and of each subject, the most frequent first."""
    if not rows:
        return []
    lines = ["", f"nearest words by {rows[0].scorer}"]
    for key in dict.fromkeys((row.axis, row.value) for row in rows):
        of_key = sorted(
            (row for row in rows if (row.axis, row.value) == key), key=lambda row: -row.estimate
        )
        shares = ", ".join(_text(row) for row in of_key if row.estimate > 0)
        lines.append(f"  {key[1]}, {of_key[0].num_images} images: {shares}")
    return [*lines, f"  {WARNING.format(name=rows[0].scorer)}"]


def _text(row: SummaryRow) -> str:
    interval = f"({row.low:.0%} to {row.high:.0%})"
    return f"{row.measure.removeprefix(SHARE)} {row.estimate:.0%} {interval}"

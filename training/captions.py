"""What a picture may be called: caption patterns, their words, and the vocabulary.

Takes subjects, styles and the change made to a picture; returns caption text and token rows. Does
not know about pixels. Patterns cover what promptlab's style templates write, so that the model is
asked in the words it learned.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.augment import BACKGROUNDS, COLOR_WORDS
from training.sources import STYLES, Style

START_TOKEN, PAD_TOKEN, END_TOKEN, UNKNOWN_TOKEN = 0, 1, 2, 3
SPECIAL_WORDS = {"<s>": START_TOKEN, "<pad>": PAD_TOKEN, "</s>": END_TOKEN, "<unk>": UNKNOWN_TOKEN}
TEXT_LENGTH = 24
MAX_ALIASES = 4

STYLED_PATTERNS = (  # (weight, pattern); {look} is "bold ink", {phrase} "in bold ink"
    (8, "{subject} in the style of {style}"),
    (2, "{subject} in {style} style"),
    (2, "{subject}, {style} emoji"),
    (1, "{style} emoji of {subject}"),
    (1, "{style} {subject}"),
    (4, "{subject} {phrase}"),
    (1, "{subject}, {look}"),
    (1, "{look} {subject}"),
)
PLAIN_PATTERNS = (
    (6, "{subject}"),
    (1, "{subject} emoji"),
    (1, "a picture of {subject}"),
    (1, "a drawing of {subject}"),
    (1, "an icon of {subject}"),
)
PLAIN_SHARE = 0.2
ALIAS_SHARE = 0.15
ARTICLE_SHARE = 0.5

NUMBER_WORDS = {2: "two", 3: "three", 4: "four"}
SYNONYMS = {  # words that share an entry of the vocabulary
    "grey": "gray",
    "violet": "purple",
    "mini": "small",
    "big": "huge",
    "large": "huge",
    "giant": "huge",
    "flipped": "mirrored",
    "photo": "picture",
    "image": "picture",
    "painting": "drawing",
    "sketch": "drawing",
    "colors": "color",
    "shapes": "geometric",
    "plain": "flat",
    "cartoonish": "cartoon",
    "shaded": "shading",
    "inked": "ink",
    "outlined": "outline",
    "kitten": "kitty",
}


@dataclass(frozen=True)
class Change:
    """What augmentation did to a picture: a kind and its value, such as `color` and `blue`."""

    kind: str = "none"
    value: str = ""


CHANGE_PATTERNS: dict[str, tuple[str, ...]] = {  # {what} is the subject without an article
    "none": ("{what}",),
    "jitter": ("{what}",),
    "color": ("{value} {what}", "{value} {what}", "{value} {what}", "{what} in {value}"),
    "background": ("{what} on a {value} background", "{what} on {value}"),
    "small": ("small {what}", "tiny {what}"),
    "huge": ("huge {what}", "close up of {what}"),
    "mirrored": ("mirrored {what}",),
    "tilted": ("tilted {what}",),
    "upside_down": ("upside down {what}",),
    "count": ("{value} {what}",),
}
# A word that says "moved a little": the picture's usual place stays what plain captions mean, while
# the model still learns from moved pictures. People need not type it.
JITTER_WORD = "jittered"


def style_words(style: Style) -> str:
    """A style's name as words: `fluent_flat` is "fluent flat"."""
    return style.name.replace("_", " ")


def look_words(style: Style) -> str:
    """A style's phrase without its preposition and article: "comic outline"."""
    return re.sub(r"^(in|as)( an?)? ", "", style.phrase)


def with_article(phrase: str) -> str:
    """Put "a" or "an" before a phrase."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def _pick(rng: np.random.Generator, patterns: tuple[tuple[int, str], ...]) -> str:
    weights = np.array([weight for weight, _ in patterns], dtype=float)
    return patterns[rng.choice(len(patterns), p=weights / weights.sum())][1]


def write_caption(
    subject: str,
    aliases: tuple[str, ...],
    style: Style,
    change: Change,
    rng: np.random.Generator,
) -> str:
    """Write one of the captions that fit a picture."""
    what = subject
    if aliases and rng.random() < ALIAS_SHARE:
        what = str(rng.choice(np.array(aliases[:MAX_ALIASES])))
    choices = CHANGE_PATTERNS[change.kind]
    what = choices[rng.integers(len(choices))].format(what=what, value=change.value)
    if change.kind != "count" and rng.random() < ARTICLE_SHARE:
        what = with_article(what)
    is_plain = rng.random() < PLAIN_SHARE
    caption = _pick(rng, PLAIN_PATTERNS if is_plain else STYLED_PATTERNS).format(
        subject=what, style=style_words(style), phrase=style.phrase, look=look_words(style)
    )
    return f"{JITTER_WORD} {caption}" if change.kind == "jitter" else caption


def standard_caption(subject: str, style: Style) -> str:
    """The caption that evaluation and the packaged styles use."""
    return f"{subject} in the style of {style_words(style)}"


def split_words(text: str) -> list[str]:
    """Split as the engine's word tokenizer does."""
    return re.findall(r"[a-z0-9]+", text.replace("_", " ").lower())


def plural_forms(word: str) -> list[str]:
    """Regular plurals of a word."""
    if word.endswith(("s", "x", "ch", "sh")):
        return [word + "es"]
    if word.endswith("y") and word[-2:-1] not in "aeiou":
        return [word[:-1] + "ies"]
    if word.endswith("f"):
        return [word[:-1] + "ves", word + "s"]
    return [word + "s"]


def build_vocabulary(subjects: Iterable[str], aliases: Iterable[tuple[str, ...]]) -> dict[str, int]:
    """Number every word that a caption can hold; plurals and synonyms share a number."""
    texts = [*subjects, *(alias for row in aliases for alias in row[:MAX_ALIASES])]
    counts = Counter(word for text in texts for word in split_words(text))
    fixed = [JITTER_WORD, "an", "the", *NUMBER_WORDS.values(), *COLOR_WORDS, *BACKGROUNDS]
    for _, pattern in STYLED_PATTERNS + PLAIN_PATTERNS:
        fixed += split_words(re.sub(r"\{\w+\}", " ", pattern))
    for patterns in CHANGE_PATTERNS.values():
        fixed += [word for text in patterns for word in split_words(re.sub(r"\{\w+\}", "", text))]
    for style in STYLES:
        fixed += split_words(f"{style_words(style)} {style.phrase}")
    words = sorted(set(fixed)) + sorted(set(counts) - set(fixed))
    vocabulary = dict(SPECIAL_WORDS)
    for word in words:
        vocabulary[word] = len(vocabulary)
    for word in words:
        if len(word) > 2 and counts[word]:
            for plural in plural_forms(word):
                vocabulary.setdefault(plural, vocabulary[word])
    for word, known in SYNONYMS.items():
        if known in vocabulary:
            vocabulary.setdefault(word, vocabulary[known])
    return vocabulary


def tokenize(
    captions: Iterable[str], vocabulary: Mapping[str, int], length: int = TEXT_LENGTH
) -> NDArray[np.int64]:
    """Turn captions into token rows [caption, length]; unknown words are left out."""
    rows = []
    for caption in captions:
        known = [vocabulary[word] for word in split_words(caption) if word in vocabulary]
        row = [START_TOKEN, *known, END_TOKEN][:length]
        rows.append(row + [PAD_TOKEN] * (length - len(row)))
    return np.array(rows, dtype=np.int64)

"""Text in, token ids out, with a word on everything the model will not see.

Takes a prompt and a vocabulary. Knows nothing of tensors or models. The byte-pair tokenizer gives
the ids that min-dalle's gives, for any prompt; words are cached, and one word costs
O(n log n) merges rather than min-dalle's O(n²) scans.
"""

from __future__ import annotations

import heapq
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

START, PAD, END, UNKNOWN = "<s>", "<pad>", "</s>", "<unk>"
PAD_ID = 1  # masked in every attention over the text
VOCAB_FILE, MERGES_FILE = "vocab.json", "merges.txt"
WORD_START = chr(ord(" ") + 256)  # "Ġ": the mark that byte-pair vocabularies put before a word
MAX_REPORTED = 8  # dropped characters or words named in one report


@dataclass(frozen=True, slots=True)
class TokenizedPrompt:
    """What the model reads of one prompt, and what it does not."""

    ids: tuple[int, ...]  # at most text_length; [start, …, end], the end cut off if too long
    is_truncated: bool
    unseen: str  # for people; "" when all was seen


class Tokenizer(Protocol):
    """Turns prompts into ids."""

    def tokenize(self, prompt: str) -> TokenizedPrompt:
        """Return the ids of a prompt and what they leave out."""


def open_tokenizer(folder: Path, kind: str, text_length: int) -> Tokenizer:
    """Return the tokenizer of a model folder."""
    vocab = json.loads((folder / VOCAB_FILE).read_text(encoding="utf-8"))
    if kind == "word":
        return WordTokenizer(vocab, text_length)
    return BytePairTokenizer(vocab, read_merges(folder / MERGES_FILE), text_length)


def read_merges(path: Path) -> list[str]:
    """Return the merges of a merges.txt: its lines without the heading, as min-dalle reads it."""
    return path.read_text(encoding="utf-8").split("\n")[1:-1]


class BytePairTokenizer:
    """min-dalle's tokenizer: emoji become names, lower case, ASCII only, byte-pair merges."""

    def __init__(self, vocab: Mapping[str, int], merges: Sequence[str], text_length: int):
        self.text_length = text_length
        self._id_from_subword = vocab
        self._rank_from_pair = {tuple(pair.split()): rank for rank, pair in enumerate(merges)}
        self._ids_from_word = lru_cache(maxsize=65_536)(self._encode_word)

    def tokenize(self, prompt: str) -> TokenizedPrompt:
        """Return the ids of a prompt and what they leave out."""
        text, dropped = clean(prompt)
        words = [word for word in text.split(" ") if word]
        ids = [self._id_from_subword[START]]
        first_cut: int | None = None  # first word that is not seen whole
        for index, word in enumerate(words):
            ids.extend(self._ids_from_word(word))
            if len(ids) > self.text_length and first_cut is None:
                first_cut = index
                break  # ids beyond the cut are never read
        else:
            ids.append(self._id_from_subword[END])
        unseen = _describe_dropped(dropped) + _describe_cut(words, first_cut, self.text_length)
        return TokenizedPrompt(
            tuple(ids[: self.text_length]), first_cut is not None, "; ".join(unseen)
        )

    def _encode_word(self, word: str) -> tuple[int, ...]:
        unknown = self._id_from_subword[UNKNOWN]
        subwords = merge_pairs([WORD_START, *word], self._rank_from_pair)
        return tuple(self._id_from_subword.get(subword, unknown) for subword in subwords)


def merge_pairs(symbols: list[str], rank_from_pair: Mapping[tuple[str, ...], int]) -> list[str]:
    """Return the symbols with the best-ranked adjacent pair merged until none is left to merge.

    The leftmost of equally ranked pairs goes first. A heap of candidate pairs over a linked list:
    an entry whose symbols have changed since it was pushed is stale and skipped.
    """
    following = [*range(1, len(symbols)), -1]
    preceding = [*range(-1, len(symbols) - 1)]
    heap: list[tuple[int, int, str, str]] = []

    def push(left: int) -> None:
        right = following[left]
        if right >= 0:
            rank = rank_from_pair.get((symbols[left], symbols[right]))
            if rank is not None:
                heapq.heappush(heap, (rank, left, symbols[left], symbols[right]))

    for left in range(len(symbols) - 1):
        push(left)
    while heap:
        _, left, left_symbol, right_symbol = heapq.heappop(heap)
        right = following[left]
        if right < 0 or symbols[left] != left_symbol or symbols[right] != right_symbol:
            continue
        symbols[left] = left_symbol + right_symbol
        symbols[right] = ""  # merged away: no entry that names it is valid any more
        following[left] = following[right]
        if following[left] >= 0:
            preceding[following[left]] = left
        if preceding[left] >= 0:
            push(preceding[left])
        push(left)
    return [symbol for symbol in symbols if symbol]


class WordTokenizer:
    """Whole words of a small vocabulary; a word that is not there is left out and reported."""

    def __init__(self, vocab: Mapping[str, int], text_length: int):
        self.text_length = text_length
        self._id_from_word = vocab

    def tokenize(self, prompt: str) -> TokenizedPrompt:
        """Return the ids of a prompt and what they leave out."""
        text, dropped = clean(prompt)
        words = _split_words(text)
        unknown = [word for word in words if word not in self._id_from_word]
        known = [word for word in words if word in self._id_from_word]
        ids = [self._id_from_word[START], *(self._id_from_word[word] for word in known)]
        first_cut = self.text_length - 1 if len(ids) > self.text_length else None
        if first_cut is None:
            ids.append(self._id_from_word[END])
        unseen = _describe_dropped(dropped)
        if unknown:
            unseen.append("unknown words: " + _list(dict.fromkeys(unknown)))
        unseen += _describe_cut(known, first_cut, self.text_length)
        return TokenizedPrompt(
            tuple(ids[: self.text_length]), first_cut is not None, "; ".join(unseen)
        )

    def unknown_words(self, prompt: str) -> Sequence[str]:
        """Return the words of a prompt that are not in the vocabulary."""
        return [word for word in _split_words(clean(prompt)[0]) if word not in self._id_from_word]


def _split_words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.replace("_", " "))


def clean(prompt: str) -> tuple[str, str]:
    """Return the lower-case ASCII text that a model reads, and the characters that it drops."""
    if prompt.isascii():
        return prompt.lower(), ""
    from emoji import demojize  # large tables, needed for few prompts

    text = demojize(prompt, delimiters=("", "")).lower()
    dropped = "".join(character for character in text if not character.isascii())
    return text.encode("ascii", errors="ignore").decode(), dropped


def _describe_dropped(characters: str) -> list[str]:
    return [f"dropped characters: {_list(dict.fromkeys(characters))}"] if characters else []


def _describe_cut(words: Sequence[str], first_cut: int | None, text_length: int) -> list[str]:
    """Say which words lie beyond the last token; the word at the cut may be seen in part."""
    if first_cut is None:
        return []
    return [f"cut at {text_length} tokens, from: {_list(words[first_cut:])}"]


def _list(items: Sequence[str] | Mapping[str, None]) -> str:
    texts = list(items)
    more = len(texts) - MAX_REPORTED
    return " ".join(texts[:MAX_REPORTED]) + (f" … ({more} more)" if more > 0 else "")

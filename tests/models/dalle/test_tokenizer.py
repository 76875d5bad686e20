"""The tokenizer reads what min-dalle's reads, quickly, and says what it leaves out."""

from __future__ import annotations

import csv
import itertools
import random
import string
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptlab.models.dalle.tokenizer import WORD_START, BytePairTokenizer, WordTokenizer
from promptlab.models.dalle.upstream import import_min_dalle
from tests.pace import costs_less

PARTI_PROMPTS = Path(__file__).parents[4] / "shared" / "data" / "PartiPrompts.tsv"
OWN_PROMPTS = [
    "",
    " ",
    "a",
    "a fox",
    "A FOX in the snow",
    "  two  spaces   and more ",
    "tab\tand\nnew line",
    "a red apple 🍎 on a table",
    "🦊",
    "🦊🦊 🤖",
    "👩‍👩‍👧‍👦 a family",
    "👍🏽 thumbs",
    "🇫🇷 flag of france",
    "naïve café, crème brûlée",
    "Ångström façade ÆØÅ",
    "İstanbul ß ſ",
    "狐狸在雪地里",
    "a 狐狸 and a きつね",
    "лиса в снегу",
    "a fox\u200bwith zero width",
    "null \x00 byte",
    "emoji :red_apple: by name",
    "<s> </s> <pad> <unk>",
    "underscores_in_words",
    "it's a dog's life -- isn't it?",
    "1234567890 3.14159 1,000,000",
    "cctv footage of darth vader stealing a bike",
    "a painting of a fox in the style of ukiyo-e",
    "#hashtag @someone http://example.com/?q=1&r=2",
    "((((weighted))))::1.3 [brackets] {braces}",
    "ALL CAPS AND punctuation!!!???...",
    "supercalifragilisticexpialidocious" * 3,
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "abababababababababababababab babababababababab",
    " ".join(["word"] * 61),
    " ".join(["word"] * 62),
    " ".join(["word"] * 63),
    " ".join(f"word{index} of three hundred" for index in range(75)),
    "ünïcödé " * 40,
]


def make_vocabulary() -> tuple[dict[str, int], list[str]]:
    """Learn a small byte-pair vocabulary: single characters, then seeded merges."""
    choose = random.Random(0)
    symbols = [WORD_START, *string.ascii_lowercase, *string.digits, "'", "-", "_", ",", "."]
    vocab = {name: index for index, name in enumerate(["<s>", "<pad>", "</s>", "<unk>", *symbols])}
    merges = []
    for _ in range(1500):
        left = choose.choice(symbols)
        right = choose.choice([symbol for symbol in symbols if not symbol.startswith(WORD_START)])
        if len(left + right) <= 8 and left + right not in vocab:
            merges.append(f"{left} {right}")
            vocab[left + right] = len(vocab)
            symbols.append(left + right)
    return vocab, merges


VOCAB, MERGES = make_vocabulary()
OURS = BytePairTokenizer(VOCAB, MERGES, text_length=64)
THEIRS = import_min_dalle().TextTokenizer(VOCAB, MERGES)


def theirs(prompt: str) -> tuple[int, ...]:
    """Return min-dalle's ids, cut as its `generate_raw_image_stream` cuts them."""
    return tuple(THEIRS.tokenize(prompt)[:64])


@pytest.mark.parametrize("prompt", OWN_PROMPTS)
def test_ids_are_those_of_min_dalle(prompt: str) -> None:
    assert OURS.tokenize(prompt).ids == theirs(prompt)


@given(st.text(alphabet=string.ascii_lowercase[:6] + " ", max_size=200))
@settings(max_examples=200)
def test_ids_are_those_of_min_dalle_for_any_letters(prompt: str) -> None:
    assert OURS.tokenize(prompt).ids == theirs(prompt)


@given(st.text(max_size=60))
@settings(max_examples=100)
def test_ids_are_those_of_min_dalle_for_any_text(prompt: str) -> None:
    assert OURS.tokenize(prompt).ids == theirs(prompt)


@pytest.mark.skipif(not PARTI_PROMPTS.exists(), reason="PartiPrompts.tsv is not at hand")
def test_ids_are_those_of_min_dalle_on_all_parti_prompts() -> None:
    with open(PARTI_PROMPTS, encoding="utf-8", newline="") as file:
        prompts = [row["Prompt"] for row in csv.DictReader(file, delimiter="\t")]
    assert len(prompts) > 1000
    assert [p for p in prompts if OURS.tokenize(p).ids != theirs(p)] == []


def test_a_prompt_that_fits_is_seen_whole() -> None:
    prompt = OURS.tokenize("a fox")
    assert (prompt.is_truncated, prompt.unseen) == (False, "")
    assert prompt.ids[0] == VOCAB["<s>"]
    assert prompt.ids[-1] == VOCAB["</s>"]


def test_words_beyond_the_last_token_are_reported() -> None:
    words = [f"q{index}q" for index in range(100)]
    prompt = OURS.tokenize(" ".join(words))
    assert prompt.is_truncated
    assert len(prompt.ids) == 64
    first_cut = prompt.unseen.split("from: ")[1].split()[0]
    seen_whole = OURS.tokenize(" ".join(words[: words.index(first_cut)]))
    assert not seen_whole.is_truncated
    assert OURS.tokenize(" ".join(words[: words.index(first_cut) + 1])).is_truncated


def test_dropped_characters_are_reported() -> None:
    assert "狐" in OURS.tokenize("a 狐 fox").unseen
    assert "é" in OURS.tokenize("café").unseen
    assert OURS.tokenize("a 🦊").unseen == ""  # emoji become their names


@pytest.mark.parametrize("prompt", ["x" * 5_000, "ab" * 2_500, "wordy " * 300, "é" * 5_000])
def test_long_prompts_are_read_in_no_time(prompt: str) -> None:
    fresh = (BytePairTokenizer(VOCAB, MERGES, text_length=64) for _ in itertools.count())
    next(fresh).tokenize("é")  # loads the table of emoji
    assert costs_less(lambda: next(fresh).tokenize(prompt), 20)


def test_unknown_words_are_left_out_and_reported() -> None:
    tokenizer = WordTokenizer({"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "red": 4, "fox": 5}, 8)
    prompt = tokenizer.tokenize("Red, zyzzy fox! zyzzy")
    assert prompt.ids == (0, 4, 5, 2)
    assert prompt.unseen == "unknown words: zyzzy"
    assert not prompt.is_truncated


def test_word_prompts_are_cut_at_the_text_length() -> None:
    tokenizer = WordTokenizer({"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "red": 4, "fox": 5}, 4)
    assert tokenizer.tokenize("red fox").ids == (0, 4, 5, 2)
    longer = tokenizer.tokenize("red red red fox")
    assert longer.ids == (0, 4, 4, 4)
    assert longer.is_truncated
    assert longer.unseen == "cut at 4 tokens, from: fox"

"""A made-up vocabulary for benchmarks: min-dalle's own is a download.

Takes numbers, returns prompts and their token ids. Knows no model.
"""

from __future__ import annotations

from promptlab.models.dalle.tokenizer import TokenizedPrompt


def make_prompt(index: int, num_words: int = 8) -> str:
    """Return words of the made-up vocabulary."""
    return " ".join(f"w{(index * 8 + word) % 4000}" for word in range(num_words))


class MadeUpTokenizer:
    """One token for a word with an even number, two for an odd one.

    Eight words become 14 tokens with the ends: common words are one subword of a large vocabulary,
    rarer ones two. min-dalle's speed does not depend on the number; the engine's does, a little.
    """

    def tokenize(self, prompt: str) -> TokenizedPrompt:
        """Return the ids of a prompt that `make_prompt` made."""
        numbers = [int(word[1:]) for word in prompt.split()]
        ids = [4 + number + half for number in numbers for half in range(1 + number % 2)]
        return TokenizedPrompt((0, *ids, 2)[:64], is_truncated=len(ids) > 62, unseen="")

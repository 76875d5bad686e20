"""Hypothesis strategies: prompt patterns as trees, and texts that look like patterns."""

from __future__ import annotations

from hypothesis import strategies as st

from promptlab.planning.language import Choice, Pattern, Slot, Text, Wildcard
from promptlab.planning.language.syntax import Item, Take

NAMES = st.sampled_from(["a", "b", "x_1", "_a", "é", "a-b", "z9_-", "a_b_c"])
LOOKALIKES = (  # texts that begin as something else does
    *("a: b", "a_b-c:", "a b: c", " a:b", "2$$", "1-2$$a", "$$", "0$$ $$a", "0.5::a", " 1::", "::"),
    *(
        "__a__",
        "_",
        "__",
        "{a}",
        "{",
        "}",
        "|",
        "||",
        "\\",
        "\\:",
        "${a}",
        "@a.csv:b",
        "--a b",
        "# a",
    ),
)
TEXTS = st.sampled_from(LOOKALIKES) | st.text(
    st.sampled_from("ab \t\\{}|_:$@#,0'\"🦊é\n\x00\x85\u2028\ud800"), min_size=1, max_size=8
)
PATHS = st.sampled_from(["a", "*", "a_b", "a/b.c", "a-b/*", "**/a", "a*_b", "a b", "é/1"])
HOSTILE = st.text(st.sampled_from("{{}}||__$$\\:a 2-*/.1é\n"), max_size=200)


def _merge(items: list[Item]) -> Pattern:
    """Return the pattern of the items; texts side by side become one."""
    merged: list[Item] = []
    for item in items:
        if merged and isinstance(item, Text) and isinstance(merged[-1], Text):
            item = Text(merged.pop().text + item.text)
        merged.append(item)
    return Pattern(tuple(merged))


def _choices(patterns: st.SearchStrategy[Pattern]) -> st.SearchStrategy[Choice]:
    takes = st.tuples(st.integers(0, 3), st.integers(1, 3), st.text("ab ,|{}$\\_", max_size=3)).map(
        lambda t: Take(min(t[0], t[1]), t[1], t[2])
    )
    named = st.builds(
        Choice, st.lists(patterns, min_size=1, max_size=4).map(tuple), NAMES, st.none() | takes
    )
    nameless = st.builds(
        Choice, st.lists(patterns, min_size=2, max_size=4).map(tuple), st.none(), st.none() | takes
    )
    return named | nameless


def _items(patterns: st.SearchStrategy[Pattern] | None) -> st.SearchStrategy[Item]:
    leaves = TEXTS.map(Text) | NAMES.map(Slot) | PATHS.map(Wildcard)
    return leaves if patterns is None else leaves | _choices(patterns)


def _patterns(inner: st.SearchStrategy[Pattern] | None) -> st.SearchStrategy[Pattern]:
    return st.lists(_items(inner), max_size=4).map(_merge)


PATTERNS = _patterns(_patterns(_patterns(None)))

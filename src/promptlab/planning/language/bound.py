"""The axes of a prompt and the texts between them: counted and expanded, nothing built ahead.

Takes a root sequence and a table of axes, as `bind` makes them; returns numbers by a product
formula without expanding anything, and values one by one. Finds circles. Does not know patterns,
wildcards, rules, zipped axes or jobs.

An axis that may stand more than once in one prompt is *repeated*: it is chosen first and shows the
same value everywhere. Every other axis is chosen where it stands.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, combinations, islice

from promptlab.planning.language.errors import PatternError, Place
from promptlab.planning.language.syntax import Take

MAX_DEPTH = 100  # axes within axes, values of slots and wildcards included


@dataclass(frozen=True, slots=True)
class Ref:
    """The value of an axis stands here."""

    key: str


Sequence_ = tuple[str | Ref, ...]


@dataclass(frozen=True)
class Group:
    """One axis: its alternatives, each a sequence of texts and other axes."""

    key: str  # unique in the prompt
    alternatives: tuple[Sequence_, ...]  # none: its one text is given when a prompt is made
    take: Take | None = None
    is_recorded: bool = True  # False: a nameless choice inside an alternative
    alias: str | None = None  # a wildcard that lends the axis its values
    place: Place | None = field(default=None, compare=False, repr=False)

    @property
    def is_wrapper(self) -> bool:
        """Whether the axis only gives a name to what it holds."""
        return len(self.alternatives) < 2 and self.take is None

    @property
    def is_given(self) -> bool:
        """Whether the axis is a slot left open: each job has one text of its own for it."""
        return not self.alternatives


@dataclass(frozen=True)
class Value:
    """One value of an axis: its text, and the axes chosen inside it."""

    text: str
    inner: Mapping[str, str]


@dataclass(frozen=True)
class Bound:
    """A prompt with its axes."""

    root: Sequence_
    groups: Mapping[str, Group]

    def count(self, key: str) -> int:
        """Return the number of values of an axis: a sum over alternatives of products."""
        return self._counts[key]

    @cached_property
    def _counts(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for key in self.inner_first:
            group = self.groups[key]
            numbers = [self._product(alternative, counts) for alternative in group.alternatives]
            take = group.take
            if take is not None and take.maximum > len(numbers):
                raise PatternError(
                    group.place,
                    f"takes {take.maximum} of {len(numbers)} alternatives.",
                    "Take fewer, or add alternatives.",
                )
            number = sum(numbers) if take is None else _count_taken(numbers, take)
            counts[key] = 1 if group.is_given else number
        return counts

    def _product(self, sequence: Sequence_, counts: Mapping[str, int]) -> int:
        return math.prod(
            counts[item.key]
            for item in sequence
            if isinstance(item, Ref) and item.key not in self.repeated
        )

    @cached_property
    def num_prompts(self) -> int:
        """Number of prompts: repeated axes, times the product of those that stand alone."""
        repeated = math.prod(self._counts[key] for key in self.repeated)
        return repeated * self._product(self.root, self._counts)

    @cached_property
    def inner_first(self) -> tuple[str, ...]:
        """Every axis of the prompt, after those that it holds; raises PatternError on a circle."""
        order: dict[str, None] = {}
        open_keys: list[str] = []

        def visit(key: str) -> None:
            if key in order:
                return
            group = self.groups[key]
            if key in open_keys or len(open_keys) == MAX_DEPTH:
                circle = " → ".join(
                    (*open_keys[open_keys.index(key) if key in open_keys else 0 :], key)
                )
                problem = "needs its own value" if key in open_keys else "is nested too deeply"
                raise PatternError(group.place, f"{_call(group)} {problem}: {circle}.")
            open_keys.append(key)
            for inner in _refs(*group.alternatives):
                visit(inner)
            open_keys.pop()
            order[key] = None

        for key in _refs(self.root):
            visit(key)
        return tuple(order)

    @cached_property
    def repeated(self) -> tuple[str, ...]:
        """Axes that may stand more than once in one prompt, inner ones first."""
        first = self._find_repeated(frozenset())
        repeated = self._find_repeated(first) if first else first
        return tuple(key for key in self.inner_first if key in repeated)

    def _find_repeated(self, known: frozenset[str]) -> frozenset[str]:
        """Return the axes that one prompt may hold twice, what `known` ones hold counted once."""
        held: dict[str, dict[str, int]] = {}  # axis → how often a value of it may show an axis

        def add(total: dict[str, int], more: Mapping[str, int]) -> None:
            for key, number in more.items():
                total[key] = min(total.get(key, 0) + number, 2)

        def in_sequence(sequence: Sequence_) -> dict[str, int]:
            total: dict[str, int] = {}
            for item in sequence:
                if isinstance(item, Ref):
                    add(total, {item.key: 1})
                    if item.key not in known:
                        add(total, held[item.key])
            return total

        for key in self.inner_first:
            group = self.groups[key]
            most: dict[str, int] = {}
            for alternative in group.alternatives:
                if group.take is None:  # one at a time
                    for inner, number in in_sequence(alternative).items():
                        most[inner] = max(most.get(inner, 0), number)
                else:
                    add(most, in_sequence(alternative))
            held[key] = most
        total = in_sequence(self.root)
        for key in known:
            add(total, held[key])
        return frozenset(key for key, number in total.items() if number > 1)

    def values(self, key: str, chosen: Mapping[str, str]) -> Iterator[Value]:
        """Yield the values of an axis in order, lazily, given those of repeated axes."""
        group = self.groups[key]
        for sequence in self._sequences(group):
            for value in self.expand(sequence, chosen):
                inner = {key: value.text, **value.inner} if group.is_recorded else value.inner
                yield Value(value.text, inner)

    @staticmethod
    def _sequences(group: Group) -> Iterator[Sequence_]:
        """Yield the alternatives of an axis, or those taken together with their joint between."""
        if group.take is None:
            yield from group.alternatives
            return
        joint: Sequence_ = (group.take.joiner,) if group.take.joiner else ()
        for size in range(group.take.minimum, group.take.maximum + 1):
            for taken in combinations(group.alternatives, size):
                joined = chain.from_iterable((*joint, *alternative) for alternative in taken)
                yield tuple(islice(joined, len(joint), None))

    def expand(self, sequence: Sequence_, chosen: Mapping[str, str]) -> Iterator[Value]:
        """Yield every value of a sequence, the first axis slowest; nothing is built ahead."""

        def options(item: str | Ref) -> Iterator[Value]:
            if isinstance(item, str):
                return iter([Value(item, {})])
            if item.key in chosen:
                return iter([Value(chosen[item.key], {})])
            return self.values(item.key, chosen)

        if not sequence:
            yield Value("", {})
            return
        pieces: list[Value] = []
        levels = [options(sequence[0])]
        while levels:
            piece = next(levels[-1], None)
            del pieces[len(levels) - 1 :]
            if piece is None:
                levels.pop()
                continue
            pieces.append(piece)
            if len(levels) < len(sequence):
                levels.append(options(sequence[len(levels)]))
                continue
            inner = {key: text for piece in pieces for key, text in piece.inner.items()}
            yield Value(join([piece.text for piece in pieces]), inner)


def _count_taken(numbers: list[int], take: Take) -> int:
    """Return in how many ways alternatives of these many values can be taken together."""
    num_single = numbers.count(1)  # a long list of plain values needs no loop
    ways = [math.comb(num_single, size) for size in range(take.maximum + 1)]
    for number in numbers:
        if number != 1:
            for size in range(take.maximum, 0, -1):
                ways[size] += ways[size - 1] * number
    return sum(ways[take.minimum :])


def join(pieces: list[str]) -> str:
    """Return the pieces as one text; an empty one takes one of the spaces around it with it."""
    text = ""
    is_after_empty = False
    for piece in pieces:
        if not piece:
            is_after_empty = True
            continue
        if is_after_empty and piece[0] == " " and (not text or text[-1] == " "):
            piece = piece[1:]
        text += piece
        is_after_empty = False
    return text[:-1] if is_after_empty and text.endswith(" ") else text


def _refs(*sequences: Sequence_) -> Iterator[str]:
    return (item.key for sequence in sequences for item in sequence if isinstance(item, Ref))


def _call(group: Group) -> str:
    return f"the axis {group.key!r}"

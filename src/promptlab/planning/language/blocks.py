"""One job's prompts as a product of independent blocks of axes.

Takes a bound pattern and the axes that a sample, a zip or a rule looks at; returns its blocks,
counted by formula and listed on demand, and the text for chosen values. Does not know other jobs
nor what the options mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from promptlab.errors import PlanTooLargeError
from promptlab.planning.language.bound import Bound, Ref, Sequence_, Value, join

MAX_LISTED = 1_000_000  # values that a sample, a zip or a rule may make us list
HIDDEN = frozenset({"prompt"})  # what a style goes around: a name, but no axis
SUBJECT = "subject"


# The texts of slots that the bound pattern leaves open, so that ten thousand jobs that differ in
# their subject's words share one.
Given = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class BlockValue:
    """One value of a block: the texts of its axes, and where in its list each axis stands."""

    texts: Mapping[str, str]  # every axis chosen: the block's own and those inside
    positions: Mapping[str, int] = field(default_factory=dict)  # the block's own axes only
    mask: int = -1  # the rules that it satisfies, one bit each


@dataclass(frozen=True)
class Blocks:
    """The factors of one bound pattern, joined where they depend on each other."""

    bound: Bound
    watched: frozenset[str]  # axes kept whole: a sample, a zip or a rule looks at them
    _lists: dict[tuple[object, ...], list[BlockValue]] = field(default_factory=dict, repr=False)

    @cached_property
    def names(self) -> Mapping[str, str]:
        """Every name that options may use → the axis: its own, or the wildcard that it draws."""
        names = {key: key for key in self.bound.inner_first if key not in HIDDEN}
        aliases = [(g.alias, key) for key, g in self.bound.groups.items() if g.alias is not None]
        for alias, key in aliases:
            if sum(alias == other for other, _ in aliases) == 1:
                names.setdefault(alias, key)
        return names

    @cached_property
    def factors(self) -> tuple[str, ...]:
        """Axes whose product is the prompts: repeated ones, then the others in reading order."""
        found: dict[str, None] = dict.fromkeys(self.bound.repeated)

        def visit(sequence: Sequence_ = ()) -> None:
            for item in sequence:
                if not isinstance(item, Ref) or item.key in found:
                    continue
                group = self.bound.groups[item.key]
                if group.is_wrapper and item.key not in self.watched:
                    visit(*group.alternatives)
                else:
                    found[item.key] = None

        visit(self.bound.root)
        return tuple(found)

    @cached_property
    def blocks(self) -> tuple[tuple[str, ...], ...]:
        """The factors, together with the repeated axes that they show inside."""
        repeated = set(self.bound.repeated)
        blocks: list[set[str]] = []
        for factor in self.factors:
            needed = {factor} | (self.reach(factor) & repeated)
            joined = {factor}.union(*(block for block in blocks if needed & block))
            blocks = [*(block for block in blocks if not needed & block), joined]
        order = {factor: index for index, factor in enumerate(self.factors)}
        ordered = [tuple(sorted(block, key=order.__getitem__)) for block in blocks]
        return tuple(sorted(ordered, key=lambda block: order[block[0]]))

    def reach(self, key: str) -> frozenset[str]:
        """Return an axis and all that may be chosen inside it."""
        return self._reach[key]

    @cached_property
    def _reach(self) -> dict[str, frozenset[str]]:
        reach: dict[str, frozenset[str]] = {}
        for key in self.bound.inner_first:
            inner = (
                i.key for a in self.bound.groups[key].alternatives for i in a if isinstance(i, Ref)
            )
            reach[key] = frozenset({key}).union(*(reach[k] for k in inner))
        return reach

    def block_of(self, key: str) -> int:
        """Return the number of the block in which an axis is chosen."""
        for index, block in enumerate(self.blocks):
            if key in block:
                return index
        return next(
            index
            for index, block in enumerate(self.blocks)
            if any(key in self.reach(factor) for factor in block)
        )

    def count(self, index: int) -> int:
        """Return the number of values of a block, by formula."""
        number = 1
        for factor in self.blocks[index]:
            number *= self.bound.count(factor)
        return number

    def values(self, key: str, chosen: Mapping[str, str], given: Given) -> Iterator[Value]:
        """Yield the values of an axis: the given text alone, or those of the pattern."""
        if key in given:
            return iter([Value(given[key], {})])
        return self.bound.values(key, chosen)

    def values_of_block(
        self, index: int, allowed: Mapping[str, frozenset[str]], given: Given
    ) -> Iterator[BlockValue]:
        """Yield the values of a block, without the values that a sample left out."""

        def choose(
            factors: Sequence[str], texts: dict[str, str], places: dict[str, int]
        ) -> Iterator[BlockValue]:
            if not factors:
                yield BlockValue(texts, places)
                return
            key, *others = factors
            position = 0
            for value in self.values(key, texts, given):
                chosen = {**value.inner, key: value.text}
                if any(
                    axis in chosen and chosen[axis] not in values
                    for axis, values in allowed.items()
                ):
                    continue
                yield from choose(others, {**texts, **chosen}, {**places, key: position})
                position += 1

        return choose(self.blocks[index], dict(given), {})

    def list_block(
        self, index: int, allowed: Mapping[str, frozenset[str]], given: Given
    ) -> list[BlockValue]:
        """Return the values of a block; jobs with the same given texts share one list."""
        key = (index, frozenset(allowed.items()), frozenset(given.items()))
        if key not in self._lists:
            self._lists[key] = list(self.values_of_block(index, allowed, given))
        return self._lists[key]

    def check_listable(self, number: int, what: str) -> None:
        """Refuse to list more values than memory is worth."""
        if number > MAX_LISTED:
            raise PlanTooLargeError(
                f"{what} would need a list of {format_count(number)} values; at most "
                f"{MAX_LISTED:,} are listed. Name smaller axes."
            )

    def render(self, texts: Mapping[str, str], given: Given) -> tuple[str, dict[str, str]]:
        """Return the prompt of chosen values, and the value of every axis in it, in order."""
        found = {**given, **texts}

        def text_of(sequence: Sequence_) -> str:
            return join([item if isinstance(item, str) else axis(item.key) for item in sequence])

        def axis(key: str) -> str:
            if key not in found:
                found[key] = text_of(self.bound.groups[key].alternatives[0])
            return found[key]

        prompt = text_of(self.bound.root)
        shown = {
            key: found[key]
            for key, group in self.bound.groups.items()
            if key in found and group.is_recorded and key not in HIDDEN
        }
        return prompt, shown

    @cached_property
    def subject_parts(self) -> frozenset[str]:
        """Axes that are chosen inside the subject and nowhere else."""
        if SUBJECT not in self.bound.groups or SUBJECT not in self._reach:
            return frozenset()
        elsewhere: set[str] = set()

        def visit(sequence: Sequence_) -> None:
            for item in sequence:
                if isinstance(item, Ref) and item.key != SUBJECT and item.key not in elsewhere:
                    elsewhere.add(item.key)
                    for alternative in self.bound.groups[item.key].alternatives:
                        visit(alternative)

        visit(self.bound.root)
        return self.reach(SUBJECT) - elsewhere - {SUBJECT}


def format_count(number: int) -> str:
    """Return a count for people, however large: Python refuses to print beyond 4,300 digits."""
    if number < 10**15:
        return f"{number:,}"
    return f"about 10^{int((number.bit_length() - 1) * 0.30103)}"

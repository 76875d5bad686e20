"""The syntax tree of a prompt pattern: what it says, printed back, with its slots filled.

Takes and returns immutable trees. Does not read text (`parse` does), files (`wildcards` and
`values` do) or config, and does not expand anything (`bound` and `grid` do).

    pattern  := (text | slot | choice | wildcard)*
    slot     := "{" name "}"
    choice   := "{" [name ":"] [take] pattern ("|" pattern)* "}"
    take     := count ["-" count] "$$" [joiner "$$"]
    wildcard := "__" path "__"
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from promptlab.planning.language.errors import PatternError, Place

DEFAULT_JOINER = ", "


@dataclass(frozen=True, slots=True)
class Text:
    """Characters that stand for themselves."""

    text: str


@dataclass(frozen=True, slots=True)
class Slot:
    """A name: filled from the config, or the value of the axis of that name in the same prompt."""

    name: str
    place: Place | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Wildcard:
    """The values of one or, with a glob, several lists of the wildcards folders."""

    path: str
    place: Place | None = field(default=None, compare=False, repr=False)

    @property
    def axis_name(self) -> str:
        """The path as one word: "tiny/subjects" → "tiny_subjects", "animal/*" → "animal"."""
        return re.sub(r"\W+", "_", self.path).strip("_") or "wildcard"


@dataclass(frozen=True, slots=True)
class Take:
    """How many alternatives stand together, in their own order, and what joins them."""

    minimum: int
    maximum: int
    joiner: str = DEFAULT_JOINER


@dataclass(frozen=True, slots=True)
class Choice:
    """An axis: one of its alternatives at a time, or some of them with `take`."""

    alternatives: tuple[Pattern, ...]
    name: str | None = None
    take: Take | None = None
    place: Place | None = field(default=None, compare=False, repr=False)


Item = Text | Slot | Wildcard | Choice


@dataclass(frozen=True)
class Pattern:
    """A sequence of items; two texts never stand side by side."""

    items: tuple[Item, ...] = ()

    def __str__(self) -> str:
        return print_pattern(self)

    def __hash__(self) -> int:
        return self._hash  # a grid looks patterns up job by job

    @cached_property
    def _hash(self) -> int:
        return hash(self.items)

    @classmethod
    def literal(cls, text: str) -> Pattern:
        """Return the pattern whose only value is the text, whatever characters it holds."""
        return cls((Text(text),) if text else ())

    def walk(self) -> Iterator[Item]:
        """Yield every item, outer before inner, in reading order."""
        for item in self.items:
            yield item
            if isinstance(item, Choice):
                for alternative in item.alternatives:
                    yield from alternative.walk()

    @cached_property
    def axis_names(self) -> frozenset[str]:
        """Names that the pattern itself gives values: named choices and wildcards."""
        named = {i.name for i in self.walk() if isinstance(i, Choice) and i.name is not None}
        return frozenset(named | {i.axis_name for i in self.walk() if isinstance(i, Wildcard)})

    @cached_property
    def slots(self) -> tuple[str, ...]:
        """Names that the pattern needs from outside, in reading order, each once."""
        names = (item.name for item in self.walk() if isinstance(item, Slot))
        return tuple(dict.fromkeys(name for name in names if name not in self.axis_names))

    @property
    def is_plain(self) -> bool:
        """Whether the pattern stands for exactly one text, with nothing left to fill."""
        return all(
            isinstance(item, Text)
            or (
                isinstance(item, Choice)
                and len(item.alternatives) == 1
                and item.take is None
                and item.alternatives[0].is_plain
            )
            for item in self.items
        )

    @property
    def text(self) -> str:
        """The one text that a plain pattern stands for."""
        if not self.is_plain:
            raise PatternError(None, f"Expected one text, got the pattern {str(self)!r}.")
        return "".join(
            item.text if isinstance(item, Text) else item.alternatives[0].text
            for item in self.items
            if isinstance(item, Text | Choice)
        )

    def fill(self, values: Mapping[str, Pattern], given: frozenset[str] = frozenset()) -> Pattern:
        """Return the pattern with each slot turned into the axis of its value.

        A value may hold slots of its own. A slot without a value stays where an axis of its name
        stands in the same prompt: it is one axis. So does a slot whose name is `given`: its text
        comes later. Values that no slot asks for are left aside. Raises PatternError for a slot
        that nothing fills, for values that need each other in a circle, and for a name that is
        given twice.
        """
        filled = _Filler(values, given).fill(self)
        known = filled.axis_names | given
        for item in filled.walk():
            if isinstance(item, Slot) and item.name not in known:
                raise PatternError(
                    item.place,
                    f"nothing fills the slot {{{item.name}}}.",
                    f"Known here: {_list_names({*values, *known})}. Set "
                    f"{item.name}=…, correct the name, or write \\{{{item.name}\\}} for the "
                    "characters themselves.",
                )
        return filled


class _Filler:
    """Fills slots from one mapping of values."""

    def __init__(self, values: Mapping[str, Pattern], given: frozenset[str]) -> None:
        self.values = values
        self.given = given
        self.filled: dict[str, Choice] = {}  # a value is filled once, however often it is asked for
        self.open_names: list[str] = []

    def fill(self, pattern: Pattern) -> Pattern:
        return Pattern(tuple(self.fill_item(item) for item in pattern.items))

    def fill_item(self, item: Item) -> Item:
        match item:
            case Slot(name, place) if name in self.values:
                return self.value(name, place)
            case Wildcard(_, place) if item.axis_name in self.values.keys() | self.given:
                raise _given_twice(item.axis_name, place)
            case Choice(_, name, _, place) if name in self.given:
                raise _given_twice(str(name), place)
            case Choice(alternatives, name, take, place):
                filled = tuple(self.fill(alternative) for alternative in alternatives)
                choice = Choice(filled, name, take, place)
                # An axis named like a value may only be that value, already filled in.
                if name is not None and name in self.values and choice != self.value(name, place):
                    raise _given_twice(name, place)
                return choice
        return item

    def value(self, name: str, place: Place | None) -> Choice:
        if name in self.open_names:
            circle = " → ".join((*self.open_names[self.open_names.index(name) :], name))
            raise PatternError(place, f"the slot {{{name}}} needs its own value: {circle}.")
        if name not in self.filled:
            self.open_names.append(name)
            self.filled[name] = name_choice(name, self.fill(self.values[name]), place)
            self.open_names.pop()
        return self.filled[name]


def name_choice(name: str, value: Pattern, place: Place | None = None) -> Choice:
    """Return the axis of that name: a value that is one nameless choice lends its alternatives."""
    match value.items:
        case (Choice(alternatives, None, take),):
            return Choice(alternatives, name, take, place)
    return Choice((value,), name, None, place)


def _given_twice(name: str, place: Place | None) -> PatternError:
    return PatternError(
        place,
        f"{name!r} is given twice: as a key of the config and as an axis of this prompt.",
        f"Rename the axis, or leave {name}=… out (a default of a template: {name}=null).",
    )


def _list_names(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "nothing"


# ---------------------------------------------------------------------------------- printing


_HEADLIKE = re.compile(r"\A\s*[^\W\d][\w-]*(?: [\w-]+){0,5} ?(?=:)")
_SPECIAL = re.compile(r"[\\{}_|$:]")  # without one of these a text is printed as it is


def print_pattern(pattern: Pattern) -> str:
    """Return the text that `parse_pattern` reads back as the same pattern."""
    text = "".join(_print_item(item, is_inside=False, is_first=False) for item in pattern.items)
    return f"\\{text}" if text.startswith("@") else text  # a value that begins with @ is a file


def _print_item(item: Item, *, is_inside: bool, is_first: bool) -> str:
    match item:
        case Text(text):
            return _escape(text, is_inside=is_inside, is_first=is_first)
        case Slot(name):
            return f"{{{name}}}"
        case Wildcard(path):
            return f"__{path}__"
        case Choice(alternatives, name, take):
            head = "" if name is None else f"{name}: "
            head += "" if take is None else _print_take(take)
            # "||" is a bar, so an empty alternative between two bars is printed as a space.
            first, *others = map(_print_alternative, alternatives)
            if not head:  # a wildcard and a text behind it may look like an axis with its name
                first = _HEADLIKE.sub(r"\g<0>\\", first)
            return "{" + "|".join([head + first, *(other or " " for other in others)]) + "}"


def _print_take(take: Take) -> str:
    count = str(take.minimum)
    if take.maximum != take.minimum:
        count += f"-{take.maximum}"
    if take.joiner == DEFAULT_JOINER:
        return f"{count}$$"
    return f"{count}$$" + re.sub(r"[\\{}|$]", r"\\\g<0>", take.joiner) + "$$"


def _print_alternative(pattern: Pattern) -> str:
    pieces = [
        _print_item(item, is_inside=True, is_first=i == 0) for i, item in enumerate(pattern.items)
    ]
    # White space around an alternative is layout, so a value's own is escaped.
    if pieces and isinstance(pattern.items[0], Text) and pieces[0][0].isspace():
        pieces[0] = "\\" + pieces[0]
    if pieces and isinstance(pattern.items[-1], Text) and pieces[-1][-1].isspace():
        last = pieces[-1]
        is_escaped = len(last) > 1 and last[-2] == "\\" and len(pattern.items[-1].text) == 1
        pieces[-1] = last if is_escaped else f"{last[:-1]}\\{last[-1]}"
    return "".join(pieces)


def _escape(text: str, *, is_inside: bool, is_first: bool) -> str:
    if not _SPECIAL.search(text):
        return text
    text = re.sub(r"[\\{}]", r"\\\g<0>", text)
    # An underscore can open or close a wildcard only beside another, or beside another item.
    text = re.sub(r"^_|_(?=_|\Z)|(?<=_)_", r"\\_", text)
    if is_inside:
        text = re.sub(r"[|$]", r"\\\g<0>", text)
        return text.replace(":", "\\:") if is_first else text
    return re.sub(r"\$(?=\\\{|\Z)", r"\\$", text)

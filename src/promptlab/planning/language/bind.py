"""From a filled pattern to its axes: every choice has one name, every wildcard its values.

Takes a pattern and the wildcards, returns a Bound: a table of axes and the texts between them.
Finds names with two meanings and slots that nothing fills. Does not count or expand anything, and
does not know rules, zipped axes or jobs.
"""

from __future__ import annotations

import re
from itertools import chain

from promptlab.planning.language.bound import MAX_DEPTH, Bound, Group, Ref, Sequence_
from promptlab.planning.language.errors import PatternError, Place
from promptlab.planning.language.syntax import Choice, Pattern, Slot, Take, Text, Wildcard
from promptlab.planning.language.wildcards import Wildcards

MAX_NAME_LENGTH = 40  # characters of the name given to a nameless choice


def bind(pattern: Pattern, wildcards: Wildcards, given: frozenset[str] = frozenset()) -> Bound:
    """Return the axes of a filled pattern; slots of a `given` name are left open.

    Raises PatternError for a name with two meanings, a slot that nothing fills, a wildcard without
    values, and wildcards or axes that hold themselves.
    """
    binder = _Binder(wildcards, pattern.axis_names | given, given)
    root = binder.sequence(pattern, is_inside=False)
    bound = Bound(root, {key: binder.groups[key] for key in binder.definitions})
    for key, place in binder.references.items():
        if key not in binder.groups:
            raise PatternError(
                place, f"nothing fills the slot {{{key}}}.", f"Set {key}=… or correct the name."
            )
    _ = bound.inner_first  # finds circles
    return bound


class _Binder:
    def __init__(self, wildcards: Wildcards, names: frozenset[str], given: frozenset[str]) -> None:
        self.wildcards = wildcards
        self.names = names  # of the user's: not for nameless choices
        self.given = given
        self.groups: dict[str, Group] = {}
        self.definitions: dict[str, tuple[object, Place | None]] = {}
        self.references: dict[str, Place | None] = {}
        self.numbers: dict[str, int] = {}  # of the nameless choices with equal values
        self.depth = 0

    def sequence(self, pattern: Pattern, *, is_inside: bool) -> Sequence_:
        """Return the pattern's texts and axes; `is_inside`: within one of several alternatives."""
        return tuple(self.item(item, is_inside) for item in pattern.items)

    def item(self, item: object, is_inside: bool) -> str | Ref:
        match item:
            case Text(text):
                return text
            case Slot(name, place) if name in self.given:
                return self.define(name, Slot(name), (), None, place, False)
            case Slot(name, place):
                self.references.setdefault(name, place)
                return Ref(name)
            case Wildcard():
                return self.wildcard(item, item.axis_name)
            case Choice(alternatives, None, take, place):
                key = self.free_name(alternatives)
                return self.define(key, item, alternatives, take, place, is_inside)
            case Choice((Pattern((Wildcard() as only,)),), name, None):
                assert name is not None
                return self.wildcard(only, name)
            case Choice(alternatives, name, take, place):
                assert name is not None
                return self.define(name, (alternatives, take), alternatives, take, place, False)
        raise AssertionError(item)

    def wildcard(self, wildcard: Wildcard, name: str) -> Ref:
        values = self.wildcards.load(wildcard)
        alias = wildcard.axis_name if wildcard.axis_name != name else None
        return self.define(name, wildcard, values, None, wildcard.place, False, alias)

    def define(
        self,
        key: str,
        definition: object,
        alternatives: tuple[Pattern, ...],
        take: Take | None,
        place: Place | None,
        is_inside: bool,
        alias: str | None = None,
    ) -> Ref:
        if key in self.definitions:
            self.check_same(key, definition, place)
            return Ref(key)
        self.definitions[key] = (definition, place)
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise PatternError(place, f"{key!r} is nested too deeply: more than {MAX_DEPTH} axes.")
        is_choice = len(alternatives) > 1 or take is not None
        if take is not None:
            alternatives = tuple(chain.from_iterable(map(self.lend, alternatives)))
        bound = tuple(self.sequence(a, is_inside=is_inside or is_choice) for a in alternatives)
        self.depth -= 1
        self.groups[key] = Group(key, bound, take, not is_inside, alias, place)
        return Ref(key)

    def lend(self, alternative: Pattern) -> tuple[Pattern, ...]:
        """Return the values of a wildcard that is an alternative to take: {2$$__animal__}."""
        match alternative.items:
            case (Wildcard() as wildcard,):
                return self.wildcards.load(wildcard)
        return (alternative,)

    def check_same(self, key: str, definition: object, place: Place | None) -> None:
        known, known_place = self.definitions[key]
        if known == definition:
            return
        where = "" if known_place is None else f" The first: {known_place.describe()[0]}."
        raise PatternError(
            place,
            f"the axis {key!r} has two meanings in one prompt.",
            f"One name is one axis, the same value everywhere.{where} Rename one of them: "
            f"{{other: …}}, or repeat the first by {{{key}}}.",
        )

    def free_name(self, alternatives: tuple[Pattern, ...]) -> str:
        """Return a name made of the alternatives, with a number from the second one on."""
        name = derive_name(alternatives)
        while True:
            number = self.numbers[name] = self.numbers.get(name, 0) + 1
            key = name if number == 1 else f"{name}_{number}"
            if key not in self.definitions and key not in self.names:
                return key


def derive_name(alternatives: tuple[Pattern, ...]) -> str:
    """Return the name of a nameless choice: {red|dark green} → "red_dark_green"."""
    name = ""
    for alternative in alternatives:
        words = re.sub(r"[\W_]+", "_", str(alternative)).strip("_").lower()
        longer = f"{name}_{words}" if name and words else name or words
        if len(longer) > MAX_NAME_LENGTH:
            return name or longer[:MAX_NAME_LENGTH].strip("_")
        name = longer
    return name or "choice"

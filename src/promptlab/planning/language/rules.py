"""What of the grid is left out: `exclude` and `only`, lists of matches over axes.

Takes plain config values, returns rules that judge a value of an axis. Does not know where the
values come from; `grid` puts the judgements together.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import translate
from functools import cached_property
from typing import Any, Literal

from promptlab.errors import ConfigError
from promptlab.records import Scalar

_FORM = "a list of matches such as [{model: tiny, style: [photo, 'cctv*']}]"


@dataclass(frozen=True)
class Rule:
    """One match: every axis it names must have one of the values it lists."""

    kind: Literal["exclude", "only"]
    conditions: Mapping[str, tuple[Scalar, ...]]  # axis → values or globs, any of them

    def matches(self, axis: str, value: Scalar) -> bool:
        """Tell whether a value of one axis satisfies the rule's condition on that axis."""
        if isinstance(value, str):
            items = self.conditions[axis]
            return (
                value in items
                or bool(self._regexes[axis].fullmatch(value))
                or any(isinstance(item, int | float) and _writes(value, item) for item in items)
            )
        if value is None or isinstance(value, bool):
            wanted = {str(item).lower() for item in self.conditions[axis]}
            return str(value).lower() in wanted or (value is None and "null" in wanted)
        return any(_is_number(item, value) for item in self.conditions[axis])

    @cached_property
    def _regexes(self) -> Mapping[str, re.Pattern[str]]:
        """One expression an axis: case and everything but * ? [ ] stand for themselves."""
        return {
            axis: re.compile(
                "|".join(translate(str(item)) for item in items if item is not None) or r"(?!)"
            )
            for axis, items in self.conditions.items()
        }

    def __str__(self) -> str:
        conditions = ", ".join(
            f"{axis}: {', '.join(map(_show, items))}"
            if len(items) == 1
            else f"{axis}: [{', '.join(map(_show, items))}]"
            for axis, items in self.conditions.items()
        )
        return f"{self.kind} {{{conditions}}}"


def parse_rules(only: Any, exclude: Any) -> tuple[Rule, ...]:
    """Return the rules of a config, `only` before `exclude`; raises ConfigError for other forms."""
    return (*_parse("only", only), *_parse("exclude", exclude))


def _parse(kind: Literal["exclude", "only"], value: Any) -> list[Rule]:
    if value is None:
        return []
    entries = [value] if isinstance(value, Mapping) else value
    if isinstance(entries, str) or not isinstance(entries, Sequence):
        raise ConfigError(f"{kind}={value!r}: expected {_FORM}.")
    rules = []
    for entry in entries:
        if not isinstance(entry, Mapping) or not entry:
            raise ConfigError(f"{kind}: expected {_FORM}, got the entry {entry!r}.")
        rules.append(Rule(kind, {str(axis): _items(kind, axis, v) for axis, v in entry.items()}))
    return rules


def _items(kind: str, axis: Any, value: Any) -> tuple[Scalar, ...]:
    items = value if isinstance(value, list | tuple) else [value]
    for item in items:
        if not isinstance(item, str | int | float | bool | None):
            raise ConfigError(f"{kind}: {axis}: expected a value or a list of them, got {item!r}.")
    if not items:
        raise ConfigError(f"{kind}: {axis}: expected at least one value or glob, got none.")
    return tuple(items)


def _is_number(item: Scalar, value: float) -> bool:
    """Tell whether an entry means the number: 8, 8.0 and "8" mean the same, "*" any."""
    if isinstance(item, bool) or item is None:
        return False
    try:
        return float(item) == value
    except (ValueError, OverflowError):
        return re.fullmatch(translate(str(item)), str(value)) is not None


def _writes(text: str, number: float) -> bool:
    """Tell whether a text writes a number: Hydra reads 1.50 in a rule as 1.5."""
    try:
        return not isinstance(number, bool) and float(text) == number
    except ValueError:
        return False


def _show(item: Scalar) -> str:
    return "null" if item is None else str(item)


class Verdicts:
    """What several rules say: a bit each, so that verdicts on parts of a point join with `&`."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = rules
        self.axes = {axis for rule in rules for axis in rule.conditions}
        self._only = sum(1 << n for n, rule in enumerate(rules) if rule.kind == "only")
        self._exclude = (1 << len(rules)) - 1 - self._only
        self._known: dict[tuple[type, str, Scalar], int] = {}

    def mask(self, axis: str, value: Scalar) -> int:
        """Return the rules that a value of an axis satisfies or that do not name the axis."""
        key = (type(value), axis, value)
        if key not in self._known:
            self._known[key] = sum(
                1 << number
                for number, rule in enumerate(self.rules)
                if axis not in rule.conditions or rule.matches(axis, value)
            )
        return self._known[key]

    def remover(self, mask: int) -> str | None:
        """Return the rule that takes a point out, None if it stays."""
        if self._only and not mask & self._only:
            return "only"
        excluding = mask & self._exclude
        if excluding:
            return str(self.rules[(excluding & -excluding).bit_length() - 1])
        return None

    def removers(self) -> list[str]:
        """Return all that `remover` may return."""
        only = ["only"] if self._only else []
        return [*only, *(str(rule) for rule in self.rules if rule.kind == "exclude")]

    def idle(self, matched: int) -> list[Rule]:
        """Return the rules that none of the points satisfies whose masks were or-ed together."""
        return [rule for number, rule in enumerate(self.rules) if not matched >> number & 1]

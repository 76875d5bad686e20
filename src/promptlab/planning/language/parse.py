"""Read a prompt pattern: text → syntax tree, by recursive descent, in one pass.

Takes a text and what it is called; returns a Pattern or raises PatternError with the exact
position. Time grows with the length of the text: no place is looked at twice. Opens no files.
"""

from __future__ import annotations

import re

from promptlab.planning.language.errors import PatternError, Place
from promptlab.planning.language.syntax import (
    DEFAULT_JOINER,
    Choice,
    Item,
    Pattern,
    Slot,
    Take,
    Text,
    Wildcard,
)

MAX_DEPTH = 24  # braces within braces; far above any prompt, far below Python's own limit
MAX_TAKE = 99  # alternatives taken together
ESCAPABLE = "\\{}|_:$@#"  # and any white space: what a backslash makes an ordinary character

_NAME = r"[^\W\d][\w-]*"
_PLAIN = re.compile(r"[^\\{}|_$]+")
_SLOT = re.compile(rf"\{{\s*({_NAME})\s*\}}")
_HEAD = re.compile(rf"\s*({_NAME})\s*:")
_TAKE = re.compile(r"\s*(\d+)(?:-(\d+))?\$\$")
_OTHER_TAKE = re.compile(r"\s*[\d-]*\$\$")
_JOINER = re.compile(r"((?:[^\\{}|$]|\\.|\$(?!\$))*)\$\$", re.DOTALL)
_WEIGHT = re.compile(r"\s*[\d.]+::")
_WILDCARD = re.compile(r"__((?![/. -])(?:[^\W_]|[*/.-]|_(?!_)| (?=[^\W_]))+)__")
# What looks like a wildcard or a named axis and is none would be drawn as it stands.
_NO_WILDCARD = re.compile(r"(?<!\w)__(?![\s_])(?:[^\n_]|_(?!_)){1,80}?(?<!\s)__(?!\w)")
_NO_HEAD = re.compile(r"\s*([^\W\d][\w-]*(?: [\w-]+){1,5}) ?:(?![\d:])")
_SPACE = re.compile(r"\s*")


def parse_pattern(text: str, source: str = "prompt") -> Pattern:
    """Return the syntax tree of a prompt pattern; `source` names the text in errors."""
    return _Parser(text, source).parse()


def parse_line(text: str, source: str) -> Pattern:
    """Return the syntax tree of one value of a list, refused like an alternative if weighted."""
    return _Parser(text, source).parse(is_alternative=True)


class _Parser:
    def __init__(self, text: str, source: str) -> None:
        self.text = text
        self.source = source
        self.position = 0
        self.open_braces: list[int] = []

    def parse(self, *, is_alternative: bool = False) -> Pattern:
        pattern = self.read_alternative() if is_alternative else self.read_pattern()
        if self.position < len(self.text):
            raise self.error(self.position, "this } closes nothing.", "Literal brace: \\}")
        return pattern

    def read_pattern(self) -> Pattern:
        """Read up to the end of the text or, inside braces, up to "|" or "}"."""
        is_inside = bool(self.open_braces)
        items: list[Item] = []
        literal: list[str] = []  # pieces of the text being read
        length = 0  # of those pieces together
        kept = 0  # their length up to the last escape: no stripping before it
        text = self.text
        if is_inside:
            self.position = _SPACE.match(text, self.position).end()  # type: ignore[union-attr]
        while self.position < len(text):
            start = self.position
            if plain := _PLAIN.match(text, start):
                literal.append(plain.group())
                length += len(plain.group())
                self.position = plain.end()
                continue
            character = text[start]
            item: Item | None = None
            if character == "}" or (character == "|" and is_inside and not self.at("||")):
                break
            if character == "\\" and self.is_escape(start):
                literal.append(text[start + 1])
                length += 1
                kept = length
                self.position += 2
            elif character == "|" and is_inside:
                literal.append("|")
                length += 1
                self.position += 2
            elif character == "{":
                item = self.read_brace()
            elif character == "_" and (wildcard := _WILDCARD.match(text, start)):
                item = Wildcard(wildcard.group(1), self.place(start))
                self.position = wildcard.end()
            elif character == "_" and _NO_WILDCARD.match(text, start):
                raise self.error(
                    start,
                    "this looks like a wildcard, and no list can be called so.",
                    "A list's name has letters, digits, spaces, - . / and *: __animal__, "
                    "__pets/*__. For the underscores themselves: \\_\\_",
                )
            elif self.at("${"):
                raise self.error(
                    start,
                    "${…} is OmegaConf's: Hydra resolves it before a prompt is read, and it is "
                    "never part of a prompt.",
                    "For a slot write {name}, for an axis {name: a|b}; the characters themselves: "
                    "\\$\\{",
                )
            else:
                literal.append(character)
                length += 1
                self.position += 1
            if item is not None:
                _flush(literal, items)
                items.append(item)
                length = kept = 0
        joined = "".join(literal)
        if is_inside:
            joined = joined[:kept] + joined[kept:].rstrip()
        _flush([joined], items)
        return Pattern(tuple(items))

    def read_brace(self) -> Item:
        start = self.position
        if slot := _SLOT.match(self.text, start):
            self.position = slot.end()
            return Slot(slot.group(1), self.place(start))
        if len(self.open_braces) == MAX_DEPTH:
            raise self.error(
                start,
                f"braces are nested deeper than {MAX_DEPTH}.",
                "Move the inner alternatives to a file of wildcards and write __file__ here.",
            )
        self.open_braces.append(start)
        self.position += 1
        name = None
        if head := _HEAD.match(self.text, self.position):
            name = head.group(1)
            self.position = head.end()
        elif words := _NO_HEAD.match(self.text, self.position):
            raise self.error(
                self.position,
                f"the name of an axis is one word, this is {words.group(1)!r}.",
                f"Write {{{'_'.join(words.group(1).split())}: …}}, or \\: for the colon itself.",
            )
        take = self.read_take()
        alternatives = [self.read_alternative()]
        while self.at("|"):
            self.position += 1
            alternatives.append(self.read_alternative())
        self.close(start)
        if len(alternatives) == 1 and name is None and take is None:
            raise self.not_a_slot(start)
        return Choice(tuple(alternatives), name, take, self.place(start))

    def read_take(self) -> Take | None:
        start = self.position
        found = _TAKE.match(self.text, start)
        if found is None:
            if _OTHER_TAKE.match(self.text, start):
                raise self.error(
                    start,
                    "expected how many alternatives to take before $$.",
                    "Two of them: {2$$a|b|c}; one or two: {1-2$$a|b|c}; with their own joint: "
                    "{2$$ and $$a|b|c}.",
                )
            return None
        low, high = found.group(1), found.group(2) or found.group(1)
        if len(high) > 6 or len(low) > 6 or not int(low) <= int(high) <= MAX_TAKE or not int(high):
            raise self.error(
                start,
                f"cannot take {found.group().strip()[:-2]} alternatives.",
                f"Write a count from 1 to {MAX_TAKE}, or a range with the smaller count first: "
                "{1-2$$a|b|c}.",
            )
        self.position = found.end()
        joiner = DEFAULT_JOINER
        if own := _JOINER.match(self.text, self.position):
            joiner = re.sub(r"\\([\\{}|_:$@#\s])", r"\1", own.group(1))
            self.position = own.end()
        return Take(int(low), int(high), joiner)

    def read_alternative(self) -> Pattern:
        if weight := _WEIGHT.match(self.text, self.position):
            raise self.error(
                self.position,
                f"{weight.group().strip()} weights belong to random prompts; a sweep draws every "
                "alternative once.",
                "Leave the weight out, or use sample: {axis: count} for a random subset; the "
                "characters themselves: \\:\\:",
            )
        return self.read_pattern()

    def close(self, start: int) -> None:
        if not self.at("}"):
            raise self.error(
                start, "this { is never closed.", "Close it with }, or write \\{ for a brace."
            )
        self.open_braces.pop()
        self.position += 1

    def not_a_slot(self, start: int) -> PatternError:
        content = self.text[start + 1 : self.position - 1]
        shown = content if len(content) <= 40 else content[:40] + "…"
        return self.error(
            start,
            "a brace without | is a slot, and a slot's name is one word.",
            f"A slot: {{subject}}; alternatives: {{red|blue}}; the characters themselves: "
            f"\\{{{shown}\\}}",
        )

    def at(self, token: str) -> bool:
        return self.text.startswith(token, self.position)

    def is_escape(self, start: int) -> bool:
        following = self.text[start + 1 : start + 2]
        return bool(following) and (following in ESCAPABLE or following.isspace())

    def place(self, index: int) -> Place:
        return Place(self.text, index, self.source)

    def error(self, index: int, problem: str, remedy: str) -> PatternError:
        return PatternError(self.place(index), problem, remedy)


def _flush(literal: list[str], items: list[Item]) -> None:
    if text := "".join(literal):
        items.append(Text(text))
    literal.clear()

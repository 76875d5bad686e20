"""What a client may set: arguments of `promptlab sweep` that are known to be harmless.

Takes the arguments of a wish or of an entry, returns them or raises WishRefusedError. A config is
code, so what a client may set is what a cell may hold: texts, names of options, numbers and seeds.
Everything else is refused, known or not. Knows no forms and no lines of a shell.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from promptlab.configs.explain import close_names
from promptlab.configs.locations import packaged_conf
from promptlab.configs.overrides import prepare_override
from promptlab.configs.settings import RESERVED_KEYS
from promptlab.configs.vocabulary import find_options, list_options, read_option
from promptlab.errors import ConfigError, PromptlabError

# Hydra's parser takes time that grows with the square of a list's length.
MAX_CHARACTERS = 8_000  # of a line, or of all fields together
MAX_MARKS = 600  # characters of a grammar in them
MAX_ARGUMENTS = 100
MAX_ESCAPED = 3  # times as long: what escapes add to fields
GROUPS = ("template", "style", "model")
_TEXTS = frozenset({"subject", "template.pattern", "style.pattern", "negative_prompt"})
_RULES = frozenset({"zip", "exclude", "only", "sample"})

_OVERRIDE = re.compile(r"([A-Za-z][A-Za-z0-9_]*(?:\.pattern)?)=(.*)", re.DOTALL)
_IMAGE_ID = re.compile(r"[0-9a-f]{6,64}")
_FROM_IMAGES = re.compile(r"--from-images=[0-9a-f]{6,64}(?:,[0-9a-f]{6,64})*")
_OPTION = re.compile(r"[\w-]+(?:/[\w-]+)*")  # of a group
_GLOB = re.compile(r"[\w*?-]+(?:/[\w*?-]+)*")
_NAME = re.compile(r"\w[\w .,'-]{0,63}")
_SEEDS = re.compile(r"[\d,\s-]+")
_PATHLIKE = re.compile(r"[/\\~:@$%]|^\.|\.\.")  # what a path or an address cannot do without
_MARK = re.compile(r"[,:=()\[\]{}\\'\"$|]")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]|[\ud800-\udfff]")
_parsing = threading.Lock()  # ANTLR's caches are shared by all parsers


class WishRefusedError(PromptlabError):
    """A client asks for something that is not known to be harmless."""


def check(argv: Sequence[str]) -> tuple[str, ...]:
    """Return arguments that are known to be harmless; raises WishRefusedError for others."""
    if len(argv) > MAX_ARGUMENTS:
        raise WishRefusedError(f"Expected at most {MAX_ARGUMENTS} arguments.")
    check_size(" ".join(argv), MAX_ESCAPED)
    if not any("=" in argument for argument in argv):
        raise WishRefusedError("Nothing to draw: expected at least subject=… or prompt.")
    project = _Project()
    for argument in argv:
        if argument not in ("-m", "--multirun") and not _FROM_IMAGES.fullmatch(argument):
            _check_argument(argument, project)
    return tuple(argv)


def check_size(text: str, factor: int = 1) -> None:
    """Refuse what would take long to read."""
    num_marks = sum(1 for _ in _MARK.finditer(text))
    if len(text) > MAX_CHARACTERS * factor or num_marks > MAX_MARKS * factor:
        raise WishRefusedError(
            f"This is too long: expected at most {MAX_CHARACTERS:,} characters, of which "
            f"{MAX_MARKS} are commas, brackets or quotes. Name fewer values, or queue the line in "
            "a shell: promptlab queue add …"
        )


class _Project:
    """What the owner's conf/ offers, read when it is asked for."""

    @cached_property
    def slots(self) -> frozenset[str]:
        """The slots that templates and styles ask for: their values are texts."""
        slots: set[str] = set()
        for group in ("template", "style"):
            for option in find_options(group).values():
                try:
                    content = read_option(option)
                except ConfigError:  # nobody asked for this one
                    continue
                node = content.get(group, content)
                pattern = node.get("pattern") if isinstance(node, Mapping) else None
                slots.update(re.findall(r"\{(\w+)\}", str(pattern or "")))
        return frozenset(slots - RESERVED_KEYS - {"lora"})

    @cached_property
    def groups(self) -> frozenset[str]:
        """The names of all config groups: a key of that name chooses a file."""
        folders = (Path(packaged_conf()), Path("conf"))
        names = {path.name for folder in folders if folder.is_dir() for path in folder.iterdir()}
        return frozenset({*names, "hydra", "sweeps", "defaults"})


def _check_argument(argument: str, project: _Project) -> None:
    if _CONTROL.search(argument) or "${" in argument:
        raise _refused(argument, "it holds ${ or control characters")
    match = _OVERRIDE.fullmatch(argument)
    if match is None:
        raise _refused(argument, "only KEY=VALUE and -m are accepted from here")
    key, written = match.groups()
    for value in _values(key, argument):
        for text in _texts(value):
            if "${" in text or text.startswith("@"):
                raise _refused(argument, "@file and ${…} read what only the owner may")
        _check_value(key, value, argument, project)
    if key == "seeds" and len(written) > 1000:
        raise _refused(argument, "too many seeds are listed")


def _values(key: str, argument: str) -> Sequence[Any]:
    """Return the values of an override as `promptlab sweep` will read it."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import (
        ChoiceSweep,
        OverrideType,
        QuotedString,
        RangeSweep,
        Sweep,
    )
    from hydra.errors import HydraException

    with _parsing:
        try:
            override = OverridesParser.create().parse_override(prepare_override(argument))
        except (HydraException, ConfigError, RecursionError, ValueError) as error:
            # A whole number of thousands of digits is a ValueError.
            raise WishRefusedError(str(error)[:500]) from None
    is_plain = override.type is OverrideType.CHANGE and override.package is None
    if not is_plain or override.key_or_group != key:
        raise _refused(argument, "only KEY=VALUE is accepted from here")
    value = override._value
    if isinstance(value, ChoiceSweep):
        values: Sequence[Any] = value.list
    elif isinstance(value, RangeSweep):
        values = [value.start, value.stop, value.step]
    elif isinstance(value, Sweep):
        raise _refused(argument, "this kind of sweep is not accepted from here")
    else:
        values = [value]
    return [one.text if isinstance(one, QuotedString) else one for one in values]


def _texts(value: Any) -> list[str]:
    """Return every text in a value, keys included."""
    if isinstance(value, Mapping):
        return [text for item in value.items() for part in item for text in _texts(part)]
    if isinstance(value, list | tuple):
        return [text for part in value for text in _texts(part)]
    if isinstance(value, int | float | None):
        return []
    return [getattr(value, "text", None) or str(value)]


def _check_value(key: str, value: Any, argument: str, project: _Project) -> None:
    if key in GROUPS:
        _check_option(key, value, argument)
    elif key in project.groups:
        raise _refused(argument, f"{key} is for the owner alone, on the command line")
    elif key in _TEXTS or (key not in RESERVED_KEYS and key in project.slots):
        items = value if isinstance(value, list) else [value]
        if any(isinstance(item, Mapping | list) for item in items):
            raise _refused(argument, "expected a text or a list of texts; put it into quotes")
    elif key in _RULES:
        pass  # names of axes and values that they have
    elif key == "seeds":
        if not _SEEDS.fullmatch(seeds_text(value).strip("[]'\"")):
            raise _refused(argument, "expected a count, a list or a range of seeds")
    elif key == "parent":
        if not isinstance(value, str | int) or not _IMAGE_ID.fullmatch(str(value)):
            raise _refused(argument, "expected the id of an image")
    elif key == "name":
        if not isinstance(value, str) or not _NAME.fullmatch(value) or ".." in value:
            raise _refused(argument, "expected a short name of letters, digits and spaces")
    elif key == "reuse":
        if not isinstance(value, bool):
            raise _refused(argument, "expected true or false")
    elif key in RESERVED_KEYS or "." in key:
        raise _refused(argument, f"{key} is for the owner alone, on the command line")
    elif isinstance(value, str):
        if len(value) > 500 or _PATHLIKE.search(value):
            raise _refused(argument, "a parameter that may name a file or an address is refused")
    elif not isinstance(value, int | float | None):
        raise _refused(argument, "expected a number, a word, true or false")


def _check_option(group: str, value: Any, argument: str) -> None:
    from hydra.core.override_parser.types import Glob

    if isinstance(value, Glob):
        if group == "model" or not all(map(_GLOB.fullmatch, [*value.include, *value.exclude])):
            raise _refused(argument, "this glob is not accepted from here")
        return
    if not isinstance(value, str) or not _OPTION.fullmatch(value):
        raise _refused(argument, f"expected the name of a {group}")
    known = list_options(group)
    if value not in known:
        close = close_names(value, known)
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        raise WishRefusedError(f"Unknown {group} {value!r}.{hint}")


def seeds_text(value: Any) -> str:
    """Return seeds as an override has them: 8, [3,5] or a range such as 0-63."""
    if isinstance(value, list | tuple) and all(type(one) is int for one in value):
        return f"[{','.join(map(str, value))}]"
    if type(value) is int or isinstance(value, str):
        return str(value)
    raise WishRefusedError("seeds: expected a count, a list or a range such as 0-63.")


def _refused(argument: str, reason: str) -> WishRefusedError:
    shown = argument if len(argument) <= 120 else f"{argument[:120]}…"
    return WishRefusedError(f"{shown!r} is refused: {reason}.")

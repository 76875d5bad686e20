"""Globs over the options of a config group, sub-groups included (glob(art/*)), and choice(…).

Takes parsed overrides, leaves in each glob's place the options that it matches, and texts that
Hydra reads again as they are. Knows no job and composes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatch

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    Glob,
    Override,
    ParsedElementType,
    Quote,
    QuotedString,
    Transformer,
    ValueType,
)
from hydra.errors import HydraException


def open_globs(overrides: Sequence[Override]) -> None:
    """Replace globs by the options that they match, in sub-groups too.

    Hydra lists the options of the group itself only, so glob(art/*) would match nothing.
    """
    for override in overrides:
        glob = override._value
        if not isinstance(glob, Glob) or override.config_loader is None:
            continue
        folders = dict.fromkeys(p.rpartition("/")[0] for p in glob.include if "/" in p)
        names = override.config_loader.get_group_options(override.key_or_group)
        for folder in folders:
            group = f"{override.key_or_group}/{folder}"
            options = override.config_loader.get_group_options(group)
            names += [f"{folder}/{option}" for option in options]
        # A star stays within its folder here, as in a shell.
        include = [(p, p.count("/")) for p in glob.include]
        chosen = [
            name
            for name in Glob(include=glob.include, exclude=glob.exclude).filter(names)
            if any(fnmatch(name, p) and name.count("/") == depth for p, depth in include)
        ]
        override._value = ChoiceSweep(list=list(chosen))
        override.value_type = ValueType.CHOICE_SWEEP


def quote_choices(overrides: Sequence[Override]) -> None:
    """Put in quotes what each job's override would be read from otherwise: Küche, it's, 1.50.

    Hydra takes the quotes of a text in choice(…) off.
    """
    for override in overrides:
        sweep = override._value
        if isinstance(sweep, ChoiceSweep) and not sweep.simple_form:
            override._value = replace(sweep, list=[_quote_changed(each) for each in sweep.list])


def _quote_changed(item: ParsedElementType) -> ParsedElementType:
    """Return a text in quotes if Hydra would read it as something else without them."""
    if not isinstance(item, str):
        return item
    try:
        read = OverridesParser.create().parse_override(f"x={Transformer.str(item)}").value()
    except HydraException:
        read = None
    return item if read == item else QuotedString(item, Quote.double)

"""Globs over the options of a config group, sub-groups included: glob(art/*).

Takes parsed overrides, leaves in each glob's place the options that it matches. Knows no job and
composes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatch

from hydra.core.override_parser.types import (
    ChoiceSweep,
    Glob,
    Override,
    Quote,
    QuotedString,
    ValueType,
)

from promptlab.configs.overrides import is_readable


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
        # A name beyond Hydra's grammar, such as Küche, has to come in quotes to be read again.
        key = override.key_or_group
        override._value = ChoiceSweep(
            list=[n if is_readable(f"{key}={n}") else QuotedString(n, Quote.double) for n in chosen]
        )
        override.value_type = ValueType.CHOICE_SWEEP

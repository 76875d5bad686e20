"""`promptlab styles`: what there is to sweep, with the words that it puts around a prompt.

Reads config files, prints lines. Opens no model and does not start Hydra.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from promptlab.configs.vocabulary import Option, find_options, read_option

_PATTERN_KEYS = frozenset({"pattern", "description"})  # what is not a slot in an option's file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("text", nargs="?", default="", help="list only what holds this text")


def run(args: argparse.Namespace) -> int:
    """Print styles and templates."""
    for group in ("style", "template"):
        lines = [line for line in describe_group(group) if args.text.lower() in line.lower()]
        if lines:
            print(f"{group}=", *lines, sep="\n", end="\n\n")
    print("A whole group: style='glob(*)', style='glob(art/*)'. Your own: conf/style/NAME.yaml.")
    return 0


def describe_group(group: str) -> Iterator[str]:
    """Yield one line an option: name, pattern, description, slots with their default values."""
    for option in find_options(group).values():
        content = read_option(option)
        node = content.get(group, content)
        slots = {k: v for k, v in content.items() if k not in _PATTERN_KEYS and k != group}
        words = [str(node.get("description") or "")]
        words += [f"{slot}={value}" for slot, value in slots.items()]
        yield f"  {option.name:<26} {node.get('pattern', ''):<58} {'; '.join(words)}{_own(option)}"


def _own(option: Option) -> str:
    return "  (yours)" if option.is_own else ""

"""`promptlab styles`: the styles and templates, with the words that they put around a prompt.

Reads config files and lists of words, prints lines. Opens no model and does not start Hydra.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from promptlab.configs.explain import close_names
from promptlab.configs.vocabulary import Option, find_options, list_options, read_option
from promptlab.errors import ConfigError, PromptlabError

_PATTERN_KEYS = frozenset({"pattern", "description"})  # what is not a slot in an option's file
GROUPS = ("style", "template")
NUM_VALUES = 5  # shown of a list


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("text", nargs="?", default="", help="list only what holds this text")
    parser.add_argument(
        "--wildcards", action="store_true", help="list the wildcards (__animal__) instead"
    )


def run(args: argparse.Namespace) -> int:
    """Print styles and templates, or wildcards."""
    if args.wildcards:
        return _print_wildcards(args.text)
    is_empty = True
    for group in GROUPS:
        lines = [line for line in describe_group(group) if args.text.lower() in line.lower()]
        if lines:
            is_empty = False
            print(f"{group}=", *lines, sep="\n", end="\n\n")
    if is_empty:
        known = [name for group in GROUPS for name in list_options(group)]
        _print_nothing("style or template", args.text, close_names(args.text, known))
        return 1
    print("A whole group: style='glob(*)', style='glob(art/*)'. Your own: conf/style/NAME.yaml.")
    return 0


def describe_group(group: str) -> Iterator[str]:
    """Yield one line an option: name, pattern, description, slots with their default values."""
    for option in find_options(group).values():
        try:
            content = read_option(option)
        except ConfigError as error:
            print(f"promptlab: left out: {error}", file=sys.stderr)
            continue
        node = content.get(group, content)
        slots = {k: v for k, v in content.items() if k not in _PATTERN_KEYS and k != group}
        words = [str(node.get("description") or "")]
        words += [f"{slot}={value}" for slot, value in slots.items()]
        yield f"  {option.name:<26} {node.get('pattern', ''):<58} {'; '.join(words)}{_own(option)}"


def _own(option: Option) -> str:
    return "  (yours)" if option.is_own else ""


def _print_wildcards(text: str) -> int:
    from promptlab.models.registry import packaged_words
    from promptlab.planning.language import Wildcard, Wildcards

    wildcards = Wildcards.of_project(files=packaged_words())
    is_empty = True
    for name in wildcards.list_names():
        try:
            values = [str(value) for value in wildcards.load(Wildcard(name))]
        except PromptlabError as error:
            print(f"promptlab: left out: {error}", file=sys.stderr)
            continue
        shown = ", ".join(values[:NUM_VALUES]) + (", …" if len(values) > NUM_VALUES else "")
        line = f"  {f'__{name}__':<26} {len(values):>6,}  {shown}"
        if text.lower() in line.lower():
            is_empty = False
            print(line)
    if is_empty:
        _print_nothing("wildcard", text, close_names(text, wildcards.list_names()))
        return 1
    print("\nYour own: one value a line in wildcards/NAME.txt.")
    return 0


def _print_nothing(kind: str, text: str, close: list[str]) -> None:
    hint = f" Did you mean {' or '.join(close)}?" if close else " Leave the text out to see all."
    print(f"No {kind} holds {text!r}.{hint}")

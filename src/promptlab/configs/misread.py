"""Arguments that are neither flag nor override: what was expected, and the command that is meant.

Takes a command's arguments and what Hydra's parser made of them, raises ConfigError. Knows no
config.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from promptlab.configs.overrides import prepare_arguments
from promptlab.configs.quoting import join_command
from promptlab.configs.settings import KEYS, TEXT_KEYS
from promptlab.errors import ConfigError


def check_flags(arguments: Sequence[str], unknown: Sequence[str]) -> None:
    """Refuse flags that nobody knows; of one with a value, say the override that is meant."""
    if not unknown:
        return
    place = list(arguments).index(unknown[0])
    name, _, value = unknown[0].lstrip("-").partition("=")
    end = place + 1
    if not value and end < len(arguments) and "=" not in arguments[end]:
        value, end = arguments[end], end + 1
    problem = f"{unknown[0]}: there is no such flag; `promptlab sweep --help` lists them."
    if not name or not value or value.startswith("-"):
        raise ConfigError(f"{problem} Keys of a sweep have no dashes: temperature=0.5")
    command = [*arguments[:place], f"{name}={value}", *arguments[end:]]
    raise ConfigError(f"{problem} Keys of a sweep have no dashes: {_sweep(command)}")


def check_words(arguments: Sequence[str], overrides: Sequence[str]) -> None:
    """Refuse what is no `key=value` among a command's overrides.

    A word after a text is more of that text, which a shell split at its spaces; any other is taken
    for the subject.
    """
    words = [word for word in overrides if not _is_override(word)]
    if not words:
        return
    problem = f"{words[0]!r}: expected key=value"
    if words[0].strip("+=") in KEYS:
        raise ConfigError(f"{problem}, such as {words[0].strip('=')}=…")
    place = list(arguments).index(words[0])
    end = place
    while end < len(arguments) and arguments[end] in words:
        end += 1
    text = " ".join(arguments[place:end]).lstrip("=")
    if place and _gives_text(arguments[place - 1]):
        place -= 1
        meant = f"{arguments[place]} {text}"
    elif not any(argument.startswith("subject=") for argument in arguments):
        meant = f"subject={text}"
    else:
        raise ConfigError(f"{problem}, such as temperature=0.5.")
    command = [*arguments[:place], meant, *arguments[end:]]
    try:
        prepare_arguments(command)
    except ConfigError as error:  # it says what to write instead
        raise ConfigError(f"{problem}. {error}") from None
    raise ConfigError(f"{problem}. Write: {_sweep(command)}")


def _is_override(argument: str) -> bool:
    key, equals, _ = argument.partition("=")
    return argument.startswith("~") or bool(key and equals and not re.search(r"\s", key))


def _gives_text(argument: str) -> bool:
    """Tell whether an argument gives a key a text, so that a word after it may be more of it."""
    key, equals, value = argument.partition("=")
    is_number = value.replace(".", "", 1).isdigit()
    return bool(equals) and (key in TEXT_KEYS or key not in KEYS) and not is_number


def _sweep(arguments: Sequence[str]) -> str:
    return join_command(["promptlab", "sweep", *arguments])

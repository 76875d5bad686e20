"""Texts in the quotes of Hydra's grammar and of a shell: the one place that writes them.

Takes a text, returns the quoted value or word. Needs no Hydra.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable

_EXPANDED = re.compile(r"[$`!]")  # what a shell expands in double quotes


def quote(text: str, *, keeps_interpolations: bool = False) -> str:
    r"""Return a text as one quoted Hydra value that means exactly this text.

    In double quotes, if it holds none, so that a shell's single quotes go around it. Backslashes
    count as escapes only before the quote and, for OmegaConf, before `${`; there, and only there,
    they are doubled. `keeps_interpolations` leaves `${…}` to OmegaConf, as a person typed it.
    """
    mark = "'" if '"' in text else '"'
    if not keeps_interpolations:
        text = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)
    text = re.sub(rf"(\\*){mark}", rf"\1\1\\{mark}", text)
    trailing = len(text) - len(text.rstrip("\\"))
    return f"{mark}{text}{trailing * chr(92)}{mark}"


def join_command(words: Iterable[str]) -> str:
    """Return the words of a command as one line for a shell, overrides quoted by their value."""
    return " ".join(map(quote_override, words))


def quote_override(override: str) -> str:
    """Return an override as one word for a shell, with quotes around the value alone."""
    key, equals, value = override.partition("=")
    if not equals or quote_for_shell(key) != key:
        return quote_for_shell(override)
    return f"{key}={quote_for_shell(value)}"


def quote_for_shell(word: str) -> str:
    """Return one word for a shell, in printable characters on one line.

    A prompt may hold line breaks and terminal codes: these are written as escapes that bash, zsh
    and ksh read ($'…').
    """
    if word.isprintable():
        if "'" in word and not _EXPANDED.search(word):
            escaped = re.sub(r'["\\]', r"\\\g<0>", word)
            return f'"{escaped}"'
        return shlex.quote(word)
    escaped = "".join(
        f"\\{char}"
        if char in "\\'"
        else char
        if char.isprintable()
        else "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8"))
        for char in word
    )
    return f"$'{escaped}'"

"""`promptlab -sc …`: tab completion: verbs and options by ourselves, config keys by Hydra.

Takes arguments and the line that the shell is completing (COMP_LINE), prints what a shell expects.
`eval "$(promptlab sweep -sc install=bash)"` installs it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from promptlab.configs.settings import GROUP_KEYS
from promptlab.configs.vocabulary import list_options

OWN_FLAGS = ("--plan", "--resume", "--retry-failed", "--from-picks")
HYDRA_FLAGS = ("--multirun", "--cfg", "--help", "--info")
GROUPS = ("sweeps", *GROUP_KEYS)

_OPTION = re.compile(rf"(\+?(?:{'|'.join(GROUPS)})=(?:[^,]*,)*)([^,]*)")


def run_arguments(arguments: Sequence[str], verbs: Sequence[str]) -> int:
    """Answer a shell's query, or print the script that installs completion."""
    if any(argument.startswith("query=") for argument in arguments):
        line = os.environ.get("COMP_LINE", "")
        suggestions = suggest(line, verbs)
        if suggestions is not None:
            print(" ".join(suggestions))
            return 0
        os.environ["COMP_LINE"] = line_for_hydra(line)
    from promptlab.commands import sweep

    return sweep.run_arguments([a for a in arguments if a != "sweep"])


def suggest(line: str, verbs: Sequence[str]) -> list[str] | None:
    """Return the completions of a line, None where Hydra knows better: a config key."""
    words = line.split()
    word = "" if line.endswith(" ") or not words else words[-1]
    num_done = len(words) - (word != "")
    if num_done < 2:
        return [verb for verb in verbs if verb.startswith(word)]
    if words[1] != "sweep":
        return []
    if word.startswith("-"):
        return [flag for flag in (*OWN_FLAGS, *HYDRA_FLAGS) if flag.startswith(word)]
    match = _OPTION.fullmatch(word)
    if match is None:
        return None
    before, start = match.groups()
    group = before.lstrip("+").partition("=")[0]
    return [before + option for option in list_options(group) if option.startswith(start)]


def line_for_hydra(line: str) -> str:
    """Return the line as Hydra expects it: the program, then overrides."""
    words = [word for word in line.split() if word not in OWN_FLAGS and word != "sweep"]
    return " ".join(words) + (" " if line.endswith(" ") else "")

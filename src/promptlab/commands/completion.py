"""`promptlab -sc …`: tab completion, Hydra's own for a sweep and the verbs before it.

Takes arguments, prints what a shell expects. `eval "$(promptlab sweep -sc install=bash)"`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence


def run_arguments(arguments: Sequence[str], verbs: Sequence[str]) -> int:
    """Answer a shell's query, or print the script that installs completion."""
    words = os.environ.get("COMP_LINE", "").split()
    is_verb_open = len(words) < 2 or (len(words) == 2 and not os.environ["COMP_LINE"].endswith(" "))
    if any(argument.startswith("query=") for argument in arguments):
        if is_verb_open:
            print(" ".join(verbs))
            return 0
        if words[1] != "sweep":
            return 0
        # Hydra expects "program overrides…": the verb is taken out.
        line = os.environ["COMP_LINE"]
        before, _, after = line.partition("sweep")
        os.environ["COMP_LINE"] = before.rstrip() + after
    from promptlab.commands import sweep

    return sweep.run_arguments(arguments)

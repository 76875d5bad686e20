"""Texts in the quotes of Hydra's grammar: the one place that writes them.

Takes a text, returns the quoted value. Needs no Hydra.
"""

from __future__ import annotations

import re


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

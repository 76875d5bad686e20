"""From subject, template and style to the prompt that the model reads.

Takes patterns and slot values, returns the filled pattern. Knows neither Hydra nor models; the
grammar of a pattern is the sweep language's.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from promptlab.errors import PromptError
from promptlab.language import Pattern, parse_pattern


@lru_cache(maxsize=65536)
def read_pattern(text: str, source: str) -> Pattern:
    """Return the pattern of a text; a sweep names the same few thousand texts again and again."""
    return parse_pattern(text, source)


def slot_names(template: Pattern, style: Pattern, values: Mapping[str, Pattern]) -> tuple[str, ...]:
    """Return the slots that need a value from the config, those inside of other values included."""
    names: dict[str, None] = {}
    open_names = [*template.slots, *(name for name in style.slots if name != "prompt")]
    while open_names:
        name = open_names.pop(0)
        if name not in names:
            names[name] = None
            if name in values:
                open_names.extend(values[name].slots)
    return tuple(names)


def fill_prompt(template: Pattern, style: Pattern, values: Mapping[str, Pattern]) -> Pattern:
    """Return the style around the template, every slot filled."""
    return style.fill({**values, "prompt": template.fill(values)})


def check_prompt(prompt: str, where: str) -> None:
    """Refuse what no store could hold: an empty prompt, NUL, bytes that are no UTF-8."""
    if not prompt.strip():
        raise PromptError(f"The prompt is empty ({where}). Give a subject: subject='a fox'.")
    if "\0" in prompt:
        raise PromptError(
            f"The prompt holds a NUL character at position {prompt.index(chr(0))} ({where}). "
            "Remove it: neither PNG metadata nor MLflow can hold one."
        )
    try:
        prompt.encode("utf-8")
    except UnicodeEncodeError as error:
        raise PromptError(
            f"The prompt holds bytes that are not UTF-8 at position {error.start} ({where}). "
            "Write it in UTF-8; on the command line check the locale (LANG)."
        ) from None

"""The words of an image's cell as overrides: template, style, subject and slots.

Takes a row and its axes, returns override keys with their values where today's configs still make
the row's prompt of them. Reads config files; knows no model and no store.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

from promptlab.configs.vocabulary import find_options, read_option
from promptlab.errors import ConfigError
from promptlab.planning.language import (
    Grid,
    GridOptions,
    JobPattern,
    Pattern,
    Wildcards,
    parse_pattern,
)


def own_words(row: Mapping[str, Any], axes: Mapping[str, Any]) -> dict[str, str] | None:
    """Return a cell's words by override key, None if they make another prompt by now.

    The row needs `template`, `style`, `subject` and `prompt`; `axes` has the further axes by name.
    """
    try:
        template, defaults = _pattern("template", row["template"])
        style, more_defaults = _pattern("style", row["style"])
        given = {name: str(value) for name, value in axes.items() if value is not None}
        slots = {name for name in (*template.slots, *style.slots) if name in given}
        filled = {**defaults, **more_defaults}
        values = {
            **{name: parse_pattern(text, name) for name, text in filled.items()},
            **{name: Pattern.literal(given[name]) for name in slots},
            "subject": Pattern.literal(row["subject"]),
            "prompt": template,
        }
        grid = Grid([JobPattern(style, values, {})], GridOptions.parse(), Wildcards())
        prompts = [point.prompt for point in islice(grid.points(), 2)]
        if prompts != [row["prompt"]]:
            return None
    except (ConfigError, KeyError):
        return None
    return {
        "template": row["template"],
        "style": row["style"],
        "subject": str(Pattern.literal(row["subject"])),
        **{name: str(Pattern.literal(given[name])) for name in sorted(slots)},
    }


def _pattern(group: str, name: str) -> tuple[Pattern, dict[str, str]]:
    """Return the pattern of an option, and the slots that its file fills."""
    content = read_option(find_options(group)[name])
    node = content[group] if isinstance(content.get(group), Mapping) else content
    pattern = parse_pattern(node["pattern"], f"{group} {name}")
    filled = {key: text for key, text in content.items() if isinstance(text, str) and key != group}
    return pattern, {key: text for key, text in filled.items() if key in pattern.slots}

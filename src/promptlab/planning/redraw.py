"""The command that draws one image again, from its row.

Takes a row of images.parquet and the config of its model, returns Hydra overrides or a line for a
shell. Asks for the final prompt as it stands, so that neither a changed template nor a changed
wildcard list can change the image. Knows no store and no model.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from typing import Any

from promptlab.planning.language import Pattern

# What decides where and how fast an image is drawn, and never what it shows.
_INDIFFERENT_KEYS = frozenset({"_target_", "device", "batch_size", "name"})


def redraw_command(row: Mapping[str, Any], model_config: Mapping[str, Any] | None = None) -> str:
    """Return a line for a shell that draws exactly this image again.

    The row needs `model`, `prompt`, `seed`, `params` (canonical JSON) and `dtype`;
    `model_config` is the model's node in sweep.yaml, for what differs from its file in conf/.
    """
    overrides = redraw_overrides(row, model_config)
    return " ".join(["promptlab", "sweep", *map(quote_for_shell, overrides)])


def model_config(meta: Mapping[str, Any], row: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the config node of the model that drew a row, if sweep.yaml holds it."""
    for key, model in meta.get("models", {}).items():
        if model["name"] == row["model"] and model["fingerprint"] == row["model_fingerprint"]:
            return meta.get("models_config", {}).get(key)
    return None


def redraw_overrides(
    row: Mapping[str, Any], model_config: Mapping[str, Any] | None = None
) -> list[str]:
    """Return the Hydra overrides of a sweep that holds exactly this image."""
    settings = {
        f"model.{key}": row["dtype"] if key == "dtype" else value
        for key, value in (model_config or {}).items()
        if key not in _INDIFFERENT_KEYS and value is not None
    }
    params = json.loads(row["params"])
    return [
        f"model={row['model']}",
        "template=plain",
        "style=none",
        f"subject={quote_for_hydra(str(Pattern.literal(row['prompt'])))}",
        *(f"{name}={hydra_value(value)}" for name, value in {**settings, **params}.items()),
        f"seeds=[{row['seed']}]",
    ]


def quote_for_shell(word: str) -> str:
    """Return one word for a shell, in printable characters on one line.

    A prompt may hold line breaks and terminal codes: these are written as escapes that bash, zsh
    and ksh read ($'…').
    """
    if word.isprintable():
        return shlex.quote(word)
    escaped = "".join(
        f"\\{char}"
        if char in "\\'"
        else char
        if char.isprintable()
        else "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "backslashreplace"))
        for char in word
    )
    return f"$'{escaped}'"


def hydra_value(value: Any) -> str:
    """Return a plain value in Hydra's override grammar."""
    if isinstance(value, str):
        return quote_for_hydra(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{hydra_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(hydra_value, value)) + "]"
    return json.dumps(value)


def quote_for_hydra(text: str) -> str:
    """Return a text as one quoted Hydra value that means exactly this text.

    Backslashes count as escapes only before a quote and, for OmegaConf, before `${`; there, and
    only there, they are doubled.
    """
    escaped = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", escaped)
    trailing = len(escaped) - len(escaped.rstrip("\\"))
    return f"'{escaped}{trailing * chr(92)}'"

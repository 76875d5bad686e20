"""What a stored PNG says of itself.

Takes a PNG and a label, returns the PNG with two texts: `parameters`, as A1111 writes it and
sd-parsers and Civitai read it, and `promptlab`, canonical JSON, the source of truth. Both hold
only what is the same each time an image is drawn for a cell: no time, no machine.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from promptlab.identity import canonical_json
from promptlab.png import add_texts, read_text, text_chunk, unicode_chunk

JSON_KEYWORD = "promptlab"


@dataclass(frozen=True, slots=True)
class Label:
    """What a PNG says of itself."""

    facts: Mapping[str, Any]  # at least prompt, seed, model and model_fingerprint
    params_line: str  # the sampling parameters as the model writes them for A1111


def wrap(body: bytes, label: Label, width: int, height: int) -> bytes:
    """Return a PNG of width × height px, until now without texts, that carries a label."""
    return add_texts(
        body,
        text_chunk("parameters", a1111_parameters(label, width, height)),
        unicode_chunk(JSON_KEYWORD, canonical_json(dict(label.facts))),
    )


def a1111_parameters(label: Label, width: int, height: int) -> str:
    """Return the text that other tools read: the prompt, then one line of settings, Steps first."""
    facts = label.facts
    settings = {
        "Seed": facts["seed"],
        "Size": f"{width}x{height}",
        "Model hash": facts["model_fingerprint"],
        "Model": facts["model"],
        "Version": f"promptlab {facts.get('promptlab_version', '')}".strip(),
    }
    further = [f"{name}: {_plain(value)}" for name, value in settings.items()]
    return f"{facts['prompt']}\n{', '.join([label.params_line, *further])}"


def _plain(value: Any) -> str:
    """Keep the settings line parsable: a colon or comma of ours would start another setting."""
    return re.sub(r"[:,\r\n]+", " ", str(value))


def read_facts(png: bytes) -> dict[str, Any]:
    """Return the facts on a PNG's label; {} without one."""
    return json.loads(read_text(png, JSON_KEYWORD) or "{}")

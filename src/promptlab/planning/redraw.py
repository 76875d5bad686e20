"""The command that draws one image again, from its row.

Takes a row of images.parquet and the config of its model, returns Hydra overrides or a line for a
shell. Asks for the final prompt as it stands, so that neither a changed template nor a changed
wildcard list can change the image. Knows no store and no model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from promptlab.configs.quoting import join_command, quote, quote_for_shell
from promptlab.planning.language import Pattern
from promptlab.records import IMPORTED
from promptlab.run_record import RunRecord

# Settings that decide where and how fast an image is drawn: neither its pixels nor its id.
_INDIFFERENT_KEYS = frozenset({"_target_", "device", "batch_size"})
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_/.-]*(?: [A-Za-z0-9_/.-]+)*")
_TYPED_WORDS = frozenset({"null", "true", "false", "nan", "inf", "infinity"})


@dataclass(frozen=True, slots=True)
class RecordedModel:
    """The model of a row, as sweep.yaml records it."""

    key: str  # in sweep.yaml
    option: str  # of the config group `model`
    node: Mapping[str, Any] | None  # its config
    padded_batch: int | None = None  # images of a padded batch, where the bits depend on it

    @property
    def config(self) -> Mapping[str, Any]:
        """Its config, with the batch size that was chosen if none was given."""
        node = self.node or {}
        return node if self.padded_batch is None else {**node, "batch_size": self.padded_batch}


def recorded_model(record: RunRecord, row: Mapping[str, Any]) -> RecordedModel | None:
    """Return the model that drew a row, if sweep.yaml holds it.

    The row needs `model`, `model_fingerprint` and `dtype`. A run from before options were
    recorded has the model's name in their place.
    """
    found = None
    for key, model in record.models.items():
        if (model.name, model.fingerprint) == (row["model"], row["model_fingerprint"]):
            is_same_dtype = model.dtype == row["dtype"]
            if found is None or is_same_dtype:
                node = record.models_config.get(key)
                option = model.option or model.name
                # The record has the size of the last session, a row that of its own.
                size = model.padded_batch and row.get("batch_size", model.padded_batch)
                found = RecordedModel(key, option, node, size)
            if is_same_dtype:
                break
    return found


def redraw_command(
    row: Mapping[str, Any],
    model: RecordedModel | None = None,
    words: Mapping[str, str] | None = None,
) -> str:
    """Return a line for a shell that draws exactly this image again.

    The row needs `model`, `prompt`, `seed`, `params` (canonical JSON) and `dtype`; `model` is for
    its option and for what differs from its file in conf/; `words` are what the prompt is made of
    (see own_words), by default the prompt itself.
    """
    if row.get("device") == IMPORTED:
        return f"# imported: {quote_for_shell(row['model'])} drew it elsewhere"
    overrides = redraw_overrides(row, model, words)
    return join_command(["promptlab", "sweep", *overrides])


def redraw_overrides(
    row: Mapping[str, Any],
    model: RecordedModel | None = None,
    words: Mapping[str, str] | None = None,
) -> list[str]:
    """Return the Hydra overrides of a sweep that holds exactly this image."""
    config = {} if model is None else model.config
    indifferent = _INDIFFERENT_KEYS
    if model is not None and model.padded_batch is not None:
        indifferent -= {"batch_size"}
    settings = {
        f"model.{key}": row["dtype"] if key == "dtype" else value
        for key, value in config.items()
        if key not in indifferent and value is not None
    }
    prompt = str(Pattern.literal(row["prompt"]))
    whole = {"template": "plain", "style": "none", "subject": prompt}
    params = json.loads(row["params"])
    source_id = row.get("source_id")
    return [
        f"model={hydra_value(row['model'] if model is None else model.option)}",
        *(f"{name}={hydra_value(text)}" for name, text in (words or whole).items()),
        *([] if source_id is None else [f"parent={hydra_value(source_id)}"]),
        *(f"{name}={hydra_value(value)}" for name, value in {**settings, **params}.items()),
        f"seeds=[{row['seed']}]",
    ]


def hydra_value(value: Any) -> str:
    """Return a plain value in Hydra's override grammar."""
    if isinstance(value, str):
        return value if _is_plain(value) else quote(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{hydra_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(hydra_value, value)) + "]"
    return json.dumps(value)


def _is_plain(text: str) -> bool:
    """Tell whether Hydra reads a text without quotes as this text, on a command line or within."""
    return bool(_PLAIN.fullmatch(text)) and text.lower() not in _TYPED_WORDS

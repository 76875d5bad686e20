"""Variations of images as a sweep: what each parent was drawn with, and the image to draw from.

Takes image_ids, with commas between, and the overrides of a command; returns the overrides that
each parent begins with. Draws and writes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from promptlab.errors import ConfigError
from promptlab.flow.sources import Sources
from promptlab.models.protocol import CompleteModel
from promptlab.models.registry import open_model
from promptlab.planning.own_words import own_words
from promptlab.planning.redraw import RecordedModel, recorded_model, redraw_overrides
from promptlab.store import Run

_WORDS = ("template", "style", "subject")


def bases_of_images(
    image_ids: str, overrides: Sequence[str]
) -> tuple[list[tuple[str, ...]], list[str]]:
    """Return the base overrides of each image, and the command's own without those it moves there.

    A base names the image as parent and draws with its words, its model and its parameters; a key
    that the command sets is left to it. A number of seeds means seeds other than the parent's: its
    own would draw the rest of the same image again.
    """
    runs_dir = _value("runs_dir", overrides) or "runs"
    changed = {key_of_override(override) for override in overrides}
    seeds_text = _value("seeds", overrides) or ""
    num_seeds = int(seeds_text) if seeds_text.isdecimal() else None
    own = [o for o in overrides if num_seeds is None or key_of_override(o) != "seeds"]
    bases = []
    sources = Sources(runs_dir)
    for image_id in image_ids.split(","):
        run, row, recorded, model = _drawn_image(image_id, sources)
        base = [f"parent='{row['image_id']}'", *_overrides(run, row, recorded, model, changed)]
        if num_seeds is not None:
            seeds = [seed for seed in range(num_seeds + 1) if seed != row["seed"]][:num_seeds]
            base.append(f"seeds={seeds}".replace(" ", ""))
        bases.append(tuple(base))
    return bases, own


def _value(key: str, overrides: Sequence[str]) -> str | None:
    values = [o.partition("=")[2] for o in overrides if key_of_override(o) == key]
    return values[-1].strip("'\"") if values else None


def _drawn_image(
    image_id: str, sources: Sources
) -> tuple[Run, dict[str, Any], RecordedModel, CompleteModel]:
    """Return an image with its run and model; of an enlarged one, the image that it enlarges."""
    while True:
        run, row = sources.locate(image_id)
        recorded = recorded_model(run.record, row)
        if recorded is None:
            raise ConfigError(f"{run.paths.sweep_yaml} does not say which model drew {image_id}.")
        model = open_model(recorded.node)
        if not model.needs_source or row["source_id"] is None:
            return run, row, recorded, model
        image_id = row["source_id"]


def _overrides(
    run: Run,
    row: dict[str, Any],
    recorded: RecordedModel,
    model: CompleteModel,
    changed: set[str],
) -> list[str]:
    words = own_words(row, {axis.name: row[axis.column] for axis in run.axes})
    for_source = {name for name, parameter in model.parameters.items() if parameter.is_for_source}
    params = {k: v for k, v in json.loads(row["params"]).items() if k not in for_source}
    kept = {**row, "params": json.dumps(params), "source_id": None}
    base = [o for o in redraw_overrides(kept, recorded, words) if not o.startswith("seeds=")]
    if "model" in changed:  # another model has other parameters
        base = [o for o in base if key_of_override(o) in (words or _WORDS)]
    base = [o for o in base if key_of_override(o) not in changed]
    is_group = ("model=", "template=", "style=")
    return [o if o.startswith(is_group) else f"++{o}" for o in base]


def key_of_override(argument: str) -> str:
    """Return the key that an override sets."""
    return argument.lstrip("+~").partition("=")[0]

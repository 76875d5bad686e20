"""The settings of one sweep, as frozen dataclasses, validated on construction.

Takes plain dicts (what Hydra composed), returns settings. Does not know Hydra: `DictConfig` stops
at the entry points.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_type_hints

from promptlab.errors import ConfigError
from promptlab.paths import slugify

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

OptionsType = TypeVar("OptionsType", bound="DataclassInstance")

WORD_FROM_TYPE = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    type(None): "null",
}
UNNAMED = "sweep"
AUTO = "auto"  # value of `seeds`: as many as it takes, see `until`
MAX_NAME_LENGTH = 40  # characters of a name that is taken from the subject
DEFAULT_LIMIT = 20_000  # images a sweep may hold before it asks

# Every root key that promptlab reads itself, with what it is for.
KEYS: Mapping[str, str] = {
    "subject": "text",
    "template": "pattern",
    "style": "pattern",
    "model": "model",
    "seeds": "seeds",
    "parent": "parent",
    "name": "sweep",
    "limit": "sweep",
    "reuse": "sweep",
    "score": "sweep",
    "until": "sweep",
    "runs_dir": "sweep",
    "upscale": "sweep",
    "then": "sweep",
    "budget": "sweep",
    "allow_unknown_price": "sweep",
    "store": "stage",
    "tracking": "stage",
    "report": "stage",
    "workers": "stage",
    "zip": "narrowing",
    "exclude": "narrowing",
    "only": "narrowing",
    "sample": "narrowing",
    "wildcards": "lists",
    "with": "lists",
}


def keys_of(*kinds: str) -> tuple[str, ...]:
    """Return the keys of some kinds, in the order of the table."""
    return tuple(key for key, kind in KEYS.items() if kind in kinds)


RESERVED_KEYS = frozenset(KEYS)
TEXT_KEYS = frozenset({"subject", "name", "runs_dir", "wildcards", "parent"})  # never numbers
GROUP_KEYS = keys_of("pattern", "model")  # config groups: their value is the name of an option
OWN_COLUMN_KEYS = frozenset(keys_of("text", "pattern", "model", "seeds"))  # no further axes
SWEEP_KEYS = keys_of("sweep", "stage", "narrowing", "lists")  # hold for the whole sweep
# Every other root key is a sampling parameter of the model or a slot of a pattern.


@dataclass(frozen=True, slots=True)
class Job:
    """One composed Hydra job, as plain values."""

    number: int
    overrides: tuple[str, ...]  # as given, for people
    values: Mapping[str, Any]  # override key -> value (a group's: its choice): what may be an axis
    config: Mapping[str, Any]  # the whole job config, interpolations resolved
    choices: Mapping[str, str | None]  # config group -> chosen option


def with_node_inputs(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config with each input of a workflow's node as one key: "3.cfg", not 3: {cfg: …}."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if str(key).isdecimal() and isinstance(value, Mapping):
            flat.update({f"{key}.{name}": inner for name, inner in value.items()})
        else:
            flat[key] = value
    return flat


@dataclass(frozen=True, slots=True)
class Upscale:
    """What enlarges the images of a sweep as they are drawn."""

    model: str  # option of the config group `model`
    params: Mapping[str, Any]  # of the upscaler
    per_cell: int | None = None  # images of a cell, the first that were drawn; None: all


@dataclass(frozen=True, slots=True)
class Settings:
    """What holds for the whole sweep rather than for one cell."""

    name: str  # the sweep's name: MLflow's experiment, the end of the run folder's name
    former_name: str | None = (
        None  # what unnamed sweeps were called before they had their subject's
    )
    limit: int = DEFAULT_LIMIT  # images; a larger sweep asks for limit=N
    reuse: bool = True  # find images drawn in earlier runs
    runs_dir: str = "runs"  # a folder or an fsspec URL
    upscale: Upscale | None = None
    then: Any = None  # commands on the run, once it is drawn
    budget: float | None = None  # US dollars that all sessions of the sweep may spend
    allow_unknown_price: bool = False  # draw on models whose price nobody knows
    score: tuple[str, ...] = ()  # scorers of every image
    until: str | None = None  # of seeds=auto: the score that ends a cell, and the images of all
    stages: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)  # None: off

    def __post_init__(self) -> None:
        if isinstance(self.limit, bool) or not isinstance(self.limit, int) or self.limit < 1:
            raise ConfigError(
                f"limit={self.limit!r}: expected the largest number of images that the sweep may "
                "hold, such as limit=50000."
            )
        if not isinstance(self.reuse, bool):
            raise ConfigError(f"reuse={self.reuse!r}: expected true or false.")
        if not isinstance(self.runs_dir, str) or not self.runs_dir:
            raise ConfigError(f"runs_dir={self.runs_dir!r}: expected a folder or a URL.")
        if not isinstance(self.allow_unknown_price, bool):
            raise ConfigError(
                f"allow_unknown_price={self.allow_unknown_price!r}: expected true or false."
            )
        is_number = isinstance(self.budget, int | float) and not isinstance(self.budget, bool)
        if self.budget is not None and not (is_number and self.budget > 0):
            raise ConfigError(
                f"budget={self.budget!r}: expected US dollars above 0, such as budget=5."
            )
        if not all(isinstance(name, str) for name in self.score):
            raise ConfigError(
                f"score={list(self.score)!r}: expected names of scorers, such as "
                "score=[tiny_subject,sharpness]. `promptlab score --list` lists them."
            )


def settings_from_jobs(jobs: Sequence[Job]) -> Settings:
    """Return the settings that all jobs share; one that varies is an error."""
    if not jobs:
        raise ConfigError(
            "The sweep is empty: one of its axes has no values, for example a glob that matches "
            "nothing. `promptlab styles` and `promptlab models` list the options."
        )
    first = jobs[0].config
    _check_finite("", first)
    for job in jobs:
        _check_finite("", job.values)
    for key in SWEEP_KEYS:
        for job in jobs:
            if job.config.get(key) != first.get(key):
                raise ConfigError(
                    f"{key} cannot be an axis: it holds for the whole sweep. "
                    f"Got {first.get(key)!r} and {job.config.get(key)!r}."
                )
    name = first.get("name") or _name_from_choices(jobs[0])
    score = first.get("score") or ()
    until = first.get("until")
    are_auto = {job.config.get("seeds") == AUTO for job in jobs}
    if are_auto != {until is not None}:
        raise ConfigError(
            f"seeds={AUTO} and until=… belong together: seeds are drawn in rounds until the best "
            f"score of a cell is good enough, such as seeds={AUTO} until='tiny_subject > 0.8'."
        )
    return Settings(
        name=str(name or _name_from_subject(jobs[0])),
        former_name=None if name else UNNAMED,
        limit=first.get("limit", DEFAULT_LIMIT),
        reuse=first.get("reuse", True),
        runs_dir=first.get("runs_dir", "runs"),
        upscale=_upscale(first.get("upscale")),
        then=first.get("then"),
        budget=first.get("budget"),
        allow_unknown_price=first.get("allow_unknown_price", False),
        score=(score,) if isinstance(score, str) else tuple(score),
        until=None if until is None else str(until),
        stages={key: _stage(key, first.get(key)) for key in keys_of("stage")},
    )


def _check_finite(key: str, value: Any) -> None:
    """Refuse NaN and infinity: neither an id nor a table could hold them."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{key}={value}: expected a number that is finite.")
    if isinstance(value, Mapping):
        for name, inner in value.items():
            _check_finite(f"{key}.{name}" if key else str(name), inner)


def _name_from_choices(job: Job) -> str | None:
    sweep = job.choices.get("sweeps")
    return str(sweep).rsplit("/", 1)[-1] if sweep else None


def _name_from_subject(job: Job) -> str:
    """Return the first subject as a name: "a fox" gives "a-fox"."""
    subject = job.config.get("subject")
    if not isinstance(subject, str) or not re.search("[A-Za-z0-9]", subject):
        return UNNAMED
    return slugify(subject, MAX_NAME_LENGTH)


def _upscale(value: Any) -> Upscale | None:
    """Return what `upscale` asks for: a name, or {model: NAME, per_cell: 1, scale: 2}."""
    if value is None:
        return None
    asked = {"model": value} if isinstance(value, str) else value
    if not isinstance(asked, Mapping) or not isinstance(asked.get("model"), str):
        raise ConfigError(
            f"upscale={value!r}: expected the name of an upscaler, such as animevideov3, or "
            "'{model: animevideov3, scale: 2}'."
        )
    per_cell = asked.get("per_cell")
    if per_cell is not None and (type(per_cell) is not int or per_cell < 1):
        raise ConfigError(f"upscale.per_cell={per_cell!r}: expected a whole number from 1.")
    params = {key: given for key, given in asked.items() if key not in ("model", "per_cell")}
    return Upscale(asked["model"], params, per_cell)


def _stage(key: str, value: Any) -> Mapping[str, Any] | None:
    if value is not None and not isinstance(value, Mapping):
        raise ConfigError(f"{key}={value!r}: expected keys and values, such as {key}.KEY=VALUE.")
    return value


def build_options(
    options_type: type[OptionsType], key: str, values: Mapping[str, Any]
) -> OptionsType:
    """Return a stage's options from a config node.

    A key that it does not know is an error, and so is a value of another type.
    """
    known = [option.name for option in dataclasses.fields(options_type)]
    unknown = [name for name in values if name not in known]
    if unknown:
        listed = ", ".join(f"{key}.{name}" for name in known)
        raise ConfigError(f"Unknown key {key}.{unknown[0]}. Known: {listed}.")
    types = get_type_hints(options_type)
    for name, value in values.items():
        allowed = get_args(types[name]) or (types[name],)
        is_number = isinstance(value, int | float) and math.isfinite(value)
        if (isinstance(value, float) and not is_number) or (
            type(value) not in allowed and not (type(value) is int and float in allowed)
        ):
            expected = " or ".join(WORD_FROM_TYPE[one] for one in allowed)
            raise ConfigError(f"{key}.{name}={value!r}: expected {expected}.")
    return options_type(**values)

"""sweep.yaml as a typed record: what a run was asked for, who draws it, and where it ran.

Takes and returns YAML text; credentials are left out, keys of another version are kept.
Knows no run folder, no plan and no model. Everything here is immutable.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from promptlab.identity import escape_surrogates
from promptlab.records import Scalar, WorkerShare
from promptlab.redaction import redact

_UNUSUAL_LINE_ENDS = re.compile("[\x85\u2028\u2029]")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRecord:
    """One model of a sweep, as sweep.yaml has it."""

    option: str = ""  # of the config group `model`; "" in runs from before it was recorded
    name: str = ""
    fingerprint: str = ""
    dtype: str = ""
    device: str = ""
    image_size: tuple[int, ...] = ()  # width, height in px
    is_deterministic: bool | None = None  # as seen when it drew; None: unknown
    needs_source: bool = False  # it enlarges: its images stand in the place of their sources
    padded_batch: int | None = None  # images of a padded batch, where the bits depend on it
    defaults: Mapping[str, Scalar] = field(default_factory=dict)  # of its sampling parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """sweep.yaml: what a run was asked for, who draws it, and where it ran."""

    schema_version: int = 0
    run_id: str = ""
    created_at: str = ""  # UTC, ISO 8601
    resumed_at: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    argv: tuple[str, ...] | None = None  # of the command that began the run; None: unknown
    num_jobs: int = 0
    config: Mapping[str, Any] = field(default_factory=dict)  # of the first job, resolved
    samples: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # axis -> values drawn
    subject_axes: tuple[str, ...] = ()  # axes that are parts of the subject
    models_config: Mapping[str, Any] = field(default_factory=dict)  # by key of `models`
    versions: Mapping[str, str] = field(default_factory=dict)
    git: Mapping[str, Any] | None = None
    hardware: Mapping[str, Any] = field(default_factory=dict)
    sweep: str = ""
    sweep_id: str = ""
    num_cells: int = 0
    num_images: int = 0
    axes: Mapping[str, tuple[Scalar, ...]] = field(default_factory=dict)
    models: Mapping[str, ModelRecord] = field(default_factory=dict)  # by Cell.model_key
    workers: Mapping[str, WorkerShare] = field(default_factory=dict)  # of all sessions, by name
    further: Mapping[str, Any] = field(default_factory=dict)  # keys of another version, kept

    @classmethod
    def from_yaml(cls, text: bytes | str) -> RunRecord:
        """Return the record in a sweep.yaml; keys that it lacks have their defaults.

        Raises ValueError for a text that holds none.
        """
        import yaml

        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times faster where libyaml is
        try:
            found = yaml.load(text, Loader=loader) or {}
            names = [column.name for column in fields(cls) if column.name != "further"]
            given = {n: found[n] for n in names if n in found and found[n] is not None}
            for name in ("resumed_at", "command", "argv", "subject_axes"):
                if name in given:
                    given[name] = tuple(given[name])
            for name in ("samples", "axes"):
                if name in given:
                    given[name] = {axis: tuple(v or ()) for axis, v in given[name].items()}
            if "models" in given:
                given["models"] = {k: _model_record(v) for k, v in given["models"].items()}
            if "workers" in given:
                given["workers"] = {
                    k: WorkerShare(**_known(WorkerShare, v)) for k, v in given["workers"].items()
                }
            further = {name: value for name, value in found.items() if name not in names}
        except (yaml.YAMLError, AttributeError, TypeError) as error:
            raise ValueError(" ".join(str(error).split())) from error
        return cls(**given, further=further)

    def to_plain(self) -> dict[str, Any]:
        """Return the record as sweep.yaml holds it: plain values, no credentials."""
        known = {c.name: getattr(self, c.name) for c in fields(self) if c.name != "further"}
        return redact(_plain({**known, **self.further}))

    def to_yaml(self) -> str:
        """Return the text of sweep.yaml."""
        import yaml

        class Dumper(yaml.SafeDumper):
            """Quotes texts whose line ends YAML would read as spaces."""

        def represent(dumper: Dumper, text: str) -> yaml.ScalarNode:
            style = '"' if _UNUSUAL_LINE_ENDS.search(text) else None
            return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)

        Dumper.add_representer(str, represent)
        return yaml.dump(
            self.to_plain(), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=100
        )


def _model_record(plain: Mapping[str, Any]) -> ModelRecord:
    given = _known(ModelRecord, plain)
    return ModelRecord(**{**given, "image_size": tuple(given.get("image_size", ()))})


def _known(kind: type[Any], plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a record that this version knows; null means the default."""
    names = {column.name for column in fields(kind)}
    return {name: value for name, value in plain.items() if name in names and value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, ModelRecord | WorkerShare):
        return {c.name: _plain(getattr(value, c.name)) for c in fields(value)}
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return escape_surrogates(value) if isinstance(value, str) else value  # from a config's file

"""How a run folder's rows are laid out in MLflow: which run, which key, which names.

Takes rows as plain dicts, returns strings and plain records; pure functions, no MLflow. MLflow's
UI decides this layout: flat runs, one per arm, with the subject as image key and the seed as
step, are what its comparison page shows side by side. The names of image files are those that
`mlflow.log_image` writes; a test compares them with a real one.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import unicodedata
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from promptlab.errors import TrackingError
from promptlab.identity import hash_id
from promptlab.records import Scalar
from promptlab.store.schema import AxisColumn
from promptlab.tracking.enlarged import ENLARGED

MAX_KEY_LENGTH = 80  # characters; with what MLflow appends, a file name stays below 255 bytes
MAX_PARAM_LENGTH = 6000  # characters; MLflow's own limit
TABLE_FILE = "images.json"
_FIXED_AXES = ("style", "template", "model", "subject")
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Layout:
    """The axes of a run, and which of them is the image key."""

    columns: Mapping[str, str]  # axis -> column, the seed left out
    varying: Mapping[str, Sequence[Scalar]]  # axes with several values, all in the plan's order
    image_axis: str | None
    subject_axes: frozenset[str] = frozenset()  # parts of the subject: one run has all their values

    @property
    def arm_axes(self) -> list[str]:
        """The axes that tell runs apart: those that vary first, as a caption shows few."""
        hidden = self.subject_axes if self.image_axis == "subject" else frozenset()
        axes = [axis for axis in self.columns if axis != self.image_axis and axis not in hidden]
        return sorted(axes, key=lambda axis: (axis not in self.varying, axes.index(axis)))

    def arm_key(self, row: Row) -> str:
        """Return what identifies the MLflow run of a row."""
        if self.image_axis is None:
            return row["cell_id"]
        if self.image_axis == "subject":
            return row["arm_id"]
        values = [str(row[self.columns[axis]]) for axis in sorted(self.arm_axes)]
        return hash_id([self.image_axis, *values])

    def run_name(self, row: Row) -> str:
        """Return a short name: the values that tell this run from its neighbours."""
        named = [_named(axis, self._value(axis, row), self.arm_axes) for axis in self._telling]
        return " · ".join(named)[:250] or f"{row['model']} · {row['style']}"

    @property
    def _telling(self) -> list[str]:
        return [axis for axis in self.arm_axes if axis in self.varying]

    def _value(self, axis: str, row: Row) -> Any:
        return row[self.columns[axis]]

    def params(self, row: Row) -> dict[str, str]:
        """Return the run's params: what tells it from its neighbours, and nothing else.

        MLflow's charts print all of a run's params in one line below its picture, and make the
        picture's tile as wide as that line.
        """
        return _texts({axis: self._value(axis, row) for axis in self._telling})

    def fixed(self, row: Row) -> dict[str, str]:
        """Return the axes and sampling parameters that are not among the run's params."""
        values = {axis: self._value(axis, row) for axis in self.arm_axes}
        if self.image_axis is None:
            values["prompt"] = row["prompt"]
        values |= {k: v for k, v in json.loads(row["params"]).items() if k not in self.columns}
        known = self.params(row)
        return {name: text for name, text in _texts(values).items() if name not in known}

    def position(self, row: Row) -> int:
        """Return the place of a row's run in the order of the sweep, from 0."""
        place = 0
        for axis in sorted(self._telling, key=list(self.varying).index):
            shown = [_shown(value) for value in self.varying[axis]]
            value = _shown(self._value(axis, row))
            place = place * len(shown) + (shown.index(value) if value in shown else len(shown) - 1)
        return place

    @property
    def num_positions(self) -> int:
        """Number of runs that a full grid has."""
        return math.prod(len(self.varying[axis]) for axis in self._telling)

    def image_key(self, row: Row) -> str:
        """Return the key under which MLflow shows an image beside those of other runs."""
        if self.image_axis is None:
            return "image"
        key = image_key(str(row[self.columns[self.image_axis]]))
        section = "enlarged" if row.get(ENLARGED) else image_key(self.image_axis)
        return f"{section}/{key}"  # MLflow's charts make a section of it


def make_layout(
    axes: Sequence[AxisColumn],
    varying: Mapping[str, Sequence[Scalar]],
    image_axis: str | None,
    subject_axes: Sequence[str] = (),
    upscalers: Collection[str] = (),
) -> Layout:
    """Return the layout of a run; raises TrackingError for an axis that it does not have.

    `upscalers` are models whose images belong to the runs of those that they enlarge.
    """
    columns = {axis: axis for axis in _FIXED_AXES} | {axis.name: axis.column for axis in axes}
    if image_axis is not None and image_axis not in columns:
        raise TrackingError(
            f"tracking.image_axis={image_axis}: expected one of {', '.join(columns)}, or null for "
            "one MLflow run per cell."
        )
    shown = {axis: values for axis, values in varying.items() if axis in columns}
    models = [name for name in shown.get("model", ()) if name not in upscalers]
    if len(models) < 2:
        shown.pop("model", None)
    else:
        shown["model"] = models
    return Layout(columns, shown, image_axis, frozenset(subject_axes))


def _named(axis: str, value: Any, axes: Sequence[str]) -> str:
    """Return a value as a run's name shows it: numbers with the last word of their axis."""
    if isinstance(value, str):
        return value
    word = axis.rpartition("_")[2]
    is_clear = sum(other.rpartition("_")[2] == word for other in axes) == 1
    return f"{word if is_clear else axis} {_shown(value)}"


def _shown(value: Any) -> str:
    """Return a value as people write it: 2, not 2.0."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {param_key(name): str(value)[:MAX_PARAM_LENGTH] for name, value in values.items()}


def param_key(name: str) -> str:
    """Return a name that MLflow takes for a param or metric."""
    return re.sub(r"[^\w\-./ ]", "_", name, flags=re.ASCII)[:250] or "_"


def image_key(value: str) -> str:
    """Return a name that `log_image` would take; where that loses something, a hash is added.

    So two values never share a key, and one value has the same key in every run.
    """
    text = unicodedata.normalize("NFKD", value).encode("ascii", "ignore").decode("ascii")
    text = re.sub(r"[^a-zA-Z0-9_\-./ ]+", " ", text)
    text = re.sub(r" +", " ", text).strip(" .")[:MAX_KEY_LENGTH].strip(" .")
    if text and text == value:
        return text
    digest = hashlib.sha256(value.encode("utf-8")).hexdigest()[:6]
    return f"{text} {digest}".strip()


def image_stem(key: str, row: Row) -> str:
    """Return the artifact path of an image but for its ending, as `log_image` names it.

    Where that takes the time of logging and a random UUID, this takes the time of drawing and
    the request's hash: logged twice, an image is the same artifact.
    """
    created_at: datetime = row["created_at"]
    digest = hashlib.sha256(f"{row['cell_id']} {row['seed']} {row['image_id']}".encode()).digest()
    unique = uuid.UUID(bytes=digest[:16], version=4)
    milliseconds = int(created_at.timestamp() * 1000)
    safe_key = key.replace("/", "~")
    return f"images/{safe_key}+step+{row['seed']}+timestamp+{milliseconds}+{unique}"


def full_image(stem: str) -> str:
    """Return the artifact path of the image itself."""
    return f"{stem}.png"


def small_image(stem: str) -> str:
    """Return the artifact path of the copy that MLflow's grids show."""
    return f"{stem}+compressed.webp"


def table_json(layout: Layout, rows: Sequence[Row]) -> str:
    """Return the table of a run's images, as `log_table` writes one; its images are those logged.

    Rows are image key and seed, so that the table view of several runs sets them side by side.
    """
    axis = layout.image_axis or "subject"
    data = []
    for row in sorted(rows, key=lambda row: (layout.image_key(row), row["seed"])):
        stem = image_stem(layout.image_key(row), row)
        image = {
            "type": "image",
            "filepath": full_image(stem),
            "compressed_filepath": small_image(stem),
        }
        value = row[layout.columns[axis]]
        data.append([f"{value}, seed {row['seed']}", image])
    columns = [axis, "image"]  # no more: the UI would rather compare any column but images
    return json.dumps({"columns": columns, "data": data}, ensure_ascii=False)


def arm_metrics(rows: Sequence[Row]) -> dict[str, float]:
    """Return the metrics of one run's rows."""
    drawn = [row for row in rows if row["status"] != "failed"]
    metrics = {
        "images": float(len(drawn)),
        "failures": float(len(rows) - len(drawn)),
        "flagged": float(sum(row["status"] == "flagged" for row in rows)),
    }
    if drawn:
        metrics["seconds_per_image"] = sum(row["seconds"] for row in drawn) / len(drawn)
    return metrics | further_metrics(rows)


def further_metrics(rows: Sequence[Row]) -> dict[str, float]:
    """Return prompts not read whole and money, each only where there is any."""
    metrics = {}
    num_unseen = sum(bool(row.get("unseen")) for row in rows)
    if num_unseen:
        metrics["unseen"] = float(num_unseen)
    costs = [row["cost_usd"] for row in rows if row.get("cost_usd") is not None]
    if costs:
        metrics["cost_usd"] = float(sum(costs))
    return metrics

"""The plain records that pass between the stages: config → plan → engine → store → report.

Knows nothing of Hydra, torch, files or MLflow. Everything here is immutable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np

Scalar = str | int | float | bool | None
Status = Literal["ok", "flagged", "failed"]


@dataclass(frozen=True, slots=True)
class Source:
    """An image that another one is drawn from.

    Its pixels count in the new image's id; its bytes are read when the request is handed out.
    """

    image_id: str
    sha256: str  # of its pixels
    png: bytes = field(default=b"", repr=False, compare=False)  # b"" until it is handed out


@dataclass(frozen=True, slots=True)
class Request:
    """Everything that determines one image, as a model reads it."""

    image_id: str
    prompt: str
    seed: int
    params: Mapping[str, Scalar]  # every sampling parameter of the model, defaults filled in
    source: Source | None = None  # what it is drawn from, for models that take one


@dataclass(frozen=True, slots=True)
class Numerics:
    """What, besides the request, the bits of an image depend on."""

    device: str  # kind of device: "cpu", "cuda", …
    dtype: str  # number format: "float32", "bfloat16", …
    padded_batch: int | None = None  # images of a padded batch, where the bits depend on it


@dataclass(frozen=True, slots=True)
class Result:
    """What a model made of one request: pixels or an error, never both.

    `flag` is for pixels that are there and look wrong; the image is kept.
    """

    request: Request
    pixels: np.ndarray | None = None  # uint8 [height, width, 3], RGB
    error: str | None = None  # one line for people; None when pixels are there
    flag: str | None = None  # why the pixels look wrong; the engine sets it
    seconds: float = 0.0  # this image's share of its batch's time
    batch_size: int = 1  # images drawn together with it, itself included
    is_prompt_truncated: bool = False  # the model read less than the whole prompt
    unseen: str = ""  # what the model did not see of the prompt, for people; "" if all was seen

    @property
    def status(self) -> Status:
        """How the row of this result is marked."""
        if self.error is not None:
            return "failed"
        return "ok" if self.flag is None else "flagged"


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination of all axes except the seed; its seeds are drawn together as candidates."""

    cell_id: str
    arm_id: str
    job_id: int  # number of the first Hydra job that asked for this cell
    subject: str
    style: str  # name, "none" without one
    template: str  # name
    prompt: str  # the final text that the model reads
    model: str  # name, as in the column `model`
    model_key: str  # key of Plan.models: one entry per distinct model configuration
    params: Mapping[str, Scalar]  # every sampling parameter, defaults filled in
    axes: Mapping[str, Scalar]  # axes beyond subject, style, template, model and seed
    seeds: tuple[int, ...]
    source: Source | None = None  # what its images are drawn from
    parent_ids: tuple[str, ...] = field(default=())  # image_ids it descends from (picks), if any


@dataclass(frozen=True, slots=True)
class ImageRow:
    """One row of images.parquet but for its image bytes and the columns of further axes.

    Column names are the field names, in this order; `axes` becomes one column an axis.
    """

    image_id: str
    cell_id: str
    sweep: str
    job_id: int
    subject: str
    style: str
    template: str
    prompt: str
    seed: int
    model: str
    model_fingerprint: str
    arm_id: str
    axes: Mapping[str, Scalar]
    params: str  # canonical JSON of all sampling parameters
    status: Status
    error: str | None
    width: int | None  # px
    height: int | None  # px
    path: str | None  # of the PNG, relative to the run folder; part of the image struct
    sha256: str | None  # of the pixels: RGB bytes, row by row
    prompt_truncated: bool
    unseen: str
    seconds: float
    batch_size: int
    device: str
    dtype: str
    created_at: str  # UTC, ISO 8601; a timestamp column in Parquet
    parent_ids: tuple[str, ...] = ()

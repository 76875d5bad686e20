"""The plain records that pass between the stages: config → plan → engine → store → report.

Knows nothing of Hydra, torch, files or MLflow. Everything here is immutable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from promptlab.paths import image_path

if TYPE_CHECKING:
    import numpy as np

Scalar = str | int | float | bool | None
Status = Literal["ok", "flagged", "failed"]

IMPORTED = "imported"  # the device of images that were drawn elsewhere and imported

# The Arrow type of a field's column in images.parquet, by Arrow's name.
STRING = MappingProxyType({"arrow": "string"})
INT = MappingProxyType({"arrow": "int64"})
FLOAT = MappingProxyType({"arrow": "double"})
BOOL = MappingProxyType({"arrow": "bool"})
TIME = MappingProxyType({"arrow": "timestamp[us, tz=UTC]"})
STRINGS = MappingProxyType({"arrow": "list<string>"})


@dataclass(frozen=True, slots=True)
class Source:
    """An image that another one is drawn from.

    Its pixels count in the new image's id; its bytes are read when the request is handed out.
    """

    image_id: str
    sha256: str  # of its pixels
    png: bytes = field(default=b"", repr=False, compare=False)  # b"" until it is handed out
    is_repeatable: bool = True  # False: its model promises no equal pixels, these are all there are


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

    `flag` is for pixels that look wrong; the image is kept.
    """

    request: Request
    pixels: np.ndarray | None = None  # uint8 [height, width, 3], RGB
    error: str | None = None  # one line for people; None with pixels
    flag: str | None = None  # why the pixels look wrong; the engine sets it
    seconds: float = 0.0  # this image's share of its batch's time
    batch_size: int = 1  # images drawn together with it, itself included
    is_prompt_truncated: bool = False  # the model read less than the whole prompt
    unseen: str = ""  # what the model did not see of the prompt, for people; "" if all was seen
    cost_usd: float | None = None  # what this image cost; None: nothing
    latent: bytes = field(default=b"", repr=False)  # what its model draws variations from, if any

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


@dataclass(frozen=True, slots=True, kw_only=True)
class CellColumns:
    """The columns of a row that come from its cell and seed."""

    cell_id: str = field(metadata=STRING)
    sweep: str = field(metadata=STRING)
    job_id: int = field(metadata=INT)
    subject: str = field(metadata=STRING)
    style: str = field(metadata=STRING)
    template: str = field(metadata=STRING)
    prompt: str = field(metadata=STRING)
    seed: int = field(metadata=INT)
    model: str = field(metadata=STRING)
    model_fingerprint: str = field(metadata=STRING)
    arm_id: str = field(metadata=STRING)
    axes: Mapping[str, Scalar]  # one column an axis
    params: str = field(metadata=STRING)  # canonical JSON of all sampling parameters
    parent_ids: tuple[str, ...] = field(default=(), metadata=STRINGS)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """The columns of a row that come from its image, whichever cell asks for it."""

    status: Status = field(metadata=STRING)
    error: str | None = field(default=None, metadata=STRING)  # why it failed or is flagged
    width: int | None = field(default=None, metadata=INT)  # px; None: failed
    height: int | None = field(default=None, metadata=INT)  # px; None: failed
    sha256: str | None = field(default=None, metadata=STRING)  # of the pixels: RGB, row by row
    prompt_truncated: bool = field(default=False, metadata=BOOL)
    unseen: str = field(default="", metadata=STRING)
    seconds: float = field(metadata=FLOAT)
    cost_usd: float | None = field(default=None, metadata=FLOAT)  # None: nothing
    batch_size: int = field(metadata=INT)
    device: str = field(metadata=STRING)
    dtype: str = field(metadata=STRING)
    numerics: str = field(default="", metadata=STRING)  # see machine.describe_numerics; "": unknown
    created_at: datetime = field(metadata=TIME)
    source_id: str | None = field(default=None, metadata=STRING)  # image_id of Request.source
    source_sha256: str | None = field(default=None, metadata=STRING)  # of its pixels
    is_source_repeatable: bool | None = field(default=None, metadata=BOOL)  # see Source

    @property
    def has_pixels(self) -> bool:
        """Whether there is an image."""
        return self.sha256 is not None


@dataclass(frozen=True, slots=True)
class Drawn:
    """One finished image: what a worker yields and the store takes."""

    request: Request
    facts: ImageFacts
    body: bytes | None  # PNG without text chunks; None: failed


@dataclass(frozen=True, slots=True)
class ImageRow:
    """One row of images.parquet but for its image bytes."""

    image_id: str = field(metadata=STRING)
    cell: CellColumns
    facts: ImageFacts

    @property
    def path(self) -> str | None:
        """Path of the PNG, relative to the run folder; part of the image struct."""
        if not self.facts.has_pixels:
            return None
        return image_path(self.cell.prompt, self.cell.seed, self.image_id)


def _arrow_types(*records: type) -> dict[str, str]:
    columns = (column for record in records for column in fields(record))
    return {c.name: c.metadata["arrow"] for c in columns if "arrow" in c.metadata}


# The columns of images.parquet by Arrow type, without `image` and those of further axes.
CELL_COLUMNS: Mapping[str, str] = _arrow_types(CellColumns)
FACT_COLUMNS: Mapping[str, str] = _arrow_types(ImageFacts)
ROW_COLUMNS: Mapping[str, str] = _arrow_types(ImageRow, CellColumns, ImageFacts)


@dataclass(frozen=True, slots=True)
class WorkerShare:
    """What one worker did for a run."""

    images: int = 0  # failures included
    seconds: float = 0.0  # spent on drawing them
    restarts: int = 0

    def __add__(self, other: WorkerShare) -> WorkerShare:
        return WorkerShare(
            self.images + other.images,
            self.seconds + other.seconds,
            self.restarts + other.restarts,
        )

"""A pipeline of diffusers as promptlab sees it: parameters, identity, load, draw, unload.

Takes the files of a pipeline and how to run it. Light to construct: everything that a plan asks
is answered from JSON files; diffusers and torch are imported by `load`.

The bits of an image depend on how many images are computed together, and on nothing else of its
batch. So every batch of a model has the same number of images: the last one is filled up with
copies, which are thrown away. That number is chosen before anything is drawn, and is part of an
image's identity.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from promptlab.errors import ModelError
from promptlab.models.diffusers import adapters
from promptlab.models.diffusers.families import DEFAULT, Family, find_family
from promptlab.models.diffusers.files import PipelineFiles
from promptlab.models.diffusers.fingerprint import fingerprint
from promptlab.models.diffusers.hub import Repository
from promptlab.models.diffusers.pipeline import Memory, choose_memory
from promptlab.models.machine import device_memory, find_device
from promptlab.models.protocol import Parameter, describe_for_a1111
from promptlab.records import Numerics, Request, Result, Scalar

if TYPE_CHECKING:
    from promptlab.models.diffusers.painter import OnPreview, Painter

GB = 1 << 30
CPU_TRIAL_PX = 128  # a side of the trial images on a CPU, where full ones would take minutes
# What requests of one batch may differ in: a pipeline takes one value of anything else.
_PER_IMAGE = ("negative_prompt",)


@dataclass(frozen=True, slots=True)
class Placement:
    """How a pipeline is run; "auto" and None are chosen by device and sizes."""

    device: str = "auto"
    dtype: str = "auto"
    batch_size: int | None = None
    memory: str = "auto"
    is_compiled: bool = False


class DiffusersModel:
    """A text-to-image pipeline; satisfies promptlab.models.protocol.Model."""

    def __init__(
        self,
        name: str,
        place: PipelineFiles | Repository,
        pipeline: str | None,
        placement: Placement,
        loras: Path,
    ):
        self._name, self._place, self._pipeline = name, place, pipeline
        self._placement, self._loras = placement, loras
        self._painter: Painter | None = None
        self._is_exact = True  # until a trial image shows otherwise
        if isinstance(place, PipelineFiles):
            place.check()

    @property
    def name(self) -> str:
        """Short name, as in the column `model`."""
        return self._name

    @cached_property
    def files(self) -> PipelineFiles:
        """The pipeline's files; those of a repository are downloaded on first use."""
        return self._place.fetch() if isinstance(self._place, Repository) else self._place

    @property
    def is_downloaded(self) -> bool:
        """Whether the weights are on this machine; asks no network."""
        if "files" in self.__dict__ or isinstance(self._place, PipelineFiles):
            return True
        return self._place.find() is not None

    @property
    def family(self) -> Family:
        """What pipelines of this kind accept; before the download, what its class tells."""
        return self._family if self.is_downloaded else self._family_of_class

    @cached_property
    def _family(self) -> Family:
        return find_family(self.files.pipeline, self.files.configs)

    @cached_property
    def _family_of_class(self) -> Family:
        assert isinstance(self._place, Repository)
        return find_family(self._pipeline or self._place.pipeline(), {})

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all files that an image depends on, and of settings that show in its bits."""
        further: dict[str, object] = {}
        if self.memory == "low":
            further["decoded"] = "in tiles"
        if self._placement.is_compiled:
            further["compiled"] = True
        return fingerprint(self.files.files, self.files.folder, further)

    @property
    def image_size(self) -> tuple[int, int]:
        """(width, height) in px that the checkpoint was trained for."""
        return self.family.size, self.family.size

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        """The sampling parameters that it accepts, by name."""
        return self.family.parameters()

    @cached_property
    def device(self) -> str:
        """Kind of device it runs on."""
        return find_device() if self._placement.device == "auto" else self._placement.device

    @property
    def dtype(self) -> str:
        """Number format that it computes in."""
        if self._placement.dtype != "auto":
            return self._placement.dtype
        return "float32" if self.device == "cpu" else self.family.half_dtype

    @cached_property
    def _weight_bytes(self) -> dict[str, int]:
        return self.files.weight_bytes(4 if self.dtype == "float32" else 2)

    @cached_property
    def memory(self) -> Memory:
        """How the weights are held."""
        if self._placement.memory != "auto":
            return self._placement.memory  # type: ignore[return-value]
        if self.device == "cpu":
            return "full"
        return choose_memory(self._weight_bytes, self.device, device_memory())

    @cached_property
    def batch_size(self) -> int:
        """Images computed together.

        On a CPU one: more together are no faster there, and fillers would cost their time. On
        CUDA what fits beside the weights at the size that the checkpoint was trained for, up to
        where a larger batch draws no faster.
        """
        if self._placement.batch_size is not None:
            return self._placement.batch_size
        if self.device == "cpu":
            return 1
        parts = self._weight_bytes.values()
        weights = sum(parts) if self.memory == "full" else max(parts)
        room = 0.9 * device_memory() - weights
        return max(1, min(self.family.most_images, int(room / (self.family.image_gb * GB))))

    def describe(self) -> Numerics:
        """Return the numerics that the images would be drawn with; needs the files."""
        _ = self.files
        return Numerics(self.device, self.dtype, padded_batch=self.batch_size)

    def group_of(self, request: Request) -> Hashable:
        """Return what requests must share to be drawn in one batch."""
        return tuple((k, v) for k, v in request.params.items() if k not in _PER_IMAGE)

    def settle(self, params: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """Return the parameters as they act, each LoRA file named by its content."""
        settled = self.family.settle(params)
        return adapters.settle(settled, self._loras) if self.family.takes_lora else settled

    def size_of(self, params: Mapping[str, Scalar]) -> tuple[int, int]:
        """Return (width, height) in px of an image with these parameters."""
        return int(params["width"] or 0), int(params["height"] or 0)

    def a1111(self, params: Mapping[str, Scalar]) -> str:
        """Return the parameters as A1111 writes them."""
        return describe_for_a1111({**params, "sampler": params["scheduler"]})

    @property
    def is_deterministic(self) -> bool:
        """Whether two drawings of a request were the same when the model was loaded."""
        return self._is_exact

    def load(self) -> None:
        """Bring the pipeline to its device, and try a batch of the size that was chosen."""
        if self._painter is not None:
            return
        from promptlab.models.diffusers.painter import Painter
        from promptlab.models.diffusers.pipeline import load_pipeline

        if self.device == "cuda":
            import torch

            if not torch.cuda.is_available():
                raise ModelError("device=cuda: torch finds no CUDA device; use model.device=cpu.")
        pipeline = load_pipeline(
            self.files, self.device, self.dtype, self.memory, self._placement.is_compiled
        )
        painter = Painter(pipeline, self.family, self._loras, self.batch_size, self.group_of)
        defaults = {name: parameter.default for name, parameter in self.parameters.items()}
        side = min(self.family.size, CPU_TRIAL_PX) if self.device == "cpu" else self.family.size
        if not self.family.is_own_exact:
            defaults["scheduler"] = next(iter(self.family.schedulers or [DEFAULT]))
        painter.rehearse({**defaults, "steps": 2, "width": side, "height": side})
        self._painter, self._is_exact = painter, painter.is_exact

    def draw(self, requests: Sequence[Request]) -> Iterator[Result]:
        """Yield one result per request, as they finish."""
        return self._loaded().draw(requests)

    def draw_with_previews(
        self, requests: Sequence[Request], on_preview: OnPreview, every: int = 1
    ) -> Iterator[Result]:
        """Draw as `draw` does; every so many steps, `on_preview` gets the images so far."""
        return self._loaded().draw(requests, on_preview, every)

    def unload(self) -> None:
        """Free the weights."""
        self._painter = None
        if self.device == "cuda":
            import torch

            torch.cuda.empty_cache()

    def _loaded(self) -> Painter:
        if self._painter is None:
            raise ModelError(f"The model {self.name} is not loaded: call load() first.")
        return self._painter

"""A pipeline of diffusers as promptlab sees it: parameters, identity, load, draw, unload.

Takes what a config says of a pipeline. Light to construct: everything that a plan asks is answered
from JSON files; diffusers and torch are imported by `load`.

The bits of an image depend on how many images are computed together, and on nothing else of its
batch. So all batches of a size of image have the same number of images: the last one is filled up
with copies, which are thrown away. That number is the parameter `padded_batch`, and so a part of
an image's row and identity.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterator, Mapping, Sequence
from functools import cached_property
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from promptlab.errors import ConfigError, ModelError, PlanOutdatedError
from promptlab.models.batching import is_lost, is_out_of_memory
from promptlab.models.diffusers import loras
from promptlab.models.diffusers.families import Family, find_family
from promptlab.models.diffusers.files import PipelineFiles, Repository, locate
from promptlab.models.diffusers.findings import BATCHES, fingerprint, recall, remember
from promptlab.models.machine import device_memory, find_device
from promptlab.models.protocol import OnPreview, Parameter, describe_for_a1111
from promptlab.records import Numerics, Request, Result, Scalar

if TYPE_CHECKING:
    from promptlab.models.diffusers.painter import Painter

log = logging.getLogger(__name__)

_SETTINGS: Mapping[str, Parameter] = {
    "device": Parameter(str, "auto", choices=("cpu", "cuda", "auto")),
    "dtype": Parameter(str, "auto", choices=("float32", "bfloat16", "float16", "auto")),
    "memory": Parameter(str, "auto", choices=("full", "offload", "low", "auto")),
    "batch_size": Parameter(int, 1, 1),
}
# Images computed together on a CPU: more are no faster there, and fillers cost their time.
CPU_BATCH = 1
# What requests of one batch may differ in: a pipeline takes one value of anything else.
_PER_IMAGE = ("negative_prompt",)


class DiffusersModel:
    """A text-to-image pipeline; satisfies promptlab.models.protocol.Model."""

    def __init__(
        self,
        path: str | None,
        name: str | None = None,
        revision: str | None = None,
        variant: str | None = None,
        config: str | None = None,
        pipeline: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        batch_size: int | None = None,
        memory: str = "auto",
        compile: bool = False,
        loras: str = "loras",
    ):
        """Take the keys of a config, which says what each is for (conf/model/diffusers.yaml).

        `pipeline` is its class, to plan before a repository is downloaded.
        """
        for key, value in (("device", device), ("dtype", dtype), ("memory", memory)):
            _SETTINGS[key].normalize(f"model.{key}", value)
        if batch_size is not None:
            _SETTINGS["batch_size"].normalize("model.batch_size", batch_size)
        if not path:
            raise ConfigError(
                "model.path is not set: expected a folder that diffusers saved, a .safetensors "
                "file with model.config=FOLDER, or a Hub repository such as "
                "stabilityai/sdxl-turbo."
            )
        if find_spec("diffusers") is None or find_spec("transformers") is None:
            raise ModelError(
                "This model needs diffusers, which is not installed: "
                "pip install 'promptlab[diffusers]'."
            )
        self.name = name or Path(path).name.removesuffix(".safetensors")
        self.is_deterministic: bool | None = None  # until a trial has shown it
        self._place = locate(path, revision, variant, config)
        place = Path(path).expanduser()
        self._key = f"{place.resolve() if place.exists() else path} {revision} {variant}"
        self._pipeline, self._loras = pipeline, Path(loras).expanduser()
        self._device, self._dtype, self._memory = device, dtype, memory
        self._batch_size, self._is_compiled = batch_size, compile
        self._painter: Painter | None = None
        self._tried: set[Hashable] = set()  # sizes that a trial batch was drawn of

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
        if self.is_downloaded:
            return self._family
        assert isinstance(self._place, Repository)
        pipeline = self._pipeline or self._place.fetch(is_index_only=True).pipeline
        return find_family(pipeline, {}, self._batch_size)

    @cached_property
    def _family(self) -> Family:
        return find_family(self.files.pipeline, self.files.configs, self._batch_size)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all files that an image depends on, and of settings that show in its bits."""
        further: dict[str, object] = {"decoded": "in tiles"} if self._memory == "low" else {}
        if self._is_compiled:
            further["compiled"] = True
        return fingerprint(self.files.files, self.files.folder, further)

    @property
    def image_size(self) -> tuple[int, int]:
        """(width, height) in px that the checkpoint was trained for."""
        return self.family.size, self.family.size

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        """The sampling parameters that it accepts, by name."""
        return self.family.parameters

    @property
    def takes_source(self) -> bool:
        """Whether a request may have a source, which is then drawn anew with `strength`."""
        return self.family.takes_source

    @cached_property
    def device(self) -> str:
        """Kind of device it runs on."""
        return find_device() if self._device == "auto" else self._device

    @property
    def dtype(self) -> str:
        """Number format that it computes in."""
        if self._dtype != "auto":
            return self._dtype
        return "float32" if self.device == "cpu" else self.family.half_dtype

    def describe(self) -> Numerics:
        """Return the numerics that the images would be drawn with; needs the files."""
        _ = self.files  # parameters depend on them, too
        return Numerics(self.device, self.dtype)

    def group_of(self, request: Request) -> Hashable:
        """Return what requests must share to be drawn in one batch."""
        params = ((k, v) for k, v in request.params.items() if k not in _PER_IMAGE)
        return *params, request.source is None

    def settle(self, params: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """Return the parameters as they act: LoRA files by content, the batch's size chosen."""
        settled = self.family.settle(params)
        if "lora" in settled:
            settled = loras.settle(settled, self._loras)
        return {**settled, "padded_batch": settled["padded_batch"] or self._choose_batch(settled)}

    def _choose_batch(self, params: Mapping[str, Scalar]) -> int:
        """Return how many images of a size are computed together.

        What a trial found, once for this model, device and size; before that, what is fast.
        """
        known = recall(BATCHES).get(self._batch_key(params))
        if known is not None:
            return int(known)
        is_cpu = self.device == "cpu"
        return CPU_BATCH if is_cpu else self.family.largest_batch(*self.size_of(params))

    def _batch_key(self, params: Mapping[str, Scalar]) -> str:
        width, height = self.size_of(params)
        memory = "cpu" if self.device == "cpu" else f"{self.device} of {device_memory()} bytes"
        return f"{self._key}: {width}x{height} in {self.dtype} on {memory}, {self._memory}"

    def size_of(self, params: Mapping[str, Scalar]) -> tuple[int, int]:
        """Return (width, height) in px of an image with these parameters."""
        return int(params["width"] or 0), int(params["height"] or 0)

    def a1111(self, params: Mapping[str, Scalar]) -> str:
        """Return the parameters as A1111 writes them."""
        return describe_for_a1111({**params, "sampler": params["scheduler"]})

    def load(self) -> None:
        """Bring the pipeline to its device."""
        if self._painter is not None:
            return
        from promptlab.models.diffusers.loading import load_pipeline
        from promptlab.models.diffusers.painter import Painter

        if self.device == "cuda":
            import torch

            if not torch.cuda.is_available():
                raise ModelError("device=cuda: torch finds no CUDA device; use model.device=cpu.")
        pipeline = load_pipeline(
            self.files, self.device, self.dtype, self._memory, self._is_compiled
        )
        self._painter = Painter(pipeline, self.family, self._loras)

    def draw(self, requests: Sequence[Request]) -> Iterator[Result]:
        """Yield one result per request, as they finish.

        Before the first batch of a size a trial batch is drawn. Raises PlanOutdatedError if a
        smaller one was chosen.
        """
        return self._draw(requests, None, 1)

    def draw_with_previews(
        self, requests: Sequence[Request], on_preview: OnPreview, every: int = 5
    ) -> Iterator[Result]:
        """Draw as `draw` does; every `every` steps, `on_preview` gets the images so far."""
        return self._draw(requests, on_preview, every)

    def _draw(
        self, requests: Sequence[Request], on_preview: OnPreview | None, every: int
    ) -> Iterator[Result]:
        if self._painter is None:
            raise ModelError(f"The model {self.name} is not loaded: call load() first.")
        for _, group in groupby(requests, key=self.group_of):
            members = list(group)
            self._try_out(members[0])
            yield from self._painter.draw(members, on_preview, every)

    def _try_out(self, request: Request) -> None:
        """Draw a trial batch of a new size; one that does not fit is halved before any image is.

        A size that was drawn before on this machine, or that was asked for, stays: the images of
        a larger batch fail, and name the size to set.
        """
        params = request.params
        asked = number = int(params["padded_batch"] or 1)
        key = self._batch_key(params)
        if (key, asked) in self._tried:
            return
        is_free = key not in recall(BATCHES) and asked == self._choose_batch(params)
        try:
            while not self._fits(request, number) and is_free and number > 1:
                number //= 2
        except Exception as error:
            if is_lost(error):
                raise
            return  # what is wrong is reported by the images that it is wrong with
        self._tried.add((key, asked))
        if is_free:
            remember(BATCHES, key, number)
        if number < asked and recall(BATCHES).get(key) == number:
            width, height = self.size_of(params)
            raise PlanOutdatedError(
                f"{asked} images of {width}×{height} px do not fit into the memory of "
                f"{self.device}: {number} of them are computed together from now on."
            )

    def _fits(self, request: Request, number: int) -> bool:
        """Whether memory suffices for a trial batch, which also shows whether images repeat."""
        assert self._painter is not None
        try:
            is_exact = self._painter.is_exact(request, number)
        except Exception as error:
            if is_out_of_memory(error):
                return False
            raise
        if not is_exact and self.is_deterministic is not False:
            log.warning(
                "A trial image came out otherwise in another batch: on this device this model's "
                "images do not repeat bit for bit."
            )
        self.is_deterministic = is_exact and self.is_deterministic is not False
        return True

    def unload(self) -> None:
        """Free the weights."""
        self._painter = None
        if self.device == "cuda":
            import torch

            torch.cuda.empty_cache()

"""A DALL·E-family model as promptlab sees it: names, parameters, load, draw, unload.

Takes a config and a way to its model folder. Light to construct: torch is imported by `load`, and
the folder is looked for (downloaded, converted) when the fingerprint or the weights are needed.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from promptlab.errors import ConfigError, ModelError
from promptlab.models.dalle.config import DalleConfig, read_config
from promptlab.models.dalle.cpu.allocator import keep_freed_memory
from promptlab.models.dalle.devices import (
    check_device,
    choose_dtype,
    open_runner,
    padded_batch,
    sleep_when_waiting,
)
from promptlab.models.dalle.tokenizer import Tokenizer, WordTokenizer, open_tokenizer
from promptlab.models.machine import find_device
from promptlab.models.protocol import OnPreview, Parameter, describe_for_a1111
from promptlab.records import Numerics, Request, Result, Scalar

if TYPE_CHECKING:
    import numpy as np

    from promptlab.models.dalle.runner import Runner

DEVICES = ("cpu", "cuda", "auto")
DTYPES = ("float32", "bfloat16", "float16", "auto")


class DalleModel:
    """A DALL·E-family model; satisfies promptlab.models.protocol.Model."""

    is_deterministic = True
    takes_source = True

    def __init__(
        self,
        config: DalleConfig,
        locate: Callable[[], Path],
        device: str = "auto",
        dtype: str = "auto",
        batch_size: int | None = None,
    ):
        """Describe a model whose folder `locate` returns, fetching it if need be.

        `batch_size` is the largest number of images drawn together (None: chosen from the free
        memory); it never changes an image.
        """
        _expect("device", device, DEVICES)
        _expect("dtype", dtype, DTYPES)
        if batch_size is not None and batch_size < 1:
            raise ConfigError(f"batch_size={batch_size}: expected a whole number from 1, or null.")
        self.config = config
        self._locate, self._device, self._dtype = locate, device, dtype
        self._batch_size = batch_size
        self._runner: Runner | None = None

    @property
    def name(self) -> str:
        """Short name, as in the column `model`."""
        return self.config.name

    @cached_property
    def folder(self) -> Path:
        """The model folder; fetched on first use."""
        return self._locate()

    @cached_property
    def fingerprint(self) -> str:
        """Hash of sizes, weights and vocabulary: 16 hex digits."""
        return self.config.fingerprint or read_config(self.folder).fingerprint

    @property
    def image_size(self) -> tuple[int, int]:
        """(width, height) of its images in px."""
        return self.config.image_size, self.config.image_size

    @cached_property
    def device(self) -> str:
        """Kind of device it runs on."""
        return find_device() if self._device == "auto" else self._device

    @property
    def dtype(self) -> str:
        """Number format that it computes in."""
        if self._dtype != "auto":
            return self._dtype
        return choose_dtype(self.device)

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        """The sampling parameters that it accepts, by name."""
        return self.config.parameters()

    @property
    def is_downloaded(self) -> bool:
        """Whether the weights are on this machine; asks no network."""
        return True

    @property
    def words(self) -> Mapping[str, Path]:
        """The subjects and styles that the model was trained on, where its folder lists them."""
        files = (self.folder / "styles.json", self.folder / "subjects.txt")
        return {f"{self.name}/{file.stem}": file for file in files if file.is_file()}

    def unknown_words(self, prompt: str) -> Sequence[str]:
        """Return the words of a prompt that are not in a vocabulary of whole words."""
        if self.config.tokenizer != "word":  # byte pairs spell any word
            return ()
        tokenizer = self._tokenizer
        return tokenizer.unknown_words(prompt) if isinstance(tokenizer, WordTokenizer) else ()

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return open_tokenizer(self.folder, self.config.tokenizer, self.config.text_length)

    def a1111(self, params: Mapping[str, Scalar]) -> str:
        """Return the parameters as A1111 writes them; a step is an image token."""
        num_steps = self.config.num_image_tokens
        return describe_for_a1111({"steps": num_steps, "sampler": "top-k", **params})

    def describe(self) -> Numerics:
        """Return what an image's bits depend on beside its request: device, dtype, padded batch."""
        batch = padded_batch(self.config, self.dtype, self.device)
        return Numerics(self.device, self.dtype, batch)

    @property
    def runner(self) -> Runner:
        """The loaded model."""
        if self._runner is None:
            raise ModelError(f"The model {self.name} is not loaded: call load() first.")
        return self._runner

    def load(self) -> None:
        """Bring the weights to the device."""
        if self._runner is not None:
            return
        sleep_when_waiting()
        if self.device == "cpu":
            keep_freed_memory()
        check_device(self.config, self.dtype, self.device)  # before weights are downloaded
        config = dataclasses.replace(self.config, fingerprint=self.fingerprint)
        self._runner = open_runner(config, self.folder, self.dtype, self.device, self._batch_size)

    def draw(self, requests: Sequence[Request]) -> Iterator[Result]:
        """Yield one result per request, as they finish."""
        return self._draw(requests, self.runner.draw)

    def _draw(
        self,
        requests: Sequence[Request],
        draw: Callable[[Sequence[Request]], Iterator[Result]],
    ) -> Iterator[Result]:
        """Refuse what cannot be drawn and draw the rest."""
        from promptlab.models.dalle.variations import describe_problem

        num_tokens = self.config.num_image_tokens
        problems = [describe_problem(r, self.fingerprint, num_tokens) for r in requests]
        asked = list(zip(requests, problems, strict=True))
        refused = (Result(request, error=problem) for request, problem in asked if problem)
        return itertools.chain(refused, draw([r for r, problem in asked if not problem]))

    def draw_with_previews(
        self, requests: Sequence[Request], on_preview: OnPreview, every: int = 32
    ) -> Iterator[Result]:
        """Draw as `draw` does; every `every` tokens, `on_preview` gets the images so far."""
        runner = self.runner
        return self._draw(
            requests, lambda drawable: runner.draw_with_previews(drawable, on_preview, every)
        )

    def draw_seamless(self, requests: Sequence[Request], num_columns: int) -> np.ndarray:
        """Return one picture of all requests, row by row, that shows no seams between them."""
        return self.runner.draw_seamless(requests, num_columns)

    def unload(self) -> None:
        """Free the weights, and the memory that was kept for them."""
        if self._runner is not None:
            runner, self._runner = self._runner, None
            runner.close()


def _expect(name: str, value: str, accepted: tuple[str, ...]) -> None:
    if value not in accepted:
        raise ConfigError(f"{name}={value!r}: expected one of {', '.join(accepted)}.")

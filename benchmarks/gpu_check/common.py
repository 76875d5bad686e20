"""What all stages share: verdicts, seeded weights, models, requests and clocks.

Knows nothing of what a stage asks.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from benchmarks.made_up import MadeUpTokenizer, make_prompt
from promptlab.models.dalle.config import (
    CONFIG_FROM_SIZE,
    MIN_DALLE_MINI,
    DalleConfig,
    DetokenizerConfig,
)
from promptlab.models.dalle.cuda import sizes
from promptlab.models.dalle.cuda.runner import CudaRunner
from promptlab.models.dalle.weights import expected_shapes
from promptlab.records import Request

PARAMS = {"temperature": 1.0, "top_k": 256, "supercondition_factor": 16.0}
TEST_CONFIG = dataclasses.replace(
    MIN_DALLE_MINI,
    name="test",
    num_encoder_layers=1,
    num_decoder_layers=1,
    width=64,
    num_heads=4,
    glu_width=104,
    text_vocab_size=5000,
    image_vocab_size=512,
    image_embeddings=513,
    start_token=511,
    detokenizer=DetokenizerConfig(
        vocab_size=512,
        embed_width=8,
        channels=(8, 8),
        blocks_per_level=1,
        attention_levels=(),
        mid_attention=False,
        norm_groups=4,
    ),
)


@dataclass(frozen=True)
class Options:
    """What a stage is run with."""

    device: str  # "cuda", or "cpu": the tests' stand-in for one
    size: str  # "full": mini and mega; or "test"
    dtype: str

    @property
    def is_test(self) -> bool:
        """Whether the check itself is tested, on a model without any use."""
        return self.size == "test"

    def configs(self, *, is_whole: bool = False) -> dict[str, DalleConfig]:
        """Return the models to check, by name; `is_whole`: with all steps that min-dalle takes."""
        if not self.is_test:
            return dict(CONFIG_FROM_SIZE)
        return {"test": TEST_CONFIG if is_whole else dataclasses.replace(TEST_CONFIG, image_grid=4)}


@dataclass
class Findings:
    """What a stage has found: verdicts for the report, and all its numbers."""

    verdicts: list[dict[str, Any]] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)
    advice: list[dict[str, Any]] = field(default_factory=list)  # (change, gain as a factor)

    def judge(
        self, question: str, number: Any, limit: str, is_met: bool, where: str, kind: str = "FAIL"
    ) -> None:
        """Note a verdict; `where` is the place in promptlab that answers for it."""
        status = "PASS" if is_met else kind
        self.verdicts.append(
            {"status": status, "question": question, "number": number, "limit": limit,
             "where": where}
        )  # fmt: skip

    def advise(self, change: str, gain: float) -> None:
        """Note what a change would give: how many times as fast its part becomes."""
        self.advice.append({"change": change, "gain": round(gain, 3)})


class SeededTensors(Mapping[str, Tensor]):
    """Seeded random weights, each made when it is asked for, on the device if that is real."""

    def __init__(self, config: DalleConfig, options: Options):
        self._shapes = expected_shapes(config)
        self._device = "cpu" if options.device == "cpu" else "cuda"

    def __getitem__(self, name: str) -> Tensor:
        shape = self._shapes[name]
        generator = torch.Generator(self._device).manual_seed(zlib.crc32(name.encode()))
        noise = torch.randn(shape, generator=generator, device=self._device)
        if len(shape) == 1:
            noise = 0.1 * noise + float(name.endswith("weight"))
            return noise + 0.5 if name.endswith("conv_out.bias") else noise
        return noise if "embed" in name else noise / noise[0].numel() ** 0.5

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)


def make_runner(
    config: DalleConfig, options: Options, dtype: str | None = None, batch_size: int | None = None
) -> CudaRunner:
    """Return a model with seeded weights."""
    tensors = SeededTensors(config, options)
    return CudaRunner(config, tensors, MadeUpTokenizer(), dtype or options.dtype, batch_size)


def make_requests(num: int, num_words: int = 8, **params: float) -> list[Request]:
    """Return requests of different prompts."""
    return [
        Request(f"{index}", make_prompt(index, num_words), 1 + index, {**PARAMS, **params})
        for index in range(num)
    ]


def ids_of(requests: Sequence[Request]) -> list[tuple[int, ...]]:
    """Return the token ids of the requests' prompts."""
    return [MadeUpTokenizer().tokenize(request.prompt).ids for request in requests]


def seconds_of(function: Callable[[], object], num_runs: int = 5) -> float:
    """Return the least seconds of a call, all of its kernels finished."""
    best = float("inf")
    for _ in range(num_runs + 1):  # the first one loads kernels
        torch.cuda.synchronize()
        started = time.perf_counter()
        function()
        torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return best


@contextlib.contextmanager
def device_of(options: Options) -> Iterator[None]:
    """Provide the device: the real one, or the tests' stand-in for it."""
    if options.device == "cuda":
        yield
        return
    stand_in = importlib.import_module("tests.models.dalle.device").StandIn()
    with mock.patch.object(sizes, "MOST_IMAGES", 4), stand_in:  # it is slow
        yield

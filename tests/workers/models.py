"""Models that end, stop or refuse to be a worker's, each named by its config alone."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from promptlab.errors import PlanOutdatedError, WeightsMissingError
from promptlab.models.dalle import open_tiny
from promptlab.records import Numerics, Request, Result
from tests.painters import PaintModel


@dataclass
class DeadlyModel(PaintModel):
    """Sends its own process a signal when it comes to a prompt with a certain word."""

    word: str = "poison"
    signal_name: str = "SIGKILL"
    once: str = ""  # a file that remembers that it has done so; "": every time

    def draw(self, requests: Sequence[Request]) -> Iterator[Result]:
        """Yield one result a request, one by one, or end."""
        for request in requests:
            if self.word in request.prompt and self._is_due():
                os.kill(os.getpid(), signal.Signals[self.signal_name])
                time.sleep(60)
            yield from super().draw([request])

    def _is_due(self) -> bool:
        if not self.once:
            return True
        file = Path(self.once)
        is_due = not file.exists()
        file.touch()
        return is_due


@dataclass
class RefusingModel(PaintModel):
    """Has no weights: nowhere, or on a GPU only."""

    is_refused_everywhere: bool = True

    def load(self) -> None:
        """Refuse."""
        if self.is_refused_everywhere or "CUDA_VISIBLE_DEVICES" in os.environ:
            raise WeightsMissingError(f"No weights of {self.name}.")


@dataclass
class TellingModel(PaintModel):
    """Fails each image with what its process is told of devices and threads."""

    def draw(self, requests: Sequence[Request]) -> Iterator[Result]:
        """Yield failures."""
        print("a model may print")
        for request in requests:
            time.sleep(self.delay_s)
            names = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
            yield Result(request, error=" ".join(os.environ.get(name, "-") for name in names))


@dataclass
class LosingModel(PaintModel):
    """Loses its device at the first image that each process draws."""

    def draw(self, requests: Sequence[Request]) -> Iterator[Result]:
        """Raise as CUDA does."""
        raise RuntimeError("CUDA error: an illegal memory access was encountered")


class GroupingModel(PaintModel):
    """Draws only prompts together whose last digits leave the same rest by three."""

    def group_of(self, request: Request) -> int:
        """Return the rest."""
        return int(request.prompt[-1]) % 3


class OutdatedModel(PaintModel):
    """Finds that its plan does not fit its memory."""

    def draw(self, requests: Sequence[Request]) -> Iterator[Result]:
        """Refuse."""
        raise PlanOutdatedError("smaller batches")


@dataclass
class OtherBitsModel(PaintModel):
    """Pads its batches to what a file says, as if devices had other memories."""

    file: str = ""

    def describe(self) -> Numerics:
        """Return the numerics, the padded size among them."""
        return Numerics(self.device, self.dtype, int(Path(self.file).read_text()))


def open_small_tiny(device: str = "cpu") -> object:
    """Return the embedded model, in small batches."""
    return open_tiny(device=device, dtype="float32", batch_size=4)

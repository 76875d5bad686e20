"""The contract of every backend.

A model takes requests and yields results; it knows nothing of grids, files or MLflow. Any class
with the ten members of `Model`, named as `_target_` in a user's own YAML, works without touching
promptlab; the further members of `CompleteModel` are optional, and `DEFAULTS` has their defaults.
Constructing a model is light: no torch import, no weights, no network beyond what the fingerprint
needs, so that a plan can be made and refused before anything is loaded.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from promptlab.errors import ParameterError
from promptlab.records import Numerics, Request, Result, Scalar

if TYPE_CHECKING:
    import numpy as np

# Takes the steps so far, the requests that are drawn together, and their images so far: uint8
# [image, height, width, 3].
OnPreview = Callable[[int, Sequence[Request], "np.ndarray"], None]

_TRUE, _FALSE = ("true", "yes", "on"), ("false", "no", "off")


def _read_text(text: str) -> Scalar:
    """Return the number or truth value that a text writes, None if it writes none: 1.50, 1e3."""
    if text.lower() in (*_TRUE, *_FALSE):
        return text.lower() in _TRUE
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return None


@dataclass(frozen=True, slots=True)
class Parameter:
    """One sampling parameter that a model accepts."""

    kind: type[int] | type[float] | type[bool] | type[str]
    default: Scalar
    minimum: float | None = None  # inclusive
    maximum: float | None = None  # inclusive
    choices: tuple[Scalar, ...] = ()
    description: str = ""
    is_for_source: bool = False  # acts only on a request with a source; others do not have it

    def normalize(self, name: str, value: Scalar) -> Scalar:
        """Return the value in this parameter's kind, so that 8 and 8.0 are one image.

        Raises ParameterError, with the accepted range, for anything else.
        """
        converted = self._convert(value)
        if (
            converted is None
            or (self.minimum is not None and converted < self.minimum)  # type: ignore[operator]
            or (self.maximum is not None and converted > self.maximum)  # type: ignore[operator]
            or (self.choices and converted not in self.choices)
        ):
            raise ParameterError(f"{name}={value!r}: expected {self.describe()}.")
        return converted

    def _convert(self, value: Scalar) -> Scalar:
        if isinstance(value, str) and self.kind is not str:
            value = _read_text(value)
        if self.kind is str or self.kind is bool:
            return value if isinstance(value, self.kind) else None
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        if not math.isfinite(value) or (self.kind is int and value != int(value)):
            return None
        return self.kind(value)

    def describe(self) -> str:
        """Return the accepted values in words: "a whole number from 1 to 16384"."""
        if self.choices:
            return "one of " + ", ".join(map(str, self.choices))
        noun = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
        lower = "" if self.minimum is None else f" from {self.minimum:g}"
        upper = "" if self.maximum is None else f" up to {self.maximum:g}"
        if lower and upper:
            upper = f" to {self.maximum:g}"
        return noun[self.kind] + lower + upper


@runtime_checkable
class Model(Protocol):
    """A text-to-image model: the members that every model has."""

    @property
    def name(self) -> str:
        """Short name, as in the column `model`."""

    @property
    def fingerprint(self) -> str:
        """Hash of the weights' content: 16 hex digits, part of every image's identity."""

    @property
    def image_size(self) -> tuple[int, int]:
        """(width, height) of its images in px."""

    @property
    def dtype(self) -> str:
        """Number format that it computes in: "float32", "bfloat16", …"""

    @property
    def device(self) -> str:
        """Kind of device it runs on: "cpu", "cuda", …"""

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        """The sampling parameters that it accepts, by name."""

    @property
    def is_deterministic(self) -> bool | None:
        """Whether a request gives the same bytes every time, in any batch.

        None until it is known, for a model that tries it when it draws.
        """

    def load(self) -> None:
        """Bring the weights to the device; called once, before the first draw.

        Raises WeightsMissingError with the files, where they go, and the command.
        """

    def draw(self, requests: Sequence[Request]) -> Iterator[Result]:
        """Yield one result per request, as they finish, in any order.

        A request that fails yields a result with `error`; out of memory halves the batch.
        """

    def unload(self) -> None:
        """Free the weights; `load` may be called again."""


class CompleteModel(Model, Protocol):
    """A model with the optional members too, as the other stages use it; see models.complete."""

    def group_of(self, request: Request) -> Hashable:
        """Return what requests must share to be drawn in one batch; needs no weights."""

    def settle(self, params: Mapping[str, Scalar]) -> Mapping[str, Scalar]:
        """Return the parameters as they act, so that equal images get equal ids.

        Takes all parameters with their defaults filled in, and returns the same names.
        """

    def size_of(self, params: Mapping[str, Scalar]) -> tuple[int, int]:
        """Return (width, height) in px of an image with these parameters."""

    def price_of(self, request: Request) -> float | None:
        """Return what drawing the request costs in US dollars, at most.

        None if it is free, NaN if nobody knows.
        """

    def draw_with_previews(
        self, requests: Sequence[Request], on_preview: OnPreview
    ) -> Iterator[Result]:
        """Draw as `draw` does, with the same bits, and show unfinished images now and then."""

    def use_ledger(self, ledger: Any) -> None:
        """Spend from a sweep's `models.http.ledger.Ledger`; called before `load`."""

    def a1111(self, params: Mapping[str, Scalar]) -> str:
        """Return the parameters as A1111 writes them, steps first: "Steps: 20, Sampler: …"."""

    @property
    def is_downloaded(self) -> bool:
        """Whether the weights are on this machine; asks no network."""

    @property
    def words(self) -> Mapping[str, Path]:
        """Files of the words that the model knows, by the name of the list: "tiny/subjects".

        A text file has one word a line and is a wildcard, too.
        """

    def unknown_words(self, prompt: str) -> Sequence[str]:
        """Return the words of a prompt that the model leaves out; needs no weights."""

    @property
    def takes_source(self) -> bool:
        """Whether a request may have a source: an image that the new one is drawn from."""

    @property
    def needs_source(self) -> bool:
        """Whether every request has a source, whose picture it keeps: an upscaler's do."""

    def describe(self) -> Numerics:
        """Return the numerics that the images would be drawn with; loads no weights."""


# What promptlab takes for a member that a model leaves out, made from the model.
DEFAULTS: Mapping[str, Callable[[Model], Any]] = {
    "group_of": lambda model: lambda request: None,  # one group: any requests share a batch
    "settle": lambda model: lambda params: params,
    "size_of": lambda model: lambda params: model.image_size,
    "price_of": lambda model: lambda request: None,
    "draw_with_previews": lambda model: lambda requests, on_preview: model.draw(requests),
    "use_ledger": lambda model: lambda ledger: None,
    "a1111": lambda model: describe_for_a1111,
    "is_downloaded": lambda model: True,
    "words": lambda model: {},
    "unknown_words": lambda model: lambda prompt: (),
    "takes_source": lambda model: False,
    "needs_source": lambda model: False,
    "describe": lambda model: lambda: Numerics(model.device, model.dtype),
}

# Parameters that A1111 has a name of its own for, in the order in which it writes them.
_A1111_NAMES = {
    "steps": "Steps",
    "sampler": "Sampler",
    "strength": "Denoising strength",
    "guidance_scale": "CFG scale",
    "supercondition_factor": "CFG scale",
}


def describe_for_a1111(params: Mapping[str, Scalar]) -> str:
    """Return parameters in A1111's form, its own names first; "Steps" must open the line."""
    known = {"steps": 1, "sampler": "unknown", **params}
    order = [*(name for name in _A1111_NAMES if name in known), *params]
    return ", ".join(
        f"{_A1111_NAMES.get(name, name.replace('_', ' ').capitalize())}: {_plain(known[name])}"
        for name in dict.fromkeys(order)
        if known[name] is not None
    )


def _plain(value: Scalar) -> str:
    """Return a value without the characters that would begin another setting."""
    return re.sub(r"[:,\r\n]+", " ", str(value))


def normalize_params(
    model_name: str, parameters: Mapping[str, Parameter], given: Mapping[str, Scalar]
) -> dict[str, Scalar]:
    """Return all sampling parameters of a model, in its own order, defaults filled in.

    A given None means the default. Raises ParameterError for an unknown name or a value out of
    range, naming what the model accepts.
    """
    unknown = [name for name in given if name not in parameters]
    if unknown:
        accepted = ", ".join(f"{name} ({p.describe()})" for name, p in parameters.items())
        raise ParameterError(
            f"The model {model_name} has no parameter {', '.join(unknown)}. "
            f"It accepts: {accepted or 'none'}."
        )
    return {
        name: parameter.default
        if given.get(name) is None
        else parameter.normalize(name, given[name])
        for name, parameter in parameters.items()
    }

"""What a service takes and gives: parameters, answers, failures. See `asking.Service`.

A service translates a request into calls of one API and the reply into an Answer. It knows no
concurrency, no repetition, no budget and no journal: `model.HttpModel` has those for all services.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from promptlab.errors import ParameterError
from promptlab.models.protocol import Parameter
from promptlab.records import Request, Scalar

UNKNOWN = float("nan")  # a price that nobody knows; None is free

_SIZE = re.compile(r"(\d+)x(\d+)")


@dataclass(frozen=True, slots=True)
class Answer:
    """The image file that a server sent for a request."""

    body: bytes
    cost_usd: float | None = None  # None: the price of the request
    format: str | None = None  # that was asked for: "png"; None: any


@dataclass(slots=True)
class Sent:
    """A request that has left, until its answer is here: how to ask for it."""

    key: str  # our name for it, a UUID; the server knows it where the API takes one
    price_usd: float | None
    at_s: float  # since the epoch
    remote_id: str | None = None  # the server's name for it
    journal: Callable[[str], None] = field(default=lambda remote_id: None, repr=False)

    def is_known_as(self, remote_id: str) -> None:
        """Keep the server's name of the request, on disk too."""
        if remote_id != self.remote_id:
            self.remote_id = remote_id
            self.journal(remote_id)


class RefusedError(Exception):
    """The server will not draw this request, or what it drew is not what was asked for."""

    def __init__(self, reason: str, cost_usd: float | None = None) -> None:
        super().__init__(reason)
        self.cost_usd = cost_usd


# busy: asked to come later · down: not reached, nothing was taken · broken: an error of the
# server, nothing was drawn · lost: it may have been drawn, and billed, but the answer is gone.
FailureKind = Literal["busy", "down", "broken", "lost"]


class CallError(Exception):
    """A call that failed and may succeed later."""

    def __init__(
        self,
        kind: FailureKind,
        reason: str,
        wait_s: float | None = None,
        *,
        is_unreachable: bool = False,
    ) -> None:
        super().__init__(reason)
        self.kind = kind
        self.wait_s = wait_s  # that the server asks for
        self.is_unreachable = is_unreachable or kind == "down"  # no request would fare better


class StoppedError(Exception):
    """The sweep ends: this request was not drawn and stays pending."""


class Value(Parameter):
    """A parameter whose range the server knows alone; None leaves it to the server.

    Of the kind float it must be a number; of the kind str it may be anything.
    """

    def normalize(self, name: str, value: Scalar) -> Scalar:
        """Return the value, numbers that are whole as such: 8 and 8.0 are one image."""
        if isinstance(value, str):
            for kind in (int, float):
                with contextlib.suppress(ValueError):
                    value = kind(value)
                    break
        if self.kind is float and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ParameterError(f"{name}={value!r}: expected {self.describe()}.")
        if isinstance(value, float) and value.is_integer():
            return int(value)
        return value

    def describe(self) -> str:
        """Return the accepted values in words."""
        return "a number" if self.kind is float else "what the server accepts"


@dataclass(frozen=True)
class Fields:
    """Which field of a request's body each parameter of a sweep goes to; "a.b" is nested."""

    field_from_parameter: Mapping[str, str | None]
    constants: Mapping[str, Any] = field(default_factory=dict)  # fields that every request has

    @property
    def is_seeded(self) -> bool:
        """Whether the seed goes anywhere."""
        return bool(self.field_from_parameter.get("seed"))

    @property
    def parameters(self) -> dict[str, Parameter]:
        """The parameters of a sweep."""
        names = (name for name in self.field_from_parameter if name != "seed")
        return {
            name: Value(str, None, description=f"{self.field_from_parameter[name]}")
            for name in names
        }

    def of(self, request: Request) -> dict[str, Any]:
        """Return the fields of a request; parameters that are None are left out."""
        body: dict[str, Any] = dict(self.constants)
        for name, path in self.field_from_parameter.items():
            value = request.seed if name == "seed" else request.params[name]
            if path and value is not None:
                *outer, last = path.split(".")
                inside = body
                for key in outer:
                    inside[key] = dict(inside.get(key, {}))
                    inside = inside[key]
                inside[last] = value
        return body


def text_of(request: Request, name: str) -> str | None:
    """Return a parameter as text, None where it is left to the server."""
    value = request.params.get(name)
    return None if value is None else str(value)


def size_in(params: Mapping[str, Scalar]) -> tuple[int, int] | None:
    """Return (width, height) in px as parameters ask for it, None if they do not."""
    written = _SIZE.fullmatch(str(params.get("size")))
    if written:
        return int(written[1]), int(written[2])
    width, height = params.get("width"), params.get("height")
    return (width, height) if isinstance(width, int) and isinstance(height, int) else None
